//! Rules R2 to R6: reading.

use super::*;
use crate::connection::READ_BYTES_MAX;
use crate::sys::script::Call;

/// Consumes nothing.
fn leaves_all(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Data(_) => 0,
        event => by_default(&event, transport),
    }
}

/// Consumes everything.
fn takes_all(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    by_default(&event, transport)
}

#[test]
fn r2_nothing_is_delivered_while_paused_and_all_of_it_after_resume() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) if data.starts_with(b"stop") => {
            transport.pause_reading();
            4
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "stop and go");
    assert_eq!(log.take(), ["made", "data stop and go"]);
    scene.receive(&peer, " on");
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(peer.unread(), 3);
    scene.event_loop.context().connection(id).unwrap().resume_reading();
    scene.settle();
    assert_eq!(log.take(), ["data  and go", "data  on"]);
}

#[test]
fn r2_a_pause_while_the_connection_is_made_holds_from_the_first_byte() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| {
        if let Event::Made = event {
            transport.pause_reading();
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "hello");
    assert_eq!((log.take(), peer.unread()), (vec!["made".into()], 5));
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data hello"]);
}

#[test]
fn r2_pausing_somebody_else_who_is_ready_in_the_same_turn_holds_at_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (other, other_peer) = scene.accept(&log, takes_all);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            transport.context().connection(other).unwrap().pause_reading();
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.receive(&other_peer, "hello");
    assert_eq!(log.take(), ["made"]);
    scene.tell(other, resume_reading);
    assert_eq!(log.take(), ["data hello"]);
}

#[test]
fn r2_pause_and_resume_are_idempotent() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, |transport| {
        transport.pause_reading();
        transport.pause_reading();
    });
    scene.receive(&peer, "ab");
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data ab"]);
    peer.take_calls();
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), [""; 0], "it was not paused");
    assert_eq!(peer.take_calls(), []);
}

#[test]
fn r2_pause_and_resume_in_one_callback_lose_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) => {
            transport.pause_reading();
            transport.resume_reading();
            data.len().min(2)
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "aabbc");
    assert_eq!(log.take(), ["made", "data aabbc", "data bbc", "data c"]);
    scene.end(&peer);
    assert_eq!(log.take(), ["eof", "lost: closed by the peer"]);
}

#[test]
fn r2_resume_tries_a_read_though_no_event_says_so() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    peer.sends("without an event");
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["made", "data without an event"]);
}

#[test]
fn r2_resume_delivers_nothing_before_it_returns() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    scene.receive(&peer, "kept");
    scene.event_loop.context().connection(id).unwrap().resume_reading();
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.settle();
    assert_eq!(log.take(), ["data kept"]);
}

#[test]
fn r3_after_close_there_is_no_data_and_no_eof() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.close();
            return 1;
        }
        by_default(&event, transport)
    });
    peer.sends("abc");
    peer.sends("def");
    peer.set_room(0);
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "data abc", "lost: closed by us"]);
}

#[test]
fn r3_close_from_elsewhere_holds_for_what_is_ready_in_the_same_turn_and_while_flushing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (other, other_peer) = scene.accept(&log, takes_all);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            let mut context = transport.context();
            let mut other = context.connection(other).unwrap();
            other.write(b"bye");
            other.close();
        }
        by_default(&event, transport)
    });
    other_peer.set_room(0);
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.receive(&other_peer, "hello");
    scene.end(&other_peer);
    assert_eq!(log.take(), ["made"]);
    scene.make_room(&other_peer, 3);
    scene.pass(Duration::from_secs(3));
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(other_peer.take_sent(), b"bye");
}

#[test]
fn r3_close_drops_what_was_kept() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, leaves_all);
    scene.receive(&peer, "kept");
    scene.tell(id, |transport| {
        transport.pause_reading();
        transport.close();
    });
    assert_eq!(log.take(), ["made", "data kept", "lost: closed by us"]);
}

#[test]
fn r4_the_end_of_the_stream_waits_for_resume_and_comes_after_all_data() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    peer.sends("last ");
    peer.sends("words");
    scene.end(&peer);
    scene.pass(Duration::from_secs(60));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data last ", "data words", "eof", "lost: closed by the peer"]);
}

#[test]
fn r4_a_reset_waits_for_resume_and_comes_after_all_data() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    peer.sends("last words");
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    scene.pass(Duration::from_secs(60));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data last words", "lost: reset by the peer"]);
}

#[test]
fn r4_all_that_came_before_a_reset_is_delivered_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.sends("some");
    peer.sends("more");
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made", "data some", "data more", "lost: reset by the peer"]);
}

#[test]
fn r4_all_that_came_before_another_read_error_is_delivered_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.sends("some");
    peer.read_fails(io::ErrorKind::TimedOut.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made", "data some", "lost: I/O error: timed out"]);
}

