//! Datagrams on the simulated network: lost, duplicated, reordered, too long, too many, refused.

mod receiving;
mod sending;

use std::net::SocketAddr;
use std::time::Duration;

use super::{Log, MS, SECOND, os_error};
use crate::sys::errno;
use crate::testing::{DatagramPeer, Faults, HostId, Network, seeds};
use crate::{
    Address, CloseReason, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, Limits, LoopLimits,
    PanicPolicy,
};

/// A call to a datagram protocol.
enum Event<'a> {
    Made,
    Datagram(&'a [u8], &'a Address),
    Truncated(&'a [u8]),
    Error(&'a DatagramError),
    Pause,
    Resume,
    Lost(&'a CloseReason),
}

impl Event<'_> {
    fn shown(&self) -> String {
        match self {
            Event::Made => "made".into(),
            Event::Datagram(data, _) if data.len() > 20 => format!("{} bytes", data.len()),
            Event::Datagram(data, _) => format!("got {}", String::from_utf8_lossy(data)),
            Event::Truncated(data) => format!("truncated {}", String::from_utf8_lossy(data)),
            Event::Error(error) => format!("error: {error}"),
            Event::Pause => "pause".into(),
            Event::Resume => "resume".into(),
            Event::Lost(reason) => format!("lost: {reason}"),
        }
    }
}

struct Recorder<F> {
    log: Log,
    act: F,
}

impl<F: FnMut(&Event<'_>, &mut DatagramTransport<'_>)> Recorder<F> {
    fn note(&mut self, event: Event<'_>, transport: &mut DatagramTransport<'_>) {
        self.log.push(event.shown());
        (self.act)(&event, transport);
    }
}

impl<F: FnMut(&Event<'_>, &mut DatagramTransport<'_>) + 'static> DatagramProtocol for Recorder<F> {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        self.note(Event::Made, transport);
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.note(Event::Datagram(data, from), transport);
    }

    fn datagram_truncated(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        self.note(Event::Truncated(data), transport);
    }

    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        self.note(Event::Error(error), transport);
    }

    fn pause_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        self.note(Event::Pause, transport);
    }

    fn resume_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        self.note(Event::Resume, transport);
    }

    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, reason: CloseReason) {
        self.note(Event::Lost(&reason), transport);
    }
}

fn idle(_: &Event<'_>, _: &mut DatagramTransport<'_>) {}

fn echo(event: &Event<'_>, transport: &mut DatagramTransport<'_>) {
    if let Event::Datagram(data, from) = event {
        transport.send_to(data, from);
    }
}

/// A socket in a loop, and a peer that a test plays by hand.
struct World {
    network: Network,
    host: HostId,
    id: DatagramId,
    address: SocketAddr,
    peer: DatagramPeer,
    log: Log,
}

fn world(limits: impl Into<LoopLimits>, act: impl FnMut(&Event<'_>, &mut DatagramTransport<'_>) + 'static) -> World {
    seeded(0, Faults::none(), limits, act)
}

fn seeded(
    seed: u64,
    faults: Faults,
    limits: impl Into<LoopLimits>,
    act: impl FnMut(&Event<'_>, &mut DatagramTransport<'_>) + 'static,
) -> World {
    let mut network = Network::new(seed, faults);
    let host = network.host_with_limits(limits);
    let (log, address) = (Log::default(), network.address(host, 7));
    let recorder = Recorder { log: log.clone(), act };
    let id = network.context(host).bind_datagram(address, recorder).unwrap();
    let peer = network.datagram_peer(0).unwrap();
    World { network, host, id, address, peer, log }
}

impl World {
    fn send(&mut self, data: &[u8]) {
        self.peer.send(data, Some(self.address)).unwrap();
    }

    fn received(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.peer.receive().unwrap()).map(|(data, _)| data).collect()
    }

    /// Runs until nothing is left to do, and returns what the protocol has logged.
    fn rest(&mut self) -> Vec<String> {
        self.network.run_until_rest();
        self.log.take()
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut DatagramTransport<'_>) -> R) -> R {
        let id = self.id;
        act(&mut self.network.context(self.host).datagram(id).unwrap())
    }

    fn peer_address(&self) -> Address {
        self.peer.local_addr().into()
    }

    fn queued(&mut self) -> usize {
        self.network.event_loop(self.host).core.parts.outbox.queued()
    }

    /// Keeps datagrams to the peer under way for this long.
    fn slow(&mut self, time: Duration) {
        let (host, outside) = (self.host, self.network.outside());
        self.network.slow(host, outside, time, time);
    }
}

