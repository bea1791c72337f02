//! Filters that are added at odd times, and what is done right after that (rules Y4 and Y6).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::kinds::Masked;
use super::*;
use crate::Connect;
use crate::filter::chain::Chain;
use crate::filter::{Filter, Flow};

/// Writes plain data, adds a filter that is ready at once, and writes through it.
fn switches(transport: &mut Transport<'_>) -> bool {
    transport.write(b"plain ");
    let is_in = transport.set_filter(Masked { key: 0x20, step: 1000 });
    transport.write(b"MASKED");
    is_in
}

fn plain(act: fn(Event<'_>, &mut Transport<'_>) -> usize) -> Wire {
    Wire::new(Limits::default(), |listen| listen, act)
}

#[test]
fn y6_a_filter_can_be_put_in_from_any_callback() {
    let acts: [fn(Event<'_>, &mut Transport<'_>) -> usize; 5] = [
        |event, transport| match event {
            Event::Made => usize::from(switches(transport)),
            event => stays(event, transport),
        },
        |event, transport| match event {
            Event::Data(data) => data.len().max(usize::from(switches(transport))),
            event => stays(event, transport),
        },
        |event, transport| match event {
            Event::Eof(_) => usize::from(switches(transport)),
            event => stays(event, transport),
        },
        |event, transport| match event {
            Event::Made => {
                transport.set_timer(1, MS);
                0
            }
            Event::Timer(_) => usize::from(switches(transport)),
            event => stays(event, transport),
        },
        |event, transport| match event {
            Event::Made => {
                transport.start_producing();
                0
            }
            Event::Produce => {
                transport.stop_producing();
                usize::from(switches(transport))
            }
            event => stays(event, transport),
        },
    ];
    for (index, act) in acts.into_iter().enumerate() {
        let mut wire = plain(act);
        let mut peer = wire.peer();
        if index == 1 {
            wire.send(&mut peer, b"x");
        }
        if index != 1 {
            peer.end();
        }
        wire.rest();
        assert_eq!(peer.read(), b"plain masked", "{index}");
        wire.tell(close);
        assert_eq!((peer.read(), peer.saw_end(), peer.error().is_none()), (vec![], true, true), "{index}");
        peer.close();
        wire.rest();
        assert_eq!((wire.connections(), wire.timers()), (0, 0), "{index}");
    }
}

#[test]
fn y6_what_is_done_right_behind_it_is_done_behind_what_was_written() {
    for act in [close, shutdown_write] {
        let mut wire = plain(stays);
        let mut peer = wire.peer();
        wire.tell(|transport| {
            assert!(switches(transport));
            act(transport);
            assert!(!transport.set_filter(Masked { key: 1, step: 1 }), "our half is over");
        });
        assert_eq!(peer.read(), b"plain masked");
        assert!(peer.saw_end() && peer.error().is_none());
    }
}

#[test]
fn y6_two_that_are_put_in_at_once_stand_above_each_other() {
    let mut wire = plain(stays);
    let mut peer = wire.peer();
    wire.tell(|transport| {
        assert!(switches(transport));
        assert!(transport.set_filter(Sealed::client(KEY, 100)));
        transport.write(b"sealed");
    });
    let masked = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ 0x20).collect::<Vec<u8>>();
    assert_eq!(peer.read(), [&b"plain masked"[..], &masked(&[b'H', KEY])].concat());
    wire.send(&mut peer, &masked(b"S\0"));
    assert_eq!(peer.read(), masked(&record(b"sealed")));
}

#[test]
fn y6_what_waits_for_the_peer_is_out_before_what_the_filter_makes_and_meets_no_cap() {
    let limits = Limits::default().with_queue_bytes_max(100 * KIB).with_pause_reading_over_high(false);
    let mut wire = Wire::new(limits, |listen| listen, stays);
    let mut peer = wire.peer();
    peer.stall();
    wire.tell(|transport| {
        // One write is never cut in two (W4).
        transport.write_owned(vec![b'x'; 1 << 20]);
        assert!(transport.set_filter(Masked { key: 0x20, step: 1000 }));
    });
    wire.send(&mut peer, b"HELLO");
    assert_eq!(wire.log.take(), ["made", "pause", "data hello"]);
    peer.unstall();
    let mut got = Vec::new();
    for _ in 0..100 {
        wire.rest();
        got.extend(peer.read());
    }
    wire.tell(|transport| transport.write(b"THEN"));
    got.extend(peer.read());
    assert!(got.len() == (1 << 20) + 4 && got.ends_with(b"xxthen"), "{}", got.len());
}

/// Connects a wire's connections onward to a scripted server, through a filter of their own.
fn joined() -> (Wire, RawPeer, RawPeer) {
    let mut wire = Wire::sealed(stays);
    let peer = wire.shaken();
    let mut server = wire.network.peer_listener(80, 1).unwrap();
    let connect = Connect::to(server.local_addr()).filter(|| Sealed::client(KEY, 100));
    let mut context = wire.network.context(wire.host);
    let id = context.connection_ids()[0];
    let other = context.connect(connect, crate::Relay::new(id)).unwrap();
    context.join(id, other).unwrap();
    wire.rest();
    let mut onward = server.accept().unwrap();
    assert_eq!(onward.read(), [b'H', KEY]);
    (wire, peer, onward)
}

#[test]
fn y1_a_pair_of_filtered_connections_passes_on_bytes_and_ends() {
    let (mut wire, mut peer, mut onward) = joined();
    wire.send(&mut peer, &[&record(b"early")[..], b"E"].concat());
    assert_eq!(onward.read(), b"");
    wire.send(&mut onward, b"S\0");
    assert_eq!(onward.read(), [&record(b"early")[..], b"E"].concat());
    wire.send(&mut onward, &[&record(b"answer")[..], b"E"].concat());
    assert_eq!(peer.read(), [&record(b"answer")[..], b"E"].concat());
    wire.rest();
    assert!(peer.saw_end() && onward.saw_end() && peer.error().is_none() && onward.error().is_none());
    assert_eq!((wire.connections(), wire.timers()), (0, 0));
}

