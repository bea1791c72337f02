//! Filters that are not ready yet, and what passes through them once they are (rules Y1 to Y3, Y5, Y8, Y10).

use super::kinds::Masked;
use super::*;
use crate::Connect;
use crate::filter::{Filter, Flow};

/// What a peer does during a handshake.
type Way = fn(&mut RawPeer);

#[test]
fn y1_a_protocol_is_told_that_its_connection_is_made_when_the_filter_is_ready() {
    let mut wire = Wire::sealed(echo);
    let mut peer = wire.peer();
    assert_eq!((wire.log.take(), wire.connections()), (vec![], 1));
    wire.send(&mut peer, b"H");
    assert_eq!(wire.log.take(), [""; 0], "half of what it must say");
    wire.send(&mut peer, b"\0");
    assert_eq!((wire.log.take(), peer.read()), (vec!["made".into()], vec![b'S', KEY]));
    wire.send(&mut peer, &record(b"hello"));
    assert_eq!((wire.log.take(), peer.read()), (vec!["data hello".into()], record(b"hello")));
    // Buffers are returned meanwhile.
    wire.network.run_for(3 * SECOND);
    assert_eq!(wire.network.context(wire.host).core.timers(), 0, "no deadline is left");
}

#[test]
fn y1_the_last_of_a_handshake_may_bring_data_and_the_end() {
    let mut wire = Wire::sealed(echo);
    let mut peer = wire.peer();
    wire.send(&mut peer, &[b"H\0", &record(b"one")[..], &record(b"two"), b"E"].concat());
    assert_eq!(wire.log.take(), ["made", "data one", "data two", "eof", "lost: closed by the peer"]);
    assert_eq!(peer.read(), [&[b'S', KEY], &record(b"onetwo")[..], b"E"].concat(), "one record of what both wrote");
}

#[test]
fn y1_of_a_handshake_that_fails_the_owner_of_the_listener_is_told_and_no_protocol() {
    let ways: [(Way, &str); 4] = [
        (|peer| _ = peer.send(b"GET / HTTP/1.0\r\n\r\n"), "protocol error: a broken record"),
        (RawPeer::end, "the stream was truncated"),
        (|peer| _ = peer.send(b"A"), "protocol error: a broken record"),
        (|_| {}, "the handshake took too long"),
    ];
    for (way, reason) in ways {
        let mut wire = Wire::sealed(echo);
        let errors = wire.errors();
        let mut peer = wire.peer();
        way(&mut peer);
        wire.network.run_for(9 * SECOND);
        let is_late = reason.contains("too long");
        assert_eq!(wire.connections(), usize::from(is_late), "{reason}");
        wire.network.run_for(2 * SECOND);
        assert_eq!((wire.connections(), wire.log.take()), (0, vec![]), "{reason}");
        assert_eq!(errors.take(), [format!("the handshake with {} failed: {reason}", peer.local_addr())]);
        let counters = wire.network.context(wire.host).counters();
        assert_eq!((counters.handshakes_failed, counters.connections_made, counters.connections_lost), (1, 0, 0));
        if reason.contains("broken record") {
            assert_eq!(peer.read(), b"A", "an alert still goes out");
        }
    }
}

#[test]
fn y1_the_owner_is_told_of_one_failed_handshake_a_second_and_all_are_counted() {
    let mut wire = Wire::sealed(echo);
    let errors = wire.errors();
    for _ in 0..10 {
        let mut peer = wire.network.peer(wire.to);
        wire.network.run_for(MS * 10);
        peer.send(b"x");
        wire.network.run_for(MS * 10);
    }
    assert_eq!(errors.take().len(), 1);
    assert_eq!(wire.network.context(wire.host).counters().handshakes_failed, 10);
}

