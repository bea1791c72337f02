//! How connections end over TLS.

use std::sync::Arc;
use switchboard::testing::Faults;
use switchboard::{Limits, Transport};

use super::between::Between;
use super::kit::*;

const CUT_OFF: &str = "lost: the stream was truncated";

#[test]
fn a_half_that_ends_leaves_the_other_open() {
    for version in BOTH {
        let mut world = made(version, stays, stays);
        world.at_client(|transport| {
            transport.write(b"the last");
            transport.shutdown_write();
        });
        assert_eq!(world.server.borrow().data, b"the last");
        assert_eq!(world.events(), (vec!["eof".into()], vec![]));
        world.at_server(|transport| transport.write(b"still here"));
        assert_eq!(world.client.borrow().data, b"still here");
        world.at_server(|transport| transport.close());
        let over = vec!["lost: closed by the peer".to_owned()];
        assert_eq!(world.events(), (over.clone(), [vec!["eof".to_owned()], over].concat()));
        assert_eq!(world.connections(), (0, 0));
    }
}

#[test]
fn a_server_may_end_its_half_first() {
    for version in BOTH {
        let mut world = made(version, stays, stays);
        world.at_server(|transport| transport.shutdown_write());
        assert_eq!(world.events(), (vec![], vec!["eof".into()]));
        world.at_client(|transport| transport.write(b"heard"));
        assert_eq!(world.server.borrow().data, b"heard");
        world.at_client(|transport| transport.close());
        assert_eq!(world.connections(), (0, 0));
        assert_eq!(world.events().0, ["eof", "lost: closed by the peer"]);
    }
}

#[test]
fn an_abort_is_a_reset_at_the_other_end() {
    for version in BOTH {
        let mut world = made(version, idle, idle);
        world.at_client(|transport| transport.abort());
        assert_eq!(world.events(), (vec!["lost: reset by the peer".into()], vec!["lost: aborted by us".into()]));
    }
}

#[test]
fn an_end_without_close_notify_is_a_truncation_behind_all_that_came() {
    for version in BOTH {
        let mut between = Between::new(version, stays, stays);
        between.pass(true, usize::MAX);
        between.at_client(|transport| transport.write(b"half"));
        between.pass(true, usize::MAX);
        between.at_client(|transport| transport.write(b" of it"));
        let rest = between.take(true);
        for cut in [0, 1, 5, rest.len() - 1] {
            let mut between = Between::new(version, stays, stays);
            between.pass(true, usize::MAX);
            between.at_client(|transport| transport.write(b"half"));
            between.pass(true, usize::MAX);
            between.at_client(|transport| transport.write(b" of it"));
            let rest = between.take(true);
            between.give(true, &rest[..cut]);
            between.to_server.as_mut().unwrap().end();
            between.pause();
            assert_eq!(between.world.server.borrow().data, b"half");
            assert_eq!(between.world.events().0, ["made", CUT_OFF], "{version:?} at {cut}");
            let losses = between.world.network.context(between.world.server_host).counters().losses;
            assert_eq!(losses.truncated, 1);
            assert!(between.to_server.as_mut().unwrap().error().is_some(), "our own end is a reset");
        }
        // The same at the client.
        between.to_client.as_mut().unwrap().end();
        between.pause();
        assert_eq!(between.world.events().1, ["made", CUT_OFF]);
    }
}

#[test]
fn the_end_waits_behind_data_that_nobody_wants_yet() {
    fn pauses(event: Event<'_>, transport: &mut Transport<'_>) {
        match event {
            Event::Made => transport.pause_reading(),
            Event::Data(_) => {}
            Event::Eof => transport.close(),
        }
    }
    for version in BOTH {
        for count in [1, 100_000] {
            let mut world = World::of(server(version), pauses);
            // Written before the handshake: with TLS 1.3 it arrives in one flight with the end.
            let id = world.dial(&Arc::new(client(version)), stays);
            let sent = bytes(count);
            let mut context = world.network.context(world.client_host);
            let mut transport = context.connection(id).unwrap();
            transport.write(&sent);
            transport.shutdown_write();
            world.rest();
            assert_eq!(
                world.events(),
                (vec!["made".to_owned()], vec!["made".to_owned()]),
                "{version:?} {count} {}",
                world.server.borrow().data.len()
            );
            assert_eq!(world.server.borrow().data.len(), 0);
            world.at_server(|transport| transport.resume_reading());
            world.rest();
            assert!(same(&world.server.borrow().data, &sent));
            assert_eq!(world.events().0, ["eof", "lost: closed by the peer"]);
        }
    }
}

#[test]
fn a_client_that_reads_nothing_ends_in_order_though_tickets_wait_for_it() {
    fn writes(event: Event<'_>, transport: &mut Transport<'_>) {
        if let Event::Made = event {
            transport.pause_reading();
            transport.write_owned(bytes(300_000));
            transport.close();
        }
    }
    for version in BOTH {
        let mut world = World::of(server(version), idle);
        world.dial(&Arc::new(client(version)), writes);
        world.network.run_for(10 * SECOND);
        assert!(same(&world.server.borrow().data, &bytes(300_000)), "{version:?}");
        assert_eq!(world.events().0, ["made", "eof", "lost: closed by the peer"]);
        assert_eq!(world.connections(), (0, 0));
    }
}

#[test]
fn an_abort_or_a_close_at_any_time_leaves_nothing_behind() {
    let acts: [fn(&mut Transport<'_>); 3] =
        [|transport| transport.abort(), |transport| transport.close(), |transport| transport.shutdown_write()];
    for version in BOTH {
        let all = Between::new(version, idle, idle).pass(false, usize::MAX);
        for (kind, act) in acts.into_iter().enumerate() {
            for count in (0..=all).step_by(29) {
                for at_server in [false, true] {
                    let mut between = Between::new(version, idle, idle);
                    between.pass(false, count);
                    let host = if at_server { between.world.server_host } else { between.world.client_host };
                    let mut context = between.world.network.context(host);
                    let id = context.connection_ids()[0];
                    act(&mut context.connection(id).unwrap());
                    between.pause();
                    (between.to_client, between.to_server) = (None, None);
                    between.world.network.run_for(2 * SECOND);
                    let left = between.world.connections();
                    assert_eq!(left, (0, 0), "{version:?}, {kind} behind {count} bytes, {at_server}");
                    between.world.does_not_spin();
                    let (server, client) = between.world.events();
                    let ends = |events: &[String]| events.iter().filter(|event| event.len() > 4).count();
                    assert_eq!(ends(&client), 1, "{client:?}");
                    assert_eq!(ends(&server), usize::from(server.contains(&"made".to_owned())), "{server:?}");
                }
            }
        }
    }
}

#[test]
fn a_peer_that_says_nothing_is_given_so_much_time_and_no_more() {
    let limits = Limits::default();
    let make = switchboard_tls::listen(Arc::new(server(V13)));
    let mut world = World::with_limits(1, Faults::none(), limits, |listen| listen.filter(make), idle);
    let mut peer = world.peer();
    peer.send(&[22, 3, 1]);
    world.network.run_for(8 * SECOND);
    assert_eq!(world.connections().0, 1);
    world.network.run_for(2 * SECOND);
    assert_eq!(world.connections().0, 0);
    assert!(world.errors.borrow()[0].ends_with("failed: the handshake took too long"), "{:?}", world.errors.borrow());
    world.does_not_spin();
}
