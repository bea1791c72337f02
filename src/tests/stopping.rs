//! Rule C6: stopping, shutting down, dropping the loop.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sys::script::Call;
use crate::{Context, Ended, LoopError};

/// An address to listen on; nothing ever does.
const NOWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

#[test]
fn c6_stop_keeps_the_connections_and_the_next_run_goes_on_with_them() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    scene.event_loop.context().stop();
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made"]);
    assert!(!peer.is_closed());
    assert!(scene.event_loop.context().listener(scene.listener).is_some());
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.context().call_later(Duration::ZERO, stop);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["data x"]);
    assert!(scene.event_loop.context().connection(id).is_some());
}

/// Checks that newcomers are refused while the loop ends.
fn newcomers_are_refused(context: &mut Context<'_>) {
    /// If this were registered, the error would be `Unsupported`.
    struct Nothing;
    impl mio::event::Source for Nothing {
        fn register(&mut self, _: &mio::Registry, _: mio::Token, _: mio::Interest) -> io::Result<()> {
            unreachable!("it is refused")
        }
        fn reregister(&mut self, _: &mio::Registry, _: mio::Token, _: mio::Interest) -> io::Result<()> {
            unreachable!("it is refused")
        }
        fn deregister(&mut self, _: &mio::Registry) -> io::Result<()> {
            unreachable!("it is refused")
        }
    }
    let refused = context.listen(std::net::SocketAddr::from(NOWHERE), |_, _| None::<Box<dyn Protocol>>).unwrap_err();
    assert_eq!(LoopError::of(&refused), Some(LoopError::ShuttingDown));
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
    let refused = context.register(Nothing, mio::Interest::READABLE, |_, _, _| crate::SourceAction::Wait).unwrap_err();
    assert_eq!(LoopError::of(&refused), Some(LoopError::ShuttingDown));
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
}

/// Logs whether newcomers are refused in the last callback.
fn tries_newcomers(log: &Log) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let log = log.clone();
    move |event, transport| {
        if let Event::Lost(_) = event {
            newcomers_are_refused(&mut transport.context());
            // Reached only if nothing above has panicked.
            log.push("refused");
        }
        by_default(&event, transport)
    }
}

#[test]
fn c6_shutdown_tells_each_once_and_refuses_newcomers() {
    let mut scene = Scene::new();
    let logs = [Log::default(), Log::default()];
    let [(_, first), (id, second)] = [0, 1].map(|n| scene.accept(&logs[n], tries_newcomers(&logs[n])));
    let peers = [first, second];
    // One can be ended at once; the other one's peer takes nothing.
    peers[1].set_room(0);
    scene.receive(&peers[1], "x");
    let noted = logs[1].clone();
    scene.event_loop.context().call_later(Duration::from_secs(1), move |context| {
        newcomers_are_refused(context);
        noted.push("refused");
    });
    scene.event_loop.context().connection(id).unwrap().write(b"never taken");
    let start = scene.world.now();
    assert_eq!(scene.event_loop.shutdown(Duration::from_secs(3)).unwrap(), Ended::CutOff);
    assert_eq!(scene.world.now() - start, Duration::from_secs(3));
    assert_eq!(logs[0].take(), ["made", "lost: the loop was shut down", "refused"]);
    assert_eq!(logs[1].take(), ["made", "data x", "refused", "lost: the loop was shut down", "refused"]);
    assert!(scene.backlog.is_closed());
    assert_eq!(peers[0].take_calls().last(), Some(&Call::Close));
    assert_eq!(peers[1].take_calls().last(), Some(&Call::Reset), "half an answer must not look whole");
    drop(scene);
    assert_eq!((logs[0].take().len(), logs[1].take().len()), (0, 0));
}

#[test]
fn c6_a_shutdown_asked_for_by_a_callback_ends_run_and_the_loop_can_be_used_anew() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"good bye");
            transport.context().shutdown(Duration::from_secs(1));
            transport.context().shutdown(Duration::from_secs(1000));
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made", "data x", "lost: the loop was shut down"]);
    assert_eq!(peer.take_sent(), b"good bye");
    // And once more.
    let (_, peer) = scene.attach(&log, echo);
    let (_, backlog) = scene.listen(|_, _| None);
    scene.receive(&peer, "y");
    assert_eq!(log.take(), ["made", "data y"]);
    assert!(!backlog.is_closed());
}

#[test]
fn c6_a_shutdown_within_a_factory_refuses_the_one_who_came() {
    let mut scene = Scene::new();
    let log = Log::default();
    let protocols = log.clone();
    let (_, backlog) = scene.listen(move |context, _| {
        context.shutdown(Duration::from_secs(1));
        Some(protocol(&protocols, echo))
    });
    let peer = backlog.connect();
    scene.world.event(&backlog, Readiness::READABLE);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), [""; 0]);
    assert!(peer.is_closed() && backlog.is_closed());
}

#[test]
fn c6_an_attached_stream_that_a_shutdown_finds_before_it_was_made_is_made_and_lost() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.attach(&log, echo);
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.shutdown(Duration::from_secs(3)).unwrap();
    assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
    assert!(peer.is_closed());
}

#[test]
fn c6_dropping_the_loop_while_it_shuts_down_tells_each_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, tries_newcomers(&log));
    peer.set_room(0);
    scene.accept(&log, tries_newcomers(&log));
    scene.event_loop.context().connection(id).unwrap().write(b"never taken");
    scene.event_loop.context().shutdown(Duration::from_secs(3));
    scene.settle();
    assert_eq!(log.take(), ["made", "made", "lost: the loop was shut down", "refused"]);
    drop(scene);
    assert_eq!(log.take(), ["lost: the loop was shut down", "refused"]);
}