/// Connects to a scripted server through `Sealed`.
fn dial(act: fn(Event<'_>, &mut Transport<'_>) -> usize) -> (Wire, RawPeer, ConnectionId) {
    let mut wire = Wire::sealed(echo);
    let mut server = wire.network.peer_listener(80, 1).unwrap();
    let connect = Connect::to(server.local_addr()).filter(|| Sealed::client(KEY, 100));
    let made = protocol(&wire.log, act);
    let id = wire.network.context(wire.host).connect(connect, made).unwrap();
    wire.rest();
    let peer = server.accept().unwrap();
    (wire, peer, id)
}

#[test]
fn y1_a_client_is_told_when_its_filter_is_ready_and_what_it_wrote_before_goes_through_it() {
    let (mut wire, mut peer, _) = dial(echo);
    assert_eq!((wire.log.take(), peer.read()), (vec![], vec![b'H', KEY]), "a client says hello");
    wire.tell(|transport| transport.write(b"early"));
    assert_eq!(peer.read(), b"");
    wire.send(&mut peer, b"S\0");
    assert_eq!((wire.log.take(), peer.read()), (vec!["made".into()], record(b"early")));
}

#[test]
fn y1_a_client_whose_handshake_fails_is_told_so_as_by_a_failed_connect() {
    let ways: [(Way, &str); 3] = [
        (|peer| _ = peer.send(b"220 hello\r\n"), "the handshake failed: protocol error: a broken record"),
        (RawPeer::end, "the handshake failed: the stream was truncated"),
        (|_| {}, "the handshake failed: the handshake took too long"),
    ];
    for (way, told) in ways {
        let (mut wire, mut peer, _) = dial(idle);
        way(&mut peer);
        wire.network.run_for(11 * SECOND);
        assert_eq!((wire.log.take(), wire.connections()), (vec![format!("failed: {told}")], 0));
    }
    let (mut wire, _peer, _) = dial(idle);
    wire.tell(abort);
    assert_eq!(wire.log.take(), ["failed: ended before it was connected: aborted by us"]);
}

#[test]
fn y1_no_timeout_of_the_protocol_runs_before_the_filter_is_ready() {
    let limits = Limits::default().with_idle_timeout(Some(SECOND)).with_handshake_timeout(Some(2 * SECOND));
    let mut wire = Wire::new(
        limits,
        |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))),
        |event, transport| by_default(&event, transport),
    );
    let mut peer = wire.peer();
    wire.tell(|transport| transport.set_timeout(Timeout::Total, Some(4 * SECOND)));
    wire.network.run_for(8 * SECOND);
    assert_eq!((wire.log.take(), wire.connections()), (vec![], 1));
    wire.send(&mut peer, b"H\0");
    wire.network.run_for(600 * MS);
    assert_eq!(wire.log.take(), ["made", "timed out: Idle", "lost: idle for too long"]);
}

#[test]
fn y1_a_peer_is_turned_away_for_which_no_filter_is_made() {
    let mut wire = Wire::new(Limits::default(), |listen| listen.filter(|_| None::<Sealed>), echo);
    let mut peer = wire.peer();
    wire.rest();
    assert!(peer.error().is_some());
    assert_eq!((wire.log.take(), wire.connections()), (vec![], 0));
}

#[test]
fn y2_what_a_callback_writes_is_filtered_once_however_it_is_written() {
    let mut wire = Wire::sealed(|event, transport| {
        if let Event::Data(_) = event {
            let id = transport.id();
            transport.write(b"a");
            transport.write_owned(b"b".to_vec());
            transport.write_shared(b"c".as_slice().into());
            transport.context().broadcast([id], b"d");
            transport.write(b"e");
        }
        by_default(&event, transport)
    });
    let mut peer = wire.shaken();
    wire.send(&mut peer, &record(b"x"));
    assert_eq!(peer.read(), record(b"abcde"));
    wire.tell(|transport| {
        let id = transport.id();
        transport.write(b"1");
        transport.context().broadcast([id], b"2");
        transport.write(b"3");
    });
    assert_eq!(peer.read(), record(b"123"));
}

