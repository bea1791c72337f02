//! Rules F2, F3 and F4: what is too long, what is malformed, and what happens then.

use super::*;
use crate::framing::{Delimited, FixedSize, LengthPrefixed, Netstring};

struct OnlyLines(Log);

impl LineHandler for OnlyLines {
    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        self.0.push(format!("{} bytes", line.len()));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.push(format!("lost: {reason}"));
    }
}

#[test]
fn f2_a_line_of_the_maximum_is_received_and_one_byte_more_ends_the_connection() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(LineReceiver::new(OnlyLines(log.clone())));
    for ending in ["\n", "\r\n"] {
        scene.receive(&peer, "x".repeat(16_384) + ending);
        assert_eq!(log.take(), ["16384 bytes"]);
    }
    scene.receive(&peer, "x".repeat(16_385) + "\n");
    assert_eq!(log.take(), ["lost: line too long"]);
    assert!(peer.is_closed());
}

#[test]
fn f2_what_follows_a_line_that_has_ended_the_connection_is_not_received() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(LineReceiver::new(OnlyLines(log.clone())));
    scene.receive(&peer, "before\n".to_owned() + &"x".repeat(16_385) + "\nbehind\n");
    assert_eq!(log.take(), ["6 bytes", "lost: line too long"]);
}

#[test]
fn f2_an_endless_line_costs_no_more_than_its_maximum() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(LineReceiver::new(OnlyLines(log.clone())));
    peer.set_short_read_empties(false);
    for _ in 0..100_000 {
        peer.sends("x");
    }
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["lost: line too long"]);
    assert_eq!(peer.unread(), 100_001 - 16_386, "not read beyond a line and its ending");
}

#[test]
fn f2_a_line_that_is_too_long_can_be_skipped_instead() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(lines(&log).line_bytes_max(4));
    scene.receive(&peer, "toolong");
    assert_eq!(log.take(), ["made", "too long"]);
    scene.receive(&peer, " and longer");
    scene.receive(&peer, "\nshort\nfine\n");
    assert_eq!(log.take(), ["too long", "line fine"]);
    scene.receive(&peer, "unfinished");
    scene.end(&peer);
    assert_eq!(log.take(), ["too long", "eof ", "lost: closed by the peer"]);
}

/// Allows its text 10 bytes, whatever its commands are allowed.
struct Mail {
    log: Log,
    is_in_text: bool,
}

impl LineHandler for Mail {
    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        self.is_in_text = if self.is_in_text { line != b"." } else { line == b"DATA" };
        self.log.push(format!("{} bytes", line.len()));
    }

    fn line_bytes_max(&self, set: usize) -> usize {
        if self.is_in_text { 10 } else { set }
    }

    fn line_too_long(&mut self, _: &mut Transport<'_>) {
        self.log.push("too long");
    }
}

#[test]
fn f2_a_handler_says_before_each_line_how_long_it_may_be() {
    let input = "xxxx\nxxxxx\nDATA\nxxxxxxxxxx\r\nxxxxxxxxxxx\n.\nxxxxx\nxxxx\n";
    // Its commands are allowed less than its text, or more.
    for (set, five) in [(4, "too long"), (20, "5 bytes")] {
        let expected = ["4 bytes", five, "4 bytes", "10 bytes", "too long", "1 bytes", five, "4 bytes"];
        for step in [1, 2, 3, 7, input.len()] {
            let (mut scene, log) = (Scene::new(), Log::default());
            let mail = Mail { log: log.clone(), is_in_text: false };
            let (_, peer) = scene.connect(LineReceiver::new(mail).line_bytes_max(set));
            input.as_bytes().chunks(step).for_each(|part| scene.receive(&peer, part));
            assert_eq!(log.take(), expected, "of {set}, {step} at a time");
        }
    }
}

#[test]
fn f2_the_limit_of_the_loop_is_raised_to_that_of_the_framing() {
    let limits = Limits::default().with_input_bytes_max(100);
    for step in [1, 7, 500] {
        let (mut scene, log) = (Scene::with_limits(limits.clone()), Log::default());
        let whole: [(Box<dyn Protocol>, Vec<u8>); 6] = [
            (Box::new(lines(&log)), [&[b'x'; 999][..], b"\n"].concat()),
            (Box::new(Telnet::new(lines(&log))), [&[b'x'; 500][..], b"\xff\xf1", &[b'x'; 499], b"\n"].concat()),
            (frames(&log, Delimited::new(b"--")), [&[b'x'; 999][..], b"--"].concat()),
            (frames(&log, FixedSize::new(999)), vec![b'x'; 999]),
            (frames(&log, LengthPrefixed::u16_be(999)), [&999_u16.to_be_bytes()[..], &[b'x'; 999]].concat()),
            (frames(&log, Netstring::new(999)), [&b"999:"[..], &[b'x'; 999], b","].concat()),
        ];
        for (protocol, input) in whole {
            let found = scene.callbacks(&log, protocol, input.chunks(step));
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].ends_with(&"x".repeat(999)));
        }
    }
}