#[test]
fn c6_a_second_shutdown_can_only_bring_the_end_nearer() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    peer.set_room(0);
    let mut context = scene.event_loop.context();
    context.connection(id).unwrap().write(b"never taken");
    let start = context.now();
    context.shutdown(Duration::from_secs(3));
    context.shutdown(Duration::from_secs(2));
    context.shutdown(Duration::from_secs(4));
    scene.event_loop.run().unwrap();
    assert_eq!(scene.world.now() - start, Duration::from_secs(2));
    assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
    assert_eq!(scene.event_loop.time_to_next().map(|time| time <= Duration::from_secs(1)), Some(true), "a decay");
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn c6_dropping_the_loop_tells_each_once_and_refuses_newcomers() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (whole, whole_peer) = scene.accept(&log, tries_newcomers(&log));
    let (half, half_peer) = scene.accept(&log, tries_newcomers(&log));
    let (aborted, _aborted_peer) = scene.accept(&log, tries_newcomers(&Log::default()));
    let (_, attached_peer) = scene.attach(&Log::default(), |_, _| unreachable!("it was never made"));
    half_peer.set_room(0);
    let mut context = scene.event_loop.context();
    context.connection(half).unwrap().write(b"never taken");
    context.connection(aborted).unwrap().abort();
    context.connection(whole).unwrap().close();
    let backlog = scene.backlog.clone();
    log.take();
    drop(scene);
    let mut entries = log.take();
    entries.sort();
    let shut_down = "lost: the loop was shut down";
    assert_eq!(entries, ["lost: aborted by us", shut_down, shut_down, "refused", "refused"]);
    assert_eq!(whole_peer.take_calls(), [Call::Close]);
    assert_eq!(half_peer.take_calls(), [Call::Reset]);
    assert!(attached_peer.is_closed() && backlog.is_closed());
}

#[test]
fn c6_dropping_the_loop_drops_all_that_is_the_user_s() {
    let mut scene = Scene::new();
    let alive = Rc::new(());
    let held = |alive: &Rc<()>| {
        let held = alive.clone();
        move |event: Event<'_>, transport: &mut Transport<'_>| {
            let _ = &held;
            by_default(&event, transport)
        }
    };
    scene.accept(&Log::default(), held(&alive));
    scene.attach(&Log::default(), held(&alive));
    let kept = alive.clone();
    let (listener, _backlog) = scene.listen(move |_, _| {
        let _ = &kept;
        None
    });
    let kept = alive.clone();
    scene.event_loop.context().listener(listener).unwrap().on_error(move |_, _, _| {
        let _ = &kept;
    });
    let kept = alive.clone();
    scene.event_loop.context().call_later(Duration::MAX, move |_| drop(kept));
    assert_eq!(Rc::strong_count(&alive), 6);
    drop(scene);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn c6_a_shutdown_with_nobody_connected_is_over_at_once() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    scene.event_loop.shutdown(Duration::from_secs(30)).unwrap();
    assert_eq!(scene.world.now(), start);
}

#[test]
fn c6_a_shutdown_with_nobody_connected_needs_a_turn_at_once() {
    let mut scene = Scene::new();
    scene.event_loop.context().shutdown(Duration::from_secs(30));
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
}

#[test]
fn c6_after_a_shutdown_that_run_until_idle_saw_to_the_loop_can_be_used_anew() {
    let mut scene = Scene::new();
    scene.event_loop.context().shutdown(Duration::from_secs(30));
    scene.event_loop.run_until_idle().unwrap();
    assert!(!scene.event_loop.core.parts.life.is_ending());
}

#[test]
fn e1_a_panic_in_the_last_turn_of_a_shutdown_leaves_no_stop_behind() {
    let mut scene = Scene::new();
    scene.accept(&Log::default(), |event, transport| {
        assert!(!matches!(event, Event::Lost(_)), "in connection_lost");
        by_default(&event, transport)
    });
    let result = catch_unwind(AssertUnwindSafe(|| scene.event_loop.shutdown(Duration::from_secs(1))));
    assert!(result.is_err());
    let log = Log::default();
    let noted = log.clone();
    scene.event_loop.context().call_later(Duration::ZERO, move |context| {
        noted.push("timer");
        context.stop();
    });
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["timer"]);
}

#[test]
fn x3_an_end_says_whether_anything_was_cut_off() {
    let mut scene = Scene::new();
    let log = Log::default();
    assert_eq!(scene.event_loop.drain(SECOND).unwrap(), Ended::Clean, "there is nobody");
    // This one is closed in order, within its time.
    scene.attach(&log, echo);
    assert_eq!(scene.event_loop.shutdown(SECOND).unwrap(), Ended::Clean);
    // This one outlasts the drain, and is closed.
    scene.attach(&log, echo);
    assert_eq!(scene.event_loop.drain(SECOND).unwrap(), Ended::CutOff);
    // The peer of a connection that a drain does not wait for takes nothing.
    for (grace, ended) in [(SECOND, Ended::Clean), (Duration::ZERO, Ended::CutOff)] {
        let (id, peer) = scene.attach(&log, echo);
        scene.settle();
        peer.set_room(0);
        let mut context = scene.event_loop.context();
        context.set_background(id, true);
        context.connection(id).unwrap().write(b"not taken yet");
        let (taker, world) = (peer.clone(), scene.world.clone());
        scene.event_loop.context().call_later(SECOND / 2, move |_| {
            taker.set_room(100);
            world.event(&taker, Readiness::WRITABLE);
        });
        assert_eq!(scene.event_loop.shutdown(grace).unwrap(), ended);
        scene.pass(SECOND);
    }
    assert_eq!(scene.event_loop.drain(SECOND).unwrap(), Ended::Clean, "nothing of it is left");
}
