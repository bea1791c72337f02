//! Rules T: timers, as seen through the loop; and when the loop has nothing left to wait for.

use super::*;
use crate::{Context, TimerId};

/// Sets a timer that logs `what`, and when it was called, in milliseconds from now.
fn set(scene: &mut Scene, log: &Log, delay: Duration, what: &'static str) -> TimerId {
    let (noted, start) = (log.clone(), scene.world.now());
    scene.event_loop.context().call_later(delay, move |context| {
        noted.push(format!("{what} at {}", (context.now() - start).as_millis()));
    })
}

#[test]
fn t1_timers_come_by_deadline_and_equal_ones_in_the_order_they_were_set() {
    let mut scene = Scene::new();
    let log = Log::default();
    for (delay, what) in [(20 * MS, "d"), (10 * MS, "a"), (10 * MS, "b"), (30 * MS, "e"), (10 * MS, "c")] {
        set(&mut scene, &log, delay, what);
    }
    scene.pass(100 * MS);
    assert_eq!(log.take(), ["a at 10", "b at 10", "c at 10", "d at 20", "e at 30"]);
    assert_eq!(scene.event_loop.context().counters().timers_fired, 5);
}

#[test]
fn t1_timers_that_are_all_late_still_come_in_order() {
    let mut scene = Scene::new();
    let log = Log::default();
    for (delay, what) in [(3 * MS, "c"), (MS, "a"), (2 * MS, "b")] {
        set(&mut scene, &log, delay, what);
    }
    scene.world.advance(1000 * MS);
    scene.turn();
    assert_eq!(log.take(), ["a at 1000", "b at 1000", "c at 1000"]);
}

#[test]
fn t1_no_timer_is_early() {
    let mut scene = Scene::new();
    let log = Log::default();
    set(&mut scene, &log, 10 * MS, "it");
    scene.world.advance(10 * MS - Duration::from_nanos(1));
    scene.turn();
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::from_nanos(1)));
    scene.event_loop.turn(None).unwrap();
    assert_eq!(log.take(), ["it at 10"]);
}

#[test]
fn t1_a_timer_at_a_time_comes_then_and_one_for_the_past_comes_now() {
    let mut scene = Scene::new();
    let log = Log::default();
    let now = scene.world.now();
    scene.world.advance(5 * MS);
    for (deadline, what) in [(now + 8 * MS, "later"), (now, "at once")] {
        let noted = log.clone();
        scene.event_loop.context().call_at(deadline, move |context| {
            noted.push(format!("{what}, {}", (context.now() - now).as_millis()));
        });
    }
    scene.turn();
    assert_eq!(log.take(), ["at once, 5"]);
    scene.pass(3 * MS);
    assert_eq!(log.take(), ["later, 8"]);
}

#[test]
fn t1_the_longest_delay_is_as_good_as_never_and_overflows_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    set(&mut scene, &log, Duration::MAX, "never");
    set(&mut scene, &log, Duration::from_secs(u64::MAX), "never");
    let repeated = log.clone();
    let at = scene.world.now() + Duration::from_secs(1 << 32);
    scene.event_loop.context().call_at(at, move |_| repeated.push("never"));
    set(&mut scene, &log, MS, "soon");
    scene.event_loop.turn(Some(Duration::MAX)).unwrap();
    assert_eq!(log.take(), ["soon at 1"]);
    assert!(scene.event_loop.time_to_next().unwrap() > Duration::from_secs(1 << 30));
    scene.pass(Duration::from_secs(10 * 365 * 24 * 3600));
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn t2_cancel_is_exact_gives_the_memory_back_and_is_harmless_when_repeated() {
    let mut scene = Scene::new();
    let log = Log::default();
    let held = Rc::new(());
    let first = set(&mut scene, &log, MS, "first");
    let kept = held.clone();
    let second = scene.event_loop.context().call_later(MS, move |_| drop(kept));
    let third = set(&mut scene, &log, MS, "third");
    assert!(scene.event_loop.context().cancel_timer(second));
    assert!(!scene.event_loop.context().cancel_timer(second));
    scene.turn();
    assert_eq!(Rc::strong_count(&held), 1, "what it held is dropped at the turn's end");
    scene.pass(MS);
    assert_eq!(log.take(), ["first at 1", "third at 1"]);
    for fired in [first, third] {
        assert!(!scene.event_loop.context().cancel_timer(fired));
    }
    // A stale id names nothing, not even the next timer.
    let next = set(&mut scene, &log, MS, "next");
    assert!(!scene.event_loop.context().cancel_timer(second));
    assert_ne!(next, second);
    scene.pass(MS);
    assert_eq!(log.take(), ["next at 1"]);
}

