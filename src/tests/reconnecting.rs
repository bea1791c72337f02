//! K5: reconnecting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::*;
use crate::{Backoff, Reconnect, Reconnecting};

/// At most ten tries: the delays are one second, then two, four, …
fn start(scene: &mut Scene, log: &Log) {
    let backoff = Backoff::new(SECOND).factor(2.0).jitter(0.0);
    let mut tries: VecDeque<_> = (0..10).map(|_| protocol(log, idle)).collect();
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, backoff, move |_| tries.pop_front()).start(&mut scene.event_loop.context());
}

impl Scene {
    fn refuses(&mut self, peer: &Peer) {
        peer.meets(io::ErrorKind::ConnectionRefused.into());
        self.world.event(peer, Readiness::WRITABLE | Readiness::ERROR);
        self.settle();
    }

    fn answers(&mut self, peer: &Peer) {
        peer.answers();
        self.world.event(peer, Readiness::WRITABLE);
        self.settle();
    }

    fn has_tried(&self) -> bool {
        !self.world.take_connected_to().is_empty()
    }

    /// Returns how long it takes until the next try.
    fn next_try(&mut self) -> Duration {
        for after in 1..1000 {
            self.pass(100 * MS);
            if self.has_tried() {
                return after * 100 * MS;
            }
        }
        panic!("it is not tried again");
    }
}

#[test]
fn k5_the_delays_grow_and_begin_anew_only_once_the_link_has_stayed_up() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers: Vec<_> = (0..7).map(|_| scene.world.connect_begins()).collect();
    start(&mut scene, &log);
    assert!(scene.has_tried(), "the first one at once");
    scene.refuses(&peers[0]);
    assert_eq!(scene.next_try(), SECOND);
    scene.refuses(&peers[1]);
    assert_eq!(scene.next_try(), 2 * SECOND);
    // It is established, but not for long.
    scene.answers(&peers[2]);
    scene.pass(9 * SECOND);
    scene.end(&peers[2]);
    assert_eq!(scene.next_try(), 4 * SECOND);
    // Taking long to answer does not count as staying up.
    scene.pass(20 * SECOND);
    scene.answers(&peers[3]);
    scene.end(&peers[3]);
    assert_eq!(scene.next_try(), 8 * SECOND);
    scene.answers(&peers[4]);
    scene.pass(10 * SECOND);
    scene.end(&peers[4]);
    assert_eq!(scene.next_try(), SECOND);
    let refused = "failed: cannot connect: 10.0.0.1:80: connection refused";
    let ended = ["made", "eof", "lost: closed by the peer"];
    assert_eq!(log.take(), [&[refused; 2][..], &ended, &ended, &ended].concat());
}

#[test]
fn k5_what_fails_at_once_is_tried_again_later_too() {
    let (mut scene, log) = (Scene::new(), Log::default());
    for _ in 0..3 {
        scene.world.connect_fails(io::ErrorKind::NetworkUnreachable.into());
    }
    start(&mut scene, &log);
    assert!(scene.has_tried());
    assert_eq!([scene.next_try(), scene.next_try()], [SECOND, 2 * SECOND]);
    assert!(log.take().is_empty());
}

#[test]
fn k5_what_the_system_refuses_is_not_taken_for_the_loops_end() {
    let (mut scene, log) = (Scene::new(), Log::default());
    for _ in 0..3 {
        scene.world.connect_fails(io::ErrorKind::NotConnected.into());
    }
    start(&mut scene, &log);
    assert!(scene.has_tried());
    assert_eq!([scene.next_try(), scene.next_try()], [SECOND, 2 * SECOND]);
}

#[test]
fn k5_it_ends_when_the_factory_says_so() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    start(&mut scene, &log); // Nothing is scripted: each of the ten tries fails at once.
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(scene.world.take_connected_to().len(), 10);
}

#[test]
fn k5_it_ends_when_it_is_cancelled_or_the_loop_is_shut_down() {
    for shuts_down in [false, true] {
        for stands in [false, true] {
            let (mut scene, log) = (Scene::new(), Log::default());
            let peer = scene.world.connect_begins();
            start(&mut scene, &log);
            let id = scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).unwrap().0;
            if stands {
                scene.answers(&peer);
            }
            if shuts_down {
                scene.event_loop.shutdown(SECOND).unwrap();
            } else {
                scene.tell(ConnectionId(id), close);
            }
            scene.pass(60 * SECOND);
            let tried = scene.world.take_connected_to().len();
            // Closing an established connection ends that connection, not the retrying.
            assert_eq!(tried > 1, stands && !shuts_down);
        }
    }
}