#[test]
fn y1_a_pair_whose_other_end_does_not_come_to_be_ready_is_reset() {
    let (mut wire, mut peer, mut onward) = joined();
    wire.send(&mut onward, b"nonsense");
    assert_eq!(onward.read(), b"A");
    assert!(peer.error().is_some());
    onward.close();
    wire.rest();
    assert_eq!((wire.connections(), wire.timers()), (0, 0));
}

#[test]
fn y1_a_drain_and_a_shutdown_in_a_handshake_leave_nothing_behind() {
    for is_drain in [true, false] {
        let mut wire = Wire::sealed(idle);
        let mut peer = wire.peer();
        wire.send(&mut peer, b"H");
        let mut context = wire.network.context(wire.host);
        match is_drain {
            true => context.drain(3 * SECOND),
            false => context.shutdown(3 * SECOND),
        }
        wire.network.run_for(5 * SECOND);
        assert_eq!((wire.connections(), wire.log.take()), (0, vec![]));
        assert!(peer.read().is_empty() && (peer.saw_end() || peer.error().is_some()));
    }
}

#[test]
fn y1_what_a_connect_is_told_before_it_is_established_is_done_behind_its_handshake() {
    let mut wire = Wire::sealed(stays);
    let mut server = wire.network.peer_listener(80, 1).unwrap();
    let connect = Connect::to(server.local_addr()).filter(|| Box::new(Sealed::client(KEY, 100)) as Box<dyn Filter>);
    let made = protocol(&wire.log, stays);
    let mut context = wire.network.context(wire.host);
    let id = context.connect(connect, made).unwrap();
    let mut transport = context.connection(id).unwrap();
    transport.write(b"early");
    transport.shutdown_write();
    wire.rest();
    let mut peer = server.accept().unwrap();
    assert_eq!((peer.read(), peer.saw_end()), (vec![b'H', KEY], false));
    wire.send(&mut peer, &[b"S\0", &record(b"answer")[..], b"E"].concat());
    assert_eq!(peer.read(), [&record(b"early")[..], b"E"].concat());
    assert_eq!(wire.log.take(), ["made", "data answer", "eof", "lost: closed by the peer"]);
    assert_eq!((wire.connections(), wire.timers()), (0, 0));
}

#[test]
fn y5_a_read_rate_and_a_low_mark_hold_for_filtered_input() {
    let limits = Limits::default().with_filter_timeout(Some(100 * SECOND));
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), stays);
    let mut peer = wire.shaken();
    wire.tell(|transport| {
        transport.set_input_low_bytes(8);
        transport.set_read_rate(Some(Rate::new(10)));
    });
    peer.send(&[&record(b"one")[..], &record(b"two"), &record(b"three"), b"E"].concat());
    wire.network.run_for(10 * SECOND);
    assert_eq!(wire.log.take(), ["data onetwothree", "eof"]);
}

#[test]
fn j2_one_whose_filter_is_not_ready_is_waited_for_whenever_it_was_joined() {
    for is_early in [true, false] {
        let mut wire = plain(stays);
        let mut peer = wire.peer();
        let mut server = wire.network.peer_listener(80, 1).unwrap();
        let connect = Connect::to(server.local_addr()).filter(|| Sealed::client(KEY, 10_000));
        let mut context = wire.network.context(wire.host);
        let id = context.connection_ids()[0];
        let other = context.connect(connect, crate::Relay::new(id)).unwrap();
        if is_early {
            context.join(id, other).unwrap();
        }
        wire.rest();
        let mut onward = server.accept().unwrap();
        assert_eq!(onward.read(), [b'H', KEY]);
        if !is_early {
            wire.network.context(wire.host).join(id, other).unwrap();
        }
        peer.queue(&vec![b'x'; 2 << 20]);
        wire.network.run_for(5 * SECOND);
        let queued = wire.network.context(wire.host).connection(other).unwrap().queued_bytes();
        assert!(queued <= 128 * KIB, "{is_early}: {queued}");
        wire.send(&mut onward, b"S\0");
        let mut got = 0;
        for _ in 0..40 {
            wire.network.run_for(SECOND / 2);
            got += onward.read().iter().filter(|byte| **byte == b'x' ^ KEY).count();
        }
        assert!(got >= 2 << 20, "{is_early}: {got} of {}", 2 << 20);
    }
}

/// Takes nothing while its gate is closed.
struct Gate(Arc<AtomicBool>);

impl Filter for Gate {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let count = if self.0.load(Ordering::Relaxed) { data.len() } else { 0 };
        flow.down().push(&data[..count]);
        count
    }
}

/// Leaves behind the first data that is written.
struct Greeter;

impl Filter for Greeter {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        flow.leave();
        data.len()
    }
}

#[test]
fn y7_one_that_has_left_stays_until_the_one_below_has_taken_all_that_it_passed_down() {
    let (now, is_open) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut chain = Chain::default();
    chain.push(Box::new(Gate(is_open.clone())), b"");
    chain.push(Box::new(Greeter), b"");
    chain.begin(now);
    assert_eq!(chain.send(b"last words", now), 10);
    assert!(chain.net().is_empty());
    assert_eq!(chain.outward_bytes(), 10);
    is_open.store(true, Ordering::Relaxed);
    chain.send(b"", now);
    assert_eq!(chain.net().rest(), b"last words");
}
