//! TLS on loops in several threads, on loopback: each way to spread connections, and what a full loop leaves to the
//! others.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use switchboard::workers::{Distribution, EventLoopGroup, GroupListen};
use switchboard::{Address, Connect, Context, EventLoop, Limits, Listen, Protocol, Transport};
use switchboard_tls::{Reloadable, Tls};

use super::kit::*;

/// More than any machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends which loop it is on and whether there is TLS, and echoes.
struct Member(u8);

impl Protocol for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let is_secret = transport.filter::<Tls>().is_some_and(|tls| tls.protocol_version().is_some());
        transport.write(&[self.0, u8::from(is_secret)]);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn plain(to: SocketAddr) -> TcpStream {
    let plain = TcpStream::connect(to).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.set_write_timeout(Some(PATIENCE)).unwrap();
    plain
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    StreamOwned::new(ClientConnection::new(config.clone(), NAME.try_into().unwrap()).unwrap(), plain(to))
}

/// Does a handshake. Returns which loop serves the connection.
fn index_of(client: &mut Client) -> u8 {
    let mut said = [0; 2];
    client.read_exact(&mut said).unwrap();
    assert_eq!(said[1], 1, "by TLS");
    said[0]
}

/// Starts two loops that listen like this, with at most one connection each at a time if `full`.
fn group(listen: GroupListen) -> (EventLoopGroup, SocketAddr) {
    let group = EventLoopGroup::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let make = |index: usize, _: &mut Context<'_>| move |_: &mut Context<'_>, _: &Address| Some(Member(index as u8));
    let listener = group.listen_each(listen, make).unwrap();
    let to = listener.local_addr().as_inet().unwrap();
    (group, to)
}

fn at_any_port() -> Listen {
    Listen::at(SocketAddr::from(([127, 0, 0, 1], 0)))
}

#[test]
fn loops_in_threads_serve_tls_however_connections_are_spread() {
    for (count, distribution) in [Distribution::Acceptor, Distribution::ReusePort].into_iter().enumerate() {
        let version = BOTH[count];
        let reloadable = Reloadable::new(Arc::new(server(version)));
        let listen = at_any_port().filter(reloadable.listen());
        let (group, to) = group(GroupListen::at(listen).distribution(distribution));
        let config = Arc::new(client(version));
        let mut by_loop = [0; 2];
        let mut clients = Vec::new();
        // The kernel chooses a loop by the port of each client, so some more may be needed.
        while clients.len() < 12 || by_loop.contains(&0) && clients.len() < 100 {
            let mut client = connect(to, &config);
            by_loop[usize::from(index_of(&mut client))] += 1;
            clients.push(client);
        }
        assert!(!by_loop.contains(&0), "{distribution:?}: {by_loop:?}");
        // One of them does not use TLS.
        let mut stranger = plain(to);
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).unwrap();
        assert_eq!(answer[..2], [21, 3], "an alert");
        // All loops use the configuration that is set here.
        reloadable.set(Arc::new(server_of(version, &identities().renewed)));
        for count in 0..12 {
            let mut client = connect(to, &Arc::new(self::client(version)));
            index_of(&mut client);
            let certificate = &client.conn.peer_certificates().unwrap()[0];
            assert_eq!(certificate, &identities().renewed.certificate, "{distribution:?} {count}");
        }
        for (count, client) in clients.iter_mut().enumerate() {
            let sent = bytes(20_000 + count);
            client.write_all(&sent).unwrap();
            let mut got = vec![0; sent.len()];
            client.read_exact(&mut got).unwrap();
            assert!(same(&got, &sent));
            client.conn.send_close_notify();
            client.flush().unwrap();
            assert_eq!(client.read(&mut got).unwrap(), 0, "the end is said, else it were an error");
        }
        drop(clients);
        let counters = group.handle().counters(PATIENCE).unwrap();
        assert_eq!(counters.handshakes_failed, 1);
        group.shutdown(Duration::from_secs(5));
        group.join().unwrap();
    }
}

#[test]
fn a_client_that_waits_before_full_loops_shakes_hands_when_one_has_room() {
    let limits = Limits::default().with_connections_max(1);
    let listen = at_any_port().limits(limits).filter(switchboard_tls::listen(Arc::new(server(V13))));
    let (group, to) = group(GroupListen::at(listen).distribution(Distribution::Acceptor));
    let config = Arc::new(client(V13));
    let mut first = [connect(to, &config), connect(to, &config)];
    let mut seen = first.each_mut().map(index_of);
    seen.sort_unstable();
    assert_eq!(seen, [0, 1], "one on each");
    let mut third = connect(to, &config);
    // The kernel has its hello, and no loop answers.
    third.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(third.read(&mut [0]).is_err());
    third.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let [one, _other] = first;
    drop(one);
    index_of(&mut third);
    group.shutdown(Duration::ZERO);
    group.join().unwrap();
}

/// Sends a lot when it is made, reads late, and shuts down its half when it has received as much.
struct Late {
    count: usize,
    heard: usize,
    whole: Rc<Cell<u32>>,
}

impl Late {
    /// The byte at this position of the data.
    fn byte(at: usize) -> u8 {
        (at * 7 + at / 251) as u8
    }
}

impl Protocol for Late {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.pause_reading();
        transport.set_timer(0, Duration::from_millis(300));
        transport.write_owned(bytes(self.count));
    }

    fn timer(&mut self, transport: &mut Transport<'_>, _: u16) {
        assert_eq!(self.heard, 0);
        transport.resume_reading();
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let is_right = |(at, byte): (usize, &u8)| *byte == Late::byte(self.heard + at);
        assert!(data.iter().enumerate().all(is_right), "behind {} bytes", self.heard);
        self.heard += data.len();
        if self.heard == self.count {
            transport.shutdown_write();
        }
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        assert_eq!(self.heard, self.count);
        self.whole.set(self.whole.get() + 1);
        transport.close();
    }
}

/// Both ends of a connection on loopback send this much at the same time.
fn much_both_ways(version: &'static SupportedProtocolVersion, count: usize) {
    let mut event_loop = EventLoop::new().unwrap();
    let limits = Limits::default().with_queue_bytes_max(2 * count).with_pause_reading_over_high(false);
    let whole = Rc::new(Cell::new(0));
    let noted = whole.clone();
    let late = move || Late { count, heard: 0, whole: noted.clone() };
    let mut context = event_loop.context();
    let make = switchboard_tls::listen(Arc::new(server(version)));
    let of_server = late.clone();
    let factory = move |_: &mut Context<'_>, _: &Address| Some(of_server());
    let id = context.listen(at_any_port().limits(limits.clone()).filter(make), factory).unwrap();
    let to = context.listener(id).unwrap().local_addr().unwrap().as_inet().unwrap();
    let make = switchboard_tls::connect(Arc::new(client(version)), NAME.try_into().unwrap());
    context.connect(Connect::to(to).limits(limits).filter(make), late()).unwrap();
    let begun = Instant::now();
    while whole.get() < 2 || event_loop.context().connection_count() > 0 {
        event_loop.turn(Some(Duration::from_millis(100))).unwrap();
        assert!(begun.elapsed() < PATIENCE * 10, "they wait for each other");
    }
}

#[test]
fn both_ends_send_four_megabytes_at_once_and_read_late() {
    BOTH.into_iter().for_each(|version| much_both_ways(version, 4 << 20));
}

#[test]
#[ignore = "takes a while; .ci/long runs it"]
fn both_ends_send_64_megabytes_at_once_and_read_late() {
    BOTH.into_iter().for_each(|version| much_both_ways(version, 64 << 20));
}