/// Returns the error of a framing for an input that breaks it; it must come from the input alone, nothing follows.
fn broken(framer: impl Framer + Clone + 'static, input: impl AsRef<[u8]>) -> String {
    let (mut scene, log) = (Scene::new(), Log::default());
    let handler = noting(&log, |entry, transport, _| {
        if entry.starts_with("broken") {
            transport.write(b"goodbye");
        }
    });
    let (_, peer) = scene.connect(Framed::new(framer, handler));
    scene.receive(&peer, input);
    let found = log.take();
    assert_eq!(peer.take_sent(), b"goodbye", "what the hook writes goes out");
    let error = found[1].strip_prefix("broken: ").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[2..], [format!("lost: protocol error: {error}")]);
    error.to_owned()
}

#[test]
fn f3_a_length_over_the_maximum_is_rejected_from_the_prefix_alone() {
    let announced = |bytes: u64, max: usize| format!("a frame of {bytes} bytes exceeds the maximum of {max}");
    assert_eq!(broken(LengthPrefixed::u16_be(999), 1000_u16.to_be_bytes()), announced(1000, 999));
    assert_eq!(broken(LengthPrefixed::u16_le(999), 1000_u16.to_le_bytes()), announced(1000, 999));
    assert_eq!(broken(LengthPrefixed::u32_be(999), [0xff; 4]), announced(u32::MAX.into(), 999));
    assert_eq!(broken(LengthPrefixed::u32_le(0), [1, 0, 0, 0]), announced(1, 0));
    assert_eq!(broken(Netstring::new(999), "1000"), announced(1000, 999));
    assert_eq!(broken(Netstring::new(9), "9999999999"), announced(99, 9));
}

#[cfg(not(all(windows, target_env = "gnu")))] // Where allocations can be counted.
#[test]
fn f3_nothing_is_reserved_for_a_frame_before_it_comes() {
    let framer = LengthPrefixed::u32_be(usize::MAX);
    let found = framer.find(&[0xff; 4], 0, usize::MAX);
    let needed_bytes = (u32::MAX as usize).saturating_add(4);
    assert!(
        matches!(found, crate::framing::Found::Partial { scanned: 0, needed_bytes: needed } if needed == needed_bytes)
    );
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(Framed::new(framer, noting(&log, does_nothing)));
    let counted = allocation_counter::measure(|| scene.receive(&peer, [0xff; 4]));
    assert!(counted.bytes_total < 64 * KIB as u64, "{} bytes", counted.bytes_total);
}

#[test]
fn f3_netstrings_have_no_leading_zeros_and_no_other_ways_to_write_a_length() {
    for input in ["00:,", "01:a,", ":,", "-1:a,", "+1:a,", " 1:a,", "1 :a,", "a", ",", "0x1:a,"] {
        assert_eq!(broken(Netstring::default(), input), "invalid netstring length");
    }
    assert_eq!(broken(Netstring::default(), "1:ab"), "no comma after a netstring");
    assert!(broken(Netstring::new(usize::MAX), "99999999999999999999999999").starts_with("a frame of"));
}

#[test]
fn f4_a_framing_error_reaches_the_hook_and_ends_the_connection() {
    assert_eq!(broken(Delimited::new(b"--").frame_bytes_max(3), "abcde"), "no delimiter within 3 bytes");
    assert_eq!(broken(Netstring::default(), "x"), "invalid netstring length");
    assert_eq!(broken(Odd, "a"), "0x61 begins no frame");
}

/// A user-defined framing.
#[derive(Clone)]
struct Odd;

impl Framer for Odd {
    fn find(&self, data: &[u8], _: usize, _: usize) -> crate::framing::Found {
        let error = format!("{:#x} begins no frame", data[0]);
        crate::framing::Found::Broken(FramingError::Other(error.into()))
    }
}

/// Allows little before a login.
struct Session {
    log: Log,
    is_logged_in: bool,
}

impl FrameHandler for Session {
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]) {
        assert_eq!(transport.input_bytes_max(), 100, "no more than while a frame is incomplete");
        self.is_logged_in = if self.is_logged_in { frame != b"out" } else { frame == b"in" };
        self.log.push(format!("{} bytes", frame.len()));
    }

    fn frame_bytes_max(&self, set: usize) -> usize {
        if self.is_logged_in { set } else { 4 }
    }

    fn framing_error(&mut self, _: &mut Transport<'_>, error: &FramingError) {
        self.log.push(error.to_string());
    }
}

fn session(log: &Log, framer: impl Framer) -> Box<dyn Protocol> {
    Box::new(Framed::new(framer, Session { log: log.clone(), is_logged_in: false }))
}

