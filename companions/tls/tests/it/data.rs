//! Bytes both ways, under every fault and with every split.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use switchboard::testing::{Faults, seeds};
use switchboard::{Connect, Limits};

use super::between::Between;
use super::kit::*;

#[test]
fn whatever_the_network_does_an_echo_is_whole() {
    let configs = BOTH.map(|version| (Arc::new(server(version)), Arc::new(client(version))));
    seeds(|seed| {
        let (of_server, of_client) = &configs[seed as usize % 2];
        let make = switchboard_tls::listen(of_server.clone());
        let mut world = World::new(seed, Faults::all(), |listen| listen.filter(make), echo);
        let sent = bytes((seed as usize * 7919) % 20_000);
        let id = world.dial(of_client, idle);
        world.network.context(world.client_host).connection(id).unwrap().write(&sent);
        let client = world.client.clone();
        assert!(world.network.run_until(|_| client.borrow().data.len() >= sent.len() && client.borrow().id.is_some()));
        assert!(same(&client.borrow().data, &sent));
        world.network.context(world.client_host).connection(id).unwrap().shutdown_write();
        world.network.run_until(|_| client.borrow().events.len() >= 3);
        assert_eq!(world.events().1, ["made", "eof", "lost: closed by the peer"]);
        world.network.run_until_rest();
        assert_eq!(world.connections(), (0, 0));
    });
}

#[test]
fn where_connections_break_each_echo_is_whole_or_lost_with_its_reason() {
    let configs = BOTH.map(|version| (Arc::new(server(version)), Arc::new(client(version))));
    seeds(|seed| {
        let (of_server, of_client) = &configs[seed as usize % 2];
        let make = switchboard_tls::listen(of_server.clone());
        let mut world = World::new(seed, Faults::fatal(), |listen| listen.filter(make), echo);
        let sent = bytes((seed as usize * 7919) % 20_000);
        let id = world.dial(of_client, idle);
        world.network.context(world.client_host).connection(id).unwrap().write(&sent);
        world.network.context(world.client_host).connection(id).unwrap().shutdown_write();
        let client = world.client.clone();
        let is_over = |events: &[String]| events.last().is_some_and(|last| last.starts_with(['l', 'f']));
        assert!(world.network.run_until(|_| is_over(&client.borrow().events)));
        let seen = client.borrow();
        let is_whole = seen.events.contains(&"eof".to_owned());
        assert_eq!(is_whole, same(&seen.data, &sent) && is_whole, "an end in order is behind all of it");
        assert!(sent.starts_with(&seen.data));
        assert!(seen.events.last().unwrap().len() > 10, "{:?}", seen.events);
    });
}

#[test]
fn large_echoes_are_whole() {
    for version in BOTH {
        for count in [0, 1, 16_384, 16_385, 200_000] {
            let mut world = made(version, echo, idle);
            let sent = bytes(count);
            world.at_client(|transport| transport.write(&sent));
            world.network.run_for(20 * SECOND);
            assert!(same(&world.client.borrow().data, &sent), "{count}");
        }
    }
}

#[test]
fn all_ways_to_write_give_the_same_bytes() {
    for version in BOTH {
        let mut world = made(version, idle, idle);
        let id = world.server.borrow().id.unwrap();
        let large = bytes(100_000);
        world.at_server(|transport| {
            transport.write(b"a");
            transport.write_owned(large.clone());
            transport.write_shared(large.clone().into());
            transport.write(&large);
            let mut context = transport.context();
            context.broadcast([id], b"small");
            context.broadcast([id], &large);
        });
        world.network.run_for(20 * SECOND);
        let expected = [b"a", &large[..], &large, &large, b"small", &large].concat();
        assert!(same(&world.client.borrow().data, &expected));
    }
}

#[test]
fn what_a_callback_writes_is_one_record() {
    let mut world = made(V13, idle, idle);
    let before = world.network.context(world.server_host).counters().bytes_sent;
    world.at_server(|transport| (0..64).for_each(|_| transport.write(b"0123456789")));
    let sent = world.network.context(world.server_host).counters().bytes_sent - before;
    assert_eq!(sent, 640 + 22, "what one record adds");
}

