//! Large pieces that a callback hands over: they wait until it returns (rules W1, W4, R1).

use super::*;
use crate::sys::script::Call;

/// A protocol that calls `act` at each delivery of data, and consumes all of it.
fn on_data(mut act: impl FnMut(&mut Transport<'_>) + 'static) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize {
    move |event, transport| {
        if let Event::Data(_) = event {
            act(transport);
        }
        by_default(&event, transport)
    }
}

/// A scene with a cap for the whole loop, a connection whose peer takes nothing, and one whose peer takes everything.
struct Capped {
    scene: Scene,
    slow: ConnectionId,
    other: ConnectionId,
    other_peer: Peer,
    log: Log,
}

impl Capped {
    fn new(loop_queue_bytes_max: usize) -> Capped {
        let mut scene = Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(loop_queue_bytes_max));
        let log = Log::default();
        let (slow, slow_peer) = scene.accept(&Log::default(), idle);
        let (other, other_peer) = scene.accept(&log, idle);
        slow_peer.set_room(0);
        log.take();
        Capped { scene, slow, other, other_peer, log }
    }

    /// A callback that queues this many bytes for the slow connection, and then writes to the other one.
    fn fills_the_loop(&self, bytes: usize) -> impl Fn(&mut Transport<'_>) + use<> {
        let (slow, other) = (self.slow, self.other);
        move |transport| {
            transport.context().connection(slow).unwrap().write_owned(vec![0; bytes]);
            transport.context().connection(other).unwrap().write(b"fits");
        }
    }

    /// Asserts that no connection has met the cap.
    #[track_caller]
    fn check_that_it_fits(&mut self) {
        assert_eq!(self.scene.event_loop.context().counters().losses.limit, 0);
        assert_eq!(self.log.take(), [""; 0]);
        assert_eq!(self.other_peer.take_sent(), b"fits");
    }
}

#[test]
fn w1_large_pieces_of_a_callback_go_out_in_one_call_too() {
    let calls = |writes: fn(&mut Transport<'_>)| {
        let mut scene = Scene::new();
        let (_, peer) = scene.accept(&Log::default(), on_data(writes));
        scene.receive(&peer, "x");
        peer.take_calls()
    };
    // Handed over: sent when the callback returns, along with what was written between the pieces.
    let handed_over = calls(|transport| {
        for _ in 0..4 {
            transport.write(b"head");
            transport.write_owned(vec![0; 20 * KIB]);
            transport.write_shared(vec![1; 20 * KIB].into());
        }
        transport.write(b"tail");
    });
    assert_eq!(handed_over, [Call::Read, Call::Write(8 * 20 * KIB + 20)]);
    // Borrowed: this piece cannot wait, but what was written before it can.
    let lent = calls(|transport| {
        transport.write(b"head");
        transport.write(&[0; 20 * KIB]);
    });
    assert_eq!(lent, [Call::Read, Call::Write(20 * KIB + 4)]);
}

