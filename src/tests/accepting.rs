//! Rules A1, A3, A5 and A6: accepting.

use super::*;
#[cfg(all(target_os = "linux", feature = "testing"))]
use crate::Listen;
use crate::sys::script::Call;
use crate::{Listener, ListenerError};

/// Logs what the hook of the scene's listener is told, and when, in milliseconds from now.
pub(super) fn hook(scene: &mut Scene) -> Log {
    let log = Log::default();
    let (noted, start, listener) = (log.clone(), scene.world.now(), scene.listener);
    scene.event_loop.context().listener(listener).unwrap().on_error(move |context, id, error| {
        assert_eq!(id, listener);
        let class = match error {
            ListenerError::Overloaded(_) => "overloaded",
            ListenerError::Failed(_) => "failed",
            ListenerError::Closed(_) => "closed",
            ListenerError::Handshake(..) => "handshake",
        };
        noted.push(format!("{class} at {}", (context.now() - start).as_millis()));
    });
    log
}

/// Queues this many accept errors, and behind them a connection that waits to be accepted.
pub(super) fn knock_behind(scene: &mut Scene, log: &Log, errors: impl IntoIterator<Item = i32>) -> Peer {
    for code in errors {
        scene.backlog.accept_fails(os_error(code));
    }
    scene.knock(Some(protocol(log, echo)))
}

/// A connection that was closed while its peer was still sending: its input is discarded.
pub(super) fn linger(scene: &mut Scene, log: &Log) -> Peer {
    let (_, peer) = scene.accept(log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"the last answer");
            transport.close();
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.receive(&peer, "more");
    assert!(!peer.is_closed());
    peer
}

