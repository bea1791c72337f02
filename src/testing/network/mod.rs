//! Several hosts on one network.

mod exchanging;
mod links;
mod looking;
mod names;
#[cfg(unix)]
mod pipes;
mod platform;
mod processes;
mod running;
#[cfg(unix)]
mod unix;

pub use links::RuleId;
pub use platform::Platform;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use self::processes::Process;
use super::{DatagramPeer, Faults, Peer, PeerListener, seeds};
use crate::sys::memory::{Datagram as _, Listener as _};
use crate::sys::{self, Clock, Poller, sim};
use crate::{Address, Context, Detached, EventLoop, IntoProtocol, LoopLimits, PanicPolicy, Protocol};

/// Names a host of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

/// A simulated network: hosts with a loop each, peers that a test plays by hand, links between them, and one clock.
///
/// Time is virtual. It passes only in [`run_for`](Network::run_for), [`run_until`](Network::run_until),
/// [`run_until_rest`](Network::run_until_rest) and [`step`](Network::step), and only when nothing is left to do at the
/// current time. Hosts are numbered from 10.0.0.1 and `fd00::1`; 127.0.0.1 and `::1` are local to each host.
///
/// Loops are made with [`PanicPolicy::Propagate`], so that an `assert!` in a callback fails the test.
pub struct Network {
    sim: sim::Network,
    /// One for each host; none for hosts with only peers.
    hosts: Vec<Option<EventLoop>>,
    processes: Vec<Process>,
    outside: Option<HostId>,
    connects: Vec<Connect>,
    failed_connects: Vec<io::Error>,
    turns: u64,
    /// How many turns of a host in a row have made no progress, and the most that ever did not.
    idle_turns: Vec<u64>,
    idle_turns_most: u64,
}

struct Connect {
    host: HostId,
    stream: sys::Stream,
    protocol: Box<dyn Protocol>,
}

/// A loop's socket that holds something which the loop has not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// The loop's host.
    pub host: HostId,
    /// The socket's own address; `0.0.0.0:0` for a Unix socket.
    pub local: SocketAddr,
    /// Its peer's address; `None` for a listener.
    pub remote: Option<SocketAddr>,
    /// The number of bytes, or of peers waiting to be accepted.
    pub count: usize,
}

/// The environment variable that names a file for the packets of a network whose test fails.
const CAPTURE: &str = "SWITCHBOARD_PCAP";

impl Network {
    /// Makes a network without hosts. The seed decides everything that is left to chance.
    pub fn new(seed: u64, faults: Faults) -> Network {
        let sim = sim::Network::new(seed, faults);
        if std::env::var_os(CAPTURE).is_some() {
            sim.begin_capture();
        }
        Network {
            sim,
            hosts: Vec::new(),
            processes: Vec::new(),
            outside: None,
            connects: Vec::new(),
            failed_connects: Vec::new(),
            turns: 0,
            idle_turns: Vec::new(),
            idle_turns_most: 0,
        }
    }

    // Hosts.

    /// Adds a host with a loop.
    pub fn host(&mut self) -> HostId {
        self.host_with_limits(LoopLimits::default())
    }

    /// Adds a host with a loop that has the given limits.
    ///
    /// # Panics
    ///
    /// Never; a simulated loop can always be made.
    pub fn host_with_limits(&mut self, limits: impl Into<LoopLimits>) -> HostId {
        let (host, limits) = (self.bare_host(), limits.into());
        self.processes[host.0].limits = Some(limits.clone());
        self.start_loop(host, limits);
        host
    }

    fn start_loop(&mut self, host: HostId, limits: LoopLimits) {
        let poller = Poller::Memory(Box::new(self.sim.poller(host.0)));
        let event_loop = EventLoop::on(poller, Clock::Memory(Arc::new(self.sim.clock(host.0))), limits);
        let mut event_loop = event_loop.expect("a simulated loop needs nothing of the system");
        event_loop.set_panic_policy(PanicPolicy::Propagate);
        self.hosts[host.0] = Some(event_loop);
    }

    fn bare_host(&mut self) -> HostId {
        self.hosts.push(None);
        self.idle_turns.push(0);
        self.processes.push(Process::default());
        HostId(self.sim.add_host())
    }

    /// Returns the address of a host, with a port.
    pub fn address(&self, host: HostId, port: u16) -> SocketAddr {
        (self.sim.address(host.0, false), port).into()
    }

    /// Returns the IPv6 address of a host, with a port.
    pub fn address_v6(&self, host: HostId, port: u16) -> SocketAddr {
        (self.sim.address(host.0, true), port).into()
    }

    /// Returns the loop of a host. Turning it by hand lets only the time pass that it waits for; other loops do not run
    /// meanwhile.
    ///
    /// # Panics
    ///
    /// If the host has no loop: it is the one that peers are on, or it has crashed.
    pub fn event_loop(&mut self, host: HostId) -> &mut EventLoop {
        self.hosts[host.0].as_mut().expect("peers have no loop, nor has a host that has crashed")
    }