#[test]
fn k5_a_protocol_that_panics_is_tried_again() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let peer = scene.world.connect_begins();
    let factory = |_: &mut crate::Context<'_>| Some(protocol(&Log::default(), |_, _| panic!("in every callback")));
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, Backoff::new(SECOND), factory).start(&mut scene.event_loop.context());
    assert!(scene.has_tried());
    scene.refuses(&peer);
    assert_eq!(scene.next_try(), SECOND);
}

#[test]
fn k5_every_callback_reaches_the_protocol() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    let made = Rc::new(RefCell::new(None));
    let (notes, keeps) = (log.clone(), made.clone());
    let factory = move |_: &mut crate::Context<'_>| {
        let keep = keeps.clone();
        Some(protocol(&notes, move |event, transport| {
            if let Event::Made = event {
                *keep.borrow_mut() = Some(transport.id());
                transport.set_timeout(Timeout::Total, Some(SECOND));
                transport.write_owned(vec![0; 100 * KIB]);
            }
            by_default(&event, transport)
        }))
    };
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, Backoff::new(SECOND), factory).start(&mut scene.event_loop.context());
    peer.set_room(0);
    scene.answers(&peer);
    scene.make_room(&peer, 200 * KIB);
    scene.receive(&peer, "hello");
    scene.pass(SECOND);
    assert_eq!(log.take()[..4], ["made", "pause", "resume", "data hello"]);
    assert!(made.borrow().is_some());
}

/// Reconnects with protocols that do `act`, for as long as a server is scripted to answer.
fn start_with(scene: &mut Scene, log: &Log, act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + Clone + 'static) {
    let backoff = Backoff::new(SECOND).factor(2.0).jitter(0.0);
    let log = log.clone();
    let factory = move |_: &mut crate::Context<'_>| Some(protocol(&log, act.clone()));
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, backoff, factory).start(&mut scene.event_loop.context());
}

#[test]
fn k5_a_protocol_that_detaches_ends_it() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    let kept = Rc::new(RefCell::new(None));
    let keeps = kept.clone();
    start_with(&mut scene, &log, move |event, transport| {
        if let Event::Made = event {
            let keeps = keeps.clone();
            assert!(transport.detach(move |_, connection| *keeps.borrow_mut() = Some(connection)));
        }
        by_default(&event, transport)
    });
    scene.answers(&peer);
    assert_eq!(log.take(), ["made", "lost: detached from the loop"]);
    scene.pass(60 * SECOND);
    assert_eq!(scene.world.take_connected_to().len(), 1, "it is connected again while the connection lives");
    assert!(kept.borrow().is_some() && !peer.is_closed());
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn k5_a_detach_that_comes_to_nothing_ends_nothing() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    start_with(&mut scene, &log, |event, transport| {
        if let Event::Made = event {
            transport.write(b"it fails to go out");
            assert!(transport.detach(|_, _| panic!("there is nothing to give")));
        }
        by_default(&event, transport)
    });
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.has_tried();
    scene.answers(&peer);
    assert_eq!(scene.next_try(), SECOND);
}

/// How one protocol replaces another.
#[derive(Clone, Copy)]
enum Way {
    Set,
    Start,
}

impl Way {
    fn put(self, transport: &mut Transport<'_>, protocol: Box<dyn Protocol>) {
        match self {
            Way::Set => transport.set_protocol(protocol),
            Way::Start => transport.start_protocol(protocol),
        }
    }
}

#[test]
fn k5_a_protocol_that_puts_another_in_its_place_takes_the_reconnecting_with_it() {
    for way in [Way::Set, Way::Start] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peers: Vec<_> = (0..4).map(|_| scene.world.connect_begins()).collect();
        let second = Log::default();
        let puts = second.clone();
        start_with(&mut scene, &log, move |event, transport| {
            if let Event::Data(_) = event {
                let another = protocol(&puts, move |event, transport| {
                    if let Event::Data(b"again") = event {
                        way.put(transport, protocol(&Log::default(), idle));
                    }
                    by_default(&event, transport)
                });
                way.put(transport, another);
            }
            by_default(&event, transport)
        });
        // Over and over, however the connection ends.
        for (number, peer) in peers.iter().enumerate() {
            assert!(scene.has_tried());
            scene.answers(peer);
            scene.receive(peer, "upgrade");
            if number == 1 {
                scene.receive(peer, "again");
            }
            match number {
                2 => peer.read_fails(io::ErrorKind::ConnectionReset.into()),
                _ => peer.sends([]),
            }
            scene.world.event(peer, Readiness::READABLE | Readiness::READ_CLOSED);
            scene.settle();
            // The delays grow as usual: none of the connections stayed up.
            scene.pass(SECOND * (1 << number) - 100 * MS);
            assert!(!scene.has_tried());
            scene.pass(100 * MS);
        }
        assert!(scene.has_tried());
        assert_eq!(log.take().iter().filter(|entry| entry.starts_with("lost")).count(), 0);
        assert!(second.take().iter().filter(|entry| entry.starts_with("lost")).count() >= 3);
    }
}