#[test]
fn y2_a_filter_takes_no_more_than_the_kernel_has_room_for() {
    let mut wire = Wire::sealed(idle);
    let mut peer = wire.shaken();
    peer.stall();
    wire.tell(|transport| transport.write_owned(vec![b'x'; 1 << 20]));
    let context = wire.network.context(wire.host);
    let connection = context.core.parts.slots.connection(context.connection_ids()[0].0).unwrap();
    let beneath = connection.chain().unwrap().outward_bytes();
    // A step of 64 KiB, and 3 bytes more for every 100.
    assert!(beneath <= 66 * KIB, "{beneath}");
    peer.unstall();
    let mut got = Vec::new();
    for _ in 0..100 {
        wire.rest();
        got.extend(peer.read());
    }
    assert_eq!(got.len(), (1 << 20) + 3 * (1_usize << 20).div_ceil(100));
}

#[test]
fn y2_what_the_kernel_lacked_buffers_for_in_a_handshake_is_sent_by_time() {
    let mut scene = Scene::new();
    let filter: crate::filter::AcceptFilter =
        crate::filter::AcceptFilter(Arc::new(|_| Some(Box::new(Sealed::server(KEY, 100)))));
    let listener = scene.event_loop.core.parts.slots.listener_mut(scene.listener.0).unwrap();
    listener.filters = Rc::new(vec![filter]);
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    // The filter refuses the input: an alert is sent, although no protocol was told of the connection. The send is
    // tried when the input is read, and at the turn's end.
    peer.write_answers(Err(os_error(errno::ENOBUFS)));
    peer.write_answers(Err(os_error(errno::ENOBUFS)));
    scene.receive(&peer, "nonsense");
    assert_eq!(peer.take_sent(), b"");
    scene.pass(20 * MS);
    assert_eq!((peer.take_sent(), log.take()), (b"A".to_vec(), vec![]), "{id}");
}

#[test]
fn y3_marks_count_what_no_filter_has_taken_and_what_filters_have_put_down() {
    let limits = Limits::default().with_queue_bytes_high(200 * KIB).with_queue_bytes_low(0);
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), idle);
    let mut peer = wire.shaken();
    peer.stall();
    wire.tell(|transport| transport.write_owned(vec![b'x'; 500 * KIB]));
    assert_eq!(wire.log.take(), ["pause"]);
    peer.unstall();
    for _ in 0..100 {
        wire.rest();
        peer.read();
    }
    assert_eq!(wire.log.take(), ["resume"], "once all has gone out");
}

/// Replies to each byte with a thousand, even if its peer reads nothing.
struct Chatty;

impl Filter for Chatty {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(&data.repeat(1000));
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn y3_what_a_filter_says_by_itself_meets_the_cap() {
    let limits = Limits::default().with_queue_bytes_max(300 * KIB).with_pause_reading_over_high(false);
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Chatty)), idle);
    let mut peer = wire.peer();
    peer.stall();
    for _ in 0..2000 {
        peer.send(b"x");
        wire.network.run_for(MS);
    }
    assert_eq!(wire.log.take(), ["made", "pause", "lost: too much output queued"]);
}

#[test]
fn y3_little_that_becomes_much_is_delivered_piece_by_piece() {
    /// Turns each byte from below into a mebibyte.
    struct Blown {
        left: usize,
    }
    impl Filter for Blown {
        fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
            if self.left == 0 {
                self.left = 1 << 20;
            }
            assert!(flow.up_room() > 0, "it is not called where there is none");
            let count = self.left.min(flow.up_room());
            flow.up().push(&vec![data[0]; count]);
            self.left -= count;
            usize::from(self.left == 0)
        }

        fn send(&mut self, data: &[u8], _: &mut Flow<'_>) -> usize {
            data.len()
        }
    }
    let stack =
        |listen: Listen| listen.filter(|_| Some(Masked { key: 0, step: 100 })).filter(|_| Some(Blown { left: 0 }));
    let mut wire = Wire::new(Limits::default(), stack, |event, transport| {
        if let Event::Data(data) = &event {
            assert!(data.len() <= 64 * KIB, "{}", data.len());
        }
        by_default(&event, transport)
    });
    // As many turns as the read budget requires.
    wire.idle_turns_max = 20;
    let mut peer = wire.peer();
    wire.send(&mut peer, b"xyz");
    wire.rest();
    let bytes: usize = wire.log.take().iter().filter_map(|entry| entry.strip_prefix("data ")).map(str::len).sum();
    assert_eq!(bytes, 3 << 20);
}

