//! Rules C1, C2 and C8: the order of callbacks, and the peer's address.

use super::*;
use crate::sys::script::Call;

/// Accepts a connection that does, in a callback of its own, what it is sent as a command. Returns its id and its peer.
pub(super) fn obedient(scene: &mut Scene, log: &Log) -> (ConnectionId, Peer) {
    scene.accept(log, |event, transport| {
        if let Event::Data(data) = event {
            match data {
                b"close" => transport.close(),
                b"abort" => transport.abort(),
                b"fail" => transport.close_for("it is wrong"),
                b"panic" => panic!("as asked for"),
                b"shutdown_write" => transport.shutdown_write(),
                b"answer" => transport.write(&[0; 100]),
                b"too much" => return data.len() + 1,
                b"keep" => return 0,
                _ => {}
            }
        }
        by_default(&event, transport)
    })
}

pub(super) fn lost(log: &Log) -> Vec<String> {
    log.take().into_iter().filter(|entry| entry.starts_with("lost")).collect()
}

/// Checks that callbacks follow the grammar of C1, and that the marks alternate.
fn check_grammar(entries: &[String]) {
    assert_eq!(entries.first().map(String::as_str), Some("made"));
    let (mut ended, mut paused) = (false, false);
    for (n, entry) in entries.iter().enumerate().skip(1) {
        let kind = entry.split([' ', ':']).next().unwrap();
        match kind {
            "data" => assert!(!ended, "data after the end of stream"),
            "eof" => assert!(!std::mem::replace(&mut ended, true), "two ends of one stream"),
            "pause" => assert!(!std::mem::replace(&mut paused, true)),
            "resume" => assert!(std::mem::replace(&mut paused, false)),
            "lost" => assert_eq!(n, entries.len() - 1, "nothing comes after it: {entries:?}"),
            _ => panic!("{entry} in {entries:?}"),
        }
    }
    assert!(entries.last().unwrap().starts_with("lost"), "{entries:?}");
}

#[test]
fn c1_the_whole_grammar_in_one_life() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) => {
            transport.write(&[0; 100]);
            data.len()
        }
        // Keeps writing.
        Event::Eof(_) => {
            transport.write(&[0; 100]);
            0
        }
        _ => 0,
    });
    peer.set_room(0);
    scene.receive(&peer, "a");
    scene.make_room(&peer, 100);
    scene.end(&peer);
    scene.make_room(&peer, 100);
    scene.event_loop.context().connection(id).unwrap().close();
    scene.settle();
    let entries = log.take();
    assert_eq!(entries, ["made", "data a", "pause", "resume", "eof", "pause", "resume", "lost: closed by the peer"]);
    check_grammar(&entries);
}

/// A sequence of numbers that is the same for the same seed.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One of the things that a callback may do to a connection, its own or another.
fn do_something(numbers: &mut Numbers, transport: &mut Transport<'_>) {
    match numbers.below(24) {
        0 => transport.close(),
        1 => transport.abort(),
        2 => transport.close_for("so it is"),
        3 => transport.shutdown_write(),
        4 | 5 => transport.pause_reading(),
        6..=8 => transport.resume_reading(),
        9 => transport.set_write_marks(200, 100),
        10 => transport.write_owned(vec![1; 20_000]),
        11 => transport.set_input_low_bytes(3),
        12 => transport.set_input_low_bytes(0),
        13..=17 => transport.write(&[2; 50]),
        _ => {}
    }
}

/// Bounds so tight that all of them are reached.
fn tight() -> Limits {
    Limits::default()
        .with_queue_bytes_high(300)
        .with_queue_bytes_low(100)
        .with_queue_bytes_max(50_000)
        .with_input_bytes_max(200)
        .with_connections_max(4)
        .with_accepts_per_turn_max(2)
        .with_read_bytes_per_turn_max(64)
}

