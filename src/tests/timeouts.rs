//! Rules X4 and T5: idle, handshake and total timeouts.

use super::*;

fn idle_for_10_s() -> Scene {
    Scene::with_limits(Limits::default().with_idle_timeout(Some(10 * SECOND)))
}

const IDLE: [&str; 2] = ["timed out: Idle", "lost: idle for too long"];

#[test]
fn x4_a_timeout_aborts_by_default_though_the_peer_would_never_drain() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(3);
    scene.tell(id, |transport| transport.write(b"never taken"));
    scene.pass(9999 * MS);
    assert_eq!(log.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(log.take(), IDLE);
    assert!(peer.take_calls().contains(&sys::script::Call::Reset));
    scene.pass(2 * SECOND);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

#[test]
fn x4_a_protocol_may_say_goodbye_or_go_on() {
    let mut scene = Scene::new();
    let log = Log::default();
    let mut times = 0;
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Made => {
            transport.set_timeout(Timeout::Idle, Some(10 * SECOND));
            0
        }
        Event::TimedOut(Timeout::Idle) if times < 2 => {
            times += 1;
            0
        }
        Event::TimedOut(_) => {
            transport.write(b"goodbye");
            transport.close();
            0
        }
        event => by_default(&event, transport),
    });
    scene.pass(29 * SECOND);
    assert_eq!(log.take(), ["made", "timed out: Idle", "timed out: Idle"]);
    scene.pass(SECOND);
    scene.end(&peer);
    assert_eq!(log.take(), ["timed out: Idle", "lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"goodbye");
}

#[test]
fn t5_bytes_in_either_direction_reset_an_idle_timeout_and_nothing_resets_a_total_one() {
    let mut scene = Scene::with_limits(
        Limits::default().with_idle_timeout(Some(10 * SECOND)).with_total_timeout(Some(60 * SECOND)),
    );
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    for n in 0..7 {
        scene.pass(8 * SECOND);
        match n % 2 {
            0 => scene.receive(&peer, "x"),
            _ => scene.tell(id, |transport| transport.write(b"y")),
        }
    }
    assert_eq!(log.take(), ["made", "data x", "data x", "data x", "data x"]);
    scene.pass(3999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timed out: Total", "lost: connected for too long"]);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

#[test]
fn t5_what_goes_out_within_the_call_that_writes_it_resets_an_idle_timeout_as_well() {
    for size in [1, crate::connection::output::LARGE_BYTES] {
        let (mut scene, log) = (idle_for_10_s(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        for _ in 0..10 {
            scene.pass(9 * SECOND);
            scene.tell(id, |transport| transport.write(&vec![b'x'; size]));
        }
        assert_eq!((log.take(), peer.take_sent().len()), (vec!["made".into()], 10 * size));
        scene.pass(10 * SECOND);
        assert_eq!(log.take(), IDLE);
    }
}

#[test]
fn t5_input_resets_an_idle_timeout_whatever_its_callback_does_with_it() {
    let ways: [fn(&mut Transport<'_>) -> usize; 3] = [
        |_| 0,
        |transport| {
            transport.pause_reading();
            transport.resume_reading();
            1
        },
        |transport| {
            transport.context().call_later(SECOND, |_| ());
            1
        },
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let (mut scene, log) = (idle_for_10_s(), Log::default());
        let (_, peer) = scene.accept(&log, move |event, transport| match event {
            Event::Data(_) => way(transport),
            event => by_default(&event, transport),
        });
        scene.pass(9 * SECOND);
        scene.receive(&peer, "x");
        scene.pass(9 * SECOND);
        assert_eq!(log.take(), ["made", "data x"], "way {n}");
    }
}

#[test]
fn t5_a_total_timeout_comes_once_and_can_be_set_again_and_taken_away() {
    let mut scene = Scene::new();
    let log = Log::default();
    let mut times = 0;
    let (id, _) = scene.accept(&log, move |event, transport| {
        if matches!(event, Event::Made | Event::TimedOut(_)) && times < 2 {
            times += 1;
            transport.set_timeout(Timeout::Total, Some(5 * SECOND));
        }
        0
    });
    scene.pass(100 * SECOND);
    assert_eq!(log.take(), ["made", "timed out: Total", "timed out: Total"]);
    scene.tell(id, |transport| {
        transport.set_timeout(Timeout::Total, Some(SECOND));
        transport.set_timeout(Timeout::Idle, Some(SECOND));
        transport.set_timeout(Timeout::Total, None);
        transport.set_timeout(Timeout::Idle, None);
    });
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn t5_what_is_readable_at_the_deadline_is_read_before_it_is_judged_though_no_event_has_come() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, idle);
    scene.pass(9 * SECOND);
    // It arrives after the wait and before the turn's timers.
    peer.sends("just in time");
    scene.pass(SECOND);
    assert_eq!(log.take(), ["made", "data just in time"]);
    scene.pass(9999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), IDLE);
}

#[test]
fn t5_an_idle_timeout_stands_still_while_reading_is_paused_and_nothing_is_queued() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (id, _) = scene.accept(&log, idle);
    scene.pass(8 * SECOND);
    scene.tell(id, pause_reading);
    scene.pass(1000 * SECOND);
    assert_eq!(scene.event_loop.time_to_next(), None, "standing still wakes nobody");
    scene.tell(id, resume_reading);
    scene.pass(1999 * MS);
    assert_eq!(log.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(log.take(), IDLE);
}

#[test]
fn t5_while_reading_is_paused_a_peer_that_takes_nothing_is_judged_by_that() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, pause_reading);
    scene.pass(100 * SECOND);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"abc"));
    scene.pass(9 * SECOND);
    scene.make_room(&peer, 1);
    scene.pass(9999 * MS);
    assert_eq!(log.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(log.take(), IDLE);
}

#[test]
fn t5_with_output_queued_what_the_peer_sends_does_not_count() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"abc"));
    scene.pass(5 * SECOND);
    scene.receive(&peer, "x");
    scene.pass(5 * SECOND);
    assert_eq!(log.take(), ["made", "data x", "timed out: Idle", "lost: idle for too long"]);
}