#[test]
fn f3_a_handler_says_before_each_frame_how_long_it_may_be() {
    type Framed = (fn(&Log) -> Box<dyn Protocol>, fn(&[u8]) -> Vec<u8>, fn(&[u8]) -> Vec<u8>, &'static str);
    let whole: [Framed; 3] = [
        (
            |log| session(log, LengthPrefixed::u16_be(999)),
            |frame| [&(frame.len() as u16).to_be_bytes()[..], frame].concat(),
            |frame| (frame.len() as u16).to_be_bytes().to_vec(),
            "a frame of 5 bytes exceeds the maximum of 4",
        ),
        (
            |log| session(log, Netstring::new(999)),
            |frame| [format!("{}:", frame.len()).as_bytes(), frame, b","].concat(),
            |frame| frame.len().to_string().into(),
            "a frame of 5 bytes exceeds the maximum of 4",
        ),
        (
            |log| session(log, Delimited::new(b"-").frame_bytes_max(999)),
            |frame| [frame, b"-"].concat(),
            |frame| frame.to_vec(),
            "no delimiter within 4 bytes",
        ),
    ];
    let long = [b'x'; 999];
    let frames: [&[u8]; 8] = [b"xxxx", b"in", &long, &long, b"out", b"xxxx", b"in", b"out"];
    let expected = ["4 bytes", "2 bytes", "999 bytes", "999 bytes", "3 bytes", "4 bytes", "2 bytes", "3 bytes"];
    for (protocol, framed, begun, error) in whole {
        let input: Vec<u8> = frames.into_iter().flat_map(framed).collect();
        for step in (1..9).chain(990..1020).chain([input.len()]) {
            let (mut scene, log) = (Scene::with_limits(Limits::default().with_input_bytes_max(100)), Log::default());
            let (_, peer) = scene.connect(protocol(&log));
            input.chunks(step).for_each(|part| scene.receive(&peer, part));
            assert_eq!(log.take(), expected, "{step} at a time");
            scene.receive(&peer, begun(b"xxxxx"));
            assert_eq!(log.take(), [error], "as soon as it is known");
            assert!(peer.is_closed());
        }
    }
}

#[test]
fn f3_a_handlers_maximum_is_asked_again_while_a_frame_is_incomplete() {
    let (mut scene, log) = (Scene::with_limits(Limits::default().with_input_bytes_max(100)), Log::default());
    let (id, peer) = scene.connect(session(&log, Delimited::new(b"--").frame_bytes_max(999)));
    scene.receive(&peer, b"in--xxxxxxxxxx");
    let log_out = |session: &mut Session, _: &mut Transport<'_>| session.is_logged_in = false;
    scene.event_loop.context().with_protocol(id, log_out).unwrap();
    scene.receive(&peer, b"x");
    assert_eq!(log.take(), ["2 bytes", "no delimiter within 4 bytes"]);
    let (_, peer) = scene.connect(session(&log, FixedSize::new(10)));
    scene.receive(&peer, b"x");
    assert_eq!(log.take(), ["a frame of 10 bytes exceeds the maximum of 4"]);
}

#[test]
fn f3_a_limit_that_a_handler_sets_is_not_undone() {
    let (mut scene, log) = (Scene::with_limits(Limits::default().with_input_bytes_max(100)), Log::default());
    let (id, peer) = scene.connect(frames(&log, LengthPrefixed::u16_be(999)));
    scene.receive(&peer, 900_u16.to_be_bytes());
    scene.tell(id, |transport| {
        assert_eq!(transport.input_bytes_max(), 1001, "raised for it");
        transport.set_input_bytes_max(950);
    });
    scene.receive(&peer, [b'x'; 900]);
    scene.tell(id, |transport| assert_eq!(transport.input_bytes_max(), 950));
    assert_eq!(log.take().len(), 2);
}

/// A user-defined framing, whose frames begin with two bytes that its handler is not given.
struct Tagged;

impl Framer for Tagged {
    fn find(&self, data: &[u8], _: usize, _: usize) -> crate::framing::Found {
        match data.len() < 6 {
            true => crate::framing::Found::Partial { scanned: 0, needed_bytes: 6 },
            false => crate::framing::Found::Frame { start: 2, end: 6, next: 6 },
        }
    }

    fn frame_bytes_max(&self) -> usize {
        4
    }
}

#[test]
fn f3_what_a_framer_says_to_be_needed_is_kept() {
    let (mut scene, log) = (Scene::with_limits(Limits::default().with_input_bytes_max(3)), Log::default());
    let found = scene.callbacks(&log, frames(&log, Tagged), b"..abcd..efgh".chunks(5));
    assert_eq!(found, ["frame abcd", "frame efgh", "eof "]);
}
