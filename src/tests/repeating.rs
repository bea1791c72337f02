//! Rule T4: timers that repeat, and timers that are reset.

use super::*;
use crate::{Context, TimerId};

/// Sets a repeating timer that logs when it was called, in milliseconds from now, and how many ticks it missed, and
/// then does something else.
fn every(
    scene: &mut Scene,
    log: &Log,
    period: Duration,
    mut act: impl FnMut(&mut Context<'_>, &World) + 'static,
) -> TimerId {
    let (noted, world, start) = (log.clone(), scene.world.clone(), scene.world.now());
    scene.event_loop.context().call_every(period, move |context, missed| {
        noted.push(format!("{}, {missed} missed", (context.now() - start).as_millis()));
        act(context, &world);
    })
}

/// A repeating timer that does to its own id what it is told.
fn every_with_id(
    scene: &mut Scene,
    log: &Log,
    period: Duration,
    mut act: impl FnMut(&mut Context<'_>, TimerId) + 'static,
) -> TimerId {
    let own = Rc::new(RefCell::new(None::<TimerId>));
    let known = own.clone();
    let id = every(scene, log, period, move |context, _| act(context, known.borrow().expect("it is set by then")));
    *own.borrow_mut() = Some(id);
    id
}

#[test]
fn t4_ticks_come_a_period_apart_beginning_after_the_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    every(&mut scene, &log, 10 * MS, |_, _| {});
    scene.pass(35 * MS);
    assert_eq!(log.take(), ["10, 0 missed", "20, 0 missed", "30, 0 missed"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(5 * MS));
    assert_eq!(scene.event_loop.context().counters().timers_fired, 3);
}

#[test]
fn t4_late_calls_and_slow_ones_make_no_drift() {
    let mut scene = Scene::new();
    let log = Log::default();
    let start = scene.world.now();
    every(&mut scene, &log, 10 * MS, |_, world| world.advance(3 * MS));
    for n in 1..=1000 {
        // Each turn is late, too, by up to 6 ms.
        let at = start + 10 * n * MS + n % 7 * MS;
        scene.world.advance(at - scene.world.now());
        scene.turn();
        assert_eq!(log.take().len(), 1, "tick {n}");
        assert_eq!(scene.event_loop.time_to_next(), Some(7 * MS - n % 7 * MS));
    }
}

#[test]
fn t4_missed_ticks_are_counted_and_skipped() {
    let mut scene = Scene::new();
    let log = Log::default();
    every(&mut scene, &log, 10 * MS, |_, _| {});
    scene.world.advance(57 * MS);
    scene.settle();
    assert_eq!(log.take(), ["57, 4 missed"], "one call for all of them");
    assert_eq!(scene.event_loop.time_to_next(), Some(3 * MS));
    scene.pass(3 * MS);
    // The tick that is due at this moment is not a missed one.
    scene.world.advance(40 * MS);
    scene.settle();
    assert_eq!(log.take(), ["60, 0 missed", "100, 3 missed"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
}

#[test]
fn t4_what_is_slow_before_it_in_the_same_phase_counts_and_makes_no_second_call() {
    let mut scene = Scene::new();
    let log = Log::default();
    let world = scene.world.clone();
    scene.event_loop.context().call_later(9 * MS, move |_| world.advance(50 * MS));
    every(&mut scene, &log, 10 * MS, |_, _| {});
    scene.world.advance(10 * MS);
    scene.settle();
    assert_eq!(log.take(), ["60, 5 missed"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
}

#[test]
fn t4_a_call_longer_than_its_period_leaves_each_turn_to_others_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&Log::default(), echo);
    every(&mut scene, &log, 10 * MS, |_, world| world.advance(25 * MS));
    scene.world.advance(10 * MS);
    for expected in ["10, 0 missed", "35, 1 missed", "60, 2 missed"] {
        peer.sends("x");
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(peer.take_sent(), b"x");
        assert_eq!(log.take(), [expected]);
    }
}

#[test]
fn t4_it_is_cancelled_from_outside_and_from_within_itself() {
    let mut scene = Scene::new();
    let log = Log::default();
    let held = Rc::new(());
    let kept = held.clone();
    let outside = every(&mut scene, &log, 10 * MS, move |_, _| assert!(Rc::strong_count(&kept) > 0));
    scene.pass(10 * MS);
    assert_eq!(log.take(), ["10, 0 missed"]);
    assert!(scene.event_loop.context().cancel_timer(outside));
    assert!(!scene.event_loop.context().cancel_timer(outside));
    scene.turn();
    assert_eq!(Rc::strong_count(&held), 1, "what it held is dropped at the turn's end");

    let kept = held.clone();
    let answers = Log::default();
    let noted = answers.clone();
    let within = every_with_id(&mut scene, &log, 10 * MS, move |context, own| {
        noted.push(format!("{} {}", context.cancel_timer(own), context.cancel_timer(own)));
        noted.push(format!("{} {}", context.reset_timer(own, MS), context.set_background(own, true)));
        assert_eq!(Rc::strong_count(&kept), 2, "not while it runs");
    });
    scene.pass(100 * MS);
    assert_eq!(log.take(), ["10, 0 missed"]);
    assert_eq!(answers.take(), ["true false", "false false"]);
    assert!(!scene.event_loop.context().cancel_timer(within));
    assert_eq!((Rc::strong_count(&held), scene.event_loop.time_to_next()), (1, None));
}

#[test]
fn t4_setting_it_anew_moves_the_next_tick_and_those_that_follow() {
    let mut scene = Scene::new();
    let log = Log::default();
    let mut calls = 0;
    let id = every_with_id(&mut scene, &log, 10 * MS, move |context, own| {
        calls += 1;
        if calls == 2 {
            assert!(context.reset_timer(own, 25 * MS));
        }
    });
    scene.pass(60 * MS);
    assert_eq!(log.take(), ["10, 0 missed", "20, 0 missed", "45, 0 missed", "55, 0 missed"]);
    assert!(scene.event_loop.context().reset_timer(id, MS));
    scene.pass(15 * MS);
    assert_eq!(log.take(), ["61, 0 missed", "71, 0 missed"]);
    // Reset to fire now from within its own call, it is called in the next turn.
    let mut resets = 3;
    scene.event_loop.context().cancel_timer(id);
    every_with_id(&mut scene, &log, 10 * MS, move |context, own| {
        if resets > 0 {
            resets -= 1;
            context.reset_timer(own, Duration::ZERO);
        }
    });
    scene.world.advance(10 * MS);
    for _ in 0..4 {
        scene.turn();
        assert_eq!(log.take().len(), 1);
    }
    assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
}

#[test]
fn t4_a_period_of_zero_ticks_once_a_turn_and_stops_no_input() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&Log::default(), echo);
    every(&mut scene, &log, Duration::ZERO, |_, _| {});
    for _ in 0..10 {
        peer.sends("x");
        scene.world.event(&peer, Readiness::READABLE);
        // Without a limit to the wait: the loop does not sleep.
        scene.event_loop.turn(None).unwrap();
        assert_eq!(peer.take_sent(), b"x");
        assert_eq!(log.take(), ["0, 0 missed"]);
    }
    scene.world.advance(1000 * MS);
    scene.turn();
    assert_eq!(log.take(), ["1000, 0 missed"]);
}

#[test]
fn t4_the_longest_and_the_shortest_period_overflow_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    every(&mut scene, &log, Duration::MAX, |_, _| {});
    scene.pass(Duration::from_secs(10 * 365 * 24 * 3600));
    assert_eq!(log.take(), [""; 0]);
    every(&mut scene, &log, Duration::from_nanos(1), |_, _| {});
    scene.world.advance(Duration::from_secs(10 * 365 * 24 * 3600));
    scene.turn();
    assert_eq!(log.take(), ["315360000000, 315359999999999999 missed"]);
}

#[test]
fn t4_a_panic_ends_it_whatever_the_policy_and_nothing_else() {
    for policy in [PanicPolicy::Isolate, PanicPolicy::Propagate] {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        let held = Rc::new(());
        let kept = held.clone();
        let id = every(&mut scene, &log, 10 * MS, move |_, _| {
            let _kept = &kept;
            panic!("on purpose");
        });
        every(&mut scene, &Log::default(), 10 * MS, |_, _| {});
        scene.world.advance(10 * MS);
        let turn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.turn()));
        assert_eq!(turn.is_err(), policy == PanicPolicy::Propagate);
        scene.pass(100 * MS);
        assert_eq!(log.take(), ["10, 0 missed"]);
        let mut context = scene.event_loop.context();
        assert!(!context.cancel_timer(id));
        let counters = context.counters();
        assert_eq!((counters.panics, counters.timers_fired), (1, 12), "the other one goes on");
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

#[test]
fn t4_run_until_idle_waits_for_it_unless_it_is_background() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    let mut left = 3;
    every_with_id(&mut scene, &log, 10 * MS, move |context, own| {
        left -= 1;
        if left == 0 {
            context.cancel_timer(own);
        }
    });
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), ["10, 0 missed", "20, 0 missed", "30, 0 missed"]);
    // Put in the background by itself, or from outside.
    every_with_id(&mut scene, &log, 10 * MS, move |context, own| {
        assert!(context.set_background(own, true) && context.set_background(own, true));
    });
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), ["10, 0 missed"]);
    let outside = every(&mut scene, &log, 7 * MS, |_, _| {});
    assert!(scene.event_loop.context().set_background(outside, true));
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), [""; 0]);
    assert!(scene.event_loop.context().cancel_timer(outside));
    // A timer that panics is not waited for either.
    let mut calls = 0;
    every(&mut scene, &Log::default(), MS, move |context, _| {
        calls += 1;
        if calls > 1 {
            context.stop();
        }
        panic!("on purpose");
    });
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    scene.event_loop.run_until_idle().unwrap();
    assert!(scene.event_loop.core.parts.is_idle());
}