#[test]
fn t5_a_closing_connection_has_its_close_deadline_alone() {
    let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(SECOND)));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.set_timeout(Timeout::Close, Some(20 * SECOND));
        transport.write(b"abc");
        transport.close();
    });
    scene.pass(19 * SECOND);
    assert_eq!(log.take(), ["made"]);
    scene.pass(SECOND);
    assert_eq!(log.take(), ["lost: the peer did not take the remaining output in time"]);
}

#[test]
fn t5_a_message_moves_no_timer() {
    let mut scene = idle_for_10_s();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    let before = scene.event_loop.time_to_next();
    for _ in 0..100 {
        scene.world.advance(10 * MS);
        scene.receive(&peer, "x");
    }
    let gone = SECOND;
    assert_eq!(scene.event_loop.time_to_next().map(|left| left + gone), before, "the timer stands where it stood");
}

#[test]
fn x4_a_protocol_that_does_not_say_what_to_do_at_a_timeout_is_ended() {
    struct SaysNothing;
    impl Protocol for SaysNothing {
        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let mut scene = idle_for_10_s();
    let peer = scene.knock(Some(Box::new(SaysNothing)));
    let other = scene.knock(Some(Box::new(SaysNothing)));
    other.set_room(0);
    scene.turn();
    let id = scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&other)).unwrap().0;
    scene.tell(ConnectionId(id), |transport| transport.write(b"not taken"));
    scene.pass(9999 * MS);
    assert!(!peer.is_closed() && !other.is_closed());
    scene.pass(MS);
    assert_eq!(peer.take_calls().last(), Some(&sys::script::Call::Close));
    assert_eq!(other.take_calls().last(), Some(&sys::script::Call::Reset));
}

#[test]
fn x4_a_peer_that_is_not_ready_in_time_is_ended_whatever_comes_and_goes() {
    let limits = Limits::default().with_idle_timeout(Some(10 * SECOND)).with_handshake_timeout(Some(15 * SECOND));
    let mut scene = Scene::with_limits(limits);
    let log = Log::default();
    let ready = |event: Event<'_>, transport: &mut Transport<'_>| match event {
        Event::Data(b"ready") => {
            transport.set_timeout(Timeout::Handshake, None);
            5
        }
        event => by_default(&event, transport),
    };
    let dribblers: Vec<_> = (0..100).map(|_| scene.accept(&log, ready).1).collect();
    let honest = scene.accept(&log, ready).1;
    scene.receive(&honest, "ready");
    log.take();
    // A byte every three seconds keeps them from being idle, but does not help.
    for _ in 0..4 {
        scene.pass(3 * SECOND);
        dribblers.iter().chain([&honest]).for_each(|peer| scene.receive(peer, "x"));
        assert_eq!(log.take(), vec!["data x"; 101]);
    }
    scene.pass(2999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    let mut ends = log.take();
    ends.sort();
    assert_eq!(ends, [vec!["lost: the handshake took too long"; 100], vec!["timed out: Handshake"; 100]].concat());
    assert!(dribblers.iter().all(Peer::is_closed));
    scene.receive(&honest, "x");
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), ["data x", IDLE[0], IDLE[1]]);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