/// A protocol that does anything, to itself and to the others, and panics now and then.
pub(super) fn does_anything(log: &Log, known: Rc<RefCell<Vec<ConnectionId>>>, seed: u64) -> Box<dyn Protocol> {
    let mut choices = Numbers(seed);
    protocol(log, move |event, transport| {
        // Borrowed across everything it does: C3.
        let mut known = known.borrow_mut();
        if let Event::Made = event {
            known.push(transport.id());
        }
        do_something(&mut choices, transport);
        let other = known[choices.below(known.len() as u64) as usize];
        if let Some(mut other) = transport.context().connection(other) {
            do_something(&mut choices, &mut other);
        }
        assert!(choices.below(50) != 0, "a callback that panics");
        match event {
            Event::Data(data) => choices.below(data.len() as u64 + 1) as usize,
            event => by_default(&event, transport),
        }
    })
}

/// Does one of the things that a peer or the system can do.
pub(super) fn let_something_happen(scene: &mut Scene, peer: &Peer, numbers: &mut Numbers) {
    let what = if peer.is_closed() { 11 } else { numbers.below(12) };
    let_this_happen(scene, peer, numbers, what);
}

/// The one that makes the next send to the peer fail.
pub(super) const SEND_FAILS: u64 = 8;

/// Does the given one of them.
pub(super) fn let_this_happen(scene: &mut Scene, peer: &Peer, numbers: &mut Numbers, what: u64) {
    match what {
        0..=3 => scene.receive(peer, vec![b'x'; 1 + numbers.below(100) as usize]),
        4 => scene.end(peer),
        5 => {
            peer.read_fails(io::ErrorKind::ConnectionReset.into());
            scene.world.event(peer, Readiness::READABLE | Readiness::ERROR);
        }
        6 => scene.make_room(peer, numbers.below(200) as usize),
        7 => peer.set_room(numbers.below(2) as usize),
        SEND_FAILS => peer.write_answers(Err(io::ErrorKind::BrokenPipe.into())),
        9 => scene.world.event(peer, Readiness::READABLE | Readiness::WRITABLE),
        _ => {}
    }
}

#[test]
fn c1_the_grammar_holds_and_nothing_is_left_behind_whatever_happens() {
    for seed in 0..300 {
        let mut scene = Scene::with_limits(tight());
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let ids = Rc::new(RefCell::new(Vec::<ConnectionId>::new()));
        let mut numbers = Numbers(seed);
        let mut lives = Vec::new();
        for n in 0..6 {
            let log = Log::default();
            let protocol = does_anything(&log, ids.clone(), seed * 100 + n);
            lives.push((scene.knock(Some(protocol)), log));
        }
        scene.settle();
        for _ in 0..60 {
            let accepted = lives.len() - scene.backlog.waiting();
            let (peer, _) = &lives[numbers.below(accepted as u64) as usize];
            let_something_happen(&mut scene, peer, &mut numbers);
            scene.pass(Duration::from_millis(100 * numbers.below(10)));
        }
        let accepted = lives.len() - scene.backlog.waiting();
        // Connections that are left are ended, and all timers run out.
        scene.event_loop.shutdown(Duration::from_secs(1)).unwrap();
        scene.pass(Duration::from_secs(20));
        for (n, (peer, log)) in lives.iter().enumerate() {
            let entries = log.take();
            if n < accepted {
                check_grammar(&entries);
                assert!(peer.is_closed(), "seed {seed}");
            } else {
                assert_eq!(entries, [""; 0], "seed {seed}");
            }
        }
        let counters = scene.event_loop.context().counters();
        assert_eq!(counters.connections_made, counters.connections_lost, "seed {seed}");
        let core = &scene.event_loop.core;
        assert_eq!((core.parts.slots.connections(), core.parts.slots.foreground()), (0, 0), "seed {seed}");
        assert_eq!(scene.event_loop.time_to_next(), None, "seed {seed}: a timer is left");
    }
}

