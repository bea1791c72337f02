//! K7: connecting to names, on scripted sockets.

use std::io;
use std::net::SocketAddr;

use super::connecting::{four, server};
use super::*;

#[test]
fn k7_a_name_is_looked_up_and_its_addresses_are_tried() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    scene.event_loop.context().set_resolver(|name, port| {
        assert_eq!((name, port), ("db.example", 80));
        Ok(four())
    });
    let id = scene.begin(&log, ("db.example", 80), idle).unwrap();
    scene.tell(id, |transport| transport.write(b"early"));
    assert_eq!(scene.world.take_connected_to(), [(server(), None)]);
    scene.stands(&peer);
    assert_eq!((log.take(), peer.take_sent()), (vec!["made".to_owned()], b"early".to_vec()));
}

#[test]
fn k7_a_name_that_is_not_found_has_no_address_or_breaks_the_resolver_fails() {
    type Answer = fn() -> io::Result<Vec<SocketAddr>>;
    let answers: [(Answer, &str); 3] = [
        (|| Err(io::ErrorKind::NotFound.into()), "cannot look up the name: entity not found"),
        (|| Ok(vec![]), "cannot look up the name: the name resolves to no address"),
        (|| panic!("a resolver"), "cannot look up the name: the resolver panicked"),
    ];
    for (answer, expected) in answers {
        let (mut scene, log) = (Scene::new(), Log::default());
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        scene.event_loop.context().set_resolver(move |_, _| answer());
        scene.begin(&log, ("db.example", 80), idle).unwrap();
        assert!(log.take().is_empty(), "no method calls a callback");
        scene.settle();
        assert_eq!(log.take(), [format!("failed: {expected}")]);
        assert_eq!(scene.event_loop.time_to_next(), None);
    }
}

#[test]
fn k7_a_literal_address_is_not_looked_up() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.world.connect_begins();
    scene.begin(&log, ("10.0.0.1", 80), idle).unwrap();
    assert_eq!(scene.world.take_connected_to(), [(server(), None)]);
}

#[test]
fn k7_a_cap_of_no_lookups_counts_as_one() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_lookups_max(0));
    scene.event_loop.context().set_resolver(|_, _| Ok(four()));
    for _ in 0..2 {
        scene.world.connect_begins();
        scene.begin(&Log::default(), ("db.example", 80), idle).unwrap();
    }
    scene.settle();
    assert_eq!(scene.world.take_connected_to(), [(server(), None); 2]);
}

#[test]
fn k7_who_is_cancelled_meanwhile_is_not_connected() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.context().set_resolver(|_, _| Ok(four()));
    let id = scene.begin(&log, ("db.example", 80), idle).unwrap();
    scene.tell(id, close);
    assert_eq!(scene.world.take_connected_to(), []);
    assert_eq!(log.take().len(), 1);
}

#[test]
fn k7_what_is_refused_behind_a_name_is_one_error_that_lists_each_address() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.context().set_resolver(|_, _| Ok(four()[..2].to_vec()));
    for _ in 0..2 {
        scene.world.connect_fails(io::ErrorKind::NetworkUnreachable.into());
    }
    scene.begin(&log, ("db.example", 80), idle).unwrap();
    scene.settle();
    assert_eq!(
        log.take(),
        ["failed: cannot connect: 10.0.0.1:80: network unreachable; 10.0.0.2:80: network unreachable"]
    );
    assert_eq!(scene.event_loop.time_to_next(), None);
}
