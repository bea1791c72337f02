//! Kinds of peers: those that never finish, those that send a byte at a time, those that half-close; and protocols that
//! panic.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::{ClientConnection, ContentType};
use switchboard::filter::{Filter, Flow};
use switchboard::testing::{Faults, Peer};
use switchboard::{CloseReason, Context, Limits, PanicPolicy, Protocol, Timeout, Transport};
use switchboard_tls::Tls;

use super::between::Between;
use super::kit::*;
use super::rogue::{self, Rogue};

/// TLS that counts how often its methods were called and with how much.
struct Counting(Tls, Arc<[AtomicUsize; 2]>);

impl Filter for Counting {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        self.0.begin(flow);
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        self.1[0].fetch_add(1, Relaxed);
        let taken = self.0.receive(data, flow);
        self.1[1].fetch_add(taken, Relaxed);
        taken
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.0.send(data, flow)
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        self.0.finish(flow);
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        self.0.receive_end(flow);
    }
}

#[test]
fn a_record_that_comes_a_byte_at_a_time_costs_two_calls_a_byte_and_no_more_memory() {
    let counted = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (config, noted) = (Arc::new(server(V13)), counted.clone());
    let make = move |_: &_| Some(Counting(Tls::server(config.clone()), noted.clone()));
    let mut world = World::new(1, Faults::none(), |listen| listen.filter(make), idle);
    let mut rogue = Rogue::dial(&mut world, V13);
    let sent = bytes(16_384);
    let record = rogue.data(&sent);
    let [calls, taken] = [0, 1].map(|index: usize| counted[index].swap(0, Relaxed));
    assert!(calls < 20 && taken > 200, "{calls} for {taken} bytes of a handshake");
    for byte in &record {
        assert!(world.server.borrow().data.is_empty());
        rogue.peer.send(&[*byte]);
        world.network.run_for(SECOND / 1000);
    }
    assert!(same(&world.server.borrow().data, &sent));
    let [calls, taken] = [0, 1].map(|index: usize| counted[index].load(Relaxed));
    assert_eq!(taken, record.len());
    assert!(calls <= 2 * record.len() + 2, "{calls} for {taken} bytes");
}