#[test]
fn r4_what_had_arrived_is_delivered_though_a_send_fails_first() {
    for ending in [Some(io::ErrorKind::ConnectionReset), None] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (id, peer) = scene.accept(&log, echo);
        peer.sends("some");
        peer.sends("more");
        match ending {
            Some(error) => peer.read_fails(error.into()),
            None => peer.sends([]),
        }
        peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
        scene.tell(id, |transport| transport.write(b"x"));
        assert_eq!(log.take(), ["made", "data some", "data more", "lost: I/O error: timed out"], "{ending:?}");
        assert_eq!(peer.take_sent(), b"", "nothing is sent after a send has failed");
    }
}

#[test]
fn r4_what_was_kept_is_delivered_though_a_send_fails_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) if data.len() < 4 => 0,
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "ab");
    peer.sends("cd");
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.tell(id, |transport| transport.write(b"x"));
    assert_eq!(log.take(), ["made", "data ab", "data abcd", "lost: reset by the peer"]);
}

#[test]
fn r4_a_failing_write_ends_a_paused_connection() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.tell(id, |transport| transport.write(b"x"));
    assert_eq!(log.take(), ["made", "lost: reset by the peer"]);
}

#[test]
fn r5_a_turn_reads_as_much_as_the_budget_and_the_next_one_does_not_sleep() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(4));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    log.take();
    scene.world.take_waits();
    peer.sends("abcde");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.turn(None).unwrap();
    assert_eq!(log.take(), ["data abcd"]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    // With edge-triggered polling no event comes for the rest.
    scene.event_loop.turn(None).unwrap();
    assert_eq!(log.take(), ["data e"]);
    scene.event_loop.turn(None).unwrap();
    assert_eq!(scene.world.take_waits(), [None, Some(Duration::ZERO), None]);
}

#[test]
fn r5_a_budget_of_several_reads_is_not_exceeded_by_the_last_of_them() {
    const BUDGET: usize = READ_BYTES_MAX + 100;
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(BUDGET));
    let taken = Rc::new(std::cell::Cell::new(0));
    let so_far = taken.clone();
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(data) = event {
            so_far.set(so_far.get() + data.len());
        }
        by_default(&event, transport)
    });
    peer.sends("x".repeat(2 * BUDGET));
    scene.world.event(&peer, Readiness::READABLE);
    for turn in 1..=2 {
        scene.turn();
        assert_eq!(taken.get(), turn * BUDGET);
    }
}

#[test]
fn r5_an_end_behind_the_budget_is_not_lost() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(4));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.sends("abcd");
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "data abcd", "eof", "lost: closed by the peer"]);
}

#[test]
fn r5_a_budget_of_nothing_counts_as_one_byte() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(0));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    scene.receive(&peer, "ab");
    assert_eq!(log.take(), ["made", "data a", "data b"]);
}

#[test]
fn r5_who_has_used_up_the_budget_goes_to_the_end_of_the_list() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(1));
    let order = Log::default();
    let mut peers = Vec::new();
    for name in ["a", "b", "c"] {
        let order = order.clone();
        let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) = event {
                order.push(name);
            }
            by_default(&event, transport)
        });
        peers.push(peer);
    }
    for peer in &peers {
        peer.sends("123");
        scene.world.event(peer, Readiness::READABLE);
    }
    scene.settle();
    assert_eq!(order.take().concat(), "abcabcabc");
}

#[test]
fn r5_who_stands_on_the_list_is_not_served_twice_in_a_turn() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(1));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    log.take();
    peer.sends("abc");
    for expected in ["data a", "data b", "data c"] {
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(log.take(), [expected]);
    }
}

#[test]
fn r6_spurious_events_do_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    for hints in [
        Readiness::READABLE,
        Readiness::WRITABLE,
        Readiness::READ_CLOSED,
        Readiness::ERROR,
        Readiness::PRIORITY,
        Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR | Readiness::PRIORITY,
        Readiness::default(),
    ] {
        scene.world.event(&peer, hints);
        assert_eq!(scene.settle(), 1, "{hints:?}");
    }
    assert_eq!(log.take(), ["made"]);
    scene.receive(&peer, "still here");
    assert_eq!(log.take(), ["data still here"]);
}

#[test]
fn r6_hints_do_not_hide_the_data_in_front_of_the_end() {
    for hints in [Readiness::READ_CLOSED, Readiness::ERROR, Readiness::READ_CLOSED | Readiness::ERROR] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (_, peer) = scene.accept(&log, takes_all);
        peer.sends("data");
        peer.sends([]);
        scene.world.event(&peer, hints);
        scene.settle();
        assert_eq!(log.take(), ["made", "data data", "eof", "lost: closed by the peer"], "{hints:?}");
    }
}

