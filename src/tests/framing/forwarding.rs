//! Every callback reaches the handler of an adapter, in the order in which a plain protocol gets it.

use super::*;
use crate::framing::FixedSize;

/// The callbacks of a protocol that is made, is given `input`, has much written to it, and whose peer ends in
/// mid-frame.
fn walk(protocol: impl FnOnce(&Log) -> Box<dyn Protocol>, input: &str) -> Vec<String> {
    let mut scene = Scene::with_limits(Limits::default().with_pause_reading_over_high(false));
    let log = Log::default();
    let peer = scene.knock(Some(protocol(&log)));
    scene.turn();
    let id = ConnectionId(scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).unwrap().0);
    scene.receive(&peer, input);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[7; 100 * KIB]));
    scene.make_room(&peer, 200 * KIB);
    scene.tell(id, start_producing);
    scene.receive(&peer, "re");
    scene.tell(id, |transport| transport.set_timeout(Timeout::Total, Some(SECOND)));
    scene.pass(SECOND);
    scene.tell(id, |transport| transport.set_timer(7, SECOND));
    scene.pass(SECOND);
    scene.event_loop.context().drain(SECOND);
    scene.turn();
    scene.end(&peer);
    log.take()
}

const ALL: [&str; 10] = [
    "made",
    "frame abcd",
    "pause",
    "resume",
    "produce",
    "timed out: Total",
    "timer 7",
    "draining",
    "eof re",
    "lost: closed by the peer",
];

#[test]
fn f1_frames_and_all_other_callbacks_come_through() {
    assert_eq!(walk(|log| frames(log, FixedSize::new(4)), "abcd"), ALL);
}

#[test]
fn f1_lines_and_all_other_callbacks_come_through() {
    assert_eq!(walk(|log| Box::new(lines(log)), "abcd\n"), ALL.map(|entry| entry.replace("frame", "line")));
}

#[test]
fn f1_telnet_lines_and_all_other_callbacks_come_through() {
    let found = walk(|log| Box::new(Telnet::new(lines(log))), "ab\u{0}cd\n");
    assert_eq!(found, ALL.map(|entry| entry.replace("frame abcd", r"line ab\x00cd")));
}

#[test]
fn f1_a_connect_that_fails_is_told_to_every_kind_of_handler() {
    type Maker = fn(&Log) -> Box<dyn Protocol>;
    let makers: [Maker; 3] =
        [|log| frames(log, FixedSize::new(4)), |log| Box::new(lines(log)), |log| Box::new(Telnet::new(lines(log)))];
    for make in makers {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peer = scene.world.connect_begins();
        let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
        let id = scene.event_loop.context().connect(server, make(&log)).unwrap();
        scene.tell(id, close);
        assert_eq!(log.take(), ["failed: ended before it was connected: closed by us"]);
        assert!(peer.is_closed());
    }
}

#[test]
fn f1_with_defaults_a_handler_needs_one_method() {
    struct OnlyLines(Log);
    impl LineHandler for OnlyLines {
        fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
            self.0.push(shown("line", line));
        }
    }
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(LineReceiver::new(OnlyLines(log.clone())));
    scene.receive(&peer, "a\nb");
    scene.end(&peer);
    assert_eq!(log.take(), ["line a"]);
    assert!(peer.is_closed(), "by default the peer's end is ours");
}

#[test]
fn f1_what_is_sent_can_be_received() {
    use crate::framing::{Delimited, FixedSize, LengthPrefixed, Netstring, send_line};
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.accept(&log, idle);
    let send = |transport: &mut Transport<'_>| {
        send_line(transport, b"line");
        Netstring::new(11).send(transport, b"hello world")?;
        Netstring::new(0).send(transport, b"")?;
        Delimited::new(b"--").frame_bytes_max(1).send(transport, b"a")?;
        LengthPrefixed::u8().send(transport, b"b")?;
        LengthPrefixed::u16_be(9).send(transport, b"c")?;
        LengthPrefixed::u16_le(9).send(transport, b"d")?;
        LengthPrefixed::u32_be(9).send(transport, b"e")?;
        LengthPrefixed::u32_le(1).send(transport, b"f")?;
        FixedSize::new(1).send(transport, b"g")
    };
    scene.tell(id, |transport| send(transport).unwrap());
    let all = "line\r\n11:hello world,0:,a--\x01b\0\x01c\x01\0d\0\0\0\x01e\x01\0\0\0fg";
    assert_eq!(crate::escape(&peer.take_sent()).to_string(), crate::escape(all.as_bytes()).to_string());
    let writes = peer.take_calls().iter().filter(|call| matches!(call, sys::script::Call::Write(_))).count();
    assert_eq!(writes, 1, "all of it gathers");
}

#[test]
fn f3_a_frame_over_the_maximum_is_not_sent() {
    use crate::framing::{Delimited, FixedSize, LengthPrefixed, Netstring};
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| {
        let over = |result: Result<(), FramingError>| result.unwrap_err().to_string();
        let refused = [
            (over(LengthPrefixed::u8().send(transport, &[0; 256])), "a frame of 256 bytes exceeds the maximum of 255"),
            (over(LengthPrefixed::u32_be(3).send(transport, b"four")), "a frame of 4 bytes exceeds the maximum of 3"),
            (
                over(LengthPrefixed::u16_le(100_000).send(transport, &[0; 65_536])),
                "a frame of 65536 bytes exceeds the maximum of 65535",
            ),
            (over(Netstring::new(3).send(transport, b"four")), "a frame of 4 bytes exceeds the maximum of 3"),
            (
                over(Delimited::new(b"-").frame_bytes_max(3).send(transport, b"four")),
                "a frame of 4 bytes exceeds the maximum of 3",
            ),
            (over(FixedSize::new(3).send(transport, b"four")), "a frame of 4 bytes exceeds the maximum of 3"),
            (over(FixedSize::new(5).send(transport, b"four")), "a frame of 4 bytes, but all must have 5"),
        ];
        refused.iter().for_each(|(error, expected)| assert_eq!(error, expected));
    });
    assert_eq!(peer.take_sent(), b"", "nor a part of it");
    assert!(!peer.is_closed());
}