#[test]
fn x4_handshake_and_total_timeout_are_apart_and_a_protocol_may_give_more_time() {
    let limits = Limits::default().with_handshake_timeout(Some(5 * SECOND)).with_total_timeout(Some(20 * SECOND));
    let mut scene = Scene::with_limits(limits);
    let log = Log::default();
    let mut more_time = [3 * SECOND].into_iter();
    let (id, _) = scene.accept(&log, move |event, transport| match (&event, more_time.len()) {
        (Event::TimedOut(Timeout::Handshake), 1..) => {
            transport.set_timeout(Timeout::Handshake, more_time.next());
            0
        }
        _ => by_default(&event, transport),
    });
    scene.pass(5 * SECOND);
    assert_eq!(log.take(), ["made", "timed out: Handshake"]);
    scene.pass(2 * SECOND);
    scene.tell(id, |transport| transport.set_timeout(Timeout::Handshake, None));
    scene.pass(12_999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timed out: Total", "lost: connected for too long"]);
    // A connection that ends before leaves no timer.
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, abort);
    assert!(peer.is_closed());
    assert_eq!(scene.event_loop.time_to_next(), None);
}

/// Reads back each kind of timeout.
fn read_back(transport: &Transport<'_>) -> [Option<Duration>; 5] {
    [Timeout::Idle, Timeout::ReadIdle, Timeout::Handshake, Timeout::Total, Timeout::Close]
        .map(|timeout| transport.timeout(timeout))
}

#[test]
fn x4_timeouts_are_read_back_as_they_were_set() {
    let limits = Limits::default().with_idle_timeout(Some(10 * SECOND)).with_total_timeout(Some(60 * SECOND));
    let limits = limits.with_handshake_timeout(Some(20 * SECOND)).with_close_timeout(SECOND);
    let mut scene = Scene::with_limits(limits.clone());
    let log = Log::default();
    let (id, _peer) = scene.attach(&log, |event, transport| match event {
        Event::TimedOut(_) => 0,
        event => by_default(&event, transport),
    });
    let given = [Some(10 * SECOND), None, Some(20 * SECOND), Some(60 * SECOND), Some(SECOND)];
    assert_eq!(read_back(&scene.event_loop.context().connection(id).unwrap()), given, "what it is going to have");
    scene.settle();
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(id).unwrap();
    assert_eq!(read_back(&transport), given);
    transport.set_timeout(Timeout::Idle, None);
    transport.set_timeout(Timeout::ReadIdle, Some(30 * SECOND));
    transport.set_timeout(Timeout::Total, Some(5 * SECOND));
    transport.set_timeout(Timeout::Close, None);
    assert_eq!(read_back(&transport), [None, Some(30 * SECOND), Some(20 * SECOND), Some(5 * SECOND), None]);
    assert_eq!(transport.timeout(Timeout::Other("own")), None);
    assert_eq!((transport.limits().idle_timeout, transport.limits().input_bytes_max), (Some(10 * SECOND), 64 * 1024));
    transport.set_input_bytes_max(7);
    assert_eq!(transport.limits().input_bytes_max, 7);
    assert_eq!(context.limits().each, limits, "those of the loop stay");
    // A timeout that has expired is over.
    scene.pass(20 * SECOND);
    assert_eq!(log.take(), ["made", "timed out: Total", "timed out: Handshake"]);
    let left = read_back(&scene.event_loop.context().connection(id).unwrap());
    assert_eq!(left, [None, Some(30 * SECOND), None, None, None]);
    // A protocol that starts in its place has those of the limits.
    scene.tell(id, |transport| transport.start_protocol(protocol(&log, idle)));
    assert_eq!(read_back(&scene.event_loop.context().connection(id).unwrap()), given);
}