#[test]
fn u1_datagrams_come_one_by_one_the_empty_ones_too_and_are_answered() {
    let mut world = world(Limits::default(), echo);
    for data in ["one", "", "two"] {
        world.send(data.as_bytes());
    }
    assert_eq!(world.rest(), ["made", "got one", "got ", "got two"]);
    assert_eq!(world.received(), [&b"one"[..], b"", b"two"]);
    assert_eq!(world.network.context(world.host).counters().datagrams_received, 3);
    assert!(world.network.turns_without_progress_most() < 3);
}

#[test]
fn u1_what_the_network_does_to_datagrams_is_all_that_happens_to_them() {
    let mut lost = 0;
    let mut doubled = 0;
    let mut reordered = 0;
    seeds(|seed| {
        let mut world = seeded(seed, Faults::all(), Limits::default(), echo);
        for number in 0..50 {
            // The peer's own calls fail sometimes, too.
            while world.peer.send(format!("{number}").as_bytes(), Some(world.address)).is_err() {}
            if number % 7 == 0 {
                world.network.run_for(MS);
            }
        }
        let noted = world.rest();
        let got: Vec<usize> = noted.iter().filter_map(|line| line.strip_prefix("got ")?.parse().ok()).collect();
        assert!(world.network.unread().is_empty(), "a wake-up was lost");
        assert!(world.network.turns_without_progress_most() < 10);
        lost += (0..50).filter(|number| !got.contains(number)).count();
        doubled += (0..50).filter(|number| got.iter().filter(|of| *of == number).count() > 1).count();
        reordered += got.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(got.iter().all(|&number| number < 50));
    });
    assert!(lost > 0 && doubled > 0 && reordered > 0, "{lost} {doubled} {reordered}");
}

#[test]
fn u1_a_longer_one_than_is_received_whole_is_told_as_truncated() {
    let mut world = world(Limits::default().with_datagram_bytes_max(4), idle);
    for data in ["four", "five5", "", "4444"] {
        world.send(data.as_bytes());
    }
    assert_eq!(world.rest(), ["made", "got four", "truncated five", "got ", "got 4444"]);
    world.with(|transport| transport.set_datagram_bytes_max(5));
    world.send(b"five5");
    world.send(b"six666");
    assert_eq!(world.rest(), ["got five5", "truncated six66"]);
    assert_eq!(world.network.context(world.host).counters().datagrams_truncated, 2);
    world.with(|transport| transport.set_datagram_bytes_max(0));
    world.send(b"");
    world.send(b"1");
    assert_eq!(world.rest(), ["got ", "truncated "]);
}

#[test]
fn u1_a_longer_one_is_truncated_where_the_system_calls_that_an_error_too() {
    let faults = Faults::none().with_portable_sockets_permille(1000);
    let mut world = seeded(0, faults, Limits::default().with_datagram_bytes_max(4), idle);
    for data in ["four", "five5", &"x".repeat(60_000)] {
        world.send(data.as_bytes());
    }
    assert_eq!(world.rest(), ["made", "got four", "truncated five", "truncated xxxx"]);
}

#[test]
fn u1_the_longest_there_is_comes_whole_and_one_byte_more_is_an_error_of_that_one_alone() {
    let mut world = world(Limits::default(), idle);
    world.send(&vec![7; 65_507]);
    assert_eq!(world.rest(), ["made", "65507 bytes"]);
    let to = world.peer_address();
    world.with(|transport| {
        transport.send_to(b"before", &to);
        transport.send_to(&vec![7; 65_508], &to);
        transport.send_to(&vec![7; 65_507], &to);
        transport.send_to(b"after", &to);
    });
    let noted = world.rest();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].starts_with(&format!("error: cannot send to {to}: ")), "{noted:?}");
    let lengths: Vec<_> = world.received().iter().map(Vec::len).collect();
    assert_eq!(lengths, [6, 65_507, 5]);
}

