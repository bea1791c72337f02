//! Several hosts on one network.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{DatagramPeer, Faults, Peer, PeerListener};
use crate::sys::memory::{Datagram as _, Listener as _};
use crate::sys::{self, Clock, Poller, sim};
use crate::{Address, Context, Counters, Detached, EventLoop, IntoProtocol, LoopLimits, PanicPolicy, Protocol};

/// Names a host of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

/// A simulated network: hosts with a loop each, peers that are played by hand, links between them, and one clock.
///
/// Time is virtual and passes only in [`run_for`](Network::run_for), [`run_until`](Network::run_until),
/// [`run_until_rest`](Network::run_until_rest) and [`step`](Network::step), and in those only when nothing is left to
/// do at the time it is. Hosts are numbered from 10.0.0.1 and `fd00::1`; 127.0.0.1 and `::1` are each host's own.
///
/// Loops are made with [`PanicPolicy::Propagate`], so that an `assert!` in a callback fails the test.
pub struct Network {
    sim: sim::Network,
    /// One for each host; none for those that only peers live on.
    hosts: Vec<Option<EventLoop>>,
    outside: Option<HostId>,
    connects: Vec<Connect>,
    failed_connects: Vec<io::Error>,
    turns: u64,
    /// How many turns of a host in a row have brought about nothing, and the most that ever were.
    idle_turns: Vec<u64>,
    idle_turns_most: u64,
}

struct Connect {
    host: HostId,
    stream: sys::Stream,
    protocol: Box<dyn Protocol>,
}

/// A socket of a loop that holds something which the loop has not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// The loop's host.
    pub host: HostId,
    /// The socket's own address.
    pub local: SocketAddr,
    /// Its peer's address; `None` for a listener.
    pub remote: Option<SocketAddr>,
    /// How many bytes, or how many peers that wait to be accepted.
    pub count: usize,
}

/// What a step did.
enum Step {
    Did,
    /// Nothing is to be done before the given end.
    End,
    /// Nothing is to be done ever.
    Rest,
}

/// [`Network::run_until`] gives up after this much virtual time.
const RUN_UNTIL_MAX: Duration = Duration::from_secs(60 * 60);

/// How far the clock moves at most while a loop has something to do, each time that it lags behind.
const LAG_MAX: Duration = Duration::from_millis(50);