/// Sets a timer that logs when it was called, in milliseconds from now.
fn once(scene: &mut Scene, log: &Log, delay: Duration, what: &'static str) -> TimerId {
    let (noted, start) = (log.clone(), scene.world.now());
    scene.event_loop.context().call_later(delay, move |context| {
        noted.push(format!("{what} at {}", (context.now() - start).as_millis()));
    })
}

#[test]
fn t1_a_timer_that_is_set_anew_comes_then_and_once_after_those_of_the_same_time() {
    let mut scene = Scene::new();
    let log = Log::default();
    let later = once(&mut scene, &log, 10 * MS, "later");
    let sooner = once(&mut scene, &log, 50 * MS, "sooner");
    let equal = once(&mut scene, &log, 20 * MS, "equal");
    once(&mut scene, &log, 20 * MS, "other");
    let mut context = scene.event_loop.context();
    assert!(
        context.reset_timer(later, 30 * MS)
            && context.reset_timer(sooner, 5 * MS)
            && context.reset_timer(equal, 20 * MS)
    );
    scene.pass(100 * MS);
    assert_eq!(log.take(), ["sooner at 5", "other at 20", "equal at 20", "later at 30"]);
    assert!(!scene.event_loop.context().reset_timer(later, MS), "it was called");
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn t1_a_timer_set_anew_counts_from_the_real_now_and_keeps_its_id() {
    let mut scene = Scene::new();
    let log = Log::default();
    let id = once(&mut scene, &log, 10 * MS, "it");
    for _ in 0..100 {
        scene.pass(9 * MS);
        assert!(scene.event_loop.context().reset_timer(id, 10 * MS));
    }
    assert_eq!(log.take(), [""; 0]);
    scene.event_loop.context().reset_timer(id, Duration::MAX);
    scene.pass(SECOND);
    assert!(scene.event_loop.context().cancel_timer(id));
    assert!(!scene.event_loop.context().reset_timer(id, MS));
    scene.pass(SECOND);
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn t3_a_timer_that_another_sets_for_now_in_the_same_phase_comes_in_the_next_turn() {
    let mut scene = Scene::new();
    let log = Log::default();
    let ids = Rc::new(RefCell::new(Vec::<TimerId>::new()));
    let known = ids.clone();
    scene.event_loop.context().call_later(MS, move |context| {
        for &id in known.borrow().iter() {
            assert!(context.reset_timer(id, Duration::ZERO));
        }
    });
    let (due, far) = (once(&mut scene, &log, MS, "due"), once(&mut scene, &log, SECOND, "far"));
    ids.borrow_mut().extend([far, due]);
    scene.world.advance(MS);
    scene.turn();
    assert_eq!(log.take(), [""; 0]);
    scene.turn();
    assert_eq!(log.take(), ["far at 1", "due at 1"]);
}