#[test]
fn r6_a_short_read_without_a_hint_saves_the_next_one() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    scene.receive(&peer, "short");
    assert_eq!(peer.take_calls(), [Call::Read]);
    scene.receive(&peer, vec![b'x'; 64 * 1024]);
    assert_eq!(peer.take_calls(), [Call::Read, Call::Read], "a full one proves nothing");
}

#[test]
fn r6_a_short_read_at_the_urgent_mark_strands_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.sends("before");
    peer.sends("!");
    peer.sends("behind");
    scene.world.event(&peer, Readiness::READABLE | Readiness::PRIORITY);
    scene.settle();
    assert_eq!(log.take(), ["made", "data before", "data !", "data behind"]);
    peer.take_calls();
    // Nor does the loop spin on it.
    scene.world.event(&peer, Readiness::PRIORITY);
    assert_eq!(scene.settle(), 1);
    assert_eq!(peer.take_calls(), [Call::Read]);
}

#[test]
fn r6_a_hint_that_comes_while_paused_is_not_forgotten() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, pause_reading);
    peer.sends("before");
    peer.sends("behind");
    scene.world.event(&peer, Readiness::READABLE | Readiness::PRIORITY);
    scene.settle();
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["made", "data before", "data behind"]);
}

#[test]
fn r6_where_a_short_read_proves_nothing_reading_goes_on_to_would_block() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.set_short_read_empties(false);
    peer.sends("with a descriptor");
    peer.sends("behind");
    scene.world.event(&peer, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made", "data with a descriptor", "data behind"]);
    assert_eq!(peer.take_calls(), [Call::Read, Call::Read, Call::Read]);
}

#[test]
fn r6_the_read_that_would_confirm_a_short_one_is_put_off_and_done_though_no_event_comes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.lets_put_off();
    peer.sends("with a descriptor");
    peer.sends("behind");
    scene.world.event(&peer, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made", "data with a descriptor"]);
    scene.pass(Duration::from_millis(49));
    assert_eq!(log.take(), [""; 0]);
    scene.pass(Duration::from_millis(1));
    assert_eq!(log.take(), ["data behind"]);
    assert_eq!(peer.take_calls(), [Call::Read, Call::Read, Call::Read]);
    scene.pass(Duration::from_secs(1));
    assert_eq!(peer.take_calls(), []);
}

#[test]
fn r6_while_messages_come_each_costs_one_read_and_the_last_of_them_one_more() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    peer.lets_put_off();
    for n in 0..5 {
        scene.receive(&peer, format!("{n}"));
    }
    scene.pass(Duration::from_millis(50));
    scene.receive(&peer, "5");
    scene.pass(Duration::from_millis(50));
    assert_eq!(peer.take_calls(), [const { Call::Read }; 6]);
    scene.pass(Duration::from_millis(50));
    assert_eq!(peer.take_calls(), [Call::Read]);
    scene.receive(&peer, "6");
    scene.tell(id, |transport| transport.abort());
    scene.pass(Duration::from_millis(50));
    // A connection that is gone is not read from.
    assert_eq!(peer.take_calls().iter().filter(|call| **call == Call::Read).count(), 1);
}

#[test]
fn r6_an_interrupted_read_is_done_again() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, takes_all);
    peer.read_fails(io::ErrorKind::Interrupted.into());
    scene.receive(&peer, "abc");
    assert_eq!(log.take(), ["made", "data abc"]);
}

#[test]
fn r4_what_was_left_to_a_new_protocol_is_offered_to_it_before_a_reset() {
    let mut scene = Scene::new();
    let log = Log::default();
    let new = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.set_protocol(protocol(&new, idle));
        }
        0
    });
    peer.sends("request");
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made", "data request", "data request", "lost: reset by the peer"]);
}

#[test]
fn r4_what_the_high_mark_held_back_is_delivered_though_a_send_fails_first() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => {
            transport.write(&[0; 200]);
            1
        }
        event => by_default(&event, transport),
    });
    peer.set_room(0);
    scene.receive(&peer, "12");
    assert_eq!(log.take(), ["made", "data 12", "pause"]);
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["data 2", "lost: reset by the peer"]);
}

#[test]
fn r4_what_is_below_the_low_mark_is_delivered_before_a_reset() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.set_input_low_bytes(100));
    peer.sends("hello");
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made", "data hello", "lost: reset by the peer"]);
}

#[test]
fn r4_what_is_below_the_low_mark_is_delivered_though_a_send_fails_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.set_input_low_bytes(100));
    scene.receive(&peer, "hello");
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.tell(id, |t| t.write(b"x"));
    assert_eq!(log.take(), ["made", "data hello", "lost: reset by the peer"]);
}