#[test]
fn u1_a_refusal_is_an_error_callback_and_the_socket_lives() {
    let mut network = Network::new(0, Faults::none());
    let (host, log) = (network.host(), Log::default());
    let peer = network.datagram_peer(9).unwrap();
    let to = peer.local_addr();
    drop(peer);
    let recorder = Recorder { log: log.clone(), act: idle };
    let id = network.context(host).connect_datagram(to, recorder).unwrap();
    network.run_until_rest();
    assert_eq!(log.take(), ["made"]);
    network.context(host).datagram(id).unwrap().send(b"is anybody there?");
    network.run_until_rest();
    assert_eq!(log.take(), [format!("error: socket error: {}", os_error(errno::ECONNREFUSED))]);
    // A send that reports a refusal does not send its datagram, so it is sent again.
    let mut transport = network.context(host);
    let mut transport = transport.datagram(id).unwrap();
    assert_eq!(transport.peer_addr(), Some(&to.into()));
    transport.send(b"one");
    let mut peer = network.datagram_peer(9).unwrap();
    network.context(host).datagram(id).unwrap().send(b"two");
    network.run_until_rest();
    assert_eq!(peer.receive().unwrap().unwrap().0, b"two");
    assert_eq!(log.take(), [format!("error: socket error: {}", os_error(errno::ECONNREFUSED))]);
    assert!(network.turns_without_progress_most() < 3);
}

#[test]
fn u1_a_callback_that_closes_gets_no_further_datagram() {
    let mut world = world(Limits::default(), |event, transport| {
        if let Event::Datagram(b"last", from) = event {
            transport.send_to(b"bye", from);
            transport.close();
            transport.send_to(b"too late", from);
        }
    });
    for data in ["first", "last", "never"] {
        world.send(data.as_bytes());
    }
    assert_eq!(world.rest(), ["made", "got first", "got last", "lost: closed by us"]);
    assert_eq!(world.received(), [b"bye"]);
    assert_eq!(world.network.context(world.host).counters().late_writes, 1);
    assert_eq!(world.network.sockets(), 1, "the peer's");
    let id = world.id;
    assert!(world.network.context(world.host).datagram(id).is_none());
}

#[test]
fn u1_a_paused_socket_delivers_nothing_and_what_came_meanwhile_comes_on_resume() {
    let mut world = world(Limits::default(), |event, transport| {
        if let Event::Datagram(..) = event {
            transport.pause_reading();
        }
    });
    for data in [b"one", b"two", b"six"] {
        world.send(data);
    }
    assert_eq!(world.rest(), ["made", "got one"], "not even what came with it");
    for got in ["got two", "got six"] {
        world.with(|transport| transport.resume_reading());
        assert_eq!(world.rest(), [got]);
    }
}

#[test]
fn u1_a_flood_starves_nobody() {
    for (limits, most) in [
        (Limits::default().with_datagrams_per_turn_max(10), 10),
        (Limits::default().with_read_bytes_per_turn_max(20), 5),
        (Limits::default().with_datagrams_per_turn_max(0), 1),
    ] {
        let mut world = world(limits, idle);
        (0..100).for_each(|_| world.send(b"more"));
        world.network.event_loop(world.host).turn(Some(Duration::ZERO)).unwrap();
        // Serving the event and serving what was carried over are one service.
        let noted = world.log.take();
        assert_eq!(noted.len(), 1 + most, "{noted:?}");
        assert_eq!(world.network.event_loop(world.host).time_to_next(), Some(Duration::ZERO));
        assert_eq!(world.rest().len(), 100 - most, "nothing is left behind");
    }
}

#[test]
fn u1_a_panic_ends_one_socket_and_is_told_to_it() {
    let mut world = world(Limits::default(), |event, _| {
        if let Event::Datagram(..) = event {
            panic!("as the test wants it");
        }
    });
    world.network.event_loop(world.host).set_panic_policy(PanicPolicy::Isolate);
    let other = world.network.address(world.host, 8);
    let log = Log::default();
    let recorder = Recorder { log: log.clone(), act: echo };
    world.network.context(world.host).bind_datagram(other, recorder).unwrap();
    world.send(b"one");
    world.send(b"two");
    world.peer.send(b"three", Some(other)).unwrap();
    assert_eq!(world.rest(), ["made", "got one", "lost: a callback panicked: as the test wants it"]);
    assert_eq!(log.take(), ["made", "got three"]);
    assert_eq!(world.network.context(world.host).counters().panics, 1);
}

#[test]
fn u1_shutting_down_and_dropping_the_loop_ends_it() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.slow(SECOND);
    sending::fill(&mut world, 25);
    world.network.context(world.host).shutdown(SECOND * 3);
    let address = world.network.address(world.host, 9);
    let recorder = Recorder { log: Log::default(), act: idle };
    let refused = world.network.context(world.host).bind_datagram(address, recorder);
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    world.network.event_loop(world.host).turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(world.log.take(), [] as [&str; 0], "it waits for what is queued");
    assert!(world.network.event_loop(world.host).core.parts.life.is_ending());
    world.network.run_for(SECOND * 2);
    assert_eq!(world.log.take(), ["lost: the loop was shut down"]);
    assert_eq!(world.received().len(), 21, "as much as the peer has room for");

    let mut world = self::world(Limits::default(), idle);
    world.rest();
    world.network.drop_loop(world.host);
    assert_eq!(world.log.take(), ["lost: the loop was shut down"]);
}