/// A client's hello.
fn hello(name: &'static str) -> Vec<u8> {
    let mut connection = ClientConnection::new(Arc::new(client(V13)), name.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn thousands_that_never_finish_their_handshake_are_gone_in_time_and_others_are_served() {
    const COUNT: usize = 10_000;
    let config = Arc::new(server(V13));
    let limits = Limits::default().with_connections_max(2 * COUNT);
    let make = switchboard_tls::listen(config);
    let mut world = World::with_limits(1, Faults::none(), limits, |listen| listen.filter(make), echo);
    let hello = hello(NAME);
    let mut strangers: Vec<Peer> = Vec::new();
    let measured = allocation_counter::measure(|| {
        for count in 0..COUNT {
            let mut peer = world.network.peer(world.to);
            peer.queue(&hello[..count % hello.len()]);
            strangers.push(peer);
            if count % 100 == 0 {
                world.network.run_for(SECOND / 1000);
            }
        }
        world.network.run_for(SECOND);
    });
    assert_eq!(world.connections().0, COUNT);
    let each = measured.bytes_current.max(0) as usize / COUNT;
    assert!(each < 8 * 1024, "{each} bytes each, those of the simulated peer included");
    let rest = allocation_counter::measure(|| {
        // A well-behaved client.
        let id = world.dial(&Arc::new(client(V13)), idle);
        world.network.context(world.client_host).connection(id).unwrap().write(b"hello");
        world.network.run_for(SECOND);
        assert_eq!(world.client.borrow().data, b"hello");
        world.network.run_for(9 * SECOND);
        assert_eq!(world.connections(), (1, 1), "the others are gone");
        assert!(strangers.iter_mut().all(|peer| {
            peer.read();
            peer.saw_end() || peer.error().is_some()
        }));
        world.at_client(|transport| transport.write(b" again"));
        assert_eq!(world.client.borrow().data, b"hello again");
        strangers = Vec::new();
        world.network.run_for(5 * SECOND);
    });
    assert_eq!(world.network.context(world.server_host).counters().handshakes_failed, COUNT as u64);
    assert!(world.errors.borrow().len() <= 16, "the owner was told once a second");
    let left = measured.bytes_current + rest.bytes_current;
    assert!(left < 4_000_000, "{left} bytes are left behind");
}

#[test]
fn a_hello_in_records_of_one_byte_is_understood() {
    for version in BOTH {
        let mut world = World::of(server(version), echo);
        let mut connection = ClientConnection::new(Arc::new(client(version)), NAME.try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let mut peer = world.peer();
        let records: Vec<u8> = hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
        for piece in records.chunks(7) {
            peer.send(piece);
            world.network.run_for(SECOND / 1000);
        }
        while connection.is_handshaking() || connection.wants_write() {
            rogue::shake(&mut connection, &mut peer).unwrap();
            world.rest();
        }
        assert_eq!(world.events().0, ["made"]);
    }
}

#[test]
fn a_hello_that_has_no_end_is_given_up_early() {
    // A message of 16 MB less one byte, by its header; and one of 60,000, which is allowed, in records of one byte.
    let cases =
        [(0xff_ffff, 16_000, "of type HandshakePayloadTooLarge"), (60_000, 1, "too much input left unconsumed")];
    for (length, size, why) in cases {
        let mut world = World::of(server(V13), echo);
        let mut peer = world.peer();
        let mut message = vec![1, (length >> 16) as u8, (length >> 8) as u8, length as u8];
        message.resize(59_000, 0);
        let mut sent = 0;
        for payload in message.chunks(size).cycle() {
            let mut record = vec![22, 3, 1, (payload.len() >> 8) as u8, payload.len() as u8];
            record.extend(payload);
            peer.queue(&record);
            sent += record.len();
            if sent % 100 < 6 || size > 1 {
                world.network.run_for(SECOND / 1000);
            }
            if world.connections().0 == 0 {
                break;
            }
            assert!(sent < 2_000_000, "nothing ends it");
        }
        assert_eq!((world.events().0.len(), world.errors.borrow().len()), (0, 1));
        let told = world.errors.borrow()[0].clone();
        assert!(told.ends_with(why), "{told}");
        assert!(sent < 300_000, "{sent}");
    }
}

#[test]
fn a_close_notify_without_an_end_of_the_stream_holds_nothing_for_long() {
    for version in BOTH {
        let mut world = World::with_limits(
            1,
            Faults::none(),
            Limits::default(),
            |listen| listen.filter(switchboard_tls::listen(Arc::new(server(version)))),
            echo,
        );
        let mut rogue = Rogue::dial(&mut world, version);
        let records = [rogue.data(b"last words"), rogue.record(ContentType::Alert, &[1, 0])].concat();
        rogue.peer.send(&records);
        world.network.run_for(3 * SECOND);
        world.does_not_spin();
        assert_eq!(world.events().0, ["made", "eof", "lost: closed by the peer"], "{version:?}");
        assert_eq!(world.server.borrow().data, b"last words");
        assert_eq!(world.connections().0, 0, "though the peer has never sent FIN");
        // With TLS 1.2 the rogue cannot decrypt what it receives.
        let echoed = if version == V13 { &b"last words"[..] } else { b"" };
        assert_eq!(rogue.hear(), Ok(echoed.to_vec()));
        assert!(rogue.peer.read().is_empty() && rogue.peer.saw_end() && rogue.peer.error().is_none());
    }
}

#[test]
fn a_broken_record_in_one_read_with_the_last_of_the_handshake_is_told_behind_what_came_before() {
    // The last flight of a TLS 1.3 client, followed by data, and then by something that no key decrypts.
    for pauses in [false, true] {
        let act: Act = if pauses {
            |event, transport| match event {
                Event::Made => transport.pause_reading(),
                event => idle(event, transport),
            }
        } else {
            idle
        };
        let mut between = Between::new(V13, act, idle);
        let hello = between.take(true);
        between.give(true, &hello);
        between.at_client(|transport| transport.write(b"early"));
        let answer = between.take(false);
        between.give(false, &answer);
        let last = [&between.take(true)[..], &[23, 3, 3, 0, 40], &[7; 40]].concat();
        between.give(true, &last);
        if pauses {
            assert_eq!(between.world.events().0, ["made"]);
            let id = between.world.server.borrow().id.unwrap();
            between.world.network.context(between.world.server_host).connection(id).unwrap().resume_reading();
            between.pause();
        }
        assert_eq!(between.world.server.borrow().data, b"early", "{pauses}");
        let events = between.world.events().0;
        let lost = "lost: protocol error: cannot decrypt peer's message";
        assert_eq!(events, ["made", lost][usize::from(pauses)..], "{pauses}");
        assert_eq!(between.world.network.context(between.world.server_host).counters().handshakes_failed, 0);
        assert!(between.take(false).len() > 20, "an alert");
    }
}

/// Panics in one of its callbacks.
struct Panics {
    at: &'static str,
    lost: Rc<RefCell<Vec<String>>>,
}

impl Panics {
    fn pass(&self, at: &str, transport: &mut Transport<'_>) {
        transport.write(b"written before a panic");
        assert!(self.at != at, "as it should at {at}");
    }
}

impl Protocol for Panics {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_timer(1, SECOND);
        self.pass("made", transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.pass("data", transport);
        if self.at == "pause" || self.at == "resume" {
            transport.write_owned(vec![7; 8_000_000]);
        }
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.pass("eof", transport);
        if self.at != "produce" {
            transport.close();
        }
        transport.start_producing();
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        self.pass("pause", transport);
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.pass("resume", transport);
    }

    fn produce(&mut self, transport: &mut Transport<'_>) {
        self.pass("produce", transport);
    }

    fn timer(&mut self, transport: &mut Transport<'_>, _: u16) {
        self.pass("timer", transport);
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, _: Timeout) {
        self.pass("timed out", transport);
    }

    fn draining(&mut self, transport: &mut Transport<'_>) {
        self.pass("draining", transport);
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.lost.borrow_mut().push(reason.to_string());
        self.pass("lost", transport);
    }
}

#[test]
fn a_panic_in_any_callback_ends_its_connection_by_a_reset_and_no_other() {
    let all = ["made", "data", "eof", "pause", "resume", "produce", "timer", "timed out", "draining", "lost"];
    for (version, at) in BOTH.into_iter().flat_map(|version| all.map(|at| (version, at))) {
        let mut world = World::of(server(version), echo);
        world.network.event_loop(world.server_host).set_panic_policy(PanicPolicy::Isolate);
        let lost = Rc::new(RefCell::new(Vec::new()));
        let to = world.network.address(world.server_host, 1);
        let noted = lost.clone();
        let factory = move |_: &mut Context<'_>, _: &_| Some(Panics { at, lost: noted.clone() });
        let listen = switchboard::Listen::at(to)
            .limits(Limits::default().with_total_timeout(Some(5 * SECOND)))
            .filter(switchboard_tls::listen(Arc::new(server(version))));
        world.network.context(world.server_host).listen(listen, factory).unwrap();
        world.dial(&Arc::new(client(version)), idle);
        world.network.run_for(SECOND / 10);
        let other = world.client.borrow().id;
        world.events();
        let well = world.to;
        world.to = to;
        let id = world.dial(&Arc::new(client(version)), stays);
        world.network.context(world.client_host).connection(id).unwrap().write(b"x");
        world.network.run_for(SECOND / 2);
        if at == "eof" || at == "produce" || at == "lost" {
            if let Some(mut transport) = world.network.context(world.client_host).connection(id) {
                transport.shutdown_write();
            }
        }
        world.network.run_for(SECOND);
        if at == "draining" {
            world.network.context(world.server_host).drain(60 * SECOND);
        }
        world.network.run_for(8 * SECOND);
        let told = lost.borrow().clone();
        if at == "lost" {
            assert_eq!(told, ["closed by the peer"]);
        } else {
            assert_eq!(told, [format!("a callback panicked: as it should at {at}")], "{version:?}");
            let client = world.events().1;
            assert!(client.last().unwrap().ends_with("reset by the peer"), "{version:?} {at}: {client:?}");
        }
        // The other connection is still open.
        (world.to, world.client.borrow_mut().id) = (well, other);
        world.client.borrow_mut().data.clear();
        world.at_client(|transport| transport.write(b"well"));
        assert_eq!(world.client.borrow().data, b"well", "{version:?} {at}");
        assert_eq!(world.connections(), (1, 1), "{version:?} {at}");
        assert_eq!(world.network.context(world.server_host).counters().panics, 1);
    }
}
