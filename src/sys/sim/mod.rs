//! The simulated backend: one network in memory, shared by the loops of several hosts on one thread, with a virtual
//! clock and a seed.
//!
//! It behaves like Linux on a network of its own: the differential tests run the same scripts on both. All its
//! randomness comes from the seed, and nothing depends on addresses in memory, on the real clock or on the order of a
//! hash.

#![cfg_attr(not(unix), allow(dead_code))] // Nothing uses Unix sockets, signals and their pipes there.

mod by_hand;
mod capture;
mod datagram;
mod ending;
mod errno;
mod faults;
mod handles;
mod links;
mod listener;
mod named;
mod named_datagram;
mod names;
mod packet;
pub(crate) mod pcap;
mod pipe;
mod probes;
mod process;
mod random;
mod rules;
// Nothing sends signals where nothing can wait for them.
#[cfg_attr(not(all(unix, feature = "signals")), allow(dead_code))]
mod signals;
mod tcp;
mod world;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::DerefMut;
use std::time::Duration;

use self::errno::Errno;
pub use self::faults::Faults;
pub(crate) use self::handles::{Clock, Datagram, Listener, Poller, Stream};
pub use self::pipe::SimulatedPipe;
pub use self::process::{Call, Crash};
pub use self::random::Random;
pub(crate) use self::rules::Judge;
pub use self::rules::{Fate, Packet, PacketKind};
pub(crate) use self::tcp::NO_ADDRESS;
pub(crate) use self::world::HostIndex;
use self::world::{Kind, World};
use super::habits::Habits;
use super::memory::{self, shared};

type Shared = memory::Shared<World>;

/// # Panics
///
/// Panics if a packet rule calls: rules run in the middle of a call.
fn lock(shared: &Shared) -> impl DerefMut<Target = World> {
    rules::refuse_in_a_rule();
    memory::lock(shared)
}

/// A simulated network: what its hosts share.
#[derive(Clone)]
pub(crate) struct Network(Shared);

/// A socket of a loop with something to read or to accept that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) host: HostIndex,
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) count: usize,
}

/// A socket that a loop holds, as the tests of the guarantees see it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inspected {
    pub(crate) host: HostIndex,
    pub(crate) token: usize,
    /// How many bytes, or how many connections that wait to be accepted.
    pub(crate) unread: usize,
    /// Whether it counts as writable.
    pub(crate) has_space: bool,
    /// Whether a read finds the end of the stream, or an error, after the unread data.
    pub(crate) read_shut: bool,
}

impl Network {
    pub(crate) fn new(seed: u64, faults: Faults) -> Network {
        Network(shared(World::new(seed, faults)))
    }

    pub(crate) fn add_host(&self) -> HostIndex {
        lock(&self.0).add_host()
    }

    /// Makes the sockets of a host behave like those of another system from now on.
    pub(crate) fn set_habits(&self, host: HostIndex, habits: &'static Habits) {
        lock(&self.0).hosts[host].habits = habits;
    }

    pub(crate) fn address(&self, host: HostIndex, ipv6: bool) -> IpAddr {
        world::address_of(host, ipv6)
    }

    pub(crate) fn poller(&self, host: HostIndex) -> Poller {
        Poller { world: self.0.clone(), host }
    }

    pub(crate) fn clock(&self, host: HostIndex) -> Clock {
        Clock { world: self.0.clone(), host }
    }

    /// Returns the time since the network was made.
    pub(crate) fn now(&self) -> Duration {
        lock(&self.0).now
    }

