//! The simulated world: its time, the packets in flight, and which sockets are ready.
//!
//! Nothing here waits and nothing runs by itself: the driver advances time, and every call on a socket first and last
//! handles what is due by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::datagram::DatagramSocket;
use super::links::{Due, Links};
use super::listener::ListenerSocket;
use super::named::Named;
use super::named_datagram::NamedDatagram;
use super::names::Names;
use super::packet::{Alarm, Packet};
use super::process::Process;
use super::rules::Rules;
use super::signals::Wanted;
use super::tcp::Tcp;
use super::{Faults, Random};
use crate::sys::habits::Habits;
use crate::sys::{Clock, Readiness};
use crate::{Address, CloseReason};

/// The index of a host in its network.
pub(crate) type HostIndex = usize;

/// Identifies a socket of the world; none is ever reused.
pub(crate) type SocketId = u64;

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Duration,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// The size of kernel buffers, picked when the network was made or its faults changed.
    pub(super) buffer_bytes: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    next_socket: SocketId,
    pub(super) bound: BTreeMap<Port, SocketId>,
    /// Unix listeners, by host and name.
    pub(super) named: Named,
    pub(super) named_datagrams: Named,
    /// Paths whose sockets were closed without removing them: a file is there that belongs to no socket.
    pub(super) left_paths: BTreeSet<(HostIndex, Address)>,
    pub(super) due: BTreeMap<(Duration, u64), Due>,
    alarms: BTreeMap<(Duration, u64), Alarm>,
    next_sequence: u64,
    pub(super) links: Links,
    pub(super) rules: Rules,
    pub(super) capture: Option<Capture>,
    pub(super) names: Names,
    /// How many hosts were restarted.
    pub(super) restarts: u64,
    pub(super) trace: Option<String>,
    /// Why connections of loops ended: host, token, reason.
    pub(super) losses: Vec<(HostIndex, usize, CloseReason)>,
    /// Input that was unread when a loop closed its socket: host, token, bytes.
    #[cfg(test)]
    pub(super) abandoned: Vec<(HostIndex, usize, usize)>,
    /// How many datagrams the kernels of hosts have taken, by host and port.
    #[cfg(test)]
    pub(super) datagrams_taken: BTreeMap<(HostIndex, u16), u64>,
    /// Something has happened to a socket that is operated by hand, since the network was last asked.
    by_hand: bool,
    /// Sockets whose kernel may take more of what is queued.
    pub(super) to_feed: VecDeque<SocketId>,
    /// One is being fed.
    pub(super) feeding: bool,
    /// Counts everything that calls have caused: a loop that turns without any progress is spinning.
    pub(super) progress: u64,
}

/// A port of a host, by protocol (TCP or not) and family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) tcp: bool,
    pub(super) host: HostIndex,
    pub(super) ipv6: bool,
    pub(super) port: u16,
}

pub(super) struct Host {
    pub(super) ready: VecDeque<SocketId>,
    pub(super) woken: Arc<AtomicBool>,
    next_port: u16,
    pub(super) process: Process,
    /// What waits for signals in its loop.
    pub(super) signals: Vec<Wanted>,
    /// The system that it runs: Linux, unless set otherwise.
    pub(super) habits: &'static Habits,
}

pub(super) struct Socket {
    pub(super) host: HostIndex,
    pub(super) registration: Option<Registration>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Listener(ListenerSocket),
    Tcp(Box<Tcp>),
    Datagram(DatagramSocket),
    NamedDatagram(NamedDatagram),
}

/// What a poller knows of a socket.
pub(super) struct Registration {
    /// The host of that poller.
    host: HostIndex,
    pub(super) token: usize,
    /// An edge has occurred and was not reported yet. Further ones are merged with it.
    queued: bool,
}