#[test]
fn w1_more_than_256_kib_do_not_wait_for_the_callback_to_return() {
    let mut scene = Scene::new();
    let (_, peer) = scene.accept(&Log::default(), |event, transport| {
        if let Event::Data(_) = event {
            (0..14).for_each(|_| transport.write_owned(vec![0; 20 * KIB]));
            assert_eq!(transport.queued_bytes(), 20 * KIB);
            transport.write_owned(vec![0; 300 * KIB]);
            assert_eq!(transport.queued_bytes(), 0);
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(peer.take_calls(), [Call::Read, Call::Write(260 * KIB), Call::Write(320 * KIB)]);
}

#[test]
fn w4_near_a_cap_no_large_piece_waits_for_its_callback_to_return() {
    let caps = [
        Limits::default().with_queue_bytes_max(64 * KIB).into(),
        LoopLimits::default().with_loop_queue_bytes_max(64 * KIB),
    ];
    for limits in caps {
        let mut scene = Scene::with_limits(limits);
        let log = Log::default();
        let (_, peer) = scene.accept(&log, |event, transport| {
            if let Event::Data(_) = event {
                (0..10).for_each(|_| transport.write_owned(vec![0; 20 * KIB]));
            }
            by_default(&event, transport)
        });
        scene.receive(&peer, "x");
        assert_eq!(log.take(), ["made", "data x"]);
        assert_eq!(peer.take_calls()[1..], [const { Call::Write(20 * KIB) }; 10]);
    }
}

#[test]
fn w4_what_waits_for_a_callback_goes_out_before_another_s_write_meets_the_loop_s_cap() {
    let mut capped = Capped::new(300 * KIB);
    let fills = capped.fills_the_loop(270 * KIB);
    let act = on_data(move |transport| {
        transport.write_owned(vec![0; 40 * KIB]);
        fills(transport);
    });
    let (_, peer) = capped.scene.accept(&Log::default(), act);
    capped.scene.receive(&peer, "x");
    capped.check_that_it_fits();
    assert_eq!(peer.take_sent().len(), 40 * KIB);
}

#[test]
fn w4_what_waited_for_a_callback_does_not_wait_for_the_turn_to_end() {
    let mut capped = Capped::new(600 * KIB);
    let hands_over = |transport: &mut Transport<'_>| (0..8).for_each(|_| transport.write_owned(vec![0; 20 * KIB]));
    let members = [(); 2].map(|()| capped.scene.accept(&Log::default(), on_data(hands_over)));
    let ids = members.each_ref().map(|(id, _)| *id);
    let greets = on_data(move |transport| {
        for id in ids {
            transport.context().connection(id).unwrap().write(b"hello");
        }
    });
    let (_, first) = capped.scene.accept(&Log::default(), greets);
    let (_, last) = capped.scene.accept(&Log::default(), on_data(capped.fills_the_loop(290 * KIB)));
    for peer in [&first, &members[0].1, &members[1].1, &last] {
        peer.sends("x");
        capped.scene.world.event(peer, Readiness::READABLE);
    }
    capped.scene.settle();
    capped.check_that_it_fits();
}

#[test]
fn w4_a_large_piece_that_comes_too_late_leaves_nothing_waiting() {
    let mut capped = Capped::new(300 * KIB);
    let fills = capped.fills_the_loop(295 * KIB);
    let act = on_data(move |transport| {
        transport.write(&[0; 10 * KIB]);
        transport.close();
        transport.write_owned(vec![0; 20 * KIB]);
        fills(transport);
    });
    let (_, peer) = capped.scene.accept(&Log::default(), act);
    capped.scene.receive(&peer, "x");
    capped.check_that_it_fits();
    assert_eq!(peer.take_sent().len(), 10 * KIB);
}

#[test]
fn r1_who_was_held_back_only_by_what_it_had_just_written_is_offered_the_rest_again() {
    let ways: [fn(&mut Transport<'_>); 2] = [
        |transport| transport.write_owned(vec![0; 100 * KIB]),
        |transport| (0..100).for_each(|_| transport.write(&[0; KIB])),
    ];
    for writes in ways {
        for room in [usize::MAX, 0] {
            let (mut scene, log) = (Scene::with_limits(Limits::default().with_input_bytes_max(2)), Log::default());
            let mut has_greeted = false;
            let (_, peer) = scene.accept(&log, move |event, transport| match event {
                Event::Data(data) => {
                    if !std::mem::replace(&mut has_greeted, true) {
                        writes(transport);
                    }
                    if transport.is_reading() { data.len() } else { 0 }
                }
                event => by_default(&event, transport),
            });
            peer.set_room(room);
            scene.receive(&peer, "data");
            if room == 0 {
                assert_eq!(log.take(), ["made", "data data", "pause"]);
                scene.make_room(&peer, usize::MAX);
                assert_eq!(log.take(), ["resume", "data data"]);
            } else {
                assert_eq!(log.take(), ["made", "data data", "data data"]);
            }
            scene.end(&peer);
            assert_eq!(log.take()[0], "eof");
        }
    }
}

#[test]
fn r1_asking_whether_another_is_read_from_changes_nothing() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (other, deaf) = scene.accept(&Log::default(), idle);
    deaf.set_room(0);
    let mut has_greeted = false;
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Data(data) if std::mem::replace(&mut has_greeted, true) => data.len(),
        Event::Data(_) => {
            let asks = |transport: &Transport<'_>| transport.is_reading();
            transport.write_owned(vec![0; 100 * KIB]);
            assert!(!asks(transport));
            let mut context = transport.context();
            let mut other = context.connection(other).unwrap();
            other.write(&[0; 100 * KIB]);
            assert!(!asks(&other));
            0
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "data");
    assert_eq!(log.take(), ["made", "data data", "data data"], "its own output has gone out");
}

#[test]
fn l5_who_takes_nothing_and_writes_much_is_not_offered_it_again_and_again() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => {
            transport.write_owned(vec![0; 100 * KIB]);
            0
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "x");
    assert_eq!(
        (log.take(), scene.event_loop.time_to_next().is_none_or(|wait| wait > Duration::ZERO)),
        (vec!["made".into(), "data x".into()], true)
    );
}
