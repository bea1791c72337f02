//! Rule A4: what a peer is told if a cap refuses it.

use super::accepting::linger;
use super::*;
use crate::listener::refused::{REFUSAL_BYTES_MAX, REFUSED_MAX};
use crate::sys::script::Call;
use crate::{Listen, WhenFull};

const WORDS: &[u8] = b"421 too many connections\r\n";

/// A listener that has all the connections it may have and tells newcomers so, with these limits besides.
fn full(limits: Limits) -> Scene {
    let mut scene = Scene::with_limits(limits.with_connections_max(1).with_when_full(WhenFull::Refuse));
    scene.event_loop.core.parts.slots.listener_mut(scene.listener.0).unwrap().refusal = WORDS.to_vec();
    scene.accept(&Log::default(), idle);
    scene
}

fn comes(scene: &mut Scene) -> Peer {
    let peer = scene.backlog.connect();
    scene.world.event(&scene.backlog, Readiness::READABLE);
    scene.settle();
    peer
}

#[test]
fn a4_a_peer_that_a_cap_refuses_is_told_so_and_has_the_time_to_read_it() {
    let mut scene = full(Limits::default());
    let peer = scene.knock(None);
    peer.sends("a request that came with the connection");
    scene.settle();
    assert_eq!(
        (peer.take_sent(), peer.take_calls()),
        (WORDS.to_vec(), vec![Call::Write(WORDS.len()), Call::ShutdownWrite])
    );
    scene.pass(1999 * MS);
    // More input, which would make the kernel send a reset.
    peer.sends([b'x'; 10_000]);
    assert!(!peer.is_closed());
    scene.pass(MS);
    assert_eq!((peer.take_calls().last(), peer.unread()), (Some(&Call::Close), 0));
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
    assert_eq!(scene.event_loop.context().counters().connections_refused, 1);
    assert_eq!(scene.event_loop.context().connection_count(), 1, "it has no slot");
}

#[test]
fn a4_a_peer_that_is_refused_is_discarded_no_more_of_than_of_one_that_lingers() {
    let mut scene = full(Limits::default().with_linger_bytes_max(5000).with_linger_timeout(SECOND));
    let peer = comes(&mut scene);
    peer.sends([b'x'; 20_000]);
    scene.pass(SECOND);
    assert_eq!((peer.is_closed(), peer.unread()), (true, 15_000));
}

#[test]
fn a4_a_peer_is_told_by_the_other_caps_too() {
    type Cap = fn(LoopLimits) -> LoopLimits;
    let caps: [(&str, Cap); 2] = [
        ("of the loop", |limits| limits.with_loop_connections_max(Some(1))),
        ("of a peer", |mut limits| {
            limits.each.connections_per_peer_max = Some(1);
            limits
        }),
    ];
    for (name, cap) in caps {
        let limits = LoopLimits::from(Limits::default().with_when_full(WhenFull::Refuse));
        let mut scene = Scene::with_limits(cap(limits));
        scene.event_loop.core.parts.slots.listener_mut(scene.listener.0).unwrap().refusal = WORDS.to_vec();
        scene.accept(&Log::default(), idle);
        assert_eq!(comes(&mut scene).take_sent(), WORDS, "the cap {name}");
    }
}

#[test]
fn a4_a_peer_that_the_factory_turns_away_is_told_nothing() {
    let mut scene = Scene::new();
    scene.event_loop.core.parts.slots.listener_mut(scene.listener.0).unwrap().refusal = WORDS.to_vec();
    assert_eq!(comes(&mut scene).take_calls(), [Call::Close]);
}

#[test]
fn a4_what_a_refused_peer_is_told_is_whole_or_it_is_reset() {
    let mut scene = full(Limits::default());
    let peer = scene.knock(None);
    peer.set_room(5);
    scene.settle();
    assert_eq!((peer.take_sent().len(), peer.take_calls().last()), (5, Some(&Call::Reset)));
    // A peer that is gone, or that takes nothing at all, is closed.
    let peer = scene.knock(None);
    peer.set_room(0);
    scene.settle();
    assert_eq!(peer.take_calls().last(), Some(&Call::Close));
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn a4_only_so_many_refused_peers_are_held_and_the_oldest_is_closed_for_one_more() {
    let mut scene = full(Limits::default());
    let peers: Vec<_> = (0..REFUSED_MAX + 3).map(|_| comes(&mut scene)).collect();
    let closed: Vec<_> = (0..peers.len()).filter(|&n| peers[n].is_closed()).collect();
    assert_eq!(closed, [0, 1, 2]);
    assert!(peers.iter().all(|peer| peer.take_sent() == WORDS));
    scene.pass(2 * SECOND);
    assert!(peers.iter().all(Peer::is_closed));
}

#[test]
fn a4_each_refused_peer_is_held_for_the_time_of_its_listener() {
    let mut scene = full(Limits::default());
    let first = comes(&mut scene);
    let limits = Limits::default().with_connections_max(1).with_when_full(WhenFull::Refuse);
    let short = limits.with_linger_timeout(SECOND);
    scene.event_loop.context().listener(scene.listener).unwrap().set_limits(short);
    let second = comes(&mut scene);
    scene.pass(SECOND);
    assert_eq!((first.is_closed(), second.is_closed()), (false, true));
    scene.pass(SECOND);
    assert!(first.is_closed());
}

#[test]
fn a2_without_descriptors_the_refused_are_closed_first_and_then_those_that_linger() {
    let mut scene = full(Limits::default());
    let refused = comes(&mut scene);
    let raised = Limits::default().with_connections_max(10);
    scene.event_loop.context().listener(scene.listener).unwrap().set_limits(raised);
    let lingering = linger(&mut scene, &Log::default());
    let log = Log::default();
    for (refused_is_closed, lingers) in [(true, true), (true, false)] {
        scene.backlog.accept_fails(os_error(errno::EMFILE));
        scene.knock(Some(protocol(&log, idle)));
        scene.settle();
        assert_eq!((refused.is_closed(), !lingering.is_closed()), (refused_is_closed, lingers));
        assert_eq!(log.take(), ["made"]);
    }
}

#[test]
fn a4_listening_fails_where_a_refusal_is_longer_than_a_kernel_takes_at_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut listen = |length: usize| {
        let at = Listen::at(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        let at = at.refusal(vec![b'x'; length]);
        event_loop.context().listen(at, |_, _| None::<Box<dyn Protocol>>).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(listen(REFUSAL_BYTES_MAX), Ok(()));
    assert_eq!(listen(REFUSAL_BYTES_MAX + 1), Err(io::ErrorKind::InvalidInput));
}