#[test]
fn k5_a_protocol_that_is_replaced_from_outside_or_before_it_is_made_changes_nothing() {
    for way in [Way::Set, Way::Start] {
        for is_made in [false, true] {
            let (mut scene, log) = (Scene::new(), Log::default());
            let peer = scene.world.connect_begins();
            start_with(&mut scene, &log, idle);
            if is_made {
                scene.answers(&peer);
            }
            let second = Log::default();
            for id in scene.event_loop.context().connection_ids() {
                let protocol = protocol(&second, idle);
                scene.tell(id, |transport| way.put(transport, protocol));
            }
            if !is_made {
                scene.answers(&peer);
            }
            // The loop also notices that a connection with a replaced protocol has stayed up.
            scene.pass(10 * SECOND);
            scene.has_tried();
            scene.end(&peer);
            assert_eq!(scene.next_try(), SECOND);
            assert_eq!(second.take().last().map(String::as_str), Some("lost: closed by the peer"));
            assert!(!log.take().iter().any(|entry| entry.starts_with("lost")));
        }
    }
}

#[test]
fn k5_a_link_whose_end_is_seen_late_has_not_stayed_up() {
    // The server accepts and closes at once. Meanwhile a slow callback holds the loop: the connection's own, or
    // another's.
    for is_its_own in [true, false] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peers: Vec<_> = (0..2).map(|_| scene.world.connect_begins()).collect();
        let world = scene.world.clone();
        start_with(&mut scene, &log, move |event, transport| {
            if let (Event::Made, true) = (&event, is_its_own) {
                world.advance(11 * SECOND);
            }
            by_default(&event, transport)
        });
        assert!(scene.has_tried());
        scene.refuses(&peers[0]);
        assert_eq!(scene.next_try(), SECOND);
        peers[1].sends([]);
        peers[1].answers();
        scene.world.event(&peers[1], Readiness::WRITABLE);
        scene.turn();
        scene.world.event(&peers[1], Readiness::READABLE | Readiness::READ_CLOSED);
        if !is_its_own {
            scene.world.advance(11 * SECOND);
        }
        scene.settle();
        assert_eq!(scene.next_try(), 2 * SECOND, "the delays begin anew for a link that was up for no time");
    }
}

#[test]
fn k5_a_link_that_has_stayed_up_leaves_no_timer_behind() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    let peer = scene.world.connect_begins();
    let mut once = Some(protocol(&log, idle));
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    let reconnect = Reconnect::new(server, Backoff::new(SECOND), move |_| once.take());
    reconnect.start(&mut scene.event_loop.context());
    scene.answers(&peer);
    let start = scene.world.now();
    scene.end(&peer);
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(scene.world.now() - start, SECOND, "it waits for the next try and for nothing else");
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn k5_it_ends_when_the_loop_is_shut_down_between_two_tries() {
    for drains in [false, true] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peer = scene.world.connect_begins();
        start_with(&mut scene, &log, idle);
        scene.refuses(&peer);
        assert!(scene.has_tried());
        match drains {
            true => _ = scene.event_loop.drain(SECOND).unwrap(),
            false => _ = scene.event_loop.shutdown(SECOND).unwrap(),
        }
        scene.pass(60 * SECOND);
        assert!(!scene.has_tried(), "the loop was shut down meanwhile");
        assert_eq!(scene.event_loop.time_to_next(), None);
    }
}