/// The ports that the system chooses from.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        let mut world = World {
            start: Clock::System.now(),
            now: Duration::ZERO,
            random: Random::new(seed),
            faults: Faults::none(),
            buffer_bytes: 0,
            hosts: Vec::new(),
            sockets: BTreeMap::new(),
            next_socket: 1,
            bound: BTreeMap::new(),
            named: Named::new(),
            named_datagrams: Named::new(),
            left_paths: BTreeSet::new(),
            due: BTreeMap::new(),
            alarms: BTreeMap::new(),
            next_sequence: 0,
            links: Links::default(),
            rules: Rules::default(),
            capture: None,
            names: Names::default(),
            restarts: 0,
            trace: Some(String::new()),
            losses: Vec::new(),
            #[cfg(test)]
            abandoned: Vec::new(),
            #[cfg(test)]
            datagrams_taken: BTreeMap::new(),
            by_hand: false,
            to_feed: VecDeque::new(),
            feeding: false,
            progress: 0,
        };
        world.set_faults(faults);
        world
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        // Small sizes are as likely as large ones: the number of bits is picked first.
        let (low, high) = (faults.buffer_bytes_min.max(1) as u64, faults.buffer_bytes_max.max(1) as u64);
        let bits = self.random.between(low.ilog2().into(), high.ilog2().into());
        self.buffer_bytes = self.random.between(1 << bits, (2 << bits) - 1).clamp(low, high.max(low));
        self.faults = faults;
    }

    pub(super) fn pick_buffer(&mut self) -> usize {
        let most = (4 * self.buffer_bytes).min(self.faults.buffer_bytes_max as u64);
        self.random.between(self.buffer_bytes, most) as usize
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{}.{:09} {what}", now.as_secs(), now.subsec_nanos());
        }
    }

    // Hosts and addresses.

    pub(super) fn add_host(&mut self) -> HostIndex {
        let span = u64::from(EPHEMERAL.end() - EPHEMERAL.start());
        let next_port = EPHEMERAL.start() + self.random.below(span) as u16;
        self.hosts.push(Host {
            ready: VecDeque::new(),
            woken: Arc::default(),
            next_port,
            process: Process::default(),
            signals: Vec::new(),
            habits: &Habits::LINUX,
        });
        self.hosts.len() - 1
    }

    pub(super) fn next_port(&mut self, tcp: bool, host: HostIndex, ipv6: bool) -> u16 {
        loop {
            let next = &mut self.hosts[host].next_port;
            let port = *next;
            *next = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.bound.contains_key(&Port { tcp, host, ipv6, port }) {
                return port;
            }
        }
    }

    /// Returns the host that `from` means by an address.
    pub(super) fn host_of(&self, from: HostIndex, ip: IpAddr) -> Option<HostIndex> {
        let number = match ip {
            _ if ip.is_loopback() || ip.is_unspecified() => return Some(from),
            IpAddr::V4(v4) => match v4.octets() {
                [10, 0, high, low] => usize::from(high) << 8 | usize::from(low),
                _ => return None,
            },
            IpAddr::V6(v6) => match v6.segments() {
                [0xfd00, 0, 0, 0, 0, 0, 0, low] => usize::from(low),
                _ => return None,
            },
        };
        number.checked_sub(1).filter(|&index| index < self.hosts.len())
    }

    /// Returns the habits of the system that the socket's host runs.
    pub(super) fn habits(&self, id: SocketId) -> &'static Habits {
        self.sockets.get(&id).map_or(&Habits::LINUX, |socket| self.hosts[socket.host].habits)
    }

    // Sockets.

    pub(super) fn insert(&mut self, host: HostIndex, kind: Kind) -> SocketId {
        let id = self.next_socket;
        self.next_socket += 1;
        self.sockets.insert(id, Socket { host, registration: None, kind });
        id
    }

    pub(super) fn register(&mut self, id: SocketId, host: HostIndex, token: usize) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            debug_assert!(socket.registration.is_none(), "registered twice");
            socket.registration = Some(Registration { host, token, queued: false });
            self.wake(id);
        }
    }

    /// Returns whether it is in a loop, rather than operated by hand.
    pub(super) fn is_registered(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| socket.registration.is_some())
    }

    pub(super) fn deregister(&mut self, id: SocketId) {
        if let Some(registration) = self.sockets.get_mut(&id).and_then(|socket| socket.registration.take()) {
            self.hosts[registration.host].ready.retain(|&ready| ready != id);
        }
    }

    /// An edge: the poller checks the socket when its loop next asks; a test that operates it by hand is told that
    /// there is something to check.
    pub(super) fn wake(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match &mut socket.registration {
            Some(registration) => {
                if !std::mem::replace(&mut registration.queued, true) {
                    self.hosts[registration.host].ready.push_back(id);
                }
            }
            None => self.by_hand = true,
        }
    }

    pub(super) fn has_by_hand(&self) -> bool {
        self.by_hand
    }

    pub(super) fn take_by_hand(&mut self) -> bool {
        std::mem::take(&mut self.by_hand)
    }

    /// Takes the events that are due for a host: for each socket with an edge, what it is ready for by now.
    pub(super) fn take_events(&mut self, host: HostIndex, events: &mut Vec<(usize, Readiness)>) {
        let mut ready = std::mem::take(&mut self.hosts[host].ready);
        let mut left = ready.len();
        if left > 1 && self.random.hits(self.faults.shuffled_events_permille) {
            let by = self.random.below(left as u64) as usize;
            ready.rotate_left(by);
            left = self.random.part_of(left);
        }
        for id in ready {
            if left == 0 {
                self.hosts[host].ready.push_back(id);
                continue;
            }
            let Some(registration) = self.sockets.get_mut(&id).and_then(|socket| socket.registration.as_mut()) else {
                continue;
            };
            registration.queued = false;
            let token = registration.token;
            let readiness = self.readiness(id);
            if readiness != Readiness::default() {
                left -= 1;
                self.progress += 1;
                let told = self.tamper(id, readiness);
                self.note(format_args!("host {host} is told of s{id}: {told:?}"));
                self.push_events(host, token, told, events);
            }
        }
        self.invent_event(host, events);
    }

    /// Reports to a loop what a socket is ready for, at once or with an event for each direction.
    fn push_events(&self, host: HostIndex, token: usize, told: Readiness, events: &mut Vec<(usize, Readiness)>) {
        let writing = Readiness::WRITABLE.and(Readiness::WRITE_CLOSED);
        let (reads, writes) = (told.without(writing), told.without(Readiness::READ_CLOSED.and(Readiness::READABLE)));
        let is_apart = self.hosts[host].habits.event_per_filter && reads != Readiness::default() && told.is_writable();
        match is_apart {
            true => events.extend([(token, writes), (token, reads)]),
            false => events.push((token, told)),
        }
    }

    /// Returns the part of an event that its loop gets to see.
    fn tamper(&mut self, id: SocketId, readiness: Readiness) -> Readiness {
        let hints = Readiness::READ_CLOSED.and(Readiness::WRITE_CLOSED).and(Readiness::ERROR).and(Readiness::PRIORITY);
        let rest = readiness.without(hints);
        let portable = matches!(&self.sockets[&id].kind, Kind::Tcp(tcp) if tcp.portable);
        if portable {
            return rest;
        }
        if rest != readiness && rest != Readiness::default() && self.random.hits(self.faults.late_hints_permille) {
            self.wake(id);
            return rest;
        }
        readiness
    }

    fn invent_event(&mut self, host: HostIndex, events: &mut Vec<(usize, Readiness)>) {
        if !self.random.hits(self.faults.spurious_events_permille) {
            return;
        }
        let registered = |socket: &Socket| socket.registration.as_ref().filter(|of| of.host == host).map(|of| of.token);
        let tokens: Vec<_> = self.sockets.iter().filter_map(|(&id, s)| Some((id, registered(s)?))).collect();
        if tokens.is_empty() {
            return;
        }
        let (id, token) = tokens[self.random.below(tokens.len() as u64) as usize];
        let readiness = match self.random.below(3) {
            0 => Readiness::READABLE,
            1 => Readiness::WRITABLE,
            _ => Readiness::READABLE.and(Readiness::WRITABLE).and(Readiness::READ_CLOSED),
        };
        self.note(format_args!("host {host} is told of s{id} for no reason: {readiness:?}"));
        events.push((token, readiness));
    }

    pub(super) fn readiness(&mut self, id: SocketId) -> Readiness {
        let habits = self.habits(id);
        match self.sockets.get_mut(&id).map(|socket| &mut socket.kind) {
            Some(Kind::Listener(listener)) => listener.readiness(),
            Some(Kind::Tcp(tcp)) => tcp.readiness(habits),
            Some(Kind::Datagram(datagram)) => datagram.readiness(),
            Some(Kind::NamedDatagram(_)) => self.readiness_of_named(id),
            None => Readiness::default(),
        }
    }

    // Time.

    /// Returns when something happens next.
    pub(super) fn next_at(&mut self) -> Option<Duration> {
        while self.alarms.first_key_value().is_some_and(|(_, &alarm)| self.is_stale(alarm)) {
            self.alarms.pop_first();
        }
        let packet = self.due.first_key_value().map(|(&(at, _), _)| at);
        let alarm = self.alarms.first_key_value().map(|(&(at, _), _)| at);
        packet.into_iter().chain(alarm).min()
    }

    /// Handles everything that is due, including what that causes at once.
    pub(super) fn settle(&mut self) {
        loop {
            if self.due.first_key_value().is_some_and(|(&(at, _), _)| at <= self.now) {
                self.deliver_next();
            } else if self.alarms.first_key_value().is_some_and(|(&(at, _), _)| at <= self.now) {
                let (_, alarm) = self.alarms.pop_first().expect("it was just seen");
                self.ring(alarm);
            } else if !self.feed_next() {
                return;
            }
        }
    }

    fn deliver_next(&mut self) {
        match self.due.pop_first() {
            Some((_, Due::Arrives(packet))) => self.deliver(packet),
            Some((_, Due::Again(sending))) => self.send_again(sending),
            None => {}
        }
    }

    /// Advances time, and handles what is due on the way, in order.
    pub(super) fn advance_to(&mut self, time: Duration) {
        while let Some(at) = self.next_at().filter(|&at| at <= time) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = self.now.max(time);
    }

    /// Called before each call on a socket: packets may arrive in the middle of a turn.
    pub(super) fn begin_call(&mut self) {
        self.settle();
        if self.random.hits(self.faults.early_packets_permille) {
            self.deliver_next();
        }
    }

    /// Returns whether the call that begins is interrupted by a signal.
    pub(super) fn is_interrupted(&mut self) -> bool {
        self.random.hits(self.faults.interrupted_permille)
    }

    pub(super) fn set_alarm(&mut self, after: Duration, alarm: Alarm) {
        let key = (self.now + after, self.sequence());
        self.alarms.insert(key, alarm);
    }

    /// Makes a packet arrive after this time.
    pub(super) fn put_under_way(&mut self, after: Duration, packet: Packet) {
        let key = (self.now + after, self.sequence());
        self.due.insert(key, Due::Arrives(packet));
    }

    pub(super) fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }
}

pub(super) fn address_of(host: HostIndex, ipv6: bool) -> IpAddr {
    let number = host + 1;
    match ipv6 {
        false => Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8).into(),
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number as u16).into(),
    }
}

/// Returns whether `to` means a socket that is bound to `bound`.
pub(super) fn is_meant(bound: SocketAddr, to: SocketAddr, host: HostIndex, from: HostIndex) -> bool {
    let local = bound.ip().is_loopback();
    bound.port() == to.port() && (bound.ip().is_unspecified() || bound.ip() == to.ip()) && (!local || host == from)
}