/// A way for a connection to end, and the reason that is reported for it.
type Path = (&'static str, fn(&mut Scene, ConnectionId, &Peer));

const PATHS: [Path; 19] = [
    ("closed by the peer", |scene, _, peer| scene.end(peer)),
    ("closed by us", |scene, _, peer| scene.receive(peer, "close")),
    ("closed by us", |scene, id, _| scene.event_loop.context().connection(id).unwrap().close()),
    ("aborted by us", |scene, _, peer| scene.receive(peer, "abort")),
    ("aborted by us", |scene, id, _| scene.event_loop.context().connection(id).unwrap().abort()),
    ("protocol error: it is wrong", |scene, _, peer| scene.receive(peer, "fail")),
    ("a callback panicked: as asked for", |scene, _, peer| scene.receive(peer, "panic")),
    ("data_received reported 9 bytes consumed of 8", |scene, _, peer| scene.receive(peer, "too much")),
    ("too much input left unconsumed", |scene, id, peer| {
        scene.event_loop.context().connection(id).unwrap().set_input_bytes_max(3);
        scene.receive(peer, "keep");
    }),
    ("too much output queued", |scene, id, peer| {
        peer.set_room(0);
        for _ in 0..2 {
            scene.event_loop.context().connection(id).unwrap().write(&[0; 2000]);
            scene.settle();
        }
    }),
    ("too much output queued in the whole loop", |scene, id, peer| {
        let (other, _other_peer) = scene.accept(&Log::default(), echo);
        peer.set_room(0);
        let mut context = scene.event_loop.context();
        for _ in 0..2 {
            context.connection(id).unwrap().write(&[0; 900]);
        }
        context.connection(other).unwrap().write(&[0]);
    }),
    ("reset by the peer", |scene, _, peer| {
        peer.read_fails(io::ErrorKind::ConnectionReset.into());
        scene.world.event(peer, Readiness::READABLE | Readiness::ERROR);
    }),
    ("I/O error: timed out", |scene, _, peer| {
        peer.read_fails(io::ErrorKind::TimedOut.into());
        scene.world.event(peer, Readiness::READABLE);
    }),
    ("reset by the peer", |scene, _, peer| {
        peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
        scene.receive(peer, "answer");
    }),
    ("I/O error: timed out", |scene, _, peer| {
        peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
        scene.receive(peer, "answer");
    }),
    ("the peer did not take the remaining output in time", |scene, _, peer| {
        peer.set_room(0);
        scene.receive(peer, "answer");
        scene.receive(peer, "close");
        scene.pass(Duration::from_secs(5));
    }),
    ("closed by the peer", |scene, _, peer| {
        scene.receive(peer, "shutdown_write");
        scene.end(peer);
    }),
    // It lingers until its time is up.
    ("closed by us", |scene, _, peer| {
        peer.sends("close");
        scene.receive(peer, "more");
        scene.pass(Duration::from_secs(2));
    }),
    ("the loop was shut down", |scene, _, _| _ = scene.event_loop.shutdown(Duration::from_secs(1)).unwrap()),
];

#[test]
fn c7_every_path_to_the_end_tells_its_reason_once() {
    for (n, (reason, path)) in PATHS.into_iter().enumerate() {
        let mut scene = Scene::with_limits(
            LoopLimits::from(Limits::default().with_queue_bytes_max(1000)).with_loop_queue_bytes_max(1500),
        );
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let log = Log::default();
        let (id, peer) = obedient(&mut scene, &log);
        path(&mut scene, id, &peer);
        scene.settle();
        assert_eq!(lost(&log), [format!("lost: {reason}")], "path {n}");
        assert!(peer.is_closed(), "path {n}");
        // It ends only once, whatever happens afterwards.
        assert!(scene.event_loop.context().connection(id).is_none(), "path {n}");
        scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR);
        scene.pass(Duration::from_secs(60));
        drop(scene);
        assert_eq!(log.take(), [""; 0], "path {n}");
    }
}

