//! The processes of hosts: their crashes and restarts, their clocks, and calls that fail.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::packet::{Alarm, Packet};
use super::tcp::Phase;
use super::world::{HostIndex, Kind, SocketId, World};
use super::{Errno, Network, lock};

/// How a host crashes, and so what its peers see. The paths of its Unix sockets are left behind, as files are: connects
/// to them are refused until a socket is bound there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// The process is killed, and its kernel closes what it had open: peers receive everything that the kernel had
    /// taken, and then an end, or a reset if there was unread input. After that the ports refuse connects.
    Killed,
    /// Each connection is reset, and what its kernel had taken is lost. After that the ports refuse connects.
    Reset,
    /// The machine loses power: it sends nothing any more, and what is sent to it is lost. Peers find out by their
    /// timeouts. Once it is [restarted](crate::testing::Network::restart), it answers packets of earlier connections
    /// with a reset.
    Silent,
}

/// A system call, for [`fail_call`](crate::testing::Network::fail_call).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A listener accepts, or finds no connection waiting.
    Accept,
    /// A datagram socket is made.
    Bind,
    /// A connect begins.
    Connect,
    /// A listener is made.
    Listen,
    /// A connection reads, or finds nothing to read.
    Read,
    /// A datagram socket receives, or finds nothing to receive.
    Receive,
    /// A datagram is sent, or finds no room.
    Send,
    /// A connection writes, or finds no room.
    Write,
}

/// A call that is to fail.
struct Failing {
    call: Call,
    /// How many such calls are left until then, including the failing one.
    left: u64,
    error: io::Error,
}

/// The state of a host's process and of its machine.
#[derive(Default)]
pub(super) struct Process {
    /// The number of its loop, if it is not the host's first.
    number: Option<u64>,
    /// The machine has no power.
    dark: bool,
    /// What its peers retransmit, until it is back or they give up: the sender, since when, and the packet.
    held: Vec<(SocketId, Duration, Packet)>,
    clock: HostClock,
    failing: Vec<Failing>,
    descriptors_max: Option<usize>,
}

/// The clock of a host: its rate, since when it has had that, and what it said then.
struct HostClock {
    millionths: u128,
    since: Duration,
    said: Duration,
}

/// The rate of an accurate clock.
const MILLION: u128 = 1_000_000;

/// Loops that replace others are numbered from here on. No network has this many hosts.
const RESTARTED: u64 = 1 << 18;

impl Default for HostClock {
    fn default() -> HostClock {
        HostClock { millionths: MILLION, since: Duration::ZERO, said: Duration::ZERO }
    }
}

impl HostClock {
    fn says(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.since).as_nanos() * self.millionths / MILLION;
        self.said.saturating_add(duration(passed))
    }

    /// Returns the time of the network at which the clock will have advanced by `time`.
    fn after(&self, now: Duration, time: Duration) -> Duration {
        let ahead = self.says(now).saturating_sub(self.said).saturating_add(time);
        self.since.saturating_add(duration((ahead.as_nanos() * MILLION).div_ceil(self.millionths)))
    }

    fn set_rate(&mut self, now: Duration, millionths: u128) {
        *self = HostClock { millionths, since: now, said: self.says(now) };
    }
}

/// Returns a duration of this many nanoseconds.
fn duration(ns: u128) -> Duration {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    u64::try_from(seconds).map_or(Duration::MAX, |seconds| Duration::new(seconds, rest as u32))
}

impl World {
    /// Picks how long some work in the pool of this host's loop takes.
    pub(super) fn pick_work_time(&mut self, host: HostIndex) -> Duration {
        let (low, high) = (self.faults.work_min, self.faults.work_max);
        if high.max(low).is_zero() {
            return Duration::ZERO;
        }
        let time = Duration::from_micros(self.random.between(low.as_micros() as u64, high.as_micros() as u64));
        self.note(format_args!("host {host} works for {time:?}"));
        time
    }

    pub(super) fn loop_number(&self, host: HostIndex) -> u64 {
        self.hosts[host].process.number.unwrap_or(host as u64)
    }

    // Crashes.