#[test]
fn a1_would_block_is_no_error() {
    let mut scene = Scene::new();
    let told = hook(&mut scene);
    scene.world.event(&scene.backlog, Readiness::READABLE);
    assert_eq!(scene.settle(), 1);
    assert_eq!(scene.backlog.take_calls(), 1);
    assert_eq!(told.take(), [""; 0]);
    assert_eq!(scene.event_loop.context().counters().accept_errors, 0);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[cfg(unix)]
#[test]
fn a1_errors_of_one_connection_do_not_keep_the_next_one_waiting() {
    let mut codes = vec![libc::EINTR, libc::ECONNABORTED, libc::EPROTO, libc::EPERM];
    codes.extend([libc::ENETDOWN, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::EHOSTUNREACH]);
    codes.extend([libc::EOPNOTSUPP, libc::ENETUNREACH]);
    for code in codes {
        let mut scene = Scene::new();
        let (log, told) = (Log::default(), hook(&mut scene));
        knock_behind(&mut scene, &log, [code]);
        scene.turn();
        assert_eq!(log.take(), ["made"], "error {code}");
        assert_eq!(told.take(), [""; 0]);
        assert_eq!(scene.event_loop.context().counters().accept_errors, 1);
    }
}

#[test]
fn a1_a_batch_of_nothing_but_errors_counts_as_overload() {
    let mut scene = Scene::with_limits(Limits::default().with_accepts_per_turn_max(3));
    let (log, told) = (Log::default(), hook(&mut scene));
    knock_behind(&mut scene, &log, [errno::ECONNABORTED; 3]);
    assert_eq!(scene.settle(), 1, "it does not spin");
    assert_eq!((log.take().len(), told.take()), (0, vec!["overloaded at 0".to_owned()]));
    scene.pass(10 * MS);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a1_a_batch_with_one_success_is_no_overload() {
    let mut scene = Scene::with_limits(Limits::default().with_accepts_per_turn_max(3));
    let (log, told) = (Log::default(), hook(&mut scene));
    knock_behind(&mut scene, &log, [errno::ECONNABORTED; 2]);
    knock_behind(&mut scene, &log, [errno::ECONNABORTED; 2]);
    scene.settle();
    assert_eq!((log.take().len(), told.take().len()), (2, 0));
}

#[test]
fn a1_overload_is_told_and_tried_again_by_timer() {
    for code in [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM] {
        let mut scene = Scene::new();
        let (log, told) = (Log::default(), hook(&mut scene));
        knock_behind(&mut scene, &log, [code]);
        scene.settle();
        assert_eq!((log.take().len(), told.take()), (0, vec!["overloaded at 0".to_owned()]), "error {code}");
        assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
        scene.pass(10 * MS);
        assert_eq!(log.take(), ["made"], "error {code}");
    }
}

#[cfg(unix)]
#[test]
fn a1_an_unknown_error_is_told_and_tried_again_by_timer() {
    for code in [libc::EIO, libc::ENOSPC] {
        let mut scene = Scene::new();
        let (log, told) = (Log::default(), hook(&mut scene));
        knock_behind(&mut scene, &log, [code; 2]);
        scene.pass(30 * MS);
        assert_eq!(told.take(), ["failed at 0", "failed at 10"], "error {code}");
        assert_eq!(log.take(), ["made"], "error {code}");
    }
}

#[cfg(unix)]
#[test]
fn a1_an_invalid_listener_ends_alone_and_its_owner_is_told() {
    for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
        let mut scene = Scene::new();
        let (log, told) = (Log::default(), hook(&mut scene));
        let (_, established) = scene.accept(&log, echo);
        let (_, other_backlog) = scene.listen(|_, _| None);
        knock_behind(&mut scene, &log, [code]);
        scene.settle();
        assert_eq!(told.take(), ["closed at 0"], "error {code}");
        assert!(scene.backlog.is_closed() && scene.event_loop.context().listener(scene.listener).is_none());
        // The others live on: its own connection, and another listener.
        scene.receive(&established, "x");
        assert_eq!(log.take(), ["made", "data x"]);
        let refused = other_backlog.connect();
        scene.world.event(&other_backlog, Readiness::READABLE);
        scene.settle();
        assert!(refused.is_closed());
        assert_eq!(scene.event_loop.time_to_next(), None, "and nothing is tried again");
    }
}

#[test]
fn a3_at_most_a_batch_is_accepted_in_a_turn_and_the_rest_carries_over() {
    let mut scene = Scene::with_limits(Limits::default().with_accepts_per_turn_max(2));
    let log = Log::default();
    let (_, established) = scene.accept(&Log::default(), echo);
    for _ in 0..5 {
        scene.knock(Some(protocol(&log, echo)));
    }
    let mut batches = Vec::new();
    loop {
        established.sends("x");
        scene.world.event(&established, Readiness::READABLE);
        scene.turn();
        assert_eq!(established.take_sent(), b"x", "it is served in between");
        batches.push(log.take().len());
        if scene.event_loop.time_to_next() != Some(Duration::ZERO) {
            break;
        }
    }
    assert_eq!(batches, [2, 2, 1]);
}

#[test]
fn a3_a_batch_of_none_counts_as_one() {
    let mut scene = Scene::with_limits(Limits::default().with_accepts_per_turn_max(0));
    let log = Log::default();
    for _ in 0..2 {
        scene.knock(Some(protocol(&log, echo)));
    }
    scene.turn();
    assert_eq!(log.take(), ["made"]);
    scene.turn();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a3_a_burst_behind_one_event_is_accepted_to_the_last() {
    let mut scene = Scene::new();
    let log = Log::default();
    let noted = log.clone();
    let (_, burst) = scene.listen(move |_, _| Some(protocol(&noted, echo)));
    for _ in 0..500 {
        burst.connect();
    }
    scene.world.event(&burst, Readiness::READABLE);
    scene.settle();
    assert_eq!((log.take().len(), burst.waiting()), (500, 0));
}

#[test]
fn a5_who_is_refused_by_the_factory_is_closed_without_a_callback() {
    let mut scene = Scene::new();
    let log = Log::default();
    let refused = scene.knock(None);
    scene.knock(Some(protocol(&log, echo)));
    scene.turn();
    assert_eq!(refused.take_calls(), [Call::Close]);
    assert_eq!(log.take(), ["made"], "the listener goes on");
    let counters = scene.event_loop.context().counters();
    assert_eq!((counters.connections_refused, counters.connections_made), (1, 1));
    assert_eq!(scene.event_loop.context().connection_count(), 1);
}

/// A listener whose factory does this on the second call. It accepts every connection.
fn acts_on_second(
    scene: &mut Scene,
    log: &Log,
    mut act: impl FnMut(&mut Listener<'_>) + 'static,
) -> (ListenerId, Backlog) {
    let own = Rc::new(RefCell::new(None));
    let (noted, known, mut calls) = (log.clone(), own.clone(), 0);
    let (listener, backlog) = scene.listen(move |context, _| {
        calls += 1;
        if calls == 2 {
            act(&mut context.listener(known.borrow().unwrap()).unwrap());
        }
        Some(protocol(&noted, echo))
    });
    *own.borrow_mut() = Some(listener);
    for _ in 0..5 {
        backlog.connect();
    }
    scene.world.event(&backlog, Readiness::READABLE);
    (listener, backlog)
}

#[test]
fn a6_a_listener_closed_by_its_own_factory_accepts_nobody_more() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (listener, backlog) = acts_on_second(&mut scene, &log, |listener| {
        listener.close();
    });
    scene.settle();
    assert_eq!((log.take().len(), backlog.waiting(), backlog.is_closed()), (2, 3, true));
    assert!(scene.event_loop.context().listener(listener).is_none());
    assert_eq!(scene.event_loop.context().connection_count(), 2, "its connections stay");
}

#[test]
fn a6_a_listener_paused_by_its_own_factory_goes_on_when_it_is_resumed() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (listener, backlog) = acts_on_second(&mut scene, &log, |listener| {
        listener.pause();
    });
    scene.settle();
    assert_eq!((log.take().len(), backlog.waiting()), (2, 3));
    scene.world.event(&backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!((log.take().len(), backlog.waiting()), (0, 3));
    // A timer resumes it; no event comes.
    scene.event_loop.context().call_later(MS, move |context| context.listener(listener).unwrap().resume());
    scene.pass(MS);
    assert_eq!((log.take().len(), backlog.waiting()), (3, 0));
}

#[test]
fn a6_a_listener_paused_and_resumed_by_its_own_factory_loses_nobody() {
    let mut scene = Scene::new();
    let log = Log::default();
    acts_on_second(&mut scene, &log, |listener| {
        listener.pause();
        listener.pause();
        listener.resume();
        listener.resume();
    });
    scene.settle();
    assert_eq!(log.take(), ["made"; 5]);
}

#[test]
fn a6_who_comes_while_a_listener_is_paused_is_accepted_after_resume() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().pause();
    for _ in 0..3 {
        scene.knock(Some(protocol(&log, echo)));
    }
    scene.settle();
    assert_eq!((log.take().len(), scene.backlog.take_calls()), (0, 0));
    scene.event_loop.context().listener(listener).unwrap().resume();
    scene.settle();
    assert_eq!(log.take(), ["made"; 3]);
}

#[test]
fn a6_a_pause_lasts_through_back_off_and_cap() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    let listener = scene.listener;
    let (id, _peer) = scene.accept(&Log::default(), echo);
    knock_behind(&mut scene, &log, []);
    scene.settle();
    scene.event_loop.context().listener(listener).unwrap().pause();
    scene.event_loop.context().connection(id).unwrap().abort();
    scene.settle();
    assert_eq!(log.take(), [""; 0], "there is room, but it is paused");
    scene.backlog.take_calls();
    scene.event_loop.context().listener(listener).unwrap().resume();
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a6_a_listener_can_be_closed_by_a_protocol_a_timer_and_another_factory() {
    let mut scene = Scene::new();
    let log = Log::default();
    let listener = scene.listener;
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.context().listener(listener).unwrap().close();
        }
        by_default(&event, transport)
    });
    // It is closed before its own event of the same batch is handled.
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.knock(Some(protocol(&log, echo)));
    scene.settle();
    assert_eq!(log.take(), ["made", "data x"]);
    assert_eq!((scene.backlog.is_closed(), scene.backlog.waiting()), (true, 1));
    assert_eq!(scene.event_loop.context().counters().stale_events, 1);

    let (by_timer, timers) = scene.listen(|_, _| None);
    let (by_factory, factories) = scene.listen(|_, _| None);
    scene.event_loop.context().call_later(Duration::ZERO, move |context| context.listener(by_timer).unwrap().close());
    let (_, closers) = scene.listen(move |context, _| {
        context.listener(by_factory).unwrap().close();
        None
    });
    closers.connect();
    scene.world.event(&closers, Readiness::READABLE);
    scene.settle();
    assert!(timers.is_closed() && factories.is_closed() && !closers.is_closed());
}