#[test]
fn y5_a_pause_stops_filtering_after_the_record_and_a_filter_that_is_not_ready_goes_on() {
    let mut wire = Wire::sealed(|event, transport| {
        if let Event::Data(_) = event {
            transport.pause_reading();
        }
        stays(event, transport)
    });
    let mut peer = wire.shaken();
    wire.send(&mut peer, &[record(b"one"), record(b"two"), record(b"three"), b"E".to_vec()].concat());
    assert_eq!(wire.log.take(), ["data one"]);
    for told in ["data two", "data three", "eof"] {
        wire.tell(resume_reading);
        assert_eq!(wire.log.take(), [told]);
    }
    // It cannot be paused before it is ready.
    let mut wire = Wire::sealed(idle);
    let mut peer = wire.peer();
    wire.tell(pause_reading);
    wire.send(&mut peer, &[b"H\0", &record(b"one")[..]].concat());
    assert_eq!((wire.log.take(), peer.read()), (vec!["made".into()], vec![b'S', KEY]));
    wire.tell(resume_reading);
    assert_eq!(wire.log.take(), ["data one"]);
}

#[test]
fn y7_filters_stack_and_each_cut_of_what_comes_is_the_same_to_them() {
    let wire_bytes = [b"H\0", &record(b"hello")[..], &record(b" world"), b"E"].concat();
    for cut in 0..=wire_bytes.len() {
        let stack = |listen: Listen| {
            let listen = listen.filter(|_| Some(Masked { key: 7, step: 2 }));
            listen.filter(|_| Some(Sealed::server(KEY, 3))).filter(|_| Some(Masked { key: 1, step: 5 }))
        };
        let mut wire = Wire::new(Limits::default(), stack, idle);
        let mut peer = wire.peer();
        let masked: Vec<u8> = wire_bytes.iter().map(|byte| byte ^ 7).collect();
        wire.send(&mut peer, &masked[..cut]);
        wire.send(&mut peer, &masked[cut..]);
        let data: String = wire.log.take().iter().filter_map(|entry| entry.strip_prefix("data ")).collect();
        let expected: Vec<u8> = b"hello world".iter().map(|byte| byte ^ 1).collect();
        assert_eq!(data.as_bytes(), expected, "cut at {cut}");
    }
}

#[test]
fn y7_a_filter_of_a_connection_is_found_by_its_type() {
    let stack = |listen: Listen| {
        listen.filter(|_| Some(Masked { key: 7, step: 2 })).filter(|_| Some(Masked { key: 9, step: 3 }))
    };
    let mut wire = Wire::new(Limits::default(), stack, idle);
    let _peer = wire.peer();
    wire.tell(|transport| {
        assert_eq!(transport.filter::<Masked>().map(|masked| masked.key), Some(9), "the uppermost");
        assert!(transport.filter::<Sealed>().is_none());
    });
}

#[test]
fn y8_where_no_filter_is_put_in_a_connection_has_no_record_for_it_and_takes_the_quick_path() {
    let mut wire = Wire::new(Limits::default(), |listen| listen, echo);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"x");
    let context = wire.network.context(wire.host);
    let connection = context.core.parts.slots.connection(context.connection_ids()[0].0).unwrap();
    assert!(connection.extras.is_none() && connection.is_quick(crate::Readiness::READABLE));
}