#[test]
fn c1_nothing_comes_after_the_end_whatever_is_done_in_the_last_callback() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| {
        if let Event::Lost(_) = event {
            transport.write(b"too late");
            transport.write_owned(vec![0; 100_000]);
            transport.resume_reading();
            transport.pause_reading();
            transport.resume_reading();
            transport.set_write_marks(0, 0);
            transport.set_input_low_bytes(1);
            transport.set_input_bytes_max(0);
            transport.shutdown_write();
            transport.close();
            transport.close_for("too late");
            transport.abort();
            transport.set_protocol(protocol(&Log::default(), |_, _| unreachable!("nothing comes after the end")));
            assert_eq!(transport.queued_bytes(), 0);
            assert!(transport.local_addr().is_err());
        }
        by_default(&event, transport)
    });
    scene.event_loop.context().connection(id).unwrap().abort();
    scene.settle();
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE);
    scene.pass(Duration::from_secs(60));
    assert_eq!(log.take(), ["made", "lost: aborted by us"]);
    assert_eq!(peer.take_calls(), [Call::Reset]);
    let counters = scene.event_loop.context().counters();
    assert_eq!((counters.connections_lost, counters.late_writes), (1, 2));
}

#[test]
fn c1_a_connection_that_ends_in_connection_made_is_lost_after_it() {
    for (abort, reason) in [(true, "lost: aborted by us"), (false, "lost: closed by us")] {
        let mut scene = Scene::new();
        let log = Log::default();
        let peer = scene.knock(Some(protocol(&log, move |event: Event<'_>, transport: &mut Transport<'_>| {
            match event {
                Event::Made if abort => transport.abort(),
                Event::Made => transport.close(),
                _ => {}
            }
            by_default(&event, transport)
        })));
        peer.sends("never delivered");
        scene.pass(Duration::from_secs(5));
        assert!(peer.is_closed());
        assert_eq!(log.take(), ["made", reason]);
    }
}

#[test]
fn c1_an_attached_stream_that_is_aborted_before_it_was_made_gets_no_call() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.attach(&log, echo);
    scene.event_loop.context().connection(id).unwrap().abort();
    scene.settle();
    assert_eq!(log.take(), [""; 0]);
    assert!(peer.is_closed());
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn c1_an_attached_stream_that_is_closed_before_it_was_made_is_made_and_lost() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.attach(&log, echo);
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(id).unwrap();
    transport.write(b"good bye");
    transport.close();
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"good bye");
}

#[test]
fn c2_connection_made_runs_before_anything_is_read() {
    for accepted in [true, false] {
        let mut scene = Scene::new();
        let log = Log::default();
        let known = Rc::new(RefCell::new(None::<Peer>));
        let seen = known.clone();
        let act = move |event: Event<'_>, transport: &mut Transport<'_>| {
            if let Event::Made = event {
                assert!(!seen.borrow().as_ref().unwrap().take_calls().contains(&Call::Read));
            }
            by_default(&event, transport)
        };
        let peer = if accepted {
            scene.knock(Some(protocol(&log, act)))
        } else {
            let (_, peer) = scene.attach(&log, act);
            scene.world.event(&peer, Readiness::READABLE);
            peer
        };
        *known.borrow_mut() = Some(peer.clone());
        peer.sends("sent at once");
        peer.sends("");
        scene.turn();
        scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED);
        scene.settle();
        assert_eq!(log.take(), ["made", "data sent at once", "eof", "lost: closed by the peer"]);
    }
}

#[test]
fn c8_the_peer_s_address_is_known_from_accept_to_the_last_callback() {
    let mut scene = Scene::new();
    let log = Log::default();
    let noted = log.clone();
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        noted.push(transport.peer_addr().unwrap().to_string());
        by_default(&event, transport)
    });
    // It was reset before it was accepted, so asking its socket for the peer would fail.
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["127.0.0.1:1"; 2]);
}

#[test]
fn c8_a_peer_that_was_reset_before_it_was_accepted_hurts_nobody() {
    let mut scene = Scene::new();
    let (reset_log, log) = (Log::default(), Log::default());
    let reset = scene.knock(Some(protocol(&reset_log, echo)));
    scene.knock(Some(protocol(&log, echo)));
    reset.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.turn();
    scene.world.event(&reset, Readiness::READABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(reset_log.take(), ["made", "lost: reset by the peer"]);
    assert_eq!(log.take(), ["made"]);
}
