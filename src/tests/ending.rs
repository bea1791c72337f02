//! Rules X2, X3 and X5: abort, shutdown, and ends for local reasons.

use std::cell::Cell;

use super::*;
use crate::sys::script::Call;

/// Consumes all data, and does not close at the peer's end.
fn stays(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Eof(_) => 0,
        event => by_default(&event, transport),
    }
}

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

fn last_call(peer: &Peer) -> Option<Call> {
    peer.take_calls().pop()
}

#[test]
fn x2_abort_drops_what_is_queued_and_resets() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(3);
    scene.tell(id, |transport| transport.write(b"answer"));
    peer.take_sent();
    peer.set_room(usize::MAX);
    scene.tell(id, abort);
    assert_eq!((log.take(), peer.take_sent()), (vec!["made".into(), "lost: aborted by us".into()], vec![]));
    assert_eq!(last_call(&peer), Some(Call::Reset));
}

#[test]
fn x2_abort_drops_what_the_same_callback_wrote_and_is_over_when_it_returns() {
    let mut scene = Scene::new();
    let log = Log::default();
    let closed = Rc::new(Cell::new(false));
    let noted = closed.clone();
    let other = Rc::new(RefCell::new(None::<Peer>));
    let seen = other.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"half an ans");
            transport.abort();
            noted.set(seen.borrow().as_ref().unwrap().is_closed());
        }
        by_default(&event, transport)
    });
    other.replace(Some(peer.clone()));
    scene.receive(&peer, "x");
    assert!(closed.get(), "the socket is closed at once");
    assert_eq!(log.take(), ["made", "data x", "lost: aborted by us"]);
    assert_eq!(peer.take_calls(), [Call::Read, Call::Reset]);
}

#[test]
fn x2_abort_at_the_peer_s_end_resets_all_the_same() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, stays);
    scene.end(&peer);
    scene.tell(id, abort);
    assert_eq!(log.take(), ["made", "eof", "lost: aborted by us"]);
    assert_eq!(last_call(&peer), Some(Call::Reset));
}

#[test]
fn x3_shutdown_stops_listening_closes_all_and_aborts_what_is_left_at_the_deadline() {
    let mut scene = Scene::with_limits(Limits::default().with_close_timeout(3600 * SECOND));
    let log = Log::default();
    let (slow, slow_peer) = scene.accept(&log, idle);
    slow_peer.set_room(3);
    scene.tell(slow, |transport| transport.write(b"answer"));
    assert_eq!(log.take(), ["made"]);
    let (_, peer) = scene.accept(&log, idle);
    let start = scene.world.now();
    scene.event_loop.shutdown(10 * SECOND).unwrap();
    assert_eq!(scene.world.now() - start, 10 * SECOND);
    assert_eq!(log.take(), ["made", "lost: the loop was shut down", "lost: the loop was shut down"]);
    assert!(scene.backlog.is_closed());
    assert_eq!(last_call(&peer), Some(Call::Close), "nothing was left to send");
    assert_eq!(last_call(&slow_peer), Some(Call::Reset), "half an answer is not to be taken for the whole");
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn x3_shutdown_ends_before_the_deadline_when_all_have_ended() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.write(b"answer"));
    let start = scene.world.now();
    scene.event_loop.shutdown(10 * SECOND).unwrap();
    assert_eq!(scene.world.now(), start);
    assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
    assert_eq!(peer.take_sent(), b"answer");
}

#[test]
fn x3_a_shutdown_from_a_callback_flushes_its_answer_refuses_newcomers_and_ends_the_run() {
    let mut scene = Scene::new();
    let log = Log::default();
    let noted = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"goodbye");
            let mut context = transport.context();
            context.shutdown(10 * SECOND);
            let refused = context
                .listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), |_, _| None::<Box<dyn Protocol>>)
                .unwrap_err();
            noted.push(refused.to_string());
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    let start = scene.world.now();
    scene.event_loop.run().unwrap();
    assert_eq!(scene.world.now(), start);
    assert_eq!(log.take(), ["made", "data x", "the loop is shutting down", "lost: the loop was shut down"]);
    assert_eq!(peer.take_sent(), b"goodbye");
    // The loop can be used again.
    let (_, peer) = scene.attach(&log, echo);
    scene.turn();
    scene.receive(&peer, "again");
    assert_eq!(peer.take_sent(), b"again");
}

#[test]
fn x3_a_second_shutdown_can_only_bring_the_deadline_nearer() {
    for (second, expected) in [(2, 3), (60, 10)] {
        let mut scene = Scene::with_limits(Limits::default().with_close_timeout(3600 * SECOND));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(0);
        scene.tell(id, |transport| transport.write(b"answer"));
        let start = scene.world.now();
        scene.event_loop.context().call_later(SECOND, move |context| context.shutdown(second * SECOND));
        scene.event_loop.shutdown(10 * SECOND).unwrap();
        assert_eq!(scene.world.now() - start, expected * SECOND);
        assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
    }
}