    /// Its sockets are closed first: whatever is done to them from now on does nothing.
    fn crash(&mut self, host: HostIndex, how: Crash) {
        self.settle();
        self.note(format_args!("host {host} crashes: {how:?}"));
        self.hosts[host].process.dark |= how == Crash::Silent;
        let names = self.named.keys().chain(self.named_datagrams.keys());
        let paths: Vec<_> = names.filter(|(of, name)| *of == host && name.is_path()).cloned().collect();
        // They are never removed. A socket that takes such a name has precedence.
        self.left_paths.extend(paths);
        // Listeners reset the connections that wait in their backlog.
        for is_listener in [true, false] {
            for id in self.sockets_of(host, is_listener) {
                match how {
                    Crash::Silent => self.vanish(id),
                    _ => self.close_for_crash(id, how),
                }
            }
        }
        if how == Crash::Silent {
            self.probe_vanished(host);
        }
        let of = &mut self.hosts[host];
        of.ready.clear();
        // Wakers of the old loop must not wake a new one.
        of.woken = Arc::default();
        self.forget_lookups(host);
        self.settle();
    }

    fn sockets_of(&self, host: HostIndex, listeners: bool) -> Vec<SocketId> {
        let of = self.sockets.iter().filter(|(_, socket)| socket.host == host);
        let of = of.filter(|(_, socket)| matches!(socket.kind, Kind::Listener(_)) == listeners);
        of.map(|(&id, _)| id).collect()
    }

    fn close_for_crash(&mut self, id: SocketId, how: Crash) {
        match self.sockets.get(&id).map(|socket| &socket.kind) {
            Some(Kind::Listener(_)) => self.close_listener(id),
            Some(Kind::Datagram(_)) => self.close_datagram(id),
            Some(Kind::NamedDatagram(_)) => self.close_named_datagram(id, false),
            Some(Kind::Tcp(_)) if how == Crash::Reset => self.reset(id),
            Some(Kind::Tcp(tcp)) if !tcp.orphan => self.close(id),
            _ => {}
        }
    }

    /// Removes a socket without telling its peer.
    fn vanish(&mut self, id: SocketId) {
        self.drop_held(id);
        self.sockets.remove(&id);
        self.bound.retain(|_, bound| *bound != id);
        self.named.retain(|_, named| *named != id);
        self.named_datagrams.retain(|_, named| *named != id);
    }

    /// Lets a packet arrive at its host, unless that has no power. What its sender would retransmit waits there in that
    /// case.
    pub(super) fn reach(&mut self, packet: Packet) -> Option<Packet> {
        use Packet::{Data, Datagram, Fin, Probe, Syn, SynAck};
        let (sender, host) = match packet {
            Syn { from } | SynAck { from, .. } | Data { from, .. } | Fin { from, .. } | Probe { from, .. } => {
                (from, self.tcp(from).and_then(|tcp| tcp.remote_host))
            }
            Datagram { host, sender: (sender, _), .. } => (sender, Some(host)),
            _ => return Some(packet),
        };
        let Some(host) = host.filter(|&host| self.hosts[host].process.dark) else { return Some(packet) };
        if let Some(time) = self.awaited_for(&packet, sender) {
            self.set_alarm(time, Alarm::GiveUp(sender, self.now));
        }
        if let Datagram { sender: (_, count), .. } = packet {
            self.datagram_has_left(sender, count);
        } else if packet.is_sent_again() {
            self.hosts[host].process.held.push((sender, self.now, packet));
        }
        None
    }

    /// Drops the packets of a socket that are held for a host.
    pub(super) fn drop_held_for_dark(&mut self, sender: SocketId) {
        for host in &mut self.hosts {
            host.process.held.retain(|&(of, _, _)| of != sender);
        }
    }

    /// Returns whether a packet of a socket has been held for a host since this time.
    pub(super) fn was_held_for_dark(&self, sender: SocketId, by: Duration) -> bool {
        let mut held = self.hosts.iter().flat_map(|host| &host.process.held);
        held.any(|&(of, since, _)| of == sender && since <= by)
    }

    /// Turns the machine on again. What was sent to it is retransmitted some time later.
    fn restart(&mut self, host: HostIndex) {
        self.note(format_args!("host {host} is restarted"));
        self.restarts += 1;
        let process = &mut self.hosts[host].process;
        process.number = Some(RESTARTED + self.restarts);
        process.dark = false;
        let held = std::mem::take(&mut process.held);
        let after = Duration::from_millis(self.random.between(200, 2000));
        for (_, _, packet) in held {
            self.put_under_way(after, packet);
        }
    }

    // Clocks.

    pub(super) fn instant(&self, host: HostIndex) -> Instant {
        self.start + self.hosts[host].process.clock.says(self.now)
    }

    /// Returns the time of the network at which the clock of a host will have advanced by `time`.
    pub(super) fn time_after(&self, host: HostIndex, time: Duration) -> Duration {
        self.hosts[host].process.clock.after(self.now, time)
    }

    // Calls.

