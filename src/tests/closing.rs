//! Rule X1: closing.

use super::*;
use crate::sys::script::Call;

/// A connection that has answered and closed, and lingers because there was unread input.
fn linger(scene: &mut Scene, log: &Log) -> (ConnectionId, Peer) {
    let (id, peer) = scene.accept(log, idle);
    peer.sends("unread");
    scene.tell(id, |transport| {
        transport.write(b"answer");
        transport.close();
    });
    assert_eq!((log.take(), peer.is_closed()), (vec!["made".into()], false));
    (id, peer)
}

/// A connection that cannot send its answer and closes.
fn flush_slowly(scene: &mut Scene, log: &Log) -> (ConnectionId, Peer) {
    let (id, peer) = scene.accept(log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(b"answer");
        transport.close();
    });
    assert_eq!((log.take(), peer.is_closed()), (vec!["made".into()], false));
    (id, peer)
}

fn last_call(peer: &Peer) -> Option<Call> {
    peer.take_calls().pop()
}

#[test]
fn x1_close_flushes_and_then_ends() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(3);
    scene.tell(id, |transport| {
        transport.write(b"answer");
        transport.close();
    });
    scene.make_room(&peer, 2);
    assert_eq!(log.take(), ["made"]);
    scene.make_room(&peer, 1);
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"answer");
    assert_eq!(scene.event_loop.time_to_next(), Some(SECOND), "no deadline is left behind, only the buffers'");
}

#[test]
fn x1_with_nothing_unread_the_write_half_is_shut_a_read_is_tried_twice_and_the_close_is_plain() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, close);
    // Two reads: the first would also block at an urgent byte that no event has announced yet (R6).
    assert_eq!(peer.take_calls(), [Call::ShutdownWrite, Call::Read, Call::Read, Call::Close]);
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
}

#[test]
fn x1_where_the_peer_s_end_was_seen_the_close_is_plain_at_once() {
    let mut scene = Scene::new();
    let (_, peer) = scene.accept(&Log::default(), idle);
    scene.end(&peer);
    assert_eq!(peer.take_calls(), [Call::Read, Call::Close]);
}

#[test]
fn x1_where_the_peer_s_end_is_found_by_a_read_there_is_nothing_to_wait_for() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.sends([]);
    scene.tell(id, close);
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(last_call(&peer), Some(Call::Close));
}

#[test]
fn x1_the_close_deadline_starts_anew_with_every_byte_that_the_kernel_takes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = flush_slowly(&mut scene, &log);
    for _ in 0..5 {
        scene.pass(SECOND * 49 / 10);
        scene.make_room(&peer, 1);
    }
    scene.pass(SECOND * 49 / 10);
    assert_eq!((log.take(), peer.take_sent()), (vec![], b"answe".to_vec()));
    scene.pass(SECOND / 10);
    assert_eq!(log.take(), ["lost: the peer did not take the remaining output in time"]);
    assert_eq!(last_call(&peer), Some(Call::Reset));
}

#[test]
fn x1_events_that_take_nothing_do_not_move_the_close_deadline() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = flush_slowly(&mut scene, &log);
    for _ in 0..4 {
        scene.pass(SECOND);
        scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE);
        scene.tell(id, close);
    }
    scene.pass(SECOND);
    assert_eq!(log.take(), ["lost: the peer did not take the remaining output in time"]);
}

#[test]
fn x1_the_close_deadline_can_be_set() {
    let mut scene = Scene::with_limits(Limits::default().with_close_timeout(60 * SECOND));
    let log = Log::default();
    flush_slowly(&mut scene, &log);
    scene.pass(59 * SECOND);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(SECOND);
    assert_eq!(log.take(), ["lost: the peer did not take the remaining output in time"]);
}

#[test]
fn x1_the_close_deadline_counts_from_the_close_and_not_from_the_last_byte_before() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(1);
    scene.tell(id, |transport| transport.write(b"answer"));
    scene.pass(60 * SECOND);
    scene.tell(id, close);
    scene.pass(SECOND * 49 / 10);
    assert_eq!(log.take(), ["made"]);
    scene.pass(SECOND / 10);
    assert_eq!(log.take(), ["lost: the peer did not take the remaining output in time"]);
}

#[test]
fn x1_a_peer_that_resets_while_it_is_flushed_to_is_lost_by_that() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = flush_slowly(&mut scene, &log);
    peer.write_answers(Err(io::ErrorKind::ConnectionReset.into()));
    scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["lost: reset by the peer"]);
}

