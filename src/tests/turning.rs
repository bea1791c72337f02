//! Rules L: the loop.

use std::thread;

use super::*;
use crate::Handle;

thread_local! {
    /// The log of a test, for commands: they must be `Send`, and it is not.
    static COMMANDS: RefCell<Log> = RefCell::default();
}

/// Logs `what` when data arrives.
fn notes(order: &Log, what: &'static str) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let order = order.clone();
    move |event, transport| {
        if let Event::Data(_) = event {
            order.push(what);
        }
        by_default(&event, transport)
    }
}

/// The peer sends something; the loop is not turned.
fn send(scene: &Scene, peer: &Peer, bytes: &str) {
    peer.sends(bytes);
    scene.world.event(peer, Readiness::READABLE);
}

#[test]
fn l1_a_turn_goes_through_its_phases_in_the_documented_order() {
    let mut scene = Scene::new();
    let (order, quiet) = (Log::default(), Log::default());
    let noted = order.clone();
    // This connection is flushed: it cannot send everything, and the flush tells it of its mark.
    let (flushed, flushed_peer) = scene.accept(&quiet, move |event, transport| {
        if let Event::Pause = event {
            noted.push(format!("flush, {} connections", transport.context().connection_count()));
        }
        by_default(&event, transport)
    });
    scene.event_loop.context().connection(flushed).unwrap().set_write_marks(10, 0);
    flushed_peer.set_room(0);
    let noted = order.clone();
    let seen = flushed_peer.clone();
    let (_, ended_peer) = scene.accept(&quiet, move |event, transport| {
        match &event {
            Event::Data(_) => {
                noted.push("event");
                transport.context().connection(flushed).unwrap().write(b"to somebody else");
                transport.abort();
            }
            Event::Lost(_) => {
                assert!(seen.take_calls().is_empty(), "nothing is flushed before the losses");
                noted.push(format!("loss, {} connections", transport.context().connection_count()));
            }
            _ => {}
        }
        by_default(&event, transport)
    });
    let (carried, carried_peer) = scene.accept(&quiet, notes(&order, "carried over"));
    scene.event_loop.context().connection(carried).unwrap().pause_reading();
    scene.receive(&carried_peer, "kept");
    flushed_peer.take_calls();
    scene.world.take_waits();

    // In the opposite order to that in which they are to be called.
    let noted = order.clone();
    scene.event_loop.context().call_later(Duration::ZERO, move |_| noted.push("timer"));
    COMMANDS.set(order.clone());
    let handle = scene.event_loop.context().handle();
    handle.post(|_| COMMANDS.with_borrow(|order| order.push("command"))).unwrap();
    scene.event_loop.context().connection(carried).unwrap().resume_reading();
    send(&scene, &ended_peer, "x");
    scene.turn();
    let phases = ["event", "carried over", "command", "timer", "loss, 3 connections", "flush, 3 connections"];
    assert_eq!(order.take(), phases);
    assert_eq!(scene.event_loop.context().connection_count(), 2, "and then slots are freed");
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO)], "one wait a turn, before all else");
}

#[test]
fn l2_what_becomes_ready_during_the_events_comes_with_the_next_wait() {
    let mut scene = Scene::new();
    let (order, quiet) = (Log::default(), Log::default());
    let (_, late) = scene.accept(&quiet, notes(&order, "late"));
    let (world, sender) = (scene.world.clone(), late.clone());
    let (_, early) = scene.accept(&quiet, move |event, transport| {
        if let Event::Data(_) = event {
            sender.sends("x");
            world.event(&sender, Readiness::READABLE);
        }
        by_default(&event, transport)
    });
    send(&scene, &early, "x");
    scene.turn();
    assert_eq!(order.take(), [""; 0]);
    scene.turn();
    assert_eq!(order.take(), ["late"]);
}