#[test]
fn both_sides_send_much_at_once_and_read_late() {
    fn waits(event: Event<'_>, transport: &mut switchboard::Transport<'_>) {
        if let Event::Made = event {
            transport.pause_reading();
        }
    }
    for version in BOTH {
        let (of_server, of_client) = (server(version), client(version));
        let limits = Limits::default().with_queue_bytes_max(16 << 20).with_pause_reading_over_high(false);
        let make = switchboard_tls::listen(Arc::new(of_server));
        let mut world = World::with_limits(1, Faults::none(), limits.clone(), |listen| listen.filter(make), waits);
        let make = switchboard_tls::connect(Arc::new(of_client), NAME.try_into().unwrap());
        let connect = Connect::to(world.to).limits(limits).filter(make);
        world.connect(connect, waits);
        world.rest();
        let sent = bytes(4 << 20);
        world.at_server(|transport| transport.write(&sent));
        world.at_client(|transport| transport.write(&sent));
        assert_eq!((world.server.borrow().data.len(), world.client.borrow().data.len()), (0, 0));
        world.at_server(|transport| transport.resume_reading());
        world.at_client(|transport| transport.resume_reading());
        world.network.run_for(60 * SECOND);
        assert!(same(&world.server.borrow().data, &sent) && same(&world.client.borrow().data, &sent));
    }
}

#[test]
fn handshakes_and_records_may_be_cut_at_every_byte() {
    for version in BOTH {
        let whole = echoed(version, None);
        for cut in 0..whole.0 {
            assert_eq!(echoed(version, Some((true, cut))), whole, "to the server at {cut}");
        }
        for cut in 0..whole.1 {
            assert_eq!(echoed(version, Some((false, cut))), whole, "to the client at {cut}");
        }
    }
}

/// A handshake, an echo and the ends of both sides, in one piece or with one split. Returns how much was sent to each
/// side.
fn echoed(version: &'static SupportedProtocolVersion, cut: Option<(bool, usize)>) -> (usize, usize) {
    let mut between = Between::new(version, echo, idle);
    between.at_client(|transport| transport.write(b"hello"));
    let mut passed = (0, 0);
    for round in 0..8 {
        if round == 5 {
            assert_eq!(between.world.client.borrow().data, b"hello", "{cut:?}");
            between.at_client(|transport| transport.shutdown_write());
        }
        for is_up in [true, false] {
            let piece = between.take(is_up);
            let count = if is_up { &mut passed.0 } else { &mut passed.1 };
            let at = cut.filter(|cut| cut.0 == is_up).and_then(|cut| cut.1.checked_sub(*count));
            *count += piece.len();
            let at = at.filter(|at| *at < piece.len()).unwrap_or(0);
            between.give(is_up, &piece[..at]);
            between.give(is_up, &piece[at..]);
        }
    }
    assert_eq!(between.world.server.borrow().events, ["made", "eof", "lost: closed by the peer"], "{cut:?}");
    assert_eq!(between.world.client.borrow().events, ["made", "eof", "lost: closed by the peer"], "{cut:?}");
    between.world.does_not_spin();
    passed
}

#[test]
fn one_side_may_write_and_end_while_it_has_half_of_a_message_that_comes_in_several_records() {
    // The tickets of a server whose records are small.
    let mut of_server = server(V13);
    of_server.max_fragment_size = Some(32);
    let begin = || {
        let mut between = Between::of(of_server.clone(), client(V13), echo, stays);
        let hello = between.take(true);
        between.give(true, &hello);
        let answer = between.take(false);
        between.give(false, &answer);
        let finished = between.take(true);
        between.give(true, &finished);
        assert_eq!(between.world.events(), (vec!["made".to_owned()], vec!["made".to_owned()]));
        let tickets = between.take(false);
        assert!(tickets.len() > 200, "they come in several records");
        (between, tickets)
    };
    let count = begin().1.len();
    for cut in 0..count {
        let (mut between, tickets) = begin();
        between.give(false, &tickets[..cut]);
        between.at_client(|transport| {
            transport.write(b"hello");
            transport.shutdown_write();
        });
        between.give(false, &tickets[cut..]);
        let record = between.take(true);
        between.give(true, &record);
        let record = between.take(false);
        between.give(false, &record);
        assert_eq!(between.world.client.borrow().data, b"hello", "{cut}");
        assert_eq!(between.world.events().1[0], "eof");
    }
}