#[test]
fn t2_a_timer_that_cancels_itself_is_told_that_it_was_called() {
    let mut scene = Scene::new();
    let (own, answer) = (Rc::new(RefCell::new(None::<TimerId>)), Rc::new(RefCell::new(None)));
    let (known, noted) = (own.clone(), answer.clone());
    let id = scene.event_loop.context().call_later(MS, move |context| {
        let own = known.borrow().unwrap();
        *noted.borrow_mut() = Some((context.cancel_timer(own), context.set_background(own, true)));
    });
    *own.borrow_mut() = Some(id);
    scene.pass(MS);
    assert_eq!(answer.take(), Some((false, false)));
}

#[test]
fn t2_a_timer_cancelled_by_another_in_the_same_pass_never_comes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let victims = Rc::new(RefCell::new(Vec::<TimerId>::new()));
    let (known, noted) = (victims.clone(), log.clone());
    scene.event_loop.context().call_later(MS, move |context| {
        for &victim in known.borrow().iter() {
            noted.push(context.cancel_timer(victim).to_string());
        }
    });
    let victim = set(&mut scene, &log, MS, "victim");
    let later = set(&mut scene, &log, 2 * MS, "later victim");
    victims.borrow_mut().extend([victim, later]);
    set(&mut scene, &log, MS, "bystander");
    scene.world.advance(5 * MS);
    scene.settle();
    assert_eq!(log.take(), ["true", "true", "bystander at 5"]);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn t2_a_timer_cancelled_by_an_event_of_the_turn_in_which_it_is_due_never_comes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let timer = set(&mut scene, &log, MS, "timer");
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            assert!(transport.context().cancel_timer(timer));
        }
        by_default(&event, transport)
    });
    scene.world.advance(MS);
    scene.receive(&peer, "x");
    assert_eq!(log.take(), [""; 0]);
}

#[cfg(not(all(windows, target_env = "gnu")))] // Where allocations can be counted.
#[test]
fn t2_a_burst_of_cancelled_timers_leaves_no_memory_behind() {
    let mut scene = Scene::new();
    scene.turn();
    let counted = allocation_counter::measure(|| {
        let mut context = scene.event_loop.context();
        let mut ids: Vec<_> = (0..200_000u64).map(|n| context.call_later(SECOND, move |_| assert!(n > 0))).collect();
        // In a different order.
        for n in 0..100_000 {
            ids.swap(2 * n, 199_999 - n);
        }
        for id in ids.drain(1000..) {
            assert!(scene.event_loop.context().cancel_timer(id));
        }
        scene.turn();
        ids.iter().for_each(|&id| _ = scene.event_loop.context().cancel_timer(id));
        scene.turn();
    });
    assert_eq!(scene.event_loop.time_to_next(), None);
    assert!(counted.bytes_max > 20_000_000 && counted.bytes_current < 65_536, "{counted:?}");
}

/// A timer that sets itself again at once, forever.
fn again(log: &Log, context: &mut Context<'_>) {
    log.push("again");
    let log = log.clone();
    context.call_later(Duration::ZERO, move |context| again(&log, context));
}

#[test]
fn t3_timers_that_set_themselves_again_at_once_stop_no_input() {
    let mut scene = Scene::new();
    let (timers, log) = (Log::default(), Log::default());
    let (_, peer) = scene.accept(&log, echo);
    for _ in 0..3 {
        again(&timers, &mut scene.event_loop.context());
    }
    timers.take();
    for n in 0..10 {
        peer.sends("x");
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(peer.take_sent(), b"x", "message {n}");
        assert_eq!(timers.take(), ["again"; 3], "once each in a turn");
        scene.knock(Some(protocol(&log, echo)));
        scene.turn();
        assert_eq!(timers.take(), ["again"; 3]);
    }
    assert_eq!(scene.event_loop.context().counters().connections_made, 11);
}