#[test]
fn l2_what_is_carried_over_during_the_events_waits_for_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let (order, quiet) = (Log::default(), Log::default());
    let (resumed, resumed_peer) = scene.accept(&quiet, notes(&order, "resumed"));
    scene.event_loop.context().connection(resumed).unwrap().pause_reading();
    scene.receive(&resumed_peer, "x");
    let (_, peer) = scene.accept(&quiet, move |event, transport| {
        if let Event::Data(_) = event {
            transport.context().connection(resumed).unwrap().resume_reading();
        }
        by_default(&event, transport)
    });
    assert_eq!(scene.event_loop.time_to_next(), None);
    send(&scene, &peer, "x");
    scene.turn();
    assert_eq!(order.take(), [""; 0]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.world.take_waits();
    scene.event_loop.turn(None).unwrap();
    assert_eq!(order.take(), ["resumed"]);
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO)]);
}

#[test]
fn l2_what_is_carried_over_while_serving_carry_overs_waits_for_the_next_turn() {
    let mut scene = Scene::new();
    let (order, quiet) = (Log::default(), Log::default());
    let (second, second_peer) = scene.accept(&quiet, notes(&order, "second"));
    let noted = order.clone();
    let (first, first_peer) = scene.accept(&quiet, move |event, transport| {
        if let Event::Data(_) = event {
            noted.push("first");
            transport.context().connection(second).unwrap().resume_reading();
        }
        by_default(&event, transport)
    });
    for (id, peer) in [(first, &first_peer), (second, &second_peer)] {
        scene.event_loop.context().connection(id).unwrap().pause_reading();
        scene.receive(peer, "x");
    }
    scene.event_loop.context().connection(first).unwrap().resume_reading();
    scene.turn();
    assert_eq!(order.take(), ["first"]);
    scene.turn();
    assert_eq!(order.take(), ["second"]);
}

#[test]
fn l2_a_timer_set_by_a_timer_waits_for_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let order = Log::default();
    let (first, second) = (order.clone(), order.clone());
    scene.event_loop.context().call_later(Duration::ZERO, move |context| {
        first.push("first");
        context.call_later(Duration::ZERO, move |_| second.push("second"));
    });
    scene.turn();
    assert_eq!(order.take(), ["first"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.world.take_waits();
    scene.event_loop.turn(None).unwrap();
    assert_eq!(order.take(), ["second"]);
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO)]);
}

#[test]
fn l2_a_timer_set_before_the_timers_phase_fires_in_it() {
    let mut scene = Scene::new();
    let order = Log::default();
    let noted = order.clone();
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            let noted = noted.clone();
            transport.context().call_later(Duration::ZERO, move |_| noted.push("timer"));
        }
        by_default(&event, transport)
    });
    send(&scene, &peer, "x");
    scene.turn();
    assert_eq!(order.take(), ["timer"]);
}

#[test]
fn l2_a_loss_caused_by_a_loss_comes_in_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let (first_log, second_log) = (Log::default(), Log::default());
    let (second, _second_peer) = scene.accept(&second_log, |event, transport| by_default(&event, transport));
    let (first, _first_peer) = scene.accept(&first_log, move |event, transport| {
        if let Event::Lost(_) = event {
            transport.context().connection(second).unwrap().abort();
        }
        by_default(&event, transport)
    });
    scene.event_loop.context().connection(first).unwrap().abort();
    scene.turn();
    assert_eq!(first_log.take(), ["made", "lost: aborted by us"]);
    assert_eq!(second_log.take(), ["made"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.world.take_waits();
    scene.event_loop.turn(None).unwrap();
    assert_eq!(second_log.take(), ["lost: aborted by us"]);
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO)]);
}

#[test]
fn l2_what_is_written_while_flushing_goes_out_in_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let quiet = Log::default();
    let (second, second_peer) = scene.accept(&quiet, |event, transport| by_default(&event, transport));
    let (first, first_peer) = scene.accept(&quiet, move |event, transport| {
        if let Event::Pause = event {
            transport.context().connection(second).unwrap().write(b"it is slow");
        }
        by_default(&event, transport)
    });
    first_peer.set_room(0);
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(first).unwrap();
    transport.set_write_marks(10, 0);
    transport.write(b"more than it takes");
    scene.turn();
    assert_eq!(second_peer.take_sent(), b"");
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.turn();
    assert_eq!(second_peer.take_sent(), b"it is slow");
}