#[test]
fn x1_with_unread_input_it_lingers_until_the_peer_s_end_and_delivers_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = linger(&mut scene, &log);
    assert_eq!(peer.take_calls(), [Call::Write(6), Call::ShutdownWrite, Call::Read]);
    scene.receive(&peer, "more");
    scene.pass(SECOND);
    assert_eq!((log.take(), peer.unread()), (vec![], 0));
    scene.end(&peer);
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(last_call(&peer), Some(Call::Close));
    assert_eq!(scene.event_loop.time_to_next(), Some(SECOND), "no deadline is left behind, only the buffers'");
}

#[test]
fn x1_it_lingers_for_two_seconds_at_most_whatever_comes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = linger(&mut scene, &log);
    for _ in 0..19 {
        scene.pass(SECOND / 10);
        scene.receive(&peer, "dribble");
    }
    assert_eq!(log.take(), [""; 0]);
    scene.pass(SECOND / 10);
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(last_call(&peer), Some(Call::Close), "never by reset");
}

#[test]
fn x1_it_discards_a_mebibyte_at_most() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = linger(&mut scene, &log);
    scene.receive(&peer, vec![0; KIB * KIB - "unread".len()]);
    assert_eq!((log.take(), peer.unread()), (vec![], 0));
    scene.receive(&peer, [0]);
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(last_call(&peer), Some(Call::Close), "never by reset");
}

#[test]
fn x1_both_bounds_of_lingering_can_be_set() {
    let limits = Limits::default().with_linger_timeout(60 * SECOND).with_linger_bytes_max(10);
    let mut scene = Scene::with_limits(limits);
    let log = Log::default();
    let (_, by_time) = linger(&mut scene, &log);
    scene.pass(59 * SECOND);
    assert!(!by_time.is_closed());
    scene.pass(SECOND);
    assert!(by_time.is_closed());
    log.take();
    let (_, by_size) = linger(&mut scene, &log);
    scene.receive(&by_size, "four");
    assert!(!by_size.is_closed());
    scene.receive(&by_size, "5");
    assert!(by_size.is_closed());
}

#[test]
fn x1_lingering_takes_turns_with_the_others() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(100));
    let log = Log::default();
    let (_, peer) = linger(&mut scene, &log);
    peer.take_calls();
    peer.sends([0; 250]);
    scene.world.event(&peer, Readiness::READABLE);
    for left in [150, 50, 0] {
        scene.turn();
        assert_eq!(peer.unread(), left);
    }
}

#[test]
fn x1_a_reset_while_lingering_ends_it_for_the_reason_it_was_closed_for() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = linger(&mut scene, &log);
    peer.read_fails(io::ErrorKind::ConnectionReset.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["lost: closed by us"]);
}

#[test]
fn x1_lingering_connections_are_given_up_first_at_the_cap() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(2));
    let log = Log::default();
    let (_, lingering) = linger(&mut scene, &log);
    let newcomers = [1, 2].map(|_| scene.knock(Some(protocol(&log, idle))));
    scene.settle();
    assert_eq!(log.take(), ["made", "made", "lost: closed by us"]);
    assert!(newcomers.iter().all(|peer| !peer.is_closed()));
    assert_eq!(last_call(&lingering), Some(Call::Close));
}

#[test]
fn x1_lingering_connections_are_given_up_first_on_overload() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, lingering) = linger(&mut scene, &log);
    scene.backlog.accept_fails(os_error(errno::EMFILE));
    scene.accept(&log, idle);
    assert!(lingering.is_closed());
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(scene.event_loop.context().counters().accept_errors, 0);
}

#[test]
fn x1_abort_upgrades_a_close_that_is_flushing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = flush_slowly(&mut scene, &log);
    scene.event_loop.context().connection(id).unwrap().abort();
    assert!(scene.event_loop.context().connection(id).is_none(), "it has ended, and stays so");
    scene.settle();
    assert_eq!(log.take(), ["lost: aborted by us"]);
    assert_eq!(last_call(&peer), Some(Call::Reset));
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn x1_of_lingering_connections_the_one_is_given_up_that_would_end_first() {
    let limits = |after| Limits::default().with_linger_timeout(after);
    let mut scene = Scene::with_limits(limits(3 * SECOND));
    let log = Log::default();
    let linger_for = |scene: &mut Scene, after| {
        let listener = scene.listener;
        scene.event_loop.context().listener(listener).unwrap().set_limits(limits(after));
        linger(scene, &log).1
    };
    let [last, first, second] = [9, 1, 5].map(|after| linger_for(&mut scene, after * SECOND));
    // That one ends by itself and delays nothing.
    scene.pass(SECOND);
    assert_eq!([&last, &first, &second].map(Peer::is_closed), [false, true, false]);
    scene.backlog.accept_fails(os_error(errno::EMFILE));
    scene.accept(&log, idle);
    assert_eq!([&last, &second].map(Peer::is_closed), [false, true]);
}

