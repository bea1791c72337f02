//! Lists of the loop: with more in them, each element costs as much.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use switchboard::filter::{Filter, Flow};
use switchboard::{
    Address, Connect, ConnectionId, DatagramProtocol, DatagramTransport, EventLoop, Listen, ListenerId, Protocol,
    TimerId, Transport,
};

use super::support::{Pair, Tally, event_loop, turn, turn_until};
use super::{Subject, counted};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// So many connections are made at a time: the kernel's backlog is not to be full.
const AT_ONCE: usize = 64;

/// Subjects that need a descriptor or a turn for each element have a fraction of the elements.
const FEWER: usize = 4;

pub(crate) const SUBJECTS: &[Subject] = &[
    ("timers at one instant, added and fired", |n| timers_fired(n, |_| Duration::ZERO)),
    ("timers at different instants, added and fired", |n| {
        timers_fired(n, |k| Duration::from_nanos(((k * 7919) % 100_000) as u64));
    }),
    ("timers cancelled in the order they were added", |n| timers_cancelled(n, false)),
    ("timers cancelled in reverse", |n| timers_cancelled(n, true)),
    ("timers reset", timers_reset),
    ("calls posted by a handle", posted),
    ("completions", completions),
    ("connections accepted", |n| connections(n / FEWER, Part::Accepted)),
    ("connections ready at once", |n| connections(n / FEWER, Part::Ready)),
    ("connections with an idle timeout, ready at once", |n| connections(n / FEWER, Part::Timed)),
    ("connections closed by their peers", |n| connections(n / FEWER, Part::Closed)),
    ("connections closed by the loop's shutdown", |n| connections(n / FEWER, Part::ShutDown)),
    ("members of a broadcast", |n| connections(n / FEWER, Part::Broadcast)),
    ("members of a rate group", |n| connections(n / FEWER, Part::Grouped)),
    ("connections from addresses of their own, counted by peer", |n| connections(n / FEWER, Part::PerPeer)),
    ("slots used again, one connection after the other", |n| slots(n / FEWER)),
    ("writes of a byte in one callback", |n| writes(n, |transport| transport.write(b"x"))),
    ("owned pieces in one callback", |n| writes(n, |transport| transport.write_owned(vec![b'x'; 600]))),
    ("shared pieces in one callback", |n| {
        let piece: std::sync::Arc<[u8]> = vec![b'x'; 600].into();
        writes(n, |transport| transport.write_shared(piece.clone()));
    }),
    ("sockets of a listener", |n| listened(n / FEWER)),
    ("addresses of a connect, all but the last refusing", |n| attempts(n / 16)),
    ("names looked up", |n| names(n / 16)),
    ("datagrams received", datagrams_received),
    ("datagrams queued and sent", datagrams_sent),
    ("filters in a chain", |n| chain(n / 32)),
    ("connection's own timers", own_timers),
];

fn timers_fired(count: usize, delay: impl Fn(usize) -> Duration) {
    let mut event_loop = event_loop();
    let tally = Tally::default();
    counted(&mut || {
        let now = event_loop.context().now();
        for k in 0..count {
            let tally = tally.clone();
            event_loop.context().call_at(now + delay(k), move |_| tally.add());
        }
        turn_until(&mut event_loop, |_| tally.get() == count);
    });
}

fn later(event_loop: &mut EventLoop, count: usize) -> Vec<TimerId> {
    let at = |k: usize| Duration::from_secs(3600 + ((k * 7919) % 100_000) as u64);
    (0..count).map(|k| event_loop.context().call_later(at(k), |_| ())).collect()
}

fn timers_cancelled(count: usize, is_reversed: bool) {
    let mut event_loop = event_loop();
    let mut timers = later(&mut event_loop, count);
    if is_reversed {
        timers.reverse();
    }
    counted(&mut || {
        for &timer in &timers {
            assert!(event_loop.context().cancel_timer(timer));
        }
        turn(&mut event_loop);
    });
}

fn timers_reset(count: usize) {
    let mut event_loop = event_loop();
    let timers = later(&mut event_loop, count);
    counted(&mut || {
        for round in 1..4 {
            for &timer in &timers {
                assert!(event_loop.context().reset_timer(timer, Duration::from_secs(7200 * round)));
            }
            turn(&mut event_loop);
        }
    });
}

fn posted(count: usize) {
    let mut event_loop = event_loop();
    let handle = event_loop.context().handle();
    let tally = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    counted(&mut || {
        for _ in 0..count {
            let tally = tally.clone();
            let call = move |_: &mut switchboard::Context<'_>| {
                tally.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            assert!(handle.post(call).is_ok(), "it is not taken");
        }
        turn_until(&mut event_loop, |_| tally.load(std::sync::atomic::Ordering::Relaxed) == count);
    });
}

/// Counts what comes, and answers nothing.
struct Counting(Tally);

impl Protocol for Counting {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.add();
        data.len()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Accepted,
    Ready,
    Timed,
    Closed,
    ShutDown,
    Broadcast,
    Grouped,
    PerPeer,
}