impl Network {
    /// Makes a network without hosts. The seed decides all that is left to chance.
    pub fn new(seed: u64, faults: Faults) -> Network {
        Network {
            sim: sim::Network::new(seed, faults),
            hosts: Vec::new(),
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

    /// Adds a host with a loop that has limits of its own.
    ///
    /// # Panics
    ///
    /// Never; a simulated loop can always be made.
    pub fn host_with_limits(&mut self, limits: impl Into<LoopLimits>) -> HostId {
        let host = self.bare_host();
        let poller = Poller::Memory(Box::new(self.sim.poller(host.0)));
        let event_loop = EventLoop::on(poller, Clock::Memory(Arc::new(self.sim.clock())), limits.into());
        let mut event_loop = event_loop.expect("a simulated loop needs nothing of the system");
        event_loop.set_panic_policy(PanicPolicy::Propagate);
        self.hosts[host.0] = Some(event_loop);
        host
    }

    fn bare_host(&mut self) -> HostId {
        self.hosts.push(None);
        self.idle_turns.push(0);
        HostId(self.sim.add_host())
    }

    /// An address of a host, with a port.
    pub fn address(&self, host: HostId, port: u16) -> SocketAddr {
        (self.sim.address(host.0, false), port).into()
    }

    /// The IPv6 address of a host, with a port.
    pub fn address_v6(&self, host: HostId, port: u16) -> SocketAddr {
        (self.sim.address(host.0, true), port).into()
    }

    /// The loop of a host. Turning it by hand lets no time pass that it does not wait for; other loops stand still then.
    ///
    /// # Panics
    ///
    /// For a host that has no loop: the one that peers are on.
    pub fn event_loop(&mut self, host: HostId) -> &mut EventLoop {
        self.hosts[host.0].as_mut().expect("peers have no loop")
    }

    /// What callbacks of a host's loop are handed, for use between steps.
    ///
    /// # Panics
    ///
    /// As [`event_loop`](Network::event_loop).
    pub fn context(&mut self, host: HostId) -> Context<'_> {
        self.event_loop(host).context()
    }

    /// Drops the loop of a host, as the end of its thread does.
    pub fn drop_loop(&mut self, host: HostId) {
        self.hosts[host.0] = None;
    }

    // Connections.

    /// Connects from a host; `protocol` is attached to its loop once the connection stands. Where it fails the protocol
    /// is dropped without a call, and [`failed_connects`](Network::failed_connects) tells.
    ///
    /// # Panics
    ///
    /// As [`event_loop`](Network::event_loop).
    pub fn connect(&mut self, host: HostId, to: SocketAddr, protocol: impl IntoProtocol) {
        match sys::Stream::connect(&self.event_loop(host).core.parts.poller, to, None) {
            Ok(stream) => self.connects.push(Connect { host, stream, protocol: protocol.into_protocol() }),
            Err(error) => self.failed_connects.push(error),
        }
    }

    /// Why connects have failed, in order.
    pub fn failed_connects(&self) -> &[io::Error] {
        &self.failed_connects
    }

    /// The host that peers are on, for cutting links to it.
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
    /// Never; what becomes of the connect, the peer tells.
    pub fn peer(&mut self, to: SocketAddr) -> Peer {
        let outside = self.outside();
        let stream = self.sim.poller(outside.0).connect(to, None);
        Peer::new(stream.expect("a port of its own is always free"))
    }

    /// Listens where peers are, for tests of clients.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where the port is taken; 0 lets the network choose one.
    pub fn peer_listener(&mut self, port: u16, backlog: u32) -> io::Result<PeerListener> {
        let host = self.outside();
        let listener = self.sim.poller(host.0).listen(self.address(host, port), backlog)?;
        let address = listener.local_addr()?.as_inet().ok_or(io::ErrorKind::NotConnected)?;
        Ok(PeerListener { listener, host, address })
    }

    /// Binds a datagram socket where peers are.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where the port is taken; 0 lets the network choose one.
    pub fn datagram_peer(&mut self, port: u16) -> io::Result<DatagramPeer> {
        let host = self.outside();
        let socket = self.sim.poller(host.0).bind_datagram(self.address(host, port))?;
        let address = socket.local_addr()?;
        Ok(DatagramPeer { socket, address })
    }

    /// The next accept of the listener at this address fails so, with those that were told before.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` where nobody listens there.
    pub fn fail_accept(&mut self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        self.sim.fail_accept(address, error)
    }

    /// The next receive of the datagram socket at this address fails so, with those that were told before.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` where none is bound there.
    pub fn fail_receive(&mut self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        self.sim.fail_receive(address, error)
    }

    /// A connected pair: one end in the loop of a host, the other one a peer's.
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

    // Links and faults.

    /// Nothing passes between two hosts until [`heal`](Network::heal): what was under way arrives still. TCP goes on
    /// then; after 924 seconds senders give up.
    pub fn cut(&mut self, one: HostId, other: HostId) {
        self.sim.cut(one.0, other.0);
    }

    /// Takes [`cut`](Network::cut) back.
    pub fn heal(&mut self, one: HostId, other: HostId) {
        self.sim.heal(one.0, other.0);
    }

    /// Packets between two hosts take from `least` to `most`, whatever the faults say.
    pub fn slow(&mut self, one: HostId, other: HostId, least: Duration, most: Duration) {
        self.sim.set_latency(one.0, other.0, least, most);
    }

    /// Changes what goes wrong from now on. Sockets keep the buffers they have.
    pub fn set_faults(&mut self, faults: Faults) {
        self.sim.set_faults(faults);
    }

    // Time.

    /// How long it has run, in virtual time.
    pub fn now(&self) -> Duration {
        self.sim.now()
    }

    /// Runs for so long, in virtual time.
    ///
    /// # Panics
    ///
    /// When a callback does.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now().saturating_add(time);
        while let Step::Did = self.step_before(end) {}
        self.sim.advance_to(end);
    }