    /// Fails if a call for a socket is to fail.
    pub(super) fn check_call(&mut self, id: SocketId, call: Call) -> io::Result<()> {
        let Some(host) = self.sockets.get(&id).map(|socket| socket.host) else { return Ok(()) };
        self.check(host, call, format_args!("s{id} of host {host}"))
    }

    /// Fails if a call that takes a descriptor is to fail.
    pub(super) fn check_opening(&mut self, host: HostIndex, call: Call) -> io::Result<()> {
        self.check(host, call, format_args!("host {host}"))?;
        let most = self.hosts[host].process.descriptors_max;
        if most.is_some_and(|most| self.descriptors(host) >= most) {
            self.progress += 1;
            self.note(format_args!("host {host} has no descriptor left: {call:?}"));
            return Err(Errno::FilesPerProcess.into());
        }
        Ok(())
    }

    fn check(&mut self, host: HostIndex, call: Call, what: fmt::Arguments<'_>) -> io::Result<()> {
        let failing = &mut self.hosts[host].process.failing;
        for of in failing.iter_mut().filter(|of| of.call == call) {
            of.left = of.left.saturating_sub(1);
        }
        let Some(index) = failing.iter().position(|of| of.call == call && of.left == 0) else { return Ok(()) };
        let error = failing.remove(index).error;
        self.progress += 1;
        self.note(format_args!("{what} fails as requested: {call:?}: {:?}", error.kind()));
        Err(error)
    }

    /// Returns how many sockets the process of a host holds. Connections that wait to be accepted have no descriptor
    /// yet, and those that its kernel is still sending for have none any more.
    fn descriptors(&self, host: HostIndex) -> usize {
        let of = || self.sockets.iter().filter(move |(_, socket)| socket.host == host);
        let mut waiting: BTreeSet<SocketId> = BTreeSet::new();
        for (_, socket) in of() {
            if let Kind::Listener(listener) = &socket.kind {
                waiting.extend(&listener.queue);
            }
        }
        let has = |id: &SocketId, kind: &Kind| match kind {
            Kind::Tcp(tcp) => !tcp.orphan && !matches!(tcp.phase, Phase::Embryo(_)) && !waiting.contains(id),
            Kind::Listener(_) | Kind::Datagram(_) | Kind::NamedDatagram(_) => true,
        };
        of().filter(|(id, socket)| has(id, &socket.kind)).count()
    }
}

impl Network {
    pub(crate) fn crash(&self, host: HostIndex, how: Crash) {
        lock(&self.0).crash(host, how);
    }

    pub(crate) fn restart(&self, host: HostIndex) {
        lock(&self.0).restart(host);
    }

    /// Returns the time of the network at which a host's clock will have advanced by `time`.
    pub(crate) fn time_after(&self, host: HostIndex, time: Duration) -> Duration {
        lock(&self.0).time_after(host, time)
    }

    pub(crate) fn set_clock_rate(&self, host: HostIndex, millionths: u64) {
        let world = &mut *lock(&self.0);
        world.note(format_args!("the clock of host {host} runs at {millionths} millionths of the right rate"));
        let now = world.now;
        world.hosts[host].process.clock.set_rate(now, millionths.into());
    }

    pub(crate) fn jump_clock(&self, host: HostIndex, by: Duration) {
        let world = &mut *lock(&self.0);
        world.note(format_args!("the clock of host {host} jumps by {by:?}"));
        let clock = &mut world.hosts[host].process.clock;
        clock.said = clock.said.saturating_add(by);
    }

    pub(crate) fn fail_call(&self, host: HostIndex, call: Call, kth: u64, error: io::Error) {
        let world = &mut *lock(&self.0);
        world.note(format_args!("call {kth} of host {host} from now on will fail: {call:?}: {:?}", error.kind()));
        world.hosts[host].process.failing.push(Failing { call, left: kth, error });
    }

    pub(crate) fn set_descriptors_max(&self, host: HostIndex, most: Option<usize>) {
        let world = &mut *lock(&self.0);
        match most {
            Some(most) => world.note(format_args!("host {host} has {most} descriptors")),
            None => world.note(format_args!("host {host} has any number of descriptors")),
        }
        world.hosts[host].process.descriptors_max = most;
    }

    /// Picks how long a host's next turn takes.
    pub(crate) fn pick_pace(&self, host: HostIndex, low: Duration, high: Duration) -> Duration {
        let world = &mut *lock(&self.0);
        let time = Duration::from_micros(world.random.between(low.as_micros() as u64, high.as_micros() as u64));
        world.note(format_args!("a turn of host {host} takes {time:?}"));
        time
    }
}