/// A listener, and clients of it that are connected and, unless that is what is counted, accepted.
struct Scene {
    event_loop: EventLoop,
    listener: ListenerId,
    address: SocketAddr,
    clients: Vec<TcpStream>,
    received: Tally,
}

impl Scene {
    fn new(part: Part) -> Scene {
        let mut event_loop = event_loop();
        let received = Tally::default();
        let tally = received.clone();
        let mut limits = event_loop.context().limits().each.clone();
        limits.idle_timeout = (part == Part::Timed).then_some(Duration::from_secs(3600));
        limits.connections_per_peer_max = (part == Part::PerPeer).then_some(1);
        let listen = Listen::at(ANY_PORT).limits(limits);
        let listener =
            event_loop.context().listen(listen, move |_, _| Some(Counting(tally.clone()))).expect("listening");
        let address = event_loop.context().listener(listener).expect("a listener").local_addr().expect("an address");
        let address = address.as_inet().expect("an IP address");
        Scene { event_loop, listener, address, clients: Vec::new(), received }
    }

    /// Connects so many more, with all of them accepted at the end.
    fn connect(&mut self, count: usize, from_own_addresses: bool) {
        let more = self.clients.len() + count;
        while self.clients.len() < more {
            for _ in 0..AT_ONCE.min(more - self.clients.len()) {
                let client = if from_own_addresses {
                    self.connect_from(self.clients.len())
                } else {
                    TcpStream::connect(self.address)
                };
                self.clients.push(client.expect("a connection"));
            }
            let wanted = self.clients.len();
            turn_until(&mut self.event_loop, |event_loop| event_loop.context().connection_count() == wanted);
        }
    }

    /// Each address of 127.0.0.0/8 is a loopback address of its own.
    fn connect_from(&self, index: usize) -> std::io::Result<TcpStream> {
        let [high, low] = u16::try_from(index + 1).expect("a few thousand").to_be_bytes();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 1, high, low], 0)).into())?;
        socket.connect(&self.address.into())?;
        Ok(socket.into())
    }

    fn ids(&mut self) -> Vec<ConnectionId> {
        self.event_loop.context().connection_ids()
    }

    /// Each client sends a byte; then the loop hears them all.
    fn hear_all(&mut self) {
        let wanted = self.received.get() + self.clients.len();
        for client in &mut self.clients {
            std::io::Write::write_all(client, b"x").expect("sent");
        }
        let received = self.received.clone();
        turn_until(&mut self.event_loop, |_| received.get() == wanted);
    }

    fn until_none_is_left(&mut self) {
        turn_until(&mut self.event_loop, |event_loop| event_loop.context().connection_count() == 0);
    }
}

fn connections(count: usize, part: Part) {
    let mut scene = Scene::new(part);
    if matches!(part, Part::Accepted | Part::PerPeer) {
        counted(&mut || scene.connect(count, part == Part::PerPeer));
        return;
    }
    scene.connect(count, false);
    let ids = scene.ids();
    if part == Part::Grouped {
        let group = scene.event_loop.context().add_rate_group(switchboard::Rate::new(1 << 30));
        for &id in &ids {
            scene.event_loop.context().connection(id).expect("a connection").set_rate_group(Some(group));
        }
    }
    counted(&mut || match part {
        Part::Closed => {
            scene.clients.clear();
            scene.until_none_is_left();
        }
        Part::ShutDown => {
            scene.event_loop.context().shutdown(Duration::ZERO);
            scene.until_none_is_left();
        }
        Part::Broadcast => assert_eq!(scene.event_loop.context().broadcast(ids.iter().copied(), b"all"), count),
        _ => scene.hear_all(),
    });
}
/// A connection at a time, each in the slot of the one before.
fn slots(count: usize) {
    let mut scene = Scene::new(Part::Accepted);
    counted(&mut || {
        for _ in 0..count {
            scene.connect(1, false);
            scene.clients.clear();
            scene.until_none_is_left();
        }
    });
    assert!(scene.event_loop.context().listener(scene.listener).is_some());
}