#[test]
fn t3_input_stops_no_timers() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(1));
    let log = Log::default();
    let (_, peer) = scene.accept(&Log::default(), echo);
    peer.sends("x".repeat(1000));
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    set(&mut scene, &log, MS, "timer");
    for _ in 0..10 {
        scene.turn();
        assert_eq!(log.take(), [""; 0]);
    }
    scene.world.advance(MS);
    scene.turn();
    assert_eq!(log.take(), ["timer at 1"]);
}

#[test]
fn t3_a_timer_set_after_slow_work_counts_from_the_real_now() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (noted, world) = (log.clone(), scene.world.clone());
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            world.advance(500 * MS);
            let (noted, set_at) = (noted.clone(), world.now());
            transport.context().call_later(100 * MS, move |context| {
                noted.push(format!("after {} ms", (context.now() - set_at).as_millis()));
            });
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(scene.event_loop.time_to_next(), Some(100 * MS));
    scene.pass(100 * MS);
    assert_eq!(log.take(), ["after 100 ms"]);
}

#[test]
fn t3_slow_timers_do_not_bring_those_forward_that_they_set() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (noted, world) = (log.clone(), scene.world.clone());
    scene.event_loop.context().call_later(MS, move |context| {
        world.advance(50 * MS);
        let (noted, set_at) = (noted.clone(), world.now());
        context.call_later(10 * MS, move |context| {
            noted.push(format!("after {} ms", (context.now() - set_at).as_millis()));
        });
    });
    scene.pass(200 * MS);
    assert_eq!(log.take(), ["after 10 ms"]);
}

#[test]
fn t3_timers_that_fall_due_while_another_runs_come_in_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let log = Log::default();
    let world = scene.world.clone();
    scene.event_loop.context().call_later(MS, move |_| world.advance(50 * MS));
    set(&mut scene, &log, 20 * MS, "second");
    scene.event_loop.turn(None).unwrap();
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.event_loop.turn(None).unwrap();
    assert_eq!(log.take(), ["second at 51"]);
}

#[test]
fn l5_run_until_idle_returns_when_nothing_is_left_to_wait_for() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    set(&mut scene, &log, 10 * MS, "timer");
    let (_, peer) = scene.accept(&log, echo);
    peer.sends("");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.context().call_later(5 * MS, move |context| context.listener(listener).unwrap().close());
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer", "timer at 10"]);
    // And the next time at once, whether or not there are handles.
    let handle = scene.event_loop.context().handle();
    scene.world.take_waits();
    scene.event_loop.run_until_idle().unwrap();
    assert!(scene.world.take_waits().is_empty());
    drop(handle);
}

#[test]
fn l5_run_until_idle_waits_for_each_kind_unless_it_is_background() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    let (id, _peer) = scene.accept(&log, echo);
    let timer = set(&mut scene, &log, 1000 * MS, "timer");
    let cancelled = set(&mut scene, &log, 1000 * MS, "cancelled");
    type Mark<'a> = &'a dyn Fn(&mut Context<'_>, bool) -> bool;
    let marks: [Mark<'_>; 3] = [
        &|context, background| context.set_background(listener, background),
        &|context, background| context.set_background(id, background),
        &|context, background| context.set_background(timer, background),
    ];
    scene.event_loop.context().cancel_timer(cancelled);
    for mark in marks {
        assert!(!scene.event_loop.core.parts.is_idle());
        assert!(mark(&mut scene.event_loop.context(), true));
        assert!(mark(&mut scene.event_loop.context(), true), "marking twice is marking once");
    }
    for mark in marks {
        assert!(scene.event_loop.core.parts.is_idle());
        assert!(mark(&mut scene.event_loop.context(), false) && mark(&mut scene.event_loop.context(), false));
        assert!(!scene.event_loop.core.parts.is_idle());
        assert!(mark(&mut scene.event_loop.context(), true));
    }
    assert!(scene.event_loop.core.parts.is_idle());
    scene.world.take_waits();
    scene.event_loop.run_until_idle().unwrap();
    assert!(scene.world.take_waits().is_empty(), "it returns at once");
    assert_eq!(log.take(), ["made"], "and nobody was told anything");
}

