//! K5: connecting again and again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::*;
use crate::{Backoff, Reconnect};

/// Ten tries at most, one second apart, then two, four, …
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

    /// How long it takes until it is tried again.
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
    // It stands, but not for long.
    scene.answers(&peers[2]);
    scene.pass(9 * SECOND);
    scene.end(&peers[2]);
    assert_eq!(scene.next_try(), 4 * SECOND);
    // That it took long to answer does not count.
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
fn k5_it_ends_when_the_factory_says_so() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    start(&mut scene, &log); // Nothing is scripted: each of the ten fails at once.
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
            let id = scene.event_loop.core.slots.by_token(sys::script::Registered::token(&peer)).unwrap().0;
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
            // Closing one that stands ends that connection, not the trying.
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