fn writes(count: usize, write: impl Fn(&mut Transport<'_>)) {
    let mut pair = Pair::new(Counting(Tally::default()));
    counted(&mut || {
        let id = pair.id;
        let mut context = pair.event_loop.context();
        let mut transport = context.connection(id).expect("a connection");
        let before = transport.stats().bytes_sent;
        let mut bytes = 0;
        for _ in 0..count {
            write(&mut transport);
            bytes = transport.queued_bytes() + usize::try_from(transport.stats().bytes_sent - before).expect("a size");
        }
        pair.receive(bytes);
    });
}

fn listened(count: usize) {
    let addresses = vec![ANY_PORT; count];
    let mut event_loop = event_loop();
    counted(&mut || {
        let listen = Listen::from(addresses.clone());
        let listener = event_loop.context().listen(listen, |_, _| Some(Counting(Tally::default()))).expect("listening");
        turn(&mut event_loop);
        event_loop.context().listener(listener).expect("a listener").close();
        turn(&mut event_loop);
    });
}

/// Hears whether it was connected or not.
struct Outcome(Tally);

impl Protocol for Outcome {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        self.0.add();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

fn attempts(count: usize) {
    let listener = TcpListener::bind(ANY_PORT).expect("listening");
    let refusing = TcpListener::bind(ANY_PORT).and_then(|listener| listener.local_addr()).expect("an address");
    let mut addresses = vec![refusing; count];
    addresses.push(listener.local_addr().expect("an address"));
    let mut event_loop = event_loop();
    let tally = Tally::default();
    counted(&mut || {
        let target = Connect::from(addresses.clone());
        event_loop.context().connect(target, Outcome(tally.clone())).expect("connecting");
        turn_until(&mut event_loop, |_| tally.get() == 1);
    });
}

fn names(count: usize) {
    let listener = TcpListener::bind(ANY_PORT).expect("listening");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("non-blocking");
    let mut event_loop = event_loop();
    let tally = Tally::default();
    event_loop.context().set_resolver(move |_, _| Ok(vec![address]));
    counted(&mut || {
        for _ in 0..count {
            event_loop.context().connect(("name", 1), Outcome(tally.clone())).expect("connecting");
        }
        while tally.get() < count {
            event_loop.turn(Some(Duration::from_millis(100))).expect("a turn");
            while listener.accept().is_ok() {} // Or its backlog would be full.
        }
    });
}

struct Datagrams(Tally);

impl DatagramProtocol for Datagrams {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {
        self.0.add();
    }
}

/// In portions that the kernel's buffer has room for.
fn datagrams_received(count: usize) {
    let mut event_loop = event_loop();
    let tally = Tally::default();
    let id = event_loop.context().bind_datagram(ANY_PORT, Datagrams(tally.clone())).expect("bound");
    let address = event_loop.context().datagram(id).expect("a socket").local_addr().expect("an address");
    let peer = std::net::UdpSocket::bind(ANY_PORT).expect("bound");
    peer.connect(address.as_inet().expect("an IP address")).expect("connected");
    counted(&mut || {
        for sent in 1..=count {
            peer.send(b"x").expect("sent");
            if sent % AT_ONCE == 0 || sent == count {
                turn_until(&mut event_loop, |_| tally.get() == sent);
            }
        }
    });
}

/// Queued on a Unix socket whose peer does not read at first.
fn datagrams_sent(count: usize) {
    let path = std::env::temp_dir().join(format!("measured-growth-{}-{count}", std::process::id()));
    let peer = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    let mut event_loop = event_loop();
    let to = Address::from(switchboard::UnixAddress::path(&path));
    let id = event_loop.context().connect_datagram(to, Datagrams(Tally::default())).expect("connected");
    std::fs::remove_file(&path).expect("removed");
    turn(&mut event_loop);
    peer.set_nonblocking(true).expect("non-blocking");
    counted(&mut || {
        for _ in 0..count {
            event_loop.context().datagram(id).expect("a socket").send(b"x");
        }
        let mut received = 0;
        turn_until(&mut event_loop, |_| {
            while peer.recv(&mut [0; 8]).is_ok() {
                received += 1;
            }
            received == count
        });
    });
}

/// Passes on everything.
struct Passing;

impl Filter for Passing {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(flow.up_room());
        flow.up().push(&data[..count]);
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

/// A message through that many filters, and one back.
fn chain(count: usize) {
    let tally = Tally::default();
    let mut pair = Pair::new(Counting(tally.clone()));
    let id = pair.id;
    for _ in 0..count {
        let is_set = pair.event_loop.context().connection(id).expect("a connection").set_filter(Passing);
        assert!(is_set, "it takes no filter");
        turn(&mut pair.event_loop);
    }
    counted(&mut || {
        pair.send(b"message");
        turn_until(&mut pair.event_loop, |_| tally.get() == 1);
        pair.event_loop.context().connection(id).expect("a connection").write(b"answer");
        pair.receive(6);
    });
}

/// Set, set again and cancelled, so many on one connection.
fn own_timers(count: usize) {
    let mut pair = Pair::new(Counting(Tally::default()));
    let keys = u16::try_from(count).expect("a key for each");
    counted(&mut || {
        let id = pair.id;
        let mut context = pair.event_loop.context();
        let mut transport = context.connection(id).expect("a connection");
        for key in 0..keys {
            transport.set_timer(key, Duration::from_secs(3600));
        }
        for key in 0..keys {
            assert!(transport.cancel_timer(key));
        }
    });
}

fn completions(count: usize) {
    let mut event_loop = event_loop();
    let tally = Tally::default();
    counted(&mut || {
        let mut waiting = Vec::new();
        for _ in 0..count {
            let tally = tally.clone();
            let completion = event_loop.context().completion(move |_, _: Option<()>| tally.add());
            waiting.push(completion.expect("a completion"));
        }
        for completion in waiting {
            assert!(completion.complete(()).is_ok());
        }
        turn_until(&mut event_loop, |_| tally.get() == count);
    });
}
