//! What breaks a handshake or a stream, and how it is reported.

use std::sync::Arc;

use switchboard::Connect;
use switchboard::testing::Faults;

use super::between::Between;
use super::kit::*;

/// The first bytes of an alert in the clear.
const ALERT: [u8; 2] = [21, 3];

#[test]
fn a_client_refuses_a_name_a_date_and_an_issuer_that_are_wrong_and_says_which() {
    let cases = [
        (&identities().server, "other.example", "certificate not valid for name \"other.example\""),
        (&identities().expired, NAME, "certificate expired"),
        (&identities().stranger, NAME, "BadSignature"),
    ];
    for version in BOTH {
        for (identity, name, why) in cases {
            let mut world = World::of(server_of(version, identity), echo);
            world.dial_to(&Arc::new(client(version)), name, idle);
            world.rest();
            let (server, client) = world.events();
            assert_eq!((server.len(), client.len()), (0, 1));
            assert!(client[0].starts_with("failed: the handshake failed: protocol error: invalid peer certificate"));
            assert!(client[0].contains(why), "{client:?}");
            let errors = world.errors.borrow().clone();
            assert!(errors[0].contains("received fatal alert"), "its alert has come: {errors:?}");
            assert_eq!(world.connections(), (0, 0));
        }
    }
}

#[test]
fn what_is_no_tls_is_answered_with_an_alert_and_nobody_else_notices() {
    let mut world = World::of(server(V13), echo);
    world.dial(&Arc::new(client(V13)), idle);
    world.rest();
    let plain: [&[u8]; 5] =
        [b"GET / HTTP/1.0\r\n\r\n", b"\n\n\n\n\n\n", &[0; 100], &[0xff; 100_000], b"\x16\x03\x01\0\x05hello"];
    for (count, sent) in plain.into_iter().enumerate() {
        let mut peer = world.peer();
        peer.send(sent);
        world.network.run_for(3 * SECOND);
        world.does_not_spin();
        let got = peer.read();
        // rustls sends no alert for a message that is too large.
        assert!(got.starts_with(&ALERT) || count == 4, "{count}: {got:?}");
        assert!(peer.saw_end() || peer.error().is_some());
        let counters = world.network.context(world.server_host).counters();
        assert_eq!(counters.handshakes_failed, count as u64 + 1);
    }
    assert!(world.errors.borrow().iter().all(|error| error.contains("failed: protocol error: ")));
    world.at_client(|transport| transport.write(b"hello"));
    assert_eq!(world.client.borrow().data, b"hello");
}

#[test]
fn a_client_whose_server_speaks_no_tls_is_told_so() {
    for said in [&b"220 mail.example ESMTP\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0; 50]] {
        let mut world = World::of(server(V13), echo);
        let mut listener = world.network.peer_listener(25, 1).unwrap();
        let make = switchboard_tls::connect(Arc::new(client(V13)), NAME.try_into().unwrap());
        world.connect(Connect::to(listener.local_addr()).filter(make), idle);
        world.rest();
        let mut peer = listener.accept().unwrap();
        peer.send(said);
        world.rest();
        let client = world.events().1;
        assert_eq!(
            client,
            ["failed: the handshake failed: protocol error: received corrupt message of type InvalidContentType"]
        );
        peer.read();
        assert!(peer.saw_end() || peer.error().is_some());
    }
    // A plain echo: the client gets its own hello back.
    let mut world = World::new(1, Faults::none(), |listen| listen, echo);
    world.dial(&Arc::new(client(V13)), idle);
    world.rest();
    assert!(world.events().1[0].starts_with("failed: the handshake failed: protocol error: "));
    assert_eq!(world.connections(), (0, 0));
}

/// How a peer leaves.
type Leave = fn(&mut Between, bool);

#[test]
fn a_peer_may_leave_behind_every_byte_of_a_handshake() {
    let end: Leave = |between, at_server| {
        let peer = if at_server { &mut between.to_server } else { &mut between.to_client };
        peer.as_mut().unwrap().end();
    };
    let reset: Leave = |between, at_server| {
        let peer = if at_server { &mut between.to_server } else { &mut between.to_client };
        peer.take().unwrap().reset();
    };
    for version in BOTH {
        let all = Between::new(version, idle, idle).pass(true, usize::MAX);
        let ends = (0..all).map(|count| (count, end));
        for (count, leave) in ends.chain((0..all).step_by(7).map(|count| (count, reset))) {
            let mut between = Between::new(version, idle, idle);
            between.pass(true, count);
            leave(&mut between, true);
            between.world.rest();
            assert_eq!(between.world.connections().0, 0, "{version:?}, behind {count} bytes");
            assert_eq!((between.world.events().0.len(), between.world.errors.borrow().len()), (0, 1));
            (between.to_server, between.to_client) = (None, None);
            between.world.rest();
            assert_eq!(between.world.connections(), (0, 0));
            assert_eq!(between.world.network.sockets(), 1, "the listener's");
        }
        // The same with a server.
        let all = Between::new(version, idle, idle).pass(false, usize::MAX);
        for (count, leave) in (0..all).step_by(7).flat_map(|count| [(count, end), (count, reset)]) {
            let mut between = Between::new(version, idle, idle);
            between.pass(false, count);
            leave(&mut between, false);
            between.world.rest();
            assert_eq!(between.world.connections().1, 0, "{version:?}, behind {count} bytes");
            let told = between.world.events().1;
            assert!(told[0].starts_with("failed: ") || told[0] == "made" && told.len() == 2, "{told:?}");
        }
    }
}

#[test]
fn a_byte_that_was_changed_anywhere_ends_both_with_a_reason() {
    for version in BOTH {
        let all = [true, false].map(|up| {
            let mut between = Between::new(version, idle, idle);
            between.at_client(|transport| transport.write(b"hello"));
            between.pass(up, usize::MAX)
        });
        for up in [true, false] {
            for at in (0..all[usize::from(!up)]).step_by(5) {
                let mut between = Between::new(version, echo, idle);
                between.at_client(|transport| transport.write(b"hello"));
                let mut seen = 0;
                for is_up in [true, false].repeat(5) {
                    let mut piece = between.take(is_up);
                    if is_up == up {
                        if let Some(byte) = at.checked_sub(seen).and_then(|at| piece.get_mut(at)) {
                            *byte ^= 0x41;
                        }
                        seen += piece.len();
                    }
                    between.give(is_up, &piece);
                }
                let heard = between.world.server.borrow().data.clone();
                assert!(heard.is_empty() || heard == b"hello", "{heard:?}");
                (between.to_client, between.to_server) = (None, None);
                between.world.network.run_for(2 * SECOND);
                assert_eq!(between.world.connections(), (0, 0), "{version:?}, {up} at {at}");
                between.world.does_not_spin();
            }
        }
    }
}