    /// Returns the [`Context`] of a host's loop, as callbacks get it, for use between steps.
    ///
    /// # Panics
    ///
    /// Those of [`event_loop`](Network::event_loop).
    pub fn context(&mut self, host: HostId) -> Context<'_> {
        self.event_loop(host).context()
    }

    /// Drops the loop of a host, as the end of its thread does: its connections are told, unlike after a
    /// [`crash`](Network::crash).
    pub fn drop_loop(&mut self, host: HostId) {
        self.hosts[host.0] = None;
    }

    // Connections.

    /// Connects from a host; `protocol` is attached to its loop once the connection is established. If that fails, the
    /// protocol is dropped without a call, and the error is added to [`failed_connects`](Network::failed_connects).
    ///
    /// # Panics
    ///
    /// Those of [`event_loop`](Network::event_loop).
    pub fn connect(&mut self, host: HostId, to: SocketAddr, protocol: impl IntoProtocol) {
        match sys::Stream::connect(&self.event_loop(host).core.parts.poller, to, None) {
            Ok(stream) => self.connects.push(Connect { host, stream, protocol: protocol.into_protocol() }),
            Err(error) => self.failed_connects.push(error),
        }
    }

    /// Returns the errors of failed connects, in order.
    pub fn failed_connects(&self) -> &[io::Error] {
        &self.failed_connects
    }

    /// Returns the host that peers are on, for cutting links to it.
    pub fn outside(&mut self) -> HostId {
        if let Some(outside) = self.outside {
            return outside;
        }
        let outside = self.bare_host();
        self.outside = Some(outside);
        outside
    }

    /// Begins to connect a [`Peer`], which a test plays by hand.
    ///
    /// # Panics
    ///
    /// Never; the peer tells whether the connect succeeded.
    pub fn peer(&mut self, to: SocketAddr) -> Peer {
        let outside = self.outside();
        self.peer_on(outside, to).expect("nothing keeps peers from connecting")
    }

    /// Like [`peer`](Network::peer), from the given host, so that it can be handed to that host's loop with
    /// [`attach`](crate::Context::attach).
    ///
    /// # Errors
    ///
    /// Errors of the host's calls, such as running out of [descriptors](Network::set_descriptors_max). The peer tells
    /// whether the connect succeeded.
    pub fn peer_on(&mut self, host: HostId, to: SocketAddr) -> io::Result<Peer> {
        self.sim.poller(host.0).connect(to, None).map(Peer::new)
    }

    /// Listens on the host that peers are on, for tests of clients.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the port is taken; for port 0 the network chooses one.
    pub fn peer_listener(&mut self, port: u16, backlog: u32) -> io::Result<PeerListener> {
        let host = self.outside();
        self.listener_on(host, port, backlog)
    }

    /// Like [`peer_listener`](Network::peer_listener), on the given host, so that it can be handed to that host's loop
    /// with [`listen`](crate::Context::listen), as a service manager does with a socket that is listening already.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the port is taken; for port 0 the network chooses one.
    pub fn listener_on(&mut self, host: HostId, port: u16, backlog: u32) -> io::Result<PeerListener> {
        let listener = self.sim.poller(host.0).listen(self.address(host, port), backlog)?;
        let address = listener.local_addr()?.as_inet().ok_or(io::ErrorKind::NotConnected)?;
        Ok(PeerListener { listener, host, address })
    }

    /// Binds a datagram socket on the host that peers are on.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the port is taken; for port 0 the network chooses one.
    pub fn datagram_peer(&mut self, port: u16) -> io::Result<DatagramPeer> {
        let host = self.outside();
        let socket = self.sim.poller(host.0).bind_datagram(self.address(host, port))?;
        let address = socket.local_addr()?.as_inet().ok_or(io::ErrorKind::NotConnected)?;
        Ok(DatagramPeer { socket, address })
    }

    /// Makes the next accept of the listener at this address fail with `error`, after any failures requested before.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if nobody listens there.
    pub fn fail_accept(&mut self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        self.sim.fail_accept(address, error)
    }

    /// Makes the next receive of the datagram socket at this address fail with `error`, after any failures requested
    /// before.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if no socket is bound there.
    pub fn fail_receive(&mut self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        self.sim.fail_receive(address, error)
    }

    /// Makes a connected pair: one end in the loop of a host, the other one a peer's.
    pub(super) fn attached(&mut self, host: HostId, protocol: Box<dyn Protocol>) -> (crate::ids::Id, Peer) {
        let address = self.address(host, 0);
        let mut listener = self.sim.poller(host.0).listen(address, 1).expect("a port is free");
        let address = listener.local_addr().ok().and_then(|address| address.as_inet()).expect("it has just been bound");
        let peer = self.peer(address);
        let (stream, from) = listener.accept().expect("it has connected, with no latency and no faults");
        let id = self
            .event_loop(host)
            .core
            .parts
            .attach(held(sys::Stream::Memory(Box::new(stream)), from), protocol)
            .expect("a slot is free");
        (id, peer)
    }
}

/// Shows what has happened when a test fails, to help find the reason.
impl Drop for Network {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(file) = std::env::var_os(CAPTURE) {
            match std::fs::write(&file, self.captured()) {
                Ok(()) => eprintln!("its packets are in {}", Path::new(&file).display()),
                Err(error) => eprintln!("{}: {error}", Path::new(&file).display()),
            }
        }
        if seeds::is_replayed() {
            eprintln!("{}", self.trace());
        }
    }
}

/// Wraps a connection that no loop has yet.
fn held(stream: sys::Stream, peer: Address) -> Detached {
    Detached::new(stream, Some(peer), Vec::new(), Vec::new())
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("now", &self.now())
            .field("hosts", &self.hosts)
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}