#[test]
fn x5_an_accepted_socket_that_cannot_be_registered_is_reset_and_the_listener_goes_on() {
    let mut scene = Scene::new();
    let (refused_log, log) = (Log::default(), Log::default());
    let refused = scene.knock(Some(protocol(&refused_log, echo)));
    refused.refuse_registration();
    scene.knock(Some(protocol(&log, echo)));
    scene.turn();
    assert_eq!(refused.take_calls(), [Call::Reset]);
    assert_eq!(refused_log.take(), [""; 0]);
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().connection_count(), 1);
}

#[cfg(all(target_os = "linux", feature = "testing"))]
#[test]
fn x5_nothing_is_left_of_a_listener_that_is_closed_or_of_which_one_socket_fails() {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    let mut event_loop = EventLoop::new().unwrap();
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for before in 0..3 {
        // The system cannot poll an ordinary file.
        let file = UnixListener::from(OwnedFd::from(
            std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap(),
        ));
        let ready = TcpListener::bind(any_port).unwrap();
        let address = ready.local_addr().unwrap();
        let others = (0..before).map(|_| Listen::at(any_port)).reduce(Listen::and);
        let listen = others.into_iter().fold(Listen::at(file), |file, others| others.and(file));
        let error = event_loop.context().listen(listen.and(ready), |_, _| None::<Box<dyn Protocol>>).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        // Its factory is dropped at the turn's end.
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(event_loop.core.leftovers(0), Vec::<String>::new());
        TcpListener::bind(address).unwrap();
    }
    let id = event_loop.context().listen([any_port; 3], |_, _| None::<Box<dyn Protocol>>).unwrap();
    assert_eq!(event_loop.core.leftovers(3), Vec::<String>::new());
    event_loop.context().listener(id).unwrap().close();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.core.leftovers(0), Vec::<String>::new());
}

#[test]
fn a6_a_listener_says_whether_it_is_paused_and_what_its_limits_are() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(7));
    let id = scene.listener;
    let mut context = scene.event_loop.context();
    let mut listener = context.listener(id).unwrap();
    assert_eq!((listener.is_paused(), listener.limits().connections_max), (false, 7));
    listener.pause();
    listener.set_limits(Limits::default().with_connections_max(3));
    assert_eq!((listener.is_paused(), listener.limits().connections_max), (true, 3));
    listener.resume();
    assert!(!listener.is_paused());
    listener.close();
    assert_eq!((listener.is_paused(), listener.limits().connections_max), (false, 7), "those of the loop");
    assert_eq!(context.limits().each.connections_max, 7);
}