    /// Returns when something happens next in the network itself.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        lock(&self.0).next_at()
    }

    pub(crate) fn advance_to(&self, time: Duration) {
        lock(&self.0).advance_to(time);
    }

    pub(crate) fn settle(&self) {
        lock(&self.0).settle();
    }

    /// Returns whether something has happened to a socket that is operated by hand, since
    /// [`take_by_hand`](Network::take_by_hand).
    pub(crate) fn has_by_hand(&self) -> bool {
        lock(&self.0).has_by_hand()
    }

    pub(crate) fn take_by_hand(&self) -> bool {
        lock(&self.0).take_by_hand()
    }

    /// Returns whether a host's loop would get an event now.
    pub(crate) fn is_ready(&self, host: HostIndex) -> bool {
        let world = lock(&self.0);
        let host = &world.hosts[host];
        !host.ready.is_empty() || host.woken.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> u64 {
        lock(&self.0).progress
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        lock(&self.0).random.below(bound as u64) as usize
    }

    pub(crate) fn lags(&self) -> bool {
        let world = &mut *lock(&self.0);
        world.random.hits(world.faults.lagging_loops_permille)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        lock(&self.0).set_faults(faults);
    }

    pub(crate) fn cut(&self, one: HostIndex, other: HostIndex) {
        lock(&self.0).cut(one, other);
    }

    pub(crate) fn heal(&self, one: HostIndex, other: HostIndex) {
        lock(&self.0).heal(one, other);
    }

    pub(crate) fn cut_one_way(&self, from: HostIndex, to: HostIndex) {
        lock(&self.0).cut_one_way(from, to);
    }

    pub(crate) fn set_loss(&self, from: HostIndex, to: HostIndex, permille: u32) {
        lock(&self.0).set_loss(from, to, permille);
    }

    pub(crate) fn set_bandwidth(&self, from: HostIndex, to: HostIndex, bytes_per_second: Option<u64>) {
        lock(&self.0).set_bandwidth(from, to, bytes_per_second);
    }

    pub(crate) fn add_rule(&self, name: &str, judge: Judge) -> u64 {
        lock(&self.0).add_rule(name, judge)
    }

    pub(crate) fn remove_rule(&self, number: u64) {
        // Dropped without the lock, since it belongs to the test.
        let _gone = lock(&self.0).remove_rule(number);
    }

    pub(crate) fn rule_hits(&self, number: u64) -> u64 {
        lock(&self.0).rule_hits(number)
    }

    pub(crate) fn begin_capture(&self) {
        lock(&self.0).capture.get_or_insert_with(capture::Capture::new);
    }

    pub(crate) fn captured(&self) -> Vec<u8> {
        lock(&self.0).capture.as_ref().map(|capture| capture.file().to_vec()).unwrap_or_default()
    }

    pub(crate) fn set_latency(&self, one: HostIndex, other: HostIndex, low: Duration, high: Duration) {
        lock(&self.0).set_latency(one, other, low, high);
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        lock(&self.0).note(what);
    }

    pub(crate) fn trace(&self) -> String {
        lock(&self.0).trace.clone().unwrap_or_default()
    }

    pub(crate) fn set_tracing(&self, tracing: bool) {
        let world = &mut *lock(&self.0);
        world.trace = tracing.then(|| world.trace.take().unwrap_or_default());
    }

    /// Takes what was recorded about ended connections since the last call.
    pub(crate) fn take_losses(&self) -> Vec<(HostIndex, usize, crate::CloseReason)> {
        std::mem::take(&mut lock(&self.0).losses)
    }

    /// Returns what is left unread in the sockets of loops.
    pub(crate) fn unread(&self) -> Vec<Unread> {
        let world = lock(&self.0);
        let registered = world.sockets.values().filter(|socket| socket.registration.is_some());
        let unread = registered.map(|socket| {
            let (local, remote, count) = match &socket.kind {
                Kind::Listener(listener) => (listener.local, None, listener.queue.len()),
                Kind::Tcp(tcp) => (tcp.local, Some(tcp.remote), tcp.unread()),
                Kind::Datagram(datagram) => (datagram.local, None, datagram.unread()),
                Kind::NamedDatagram(datagram) => (NO_ADDRESS, None, datagram.unread()),
            };
            Unread { host: socket.host, local, remote, count }
        });
        unread.filter(|unread| unread.count > 0).collect()
    }

    /// Returns the sockets that loops hold.
    #[cfg(test)]
    pub(crate) fn inspected(&self) -> Vec<Inspected> {
        let world = &mut *lock(&self.0);
        let token = |socket: &world::Socket| Some((socket.host, socket.registration.as_ref()?.token));
        let sockets = world.sockets.values().filter_map(|socket| Some((token(socket)?, &socket.kind)));
        let inspected = sockets.map(|((host, token), kind)| match kind {
            Kind::Tcp(tcp) => tcp.inspected(host, token),
            Kind::Listener(listener) => Inspected { host, token, unread: listener.queue.len(), ..Inspected::default() },
            Kind::Datagram(datagram) => Inspected { host, token, unread: datagram.unread(), ..Inspected::default() },
            Kind::NamedDatagram(of) => Inspected { host, token, unread: of.unread(), ..Inspected::default() },
        });
        inspected.collect()
    }

    /// Takes what was recorded about sockets that loops have closed with unread input, since the last call: host,
    /// token, bytes.
    #[cfg(test)]
    pub(crate) fn take_abandoned(&self) -> Vec<(HostIndex, usize, usize)> {
        std::mem::take(&mut lock(&self.0).abandoned)
    }

    /// Returns how many datagrams a host's kernel has taken from the sockets of a port.
    #[cfg(test)]
    pub(crate) fn datagrams_taken(&self, host: HostIndex, port: u16) -> u64 {
        lock(&self.0).datagrams_taken.get(&(host, port)).copied().unwrap_or_default()
    }

    /// Returns how many sockets there are, including those that wait for their last acknowledgement.
    pub(crate) fn sockets(&self) -> usize {
        lock(&self.0).sockets.len()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("now", &self.now()).field("sockets", &self.sockets()).finish_non_exhaustive()
    }
}