#[test]
fn l2_an_end_that_a_flush_finds_is_told_in_the_next_turn_which_does_not_sleep() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, _peer) = scene.accept(&log, |event, transport| by_default(&event, transport));
    scene.event_loop.context().connection(id).unwrap().close();
    scene.turn();
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.turn();
    assert_eq!(log.take(), ["lost: closed by us"]);
}

#[test]
fn l2_a_callback_that_queues_itself_for_ever_starves_nobody() {
    let mut scene = Scene::new();
    let log = Log::default();
    // Consumes nothing, and makes the loop offer the same data again.
    let (_, greedy) = scene.accept(&Log::default(), |event, transport| match event {
        Event::Data(_) => {
            transport.pause_reading();
            transport.resume_reading();
            0
        }
        event => by_default(&event, transport),
    });
    let (_, modest) = scene.accept(&log, echo);
    send(&scene, &greedy, "x");
    for _ in 0..10 {
        scene.turn();
        assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    }
    let newcomer = Log::default();
    scene.knock(Some(protocol(&newcomer, echo)));
    send(&scene, &modest, "x");
    scene.event_loop.context().call_later(Duration::ZERO, stop);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made", "data x"]);
    assert_eq!(modest.take_sent(), b"x");
    assert_eq!(newcomer.take(), ["made"]);
}

#[test]
fn l3_an_interrupted_wait_goes_on_with_the_time_that_is_left() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    scene.world.wait_fails(30 * MS, io::ErrorKind::Interrupted);
    scene.world.wait_fails(50 * MS, io::ErrorKind::Interrupted);
    scene.event_loop.turn(Some(100 * MS)).unwrap();
    assert_eq!(scene.world.take_waits(), [100, 70, 20].map(|ms| Some(ms * MS)));
    assert_eq!(scene.world.now() - start, 100 * MS);
}

#[test]
fn l3_a_wait_interrupted_beyond_its_end_only_looks_once_more() {
    let mut scene = Scene::new();
    scene.world.wait_fails(300 * MS, io::ErrorKind::Interrupted);
    scene.event_loop.turn(Some(100 * MS)).unwrap();
    assert_eq!(scene.world.take_waits(), [Some(100 * MS), Some(Duration::ZERO)]);
}

#[test]
fn l3_a_timer_is_on_time_though_every_wait_is_interrupted() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    for _ in 0..999 {
        scene.world.wait_fails(MS, io::ErrorKind::Interrupted);
    }
    let fired = Rc::new(RefCell::new(None));
    let noted = fired.clone();
    scene.event_loop.context().call_later(1000 * MS, move |context| {
        *noted.borrow_mut() = Some(context.now());
        context.stop();
    });
    scene.event_loop.run().unwrap();
    assert_eq!(fired.take(), Some(start + 1000 * MS));
}

#[test]
fn l3_waits_without_an_end_and_looks_without_a_wait_stay_what_they_are() {
    let mut scene = Scene::new();
    scene.world.wait_fails(MS, io::ErrorKind::Interrupted);
    scene.event_loop.turn(None).unwrap();
    assert_eq!(scene.world.take_waits(), [None, None]);
    scene.world.wait_fails(MS, io::ErrorKind::Interrupted);
    scene.event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO); 2]);
}

#[test]
fn l3_any_other_failure_of_the_poller_comes_out_and_connections_stay() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    scene.world.wait_fails(Duration::ZERO, io::ErrorKind::InvalidInput);
    assert_eq!(scene.event_loop.run().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(log.take(), ["made"]);
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["data x"]);
    scene.world.wait_fails(Duration::ZERO, io::ErrorKind::InvalidInput);
    assert!(scene.event_loop.run().is_err());
    drop(scene);
    assert_eq!(log.take(), ["lost: the loop was shut down"]);
}