#[test]
fn l5_what_is_in_the_background_still_works_and_its_end_changes_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    let (id, peer) = scene.accept(&log, echo);
    let called = set(&mut scene, &log, MS, "called");
    let cancelled = set(&mut scene, &log, MS, "cancelled");
    let mut context = scene.event_loop.context();
    assert!(
        context.set_background(listener, true)
            && context.set_background(id, true)
            && context.set_background(called, true)
            && context.set_background(cancelled, true)
    );
    assert!(context.cancel_timer(cancelled));
    set(&mut scene, &log, 10 * MS, "waited for");
    scene.end(&peer);
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer", "called at 1", "waited for at 10"]);
    assert!(scene.event_loop.core.parts.is_idle());
    // A connection accepted by a background listener is not in the background.
    scene.accept(&log, echo);
    assert!(!scene.event_loop.core.parts.is_idle());
}

#[test]
fn l5_run_until_idle_does_not_wait_for_what_the_loop_sets_for_itself() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    let (_, peer) = scene.accept(&log, echo);
    // A burst, after which the loop would return its buffers.
    peer.set_room(0);
    scene.receive(&peer, "x");
    scene.make_room(&peer, 1000);
    scene.end(&peer);
    assert!(scene.event_loop.time_to_next().is_some());
    scene.event_loop.context().listener(listener).unwrap().close();
    let start = scene.world.now();
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(scene.world.now(), start);
}

#[test]
fn l5_run_until_idle_can_be_stopped() {
    let mut scene = Scene::new();
    let log = Log::default();
    set(&mut scene, &log, 10 * MS, "never called");
    scene.event_loop.context().call_later(MS, stop);
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn t1_equal_times_come_in_the_order_they_were_set() {
    // On the real clock, which moves between two readings.
    let mut event_loop = EventLoop::new().unwrap();
    let order = Rc::new(RefCell::new(Vec::new()));
    let deadline = std::time::Instant::now() + Duration::from_millis(20);
    for n in 0..1000 {
        let order = order.clone();
        event_loop.context().call_at(deadline, move |_| order.borrow_mut().push(n));
    }
    event_loop.run_until_idle().unwrap();
    assert!(order.borrow().is_sorted());
}

#[test]
fn w6_a_send_that_waits_for_buffers_has_one_timer_however_often_it_was_tried() {
    let mut scene = Scene::new();
    let (_, peer) = scene.accept(&Log::default(), echo);
    for _ in 0..10_000 {
        peer.write_answers(Err(os_error(errno::ENOBUFS)));
    }
    for _ in 0..9 {
        scene.receive(&peer, "x");
        scene.world.advance(Duration::from_millis(1));
    }
    scene.world.take_waits();
    let end = scene.world.now() + Duration::from_secs(1);
    while scene.world.now() < end {
        scene.event_loop.turn(None).unwrap();
    }
    let turns = scene.world.take_waits().len();
    assert!(turns <= 110, "{turns} turns in a second, one every 10 ms would do");
}

#[test]
fn w6_a_large_send_that_takes_nothing_is_an_error_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.write_answers(Ok(0));
    scene.tell(id, |transport| transport.write(&[0; 300 * KIB]));
    let error = io::Error::from(io::ErrorKind::WriteZero);
    assert_eq!(log.take(), ["made".into(), format!("lost: I/O error: {error}")]);
}

#[test]
fn w6_however_often_it_was_written_to_without_buffers_there_is_one_try_each_10_ms() {
    const MS: Duration = Duration::from_millis(1);
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    // The answers for ten writes, and for ten more tries.
    for _ in 0..20 {
        peer.write_answers(Err(os_error(errno::ENOBUFS)));
    }
    for _ in 0..10 {
        scene.tell(id, |transport| transport.write(b"x"));
        scene.world.advance(MS / 100);
    }
    scene.pass(50 * MS);
    assert_eq!(peer.take_sent(), b"", "five tries in 50 ms");
}