#[test]
fn x3_shutdown_waits_for_who_lingers_and_who_was_closing_keeps_his_reason() {
    let mut scene = Scene::new();
    let log = Log::default();
    linger(&mut scene, &log);
    let start = scene.world.now();
    scene.event_loop.shutdown(10 * SECOND).unwrap();
    assert_eq!(scene.world.now() - start, 2 * SECOND);
    assert_eq!(log.take(), ["lost: closed by us"]);
}

#[test]
fn x5_whatever_ends_it_for_a_local_reason_ends_it_by_reset() {
    type Act = fn(Event<'_>, &mut Transport<'_>) -> usize;
    let cases: [(&str, Act); 5] = [
        ("data_received reported 2 bytes consumed of 1", |event, _| match event {
            Event::Data(data) => data.len() + 1,
            _ => 0,
        }),
        ("too much input left unconsumed", |event, transport| match event {
            Event::Data(_) => {
                transport.set_input_bytes_max(0);
                0
            }
            event => by_default(&event, transport),
        }),
        ("too much output queued", |event, transport| {
            if let Event::Data(_) = event {
                // Two writes: the first is queued, the second exceeds the cap.
                transport.write(&[0; 20 * KIB]);
                transport.write(&[0; 20 * KIB]);
            }
            by_default(&event, transport)
        }),
        ("a callback panicked: a bug", |event, transport| {
            assert!(!matches!(event, Event::Data(_)), "a bug");
            by_default(&event, transport)
        }),
        ("aborted by us", |event, transport| {
            if let Event::Data(_) = event {
                transport.abort();
            }
            by_default(&event, transport)
        }),
    ];
    for (reason, act) in cases {
        for room in [0, 1] {
            let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(1000));
            scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
            let log = Log::default();
            let (_, peer) = scene.accept(&log, act);
            peer.set_room(room);
            scene.receive(&peer, "x");
            assert_eq!(log.take(), ["made".into(), "data x".into(), format!("lost: {reason}")]);
            assert_eq!(last_call(&peer), Some(Call::Reset), "{reason}");
        }
    }
}

#[test]
fn c7_whatever_says_that_the_connection_is_broken_the_reason_is_a_reset() {
    // The last one is as on Winsock: by number on Windows, and by kind on the other systems.
    let aborted = [io::Error::from(io::ErrorKind::ConnectionAborted), os_error(errno::ECONNABORTED)];
    let broken = [errno::ECONNRESET, errno::EPIPE, errno::ENOTCONN].map(os_error).into_iter().chain(aborted);
    for error in broken {
        let (mut scene, log, text) = (Scene::new(), Log::default(), error.to_string());
        let (_, peer) = scene.accept(&log, idle);
        peer.read_fails(error);
        scene.world.event(&peer, Readiness::READABLE);
        scene.settle();
        assert_eq!(log.take(), ["made", "lost: reset by the peer"], "{text}");
    }
}

#[test]
fn x5_a_failing_call_of_ours_ends_it_by_reset() {
    for read in [true, false] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        let error = io::ErrorKind::OutOfMemory;
        if read {
            peer.read_fails(error.into());
            scene.world.event(&peer, Readiness::READABLE);
        } else {
            peer.write_answers(Ok(1));
            peer.write_answers(Err(error.into()));
        }
        scene.tell(id, |transport| transport.write(b"answer"));
        assert_eq!(log.take(), ["made".into(), format!("lost: I/O error: {}", io::Error::from(error))]);
        assert_eq!(last_call(&peer), Some(Call::Reset));
    }
}

#[test]
fn x5_dropping_the_loop_resets_whoever_has_output_unsent() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, slow_peer) = scene.accept(&log, idle);
    slow_peer.set_room(3);
    scene.tell(id, |transport| transport.write(b"answer"));
    let (_, peer) = scene.accept(&log, idle);
    drop(scene);
    assert_eq!(log.take(), ["made", "made", "lost: the loop was shut down", "lost: the loop was shut down"]);
    assert_eq!(last_call(&slow_peer), Some(Call::Reset));
    assert_eq!(last_call(&peer), Some(Call::Close));
}

#[test]
fn x5_who_cannot_be_registered_after_accept_is_reset_and_the_listener_goes_on() {
    let mut scene = Scene::new();
    let log = Log::default();
    let peer = scene.knock(Some(protocol(&log, idle)));
    peer.refuse_registration();
    scene.settle();
    assert_eq!(peer.take_calls(), [Call::Reset]);
    assert_eq!(log.take(), [""; 0], "it never was a connection");
    assert_eq!(scene.event_loop.context().connection_count(), 0);
    scene.accept(&log, idle);
    assert_eq!(log.take(), ["made"]);
}