#[test]
fn l4_stop_from_a_callback_lets_the_turn_end_and_then_run_returns() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, first) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.context().stop();
        }
        by_default(&event, transport)
    });
    let (_, second) = scene.accept(&log, echo);
    log.take();
    send(&scene, &first, "first");
    send(&scene, &second, "second");
    scene.world.take_waits();
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["data first", "data second"]);
    assert_eq!(second.take_sent(), b"second");
    assert_eq!(scene.world.take_waits().len(), 1);
}

#[test]
fn l4_stop_works_from_a_factory_a_timer_and_the_last_callback() {
    let mut scene = Scene::new();
    let quiet = Log::default();
    let (_, backlog) = scene.listen(|context, _| {
        context.stop();
        None
    });
    let _refused = backlog.connect();
    scene.world.event(&backlog, Readiness::READABLE);
    scene.event_loop.run().unwrap();
    assert_eq!(backlog.waiting(), 0);

    scene.event_loop.context().call_later(MS, stop);
    scene.event_loop.run().unwrap();
    assert_eq!(scene.event_loop.time_to_next(), None);

    let (_, peer) = scene.accept(&quiet, |event, transport| {
        if let Event::Lost(_) = event {
            transport.context().stop();
        }
        by_default(&event, transport)
    });
    peer.sends("");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.run().unwrap();
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn l4_stop_before_run_counts_once_however_often_it_was_asked_for() {
    let mut scene = Scene::new();
    let handle = scene.event_loop.context().handle();
    for stop_twice in [false, true] {
        scene.event_loop.context().stop();
        handle.stop();
        if stop_twice {
            scene.event_loop.context().stop();
            handle.clone().stop();
        }
        scene.event_loop.run().unwrap();
        assert!(scene.world.take_waits().is_empty(), "it returns at once");
        // After that the stop is forgotten: the next run goes on until the next stop.
        scene.event_loop.context().call_later(MS, stop);
        scene.event_loop.run().unwrap();
        assert_eq!(scene.event_loop.time_to_next(), None);
        scene.world.take_waits();
    }
}

#[test]
fn l4_a_handle_stops_run_from_another_thread() {
    fn is_a_handle<T: Clone + Send + Sync + 'static>(_: &T) {}
    let mut scene = Scene::new();
    let handle = scene.event_loop.context().handle();
    is_a_handle(&handle);
    let log = Log::default();
    let noted = log.clone();
    scene.event_loop.context().call_later(MS, move |context| {
        noted.push("timer");
        thread::spawn(move || handle.stop()).join().unwrap();
        context.call_later(MS, |_| unreachable!("the turn in which it was stopped was the last"));
    });
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["timer"]);
}

#[test]
fn l4_a_stop_from_another_thread_ends_a_wait() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    let handle = scene.event_loop.context().handle();
    scene.event_loop.context().call_later(3_600_000 * MS, |_| unreachable!("nothing waits for that long"));
    thread::spawn(move || handle.stop()).join().unwrap();
    scene.event_loop.turn(None).unwrap();
    assert_eq!(scene.world.now(), start, "the wait has ended at once");
    scene.event_loop.run().unwrap();
    assert_eq!(scene.world.now(), start, "and the stop still counts");
}

#[test]
fn l4_a_handle_of_a_loop_that_is_gone_is_harmless() {
    let mut scene = Scene::new();
    let handle: Handle = scene.event_loop.context().handle();
    drop(scene);
    handle.stop();
    handle.stop();
}

#[test]
fn l4_run_after_stop_goes_on_with_what_was_carried_over() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(2));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.context().stop();
        }
        by_default(&event, transport)
    });
    send(&scene, &peer, "aabb");
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made", "data aa"]);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["data bb"]);
}