    /// Runs until `done` says so: asked before the first step and after each. What comes to a peer that is played by hand,
    /// bytes or room to send, is a step of its own: so is each time that it may have something to do. `false` if `done`
    /// never says so: nothing is left to happen, or an hour of virtual time has passed.
    ///
    /// # Panics
    ///
    /// When a callback does.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Network) -> bool) -> bool {
        let end = self.now().saturating_add(RUN_UNTIL_MAX);
        loop {
            if done(self) {
                return true;
            }
            if !matches!(self.step_before(end), Step::Did) {
                // What `done` did itself may have set things going.
                return self.is_runnable() && self.now() < end && self.run_until(done);
            }
        }
    }

    /// Runs until nothing is under way and no loop has anything to do but to wait for a timer.
    ///
    /// # Panics
    ///
    /// When a callback does.
    pub fn run_until_rest(&mut self) {
        while !self.is_at_rest() {
            self.step();
        }
    }

    /// Does one thing: turns one loop that has something to do, or moves the clock to what happens next, or nothing, where
    /// something has come about for a peer that is played by hand. `false` if nothing is left that could happen.
    ///
    /// # Panics
    ///
    /// When a callback does.
    pub fn step(&mut self) -> bool {
        matches!(self.step_before(Duration::MAX), Step::Did)
    }

    fn step_before(&mut self, end: Duration) -> Step {
        self.sim.settle();
        self.attach_connected();
        let ready: Vec<_> = (0..self.hosts.len()).filter(|&host| self.has_work(host)).collect();
        let next = self.next_at();
        // A loop that lags behind finds more of what has happened at once. A little: its deadlines are real ones.
        let latest = end.min(self.now().saturating_add(LAG_MAX));
        let lags = || next.is_some_and(|at| at <= latest) && self.sim.lags();
        if !ready.is_empty() && !lags() {
            let pick = if ready.len() > 1 { self.sim.below(ready.len()) } else { 0 };
            self.turn(ready[pick]);
        } else if self.sim.take_by_hand() {
            // The test that plays that peer may have something to do about it, before any time passes.
        } else {
            match next {
                Some(at) if at <= end => self.sim.advance_to(at),
                Some(_) => return Step::End,
                None if ready.is_empty() => return Step::Rest,
                None => {}
            }
        }
        // What has come to peers in this step is seen by the test after it.
        self.sim.take_by_hand();
        Step::Did
    }

    /// When anything happens that is not due yet.
    fn next_at(&self) -> Option<Duration> {
        let now = self.now();
        let timers = self.hosts.iter().flatten().filter_map(EventLoop::time_to_next);
        let timers = timers.filter(|time| !time.is_zero()).map(|time| now.saturating_add(time));
        timers.chain(self.sim.next_at()).min()
    }

    fn has_work(&self, host: usize) -> bool {
        let Some(event_loop) = &self.hosts[host] else { return false };
        self.sim.is_ready(host) || event_loop.time_to_next() == Some(Duration::ZERO)
    }

    fn turn(&mut self, host: usize) {
        let Some(event_loop) = &mut self.hosts[host] else { return };
        // That there was a turn, and that it polled, brings nothing about.
        let state = |event_loop: &EventLoop| {
            let counters = event_loop.core.parts.counters;
            (self.sim.progress(), Counters { turns: 0, polls: 0, ..counters })
        };
        let before = state(event_loop);
        event_loop.turn(Some(Duration::ZERO)).expect("a simulated poller does not fail");
        self.turns += 1;
        let idle = if state(event_loop) == before { self.idle_turns[host] + 1 } else { 0 };
        self.idle_turns[host] = idle;
        self.idle_turns_most = self.idle_turns_most.max(idle);
    }

    fn attach_connected(&mut self) {
        let mut index = 0;
        while index < self.connects.len() {
            let stream = &self.connects[index].stream;
            let outcome = match (stream.peer_addr(), stream.take_error()) {
                (_, Ok(Some(error)) | Err(error)) => Err(error),
                (Ok(peer), Ok(None)) => Ok(peer),
                (Err(_), Ok(None)) => {
                    index += 1;
                    continue;
                }
            };
            let Connect { host, stream, protocol } = self.connects.remove(index);
            let attached = outcome.and_then(|peer| self.attach(host, stream, peer, protocol));
            self.failed_connects.extend(attached.err());
        }
    }

    fn attach(
        &mut self,
        host: HostId,
        stream: sys::Stream,
        peer: Address,
        protocol: Box<dyn Protocol>,
    ) -> io::Result<()> {
        let event_loop = self.hosts[host.0].as_mut().ok_or(io::ErrorKind::NotConnected)?;
        event_loop.core.parts.life.check_listens()?;
        event_loop.core.parts.attach(held(stream, peer), protocol).map(|_| ())
    }

    // What a test looks at.

    fn is_runnable(&self) -> bool {
        (0..self.hosts.len()).any(|host| self.has_work(host)) || self.sim.next_at().is_some() || self.sim.has_by_hand()
    }

    /// Whether nothing is under way, and no loop has anything to do but to wait for a timer.
    pub fn is_at_rest(&mut self) -> bool {
        self.sim.settle();
        self.attach_connected();
        !self.is_runnable()
    }

    /// What the sockets of loops hold and their loops have not taken. At rest, only what its reader has paused may stand
    /// here: anything else is a wake-up that got lost.
    pub fn unread(&self) -> Vec<Unread> {
        let unread = self.sim.unread().into_iter();
        unread
            .map(|sim::Unread { host, local, remote, count }| Unread { host: HostId(host), local, remote, count })
            .collect()
    }

    /// How many turns all loops have had.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The most turns in a row that brought about nothing, of any one host: no event, no byte, no timer, no end. More
    /// than a few are a loop that spins.
    pub fn turns_without_progress_most(&self) -> u64 {
        self.idle_turns_most
    }

    /// How many sockets there are in the whole network, peers' included, and those that are closed but wait for their
    /// last acknowledgement.
    pub fn sockets(&self) -> usize {
        self.sim.sockets()
    }

    /// What has happened, a line each, with its time. The same for the same seed and the same program, to the byte.
    pub fn trace(&self) -> String {
        self.sim.trace()
    }

    /// Puts a line of the test's own into the trace.
    pub fn note(&mut self, line: &str) {
        self.sim.note(format_args!("{line}"));
    }

    /// Whether a trace is kept; it is, unless told otherwise. Without it a run takes less time and memory.
    pub fn set_tracing(&mut self, tracing: bool) {
        self.sim.set_tracing(tracing);
    }

    /// What the tests of the guarantees look at: the sockets that loops hold.
    #[cfg(test)]
    pub(crate) fn inspected(&self) -> Vec<sim::Inspected> {
        self.sim.inspected()
    }

    /// Input that loops have closed a socket over, since the last call: host, token, bytes.
    #[cfg(test)]
    pub(crate) fn take_abandoned(&mut self) -> Vec<(usize, usize, usize)> {
        self.sim.take_abandoned()
    }

    /// How many datagrams a host's kernel has taken from the sockets of a port.
    #[cfg(test)]
    pub(crate) fn datagrams_taken(&self, host: HostId, port: u16) -> u64 {
        self.sim.datagrams_taken(host.0, port)
    }

    /// Why connections of loops have ended since the last call: host, token, reason.
    pub(super) fn take_losses(&mut self) -> Vec<(usize, usize, crate::CloseReason)> {
        self.sim.take_losses()
    }
}

/// A connection that no loop has yet.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Faults;

    #[test]
    fn turns_that_bring_nothing_about_are_counted_until_one_does() {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        for _ in 0..5 {
            network.turn(host.0);
        }
        assert_eq!(network.turns_without_progress_most(), 5);
        network.context(host).call_later(Duration::ZERO, |_| ());
        for _ in 0..5 {
            network.turn(host.0);
        }
        assert_eq!(network.turns_without_progress_most(), 5);
    }
}