#[test]
fn x1_abort_upgrades_a_close_that_is_lingering() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = linger(&mut scene, &log);
    scene.tell(id, abort);
    assert_eq!(log.take(), ["lost: aborted by us"]);
    assert_eq!(last_call(&peer), Some(Call::Reset));
}

#[test]
fn x1_close_and_abort_in_one_callback_in_any_order_and_number_are_one_end() {
    type End = fn(&mut Transport<'_>);
    for (calls, expected, last) in [
        (vec![close as End, close], "lost: closed by us", Call::Close),
        (vec![abort as End, abort], "lost: aborted by us", Call::Reset),
        (vec![close as End, abort], "lost: aborted by us", Call::Reset),
        (vec![abort as End, close], "lost: aborted by us", Call::Reset),
        (vec![close as End, close, abort, abort, close, close], "lost: aborted by us", Call::Reset),
    ] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (_, peer) = scene.accept(&log, move |event, transport| {
            if let Event::Data(_) = event {
                calls.iter().for_each(|call| call(transport));
            }
            by_default(&event, transport)
        });
        scene.receive(&peer, "x");
        scene.pass(10 * SECOND);
        assert_eq!(log.take(), ["made", "data x", expected]);
        assert_eq!(last_call(&peer), Some(last));
        let counters = scene.event_loop.context().counters();
        assert_eq!((counters.connections_made, counters.connections_lost), (1, 1));
    }
}

#[test]
fn x1_a_second_close_while_flushing_or_lingering_changes_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (flushing, flushing_peer) = flush_slowly(&mut scene, &log);
    let (lingering, lingering_peer) = linger(&mut scene, &log);
    for id in [flushing, lingering] {
        scene.tell(id, |transport| {
            transport.close();
            transport.close_for("too late to be the reason");
            transport.shutdown_write();
        });
    }
    assert_eq!(log.take(), [""; 0]);
    scene.make_room(&flushing_peer, 6);
    scene.end(&lingering_peer);
    assert_eq!(log.take(), ["lost: closed by us", "lost: closed by us"]);
}

#[test]
fn x1_a_protocol_error_lets_the_answer_out_before_it_ends() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"what?");
            transport.close_for("not a request");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "lost: protocol error: not a request"]);
    assert_eq!(peer.take_sent(), b"what?");
    assert_eq!(last_call(&peer), Some(Call::Close));
}

#[test]
fn x1_close_before_the_connection_is_made_ends_it_after() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.attach(&log, idle);
    scene.tell(id, |transport| {
        transport.write(b"never mind");
        transport.close();
    });
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"never mind");
}

#[test]
fn x3_shutdown_of_a_loop_without_connections_does_not_wait() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    scene.event_loop.shutdown(10 * SECOND).unwrap();
    assert_eq!(scene.world.now() - start, Duration::ZERO);
}

#[test]
fn x1_nobody_who_lingers_is_given_up_for_nobody() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(2));
    let log = Log::default();
    let (id, lingering) = scene.accept(&log, idle);
    lingering.sends("unread");
    scene.tell(id, |transport| transport.close());
    assert!(!lingering.is_closed());
    scene.accept(&log, idle);
    assert!(!lingering.is_closed(), "both have room");
}

#[test]
fn x1_with_nothing_to_be_discarded_it_does_not_linger() {
    let mut scene = Scene::with_limits(Limits::default().with_linger_bytes_max(0));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.sends("unread");
    scene.tell(id, |transport| transport.close());
    assert!(peer.is_closed());
}

#[test]
fn x1_who_lingers_once_the_cap_is_reached_is_given_up_for_a_newcomer() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    let (id, lingering) = scene.accept(&log, idle);
    lingering.sends("unread");
    scene.tell(id, |transport| transport.close());
    assert!(!lingering.is_closed());
    scene.knock(Some(protocol(&log, idle)));
    scene.settle();
    assert_eq!(log.take(), ["made", "made", "lost: closed by us"]);
}

#[test]
fn x1_at_the_cap_the_oldest_that_lingers_is_given_up_and_no_other() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(2));
    let log = Log::default();
    let lingering = [1, 2].map(|_| scene.accept(&Log::default(), idle));
    for (id, peer) in &lingering {
        peer.sends("unread");
        scene.tell(*id, close);
        scene.pass(SECOND / 2);
    }
    scene.accept(&log, idle);
    assert_eq!(log.take(), ["made"]);
    assert_eq!(lingering.map(|(_, peer)| peer.is_closed()), [true, false]);
}
