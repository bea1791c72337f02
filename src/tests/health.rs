//! What the loop reports about itself: counters, the longest callback, its lag, and each connection's figures.

use super::*;
use crate::Losses;

#[test]
fn every_counter_counts_what_it_says() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    scene.knock(None);
    scene.settle();
    scene.receive(&peer, "hello");
    scene.world.raw_event(12345, Readiness::READABLE);
    scene.world.wait_fails(MS, io::ErrorKind::Interrupted);
    scene.turn();
    scene.event_loop.context().call_later(Duration::ZERO, |_| {});
    scene.settle();
    scene.end(&peer);
    let counters = scene.event_loop.context().counters();
    let of_it = (counters.accepts, counters.connections_made, counters.connections_refused, counters.connections_lost);
    assert_eq!(of_it, (2, 1, 1, 1));
    assert_eq!((counters.bytes_received, counters.bytes_sent), (5, 5));
    // Two events of the listener, the data, the stale one and the end.
    assert_eq!((counters.events, counters.stale_events), (5, 1));
    assert_eq!(counters.polls, counters.turns + 1, "a signal interrupted one wait");
    assert_eq!(counters.timers_fired, 1);
    assert_eq!(counters.losses, Losses { peer_closed: 1, ..Losses::default() });
}

#[test]
fn waking_the_loop_is_no_event_of_a_socket() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.context().handle();
    for turn in 1..=3 {
        handle.post(|_| {}).unwrap();
        event_loop.turn(None).unwrap();
        let counters = event_loop.context().counters();
        assert_eq!((counters.turns, counters.events, counters.stale_events), (turn, 0, 0));
    }
}

#[test]
fn losses_are_counted_by_reason() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (id, _) = scene.accept(&log, idle);
    scene.tell(id, abort);
    scene.knock(Some(protocol(&log, |_, _| panic!("oh"))));
    scene.settle();
    let (id, _) = scene.accept(&log, idle);
    scene.tell(id, |transport| assert!(transport.detach(|_, _| {})));
    let losses = scene.event_loop.context().counters().losses;
    assert_eq!(losses, Losses { aborted: 1, panic: 1, detached: 1, ..Losses::default() });
}

/// A protocol that takes as many milliseconds for its data as the data says.
fn slow(scene: &Scene) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let world = scene.world.clone();
    move |event, transport| {
        if let Event::Data(data) = event {
            world.advance(MS * String::from_utf8_lossy(data).parse().unwrap());
        }
        by_default(&event, transport)
    }
}

#[test]
fn the_longest_callback_and_the_lag_are_told() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_times_callbacks(true));
    let log = Log::default();
    let act = slow(&scene);
    let (_, peer) = scene.accept(&log, act);
    for took in ["30", "120", "100"] {
        scene.receive(&peer, took);
    }
    let health = scene.event_loop.context().health();
    assert_eq!((health.longest_callback, health.longest_callback_name), (120 * MS, "data_received"));
    assert_eq!((health.lag_max, health.slow_callbacks), (120 * MS, 1));
    scene.turn();
    assert_eq!(scene.event_loop.context().health().lag, Duration::ZERO);
}

#[test]
fn callbacks_other_than_a_protocol_s_are_watched_too() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_times_callbacks(true));
    let world = scene.world.clone();
    scene.event_loop.context().call_later(Duration::ZERO, move |_| world.advance(200 * MS));
    scene.settle();
    let health = scene.event_loop.context().health();
    assert_eq!((health.longest_callback, health.longest_callback_name), (200 * MS, "a timer"));
}

#[test]
fn a_slow_turn_is_told_where_callbacks_are_not_timed() {
    let mut scene = Scene::new();
    let log = Log::default();
    let act = slow(&scene);
    let (_, peer) = scene.accept(&log, act);
    scene.receive(&peer, "200");
    let health = scene.event_loop.context().health();
    assert_eq!((health.lag_max, health.slow_callbacks), (200 * MS, 1));
    assert_eq!((health.longest_callback, health.longest_callback_name), (Duration::ZERO, ""));
}

#[test]
fn each_connection_has_its_figures_and_all_can_be_listed() {
    let mut scene = Scene::new();
    let log = Log::default();
    scene.pass(SECOND);
    let (first, peer) = scene.accept(&log, echo);
    peer.set_room(3);
    scene.receive(&peer, "hello");
    scene.pass(2 * SECOND);
    let (second, _) = scene.accept(&log, idle);
    let mut context = scene.event_loop.context();
    assert_eq!(context.connection_ids(), [first, second]);
    let stats = context.connection(first).unwrap().stats();
    assert_eq!(stats.age, 2 * SECOND);
    assert_eq!((stats.bytes_received, stats.bytes_sent, stats.queued_bytes), (5, 3, 2));
    scene.tell(first, abort);
    assert_eq!(scene.event_loop.context().connection_ids(), [second]);
}

#[test]
fn l4_who_turns_the_loop_himself_learns_that_it_was_asked_to_stop() {
    let mut scene = Scene::new();
    assert!(!scene.event_loop.take_stop());
    scene.event_loop.context().handle().stop();
    assert!(scene.event_loop.take_stop() && !scene.event_loop.take_stop());
    scene.event_loop.context().call_later(Duration::ZERO, stop);
    scene.settle();
    assert!(scene.event_loop.take_stop() && !scene.event_loop.take_stop());
}