#[test]
fn k5_a_limit_that_ends_a_connect_is_no_cancel() {
    let (mut scene, log) = (Scene::with_limits(Limits::default().with_queue_bytes_max(10)), Log::default());
    scene.world.connect_begins();
    start_with(&mut scene, &log, idle);
    assert!(scene.has_tried());
    for id in scene.event_loop.context().connection_ids() {
        scene.tell(id, |transport| {
            transport.write(&[0; 100]);
            transport.write(&[0; 100]);
        });
    }
    assert!(log.take()[0].contains("too much output queued"));
    assert_eq!(scene.next_try(), SECOND);
}

#[test]
fn k5_a_factory_that_panics_ends_it_and_the_loop_goes_on() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let peer = scene.world.connect_begins();
    let (log, mut tries) = (Log::default(), 0);
    let noted = log.clone();
    let factory = move |_: &mut crate::Context<'_>| {
        tries += 1;
        assert!(tries < 2, "the second one");
        Some(protocol(&noted, idle))
    };
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, Backoff::new(SECOND), factory).start(&mut scene.event_loop.context());
    scene.refuses(&peer);
    scene.pass(60 * SECOND);
    assert_eq!((scene.world.take_connected_to().len(), scene.event_loop.context().counters().panics), (1, 1));
    scene.accept(&log, echo);
    assert_eq!(log.take().last().map(String::as_str), Some("made"));
}

/// Starts a link that is cancelled later, with one second between two tries.
fn link(scene: &mut Scene, log: &Log) -> Reconnecting {
    let log = log.clone();
    let factory = move |_: &mut crate::Context<'_>| Some(protocol(&log, idle));
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    Reconnect::new(server, Backoff::new(SECOND).jitter(0.0), factory).start(&mut scene.event_loop.context())
}

#[test]
fn k5_it_names_the_connection_that_there_is() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers: Vec<_> = (0..2).map(|_| scene.world.connect_begins()).collect();
    let link = link(&mut scene, &log);
    let first = link.current().expect("it is under way");
    scene.tell(first, |transport| transport.write(b"before"));
    scene.answers(&peers[0]);
    assert_eq!((link.current(), peers[0].take_sent()), (Some(first), b"before".to_vec()));
    scene.end(&peers[0]);
    assert_eq!((link.current(), link.is_over()), (None, false));
    scene.has_tried();
    scene.next_try();
    let second = link.current().expect("it is tried again");
    assert_ne!(second, first);
    scene.event_loop.shutdown(SECOND).unwrap();
    assert!(link.is_over() && link.current().is_none());
}

#[test]
fn k5_it_can_be_cancelled_at_any_time() {
    for (refused, answered) in [(false, false), (false, true), (true, false)] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peer = scene.world.connect_begins();
        let link = link(&mut scene, &log);
        match (refused, answered) {
            (true, _) => scene.refuses(&peer),
            (_, true) => scene.answers(&peer),
            _ => {}
        }
        scene.has_tried();
        log.take();
        assert!(link.clone().cancel(&mut scene.event_loop.context()));
        assert!(link.is_over() && link.current().is_none());
        assert!(!link.cancel(&mut scene.event_loop.context()), "it was cancelled already");
        scene.settle();
        match answered {
            true => assert_eq!(log.take(), [""; 0], "the connection stays"),
            false => assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left"),
        }
        if answered {
            scene.receive(&peer, "on");
            scene.end(&peer);
            assert_eq!(log.take(), ["data on", "eof", "lost: closed by the peer"]);
            assert_eq!(scene.event_loop.time_to_next(), None, "no timer is set");
        } else if !refused {
            assert_eq!(log.take(), ["failed: ended before it was connected: aborted by us"]);
        }
        scene.pass(60 * SECOND);
        assert!(!scene.has_tried());
    }
}

#[test]
fn k5_its_factory_may_cancel_it_and_then_nothing_is_tried() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.world.connect_begins();
    let own = Rc::new(RefCell::new(None::<Reconnecting>));
    let (found, notes) = (own.clone(), log.clone());
    let factory = move |context: &mut crate::Context<'_>| {
        if let Some(link) = &*found.borrow() {
            assert!(!link.is_over() && link.cancel(context));
        }
        Some(protocol(&notes, idle))
    };
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    let link = Reconnect::new(server, Backoff::new(SECOND).jitter(0.0), factory).start(&mut scene.event_loop.context());
    let peer = link.current().unwrap();
    *own.borrow_mut() = Some(link.clone());
    scene.has_tried();
    scene.event_loop.core.parts.finish(peer.0, CloseReason::Timeout(Timeout::Total));
    scene.pass(60 * SECOND);
    assert!(link.is_over() && !scene.has_tried());
}