#[test]
fn l5_time_to_next_tells_when_a_turn_is_needed_though_no_event_comes() {
    let mut scene = Scene::new();
    assert_eq!(scene.event_loop.time_to_next(), None, "only an event can give it anything to do");
    let timer = scene.event_loop.context().call_later(100 * MS, |_| {});
    scene.event_loop.context().call_later(200 * MS, |_| {});
    assert_eq!(scene.event_loop.time_to_next(), Some(100 * MS));
    scene.world.advance(30 * MS);
    assert_eq!(scene.event_loop.time_to_next(), Some(70 * MS));
    scene.event_loop.context().cancel_timer(timer);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO), "what it held is to be dropped");
    scene.turn();
    assert_eq!(scene.event_loop.time_to_next(), Some(170 * MS));
    scene.world.advance(500 * MS);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO), "it is due");
    scene.turn();
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn l5_whatever_is_asked_for_between_turns_needs_one_at_once() {
    type Ask = fn(&mut Transport<'_>);
    let asks: [(&str, Ask); 6] = [
        ("write", |transport| transport.write(b"x")),
        ("close", |transport| transport.close()),
        ("abort", |transport| transport.abort()),
        ("shutdown_write", |transport| transport.shutdown_write()),
        ("resume_reading", |transport| {
            transport.pause_reading();
            transport.resume_reading();
        }),
        ("set_protocol", |transport| transport.set_protocol(protocol(&Log::default(), echo))),
    ];
    for (name, ask) in asks {
        let mut scene = Scene::new();
        let (id, _peer) = scene.accept(&Log::default(), echo);
        assert_eq!(scene.event_loop.time_to_next(), None);
        ask(&mut scene.event_loop.context().connection(id).unwrap());
        assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO), "{name}");
        scene.settle();
    }
    let mut scene = Scene::new();
    scene.attach(&Log::default(), echo);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO), "attach");
}

#[test]
fn l5_another_loop_can_drive_this_one_without_it_ever_waiting() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    let noted = log.clone();
    scene.event_loop.context().call_later(100 * MS, move |_| noted.push("timer"));
    scene.world.take_waits();
    send(&scene, &peer, "x");
    // The other loop sees our descriptor readable; then it waits for as long as this one says.
    scene.turn();
    assert_eq!(log.take(), ["made", "data x"]);
    while let Some(time) = scene.event_loop.time_to_next() {
        scene.world.advance(time);
        scene.turn();
    }
    assert_eq!(log.take(), ["timer"]);
    assert!(scene.world.take_waits().iter().all(|&wait| wait == Some(Duration::ZERO)));
}

#[test]
fn l5_a_turn_waits_until_the_next_timer_or_as_long_as_it_may() {
    let mut scene = Scene::new();
    scene.event_loop.context().call_later(100 * MS, |_| {});
    scene.event_loop.turn(Some(40 * MS)).unwrap();
    scene.event_loop.turn(Some(Duration::MAX)).unwrap();
    assert_eq!(scene.world.take_waits(), [Some(40 * MS), Some(60 * MS)]);
    scene.event_loop.turn(None).unwrap();
    assert_eq!(scene.world.take_waits(), [None], "with nothing to wait for but events");
}

#[test]
fn l6_events_beyond_one_wait_come_with_the_next_before_anything_sleeps() {
    let mut scene = Scene::new();
    let log = Log::default();
    let peers: Vec<_> = (0..5).map(|_| scene.accept(&log, echo).1).collect();
    log.take();
    scene.world.set_events_per_wait_max(2);
    for (peer, name) in peers.iter().zip(["a", "b", "c", "d", "e"]) {
        send(&scene, peer, name);
    }
    let start = scene.world.now();
    let hour = Some(3_600_000 * MS);
    scene.event_loop.turn(hour).unwrap();
    assert_eq!(log.take(), ["data a", "data b"]);
    scene.event_loop.turn(hour).unwrap();
    assert_eq!(log.take(), ["data c", "data d"]);
    scene.event_loop.turn(hour).unwrap();
    assert_eq!(log.take(), ["data e"]);
    assert_eq!(scene.world.now(), start);
}