#[test]
fn y11_a_broadcast_over_filters_is_counted_for_each_receiver() {
    let mut wire = Wire::sealed(idle);
    let mut peers = [wire.shaken(), wire.shaken(), wire.shaken()];
    peers.iter_mut().for_each(RawPeer::stall);
    let mut context = wire.network.context(wire.host);
    let ids = context.connection_ids();
    assert_eq!(context.broadcast(ids.iter().copied(), &[b'x'; 1000]), 3);
    for id in ids {
        assert_eq!(context.connection(id).unwrap().queued_bytes(), 1000);
    }
}

/// Takes a line that names the peer, and leaves.
struct Header;

impl Filter for Header {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        let peer: SocketAddr = std::str::from_utf8(&data[..end]).unwrap().parse().unwrap();
        flow.set_peer_addr(peer.into());
        flow.leave();
        end + 1
    }

    fn send(&mut self, _: &[u8], _: &mut Flow<'_>) -> usize {
        unreachable!("it is not ready before it leaves")
    }
}

#[test]
fn y7_a_header_is_taken_by_a_filter_that_leaves() {
    for cut in 0..20 {
        let mut wire = Wire::new(
            Limits::default(),
            |listen| listen.filter(|_| Some(Header)),
            |event, transport| {
                if let Event::Made = event {
                    assert_eq!(transport.peer_addr().unwrap().to_string(), "1.2.3.4:5");
                }
                echo(event, transport)
            },
        );
        let mut peer = wire.peer();
        let bytes = b"1.2.3.4:5\nhello";
        wire.send(&mut peer, &bytes[..cut.min(bytes.len())]);
        wire.send(&mut peer, &bytes[cut.min(bytes.len())..]);
        assert_eq!(peer.read(), b"hello");
        wire.send(&mut peer, b"again");
        assert_eq!(peer.read(), b"again");
        let context = wire.network.context(wire.host);
        let id = context.connection_ids()[0];
        assert!(!context.core.parts.slots.connection(id.0).unwrap().is_filtered(), "as if there had been none");
    }
}

/// Panics in one of its methods.
struct Panics(&'static str);

impl Panics {
    fn at(&self, method: &str) {
        assert!(self.0 != method, "on purpose");
    }
}

impl Filter for Panics {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        self.at("begin");
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        self.at("receive");
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.at("send");
        flow.down().push(data);
        data.len()
    }

    fn finish(&mut self, _: &mut Flow<'_>) {
        self.at("finish");
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        self.at("receive_end");
        flow.end();
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.at("drop");
        }
    }
}

#[test]
fn y10_a_panic_of_a_filter_ends_its_connection_and_no_other() {
    for method in ["begin", "receive", "send", "finish", "receive_end", "drop"] {
        let listen = move |listen: Listen| {
            // The second filter does not panic there.
            let first = std::sync::atomic::AtomicBool::new(true);
            let is_first = move || first.swap(false, std::sync::atomic::Ordering::Relaxed);
            listen.filter(move |_| Some(Panics(if is_first() { method } else { "" })))
        };
        let mut wire = Wire::new(Limits::default(), listen, echo);
        wire.network.event_loop(wire.host).set_panic_policy(PanicPolicy::Isolate);
        let mut peer = wire.peer();
        let mut other = wire.peer();
        let _ = peer.send(b"x");
        wire.rest();
        peer.end();
        wire.rest();
        assert_eq!(wire.connections(), 1, "{method}");
        assert_eq!(wire.network.context(wire.host).counters().panics, 1, "{method}");
        let log = wire.log.take();
        let (made, lost) = (log.iter().filter(|entry| *entry == "made").count(), log.last().unwrap().clone());
        match method {
            "begin" => assert_eq!((made, lost.as_str()), (1, "made"), "of the other one"),
            "drop" => assert_eq!((made, lost.as_str()), (2, "lost: closed by the peer")),
            _ => assert_eq!((made, lost.as_str()), (2, "lost: a callback panicked: on purpose"), "{method}"),
        }
        wire.send(&mut other, b"y");
        assert_eq!((wire.log.take(), other.read()), (vec!["data y".into()], b"y".to_vec()));
    }
}