#[test]
fn x3_it_stays_open_until_a_drain_has_no_connection_left() {
    let mut world = world(Limits::default(), echo);
    let address = world.network.address(world.host, 80);
    world
        .network
        .context(world.host)
        .listen(address, |_, _| Some(super::protocol(&Log::default(), super::echo)))
        .unwrap();
    let client = world.network.peer(address);
    assert_eq!(world.rest(), ["made"]);
    world.network.context(world.host).drain(SECOND * 100);
    world.network.run_for(SECOND * 10);
    world.send(b"still there?");
    assert_eq!(world.rest(), ["got still there?"]);
    assert_eq!(world.received(), [b"still there?"]);
    client.close();
    assert_eq!(world.rest(), ["lost: the loop was shut down"]);
    assert!(!world.network.context(world.host).is_draining());
}

#[test]
fn u1_a_loop_with_a_datagram_socket_is_not_idle_unless_that_is_background() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    let id = world.id;
    assert!(!world.network.event_loop(world.host).core.parts.is_idle());
    assert!(world.network.context(world.host).set_background(id, true));
    world.network.event_loop(world.host).run_until_idle().unwrap();
    world.with(|transport| transport.close());
    world.rest();
    assert!(!world.network.context(world.host).set_background(id, true));
}

#[test]
fn u1_it_can_be_connected_to_one_peer_after_another() {
    let mut world = world(Limits::default(), echo);
    let mut other = world.network.datagram_peer(0).unwrap();
    let (first, second) = (world.peer.local_addr(), other.local_addr());
    world.with(|transport| transport.connect(first).unwrap());
    other.send(b"a stranger", Some(world.address)).unwrap();
    world.send(b"a friend");
    assert_eq!(world.rest(), ["made", "got a friend"]);
    world.with(|transport| {
        transport.connect(second).unwrap();
        transport.send(b"hello");
    });
    world.send(b"a stranger by now");
    world.rest();
    assert_eq!(other.receive().unwrap().unwrap().0, b"hello");
    assert_eq!(other.receive().unwrap(), None);
}

/// A real socket, and a clock that only the test moves.
#[cfg(target_os = "linux")]
#[test]
fn w3_the_buffer_for_longer_datagrams_is_there_where_it_is_asked_for_and_given_back_when_it_is_not_used() {
    use crate::EventLoop;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let clock = crate::sys::script::World::new();
    let poller = crate::sys::Poller::new().unwrap();
    let mut event_loop =
        EventLoop::on(poller, crate::sys::Clock::Memory(std::sync::Arc::new(clock.clone())), LoopLimits::default())
            .unwrap();
    let log = Log::default();
    let recorder = Recorder { log: log.clone(), act: |_: &Event<'_>, _: &mut DatagramTransport<'_>| {} };
    let name = format!("switchboard large {}", std::process::id());
    let address = crate::UnixAddress::Abstract(name.clone().into_bytes().into());
    let id = event_loop.context().bind_datagram(Address::Unix(address), recorder).unwrap();
    let (sender, to) = (UnixDatagram::unbound().unwrap(), SocketAddr::from_abstract_name(name).unwrap());
    let receive = |event_loop: &mut EventLoop, bytes: usize| {
        sender.send_to_addr(&vec![7; bytes], &to).unwrap();
        while !log.take().contains(&format!("{bytes} bytes")) {
            event_loop.turn(Some(SECOND)).unwrap();
        }
    };
    receive(&mut event_loop, 60_000);
    assert!(!event_loop.core.parts.buffers.large.holds_memory(), "nobody has asked for it");
    event_loop.context().datagram(id).unwrap().set_datagram_bytes_max(200_000);
    for _ in 0..3 {
        receive(&mut event_loop, 100_000);
        clock.advance(SECOND);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert!(event_loop.core.parts.buffers.large.holds_memory(), "it is in use");
    }
    clock.advance(SECOND);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert!(!event_loop.core.parts.buffers.large.holds_memory());
    assert_eq!(event_loop.time_to_next(), None, "no timer is left");
    receive(&mut event_loop, 100_000);
}
