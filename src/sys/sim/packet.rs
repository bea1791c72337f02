//! Packets between hosts, and what they do on arrival.

use std::net::SocketAddr;
use std::time::Duration;

use super::Errno;
use super::rules::PacketKind;
use super::tcp::{Phase, Tcp};
use super::world::{HostIndex, Kind, Port, SocketId, World, is_meant};

/// A packet in flight. Sockets are identified by id, so that no address is ever mistaken for a successor's.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// A client asks for a connection.
    Syn {
        from: SocketId,
    },
    /// A listener has responded to it.
    SynAck {
        to: SocketId,
        from: SocketId,
    },
    /// The client has seen the answer.
    Established {
        to: SocketId,
    },
    /// No socket listens there.
    Refused {
        to: SocketId,
    },
    Data {
        to: SocketId,
        from: SocketId,
        bytes: Vec<u8>,
        urgent: bool,
    },
    Ack {
        to: SocketId,
        count: usize,
    },
    /// The receiver has room again.
    Window {
        to: SocketId,
    },
    /// A sender asks whether the receiver has room.
    Probe {
        to: SocketId,
        from: SocketId,
    },
    Fin {
        to: SocketId,
        from: SocketId,
    },
    FinAck {
        to: SocketId,
    },
    Reset {
        to: SocketId,
        /// Whether its receiver sends something to the closed socket until it is answered, so that it is sent again if
        /// it does not arrive.
        again: bool,
    },
    Datagram {
        to: SocketAddr,
        host: HostIndex,
        from: SocketAddr,
        /// The socket, and how many bytes of its memory this occupies.
        sender: (SocketId, usize),
        bytes: Vec<u8>,
    },
    /// The host says that no socket is bound there (ICMP).
    Unreachable {
        to: SocketId,
    },
}

impl Packet {
    /// Returns whether its sender retransmits it until it arrives. A connect has an alarm of its own for that.
    pub(super) fn is_sent_again(&self) -> bool {
        match self {
            Packet::Syn { .. } | Packet::Refused { .. } | Packet::Datagram { .. } | Packet::Unreachable { .. } => false,
            Packet::Reset { again, .. } => *again,
            _ => true,
        }
    }

    /// Returns whether a socket gives up if it does not arrive within some time.
    fn is_awaited(&self) -> bool {
        use Packet::{Ack, Data, Established, Fin, FinAck, Probe, Reset, SynAck};
        match self {
            Data { .. } | Fin { .. } | Probe { .. } | Ack { .. } | FinAck { .. } => true,
            SynAck { .. } | Established { .. } => true,
            Reset { again, .. } => *again,
            _ => false,
        }
    }

    /// Returns which socket that is: its sender, or the one that waits for this reply.
    pub(super) fn waits_for_it(&self, sender: SocketId) -> SocketId {
        match self {
            Packet::Ack { to, .. } | Packet::FinAck { to } | Packet::Window { to } => *to,
            Packet::Established { to } | Packet::Reset { to, again: true } => *to,
            _ => sender,
        }
    }

    /// Returns what is sent in its place once its sender has ended: nothing, but a listener that waits for the end of a
    /// connect asks for it again, and is reset.
    pub(super) fn after_the_end(self) -> Option<Packet> {
        match self {
            Packet::Established { to } => Some(Packet::Reset { to, again: true }),
            _ => None,
        }
    }

    /// Returns whether it keeps its order among the packets of its sender: the receiver sees none before those that
    /// were sent earlier.
    pub(super) fn keeps_order(&self) -> bool {
        use Packet::{Data, Established, Fin, SynAck};
        matches!(self, SynAck { .. } | Established { .. } | Data { .. } | Fin { .. })
    }

    /// Returns the socket that it is for; `None` if the address decides that.
    pub(super) fn target(&self) -> Option<SocketId> {
        match *self {
            Packet::Syn { .. } | Packet::Datagram { .. } => None,
            Packet::SynAck { to, .. }
            | Packet::Established { to }
            | Packet::Refused { to }
            | Packet::Data { to, .. }
            | Packet::Ack { to, .. }
            | Packet::Window { to }
            | Packet::Probe { to, .. }
            | Packet::Fin { to, .. }
            | Packet::FinAck { to }
            | Packet::Reset { to, .. }
            | Packet::Unreachable { to } => Some(to),
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Packet::Data { bytes, .. } | Packet::Datagram { bytes, .. } => bytes,
            _ => &[],
        }
    }

    pub(super) fn kind(&self) -> PacketKind {
        match self {
            Packet::Syn { .. } => PacketKind::Connect,
            Packet::SynAck { .. } => PacketKind::Accept,
            Packet::Established { .. } => PacketKind::Connected,
            Packet::Data { .. } => PacketKind::Data,
            Packet::Ack { .. } | Packet::Window { .. } | Packet::Probe { .. } => PacketKind::Ack,
            Packet::Fin { .. } => PacketKind::End,
            Packet::FinAck { .. } => PacketKind::EndAck,
            Packet::Refused { .. } | Packet::Reset { .. } => PacketKind::Reset,
            Packet::Datagram { .. } => PacketKind::Datagram,
            Packet::Unreachable { .. } => PacketKind::Unreachable,
        }
    }

    /// Returns the copy that arrives if it is duplicated, which occupies no socket's memory; `None` if a duplicate
    /// would go unnoticed.
    pub(super) fn copy(&self) -> Option<Packet> {
        let mut copy = self.clone();
        match &mut copy {
            Packet::Datagram { sender: (_, held), .. } => *held = 0,
            _ => return None,
        }
        Some(copy)
    }
}

/// Something that happens at a set time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// A connect without a reply is retried, for the n-th time.
    SynAgain(SocketId, u32),
    /// A receiver takes data again.
    EndStall(SocketId),
    /// A sender gives up if what it had sent by this time has no reply yet.
    GiveUp(SocketId, Duration),
    /// The kernel has buffers again, for a socket that is operated by hand: a loop has timers of its own for that.
    Buffers(SocketId),
    /// A name has been looked up.
    Lookup(u64),
}

/// How often a first packet is retransmitted before a connect times out, 127 seconds later (Linux, `tcp_syn_retries`).
const SYN_RETRIES: u32 = 6;

/// A sender whose packets are not acknowledged for this long gives up (Linux, `tcp_retries2`).
pub(super) const GIVE_UP: Duration = Duration::from_secs(924);

/// A listener whose reply to a connect is not acknowledged for this long gives up (Linux, `tcp_synack_retries`).
const GIVE_UP_ANSWER: Duration = Duration::from_secs(63);

impl World {
    pub(super) fn deliver(&mut self, packet: Packet) {
        let Some(packet) = self.reach(packet) else { return };
        match packet {
            Packet::Syn { from } => self.deliver_syn(from),
            Packet::SynAck { to, from } => self.deliver_syn_ack(to, from),
            Packet::Established { to } => self.deliver_established(to),
            Packet::Refused { to } => self.fail(to, Errno::ConnectionRefused),
            Packet::Data { to, from, bytes, urgent } => self.deliver_data(to, from, bytes, urgent),
            Packet::Ack { to, count } => self.deliver_ack(to, count),
            Packet::Window { to } => self.pump(to),
            Packet::Probe { to, from } => self.deliver_probe(to, from),
            Packet::Fin { to, from } => self.deliver_fin(to, from),
            Packet::FinAck { to } => self.deliver_fin_ack(to),
            Packet::Reset { to, .. } => self.deliver_reset(to),
            Packet::Datagram { to, host, from, sender, bytes } => {
                self.deliver_datagram(to, host, (sender, from), bytes);
            }
            Packet::Unreachable { to } => self.deliver_unreachable(to),
        }
    }

    /// Returns whether an alarm has nothing left to do.
    pub(super) fn is_stale(&self, alarm: Alarm) -> bool {
        match alarm {
            Alarm::SynAgain(id, _) => !self.is_tcp(id, |tcp| tcp.phase == Phase::Connecting),
            Alarm::EndStall(id) => !self.is_tcp(id, |tcp| tcp.stalled),
            Alarm::GiveUp(id, _) => !self.is_tcp(id, |tcp| tcp.phase != Phase::Closed),
            Alarm::Buffers(id) => !self.sockets.contains_key(&id),
            Alarm::Lookup(id) => !self.is_looked_up(id),
        }
    }

    pub(super) fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::SynAgain(id, times) => match self.tcp(id) {
                // A reply may be in flight; then only the last one counts.
                Some(tcp) if tcp.phase == Phase::Connecting => {
                    if times > SYN_RETRIES {
                        self.fail(id, Errno::TimedOut);
                    } else {
                        self.send_syn(id, times);
                    }
                }
                _ => {}
            },
            Alarm::EndStall(id) => self.set_stalled(id, false),
            Alarm::Buffers(id) => self.has_room(id),
            Alarm::Lookup(id) => self.answer_lookup(id),
            Alarm::GiveUp(id, sent_by) => {
                if self.was_held(id, sent_by) {
                    self.give_up(id);
                }
            }
        }
    }

    /// Returns how long a socket waits for a packet to arrive before it gives up. `None` if none does.
    pub(super) fn awaited_for(&self, packet: &Packet, sender: SocketId) -> Option<Duration> {
        let is_embryo = self.is_tcp(packet.waits_for_it(sender), |tcp| matches!(tcp.phase, Phase::Embryo(_)));
        packet.is_awaited().then_some(if is_embryo { GIVE_UP_ANSWER } else { GIVE_UP })
    }

    // Connecting.

    /// Sends the first packet of a connect, for the n-th time, and schedules the next try.
    pub(super) fn send_syn(&mut self, id: SocketId, times: u32) {
        self.set_alarm(Duration::from_secs(1 << times.min(SYN_RETRIES)), Alarm::SynAgain(id, times + 1));
        let lost = self.random.hits(self.faults.lost_connects_permille);
        let Some(tcp) = self.tcp(id) else { return };
        // Once there is an embryo at the other end, the reply is in flight.
        let (Some(to), None) = (tcp.remote_host, tcp.peer) else { return };
        let from = self.sockets[&id].host;
        if !lost {
            self.transmit(id, (from, to), Duration::ZERO, Packet::Syn { from: id });
        }
    }

    fn deliver_syn(&mut self, from: SocketId) {
        let Some(client) = self.tcp(from) else { return };
        let (to, address) = (client.remote, client.local);
        let Some(host) = client.remote_host.filter(|_| client.phase == Phase::Connecting && client.peer.is_none())
        else {
            return;
        };
        let client_host = self.sockets[&from].host;
        let listener = self.find_bound(true, host, to, client_host);
        let refuses = self.random.hits(self.faults.refused_connects_permille);
        let Some((id, listener)) = listener.filter(|_| !refuses).and_then(|id| Some((id, self.listener(id)?))) else {
            self.transmit(0, (host, client_host), Duration::ZERO, Packet::Refused { to: from });
            return;
        };
        // Full: the packet is dropped, and the client tries again. Linux takes one more than the backlog says.
        if listener.queue.len() + listener.embryos > listener.backlog {
            return self.note(format_args!("s{id} is full: s{from} waits"));
        }
        listener.embryos += 1;
        let mut tcp = Tcp::new(to, address, Some(client_host), self);
        tcp.phase = Phase::Embryo(id);
        tcp.peer = Some(from);
        let embryo = self.insert(host, Kind::Tcp(Box::new(tcp)));
        if let Some(client) = self.tcp(from) {
            client.peer = Some(embryo);
        }
        self.send_in_order(embryo, Packet::SynAck { to: from, from: embryo });
    }

    pub(super) fn find_bound(&self, tcp: bool, host: HostIndex, to: SocketAddr, from: HostIndex) -> Option<SocketId> {
        let port = Port { tcp, host, ipv6: to.is_ipv6(), port: to.port() };
        let id = *self.bound.get(&port)?;
        let bound = match &self.sockets.get(&id)?.kind {
            Kind::Listener(listener) => listener.local,
            Kind::Datagram(datagram) => datagram.local,
            Kind::Tcp(_) | Kind::NamedDatagram(_) => return None,
        };
        is_meant(bound, to, host, from).then_some(id)
    }

    fn deliver_syn_ack(&mut self, to: SocketId, from: SocketId) {
        match self.tcp(to) {
            Some(client) if client.phase == Phase::Connecting => {
                client.phase = Phase::Open;
                self.note(format_args!("s{to} is connected"));
                self.wake(to);
                self.has_room(to);
                self.send_in_order(to, Packet::Established { to: from });
                self.pump(to);
            }
            // It has been closed in the meantime.
            _ => self.reset_unknown(from),
        }
    }

    fn deliver_established(&mut self, to: SocketId) {
        let Some(Phase::Embryo(listener)) = self.tcp(to).map(|tcp| tcp.phase) else { return };
        if let Some(tcp) = self.tcp(to) {
            tcp.phase = Phase::Open;
        }
        if let Some(listener) = self.listener(listener) {
            listener.embryos -= 1;
            listener.queue.push_back(to);
        }
        self.note(format_args!("s{to} waits to be accepted at s{listener}"));
        self.wake(listener);
    }

    // The stream.

    fn deliver_data(&mut self, to: SocketId, from: SocketId, bytes: Vec<u8>, urgent: bool) {
        let stalls = self.random.hits(self.faults.stalls_permille) && !self.is_named(to);
        let Some(tcp) = self.tcp(to) else { return self.reset_unknown(from) };
        tcp.in_flight = tcp.in_flight.saturating_sub(bytes.len());
        if tcp.orphan {
            // It will never be read.
            self.remove_tcp(to);
            return self.reset_unknown(from);
        }
        if tcp.phase == Phase::Closed {
            return self.reset_unknown(from);
        }
        let count = bytes.len();
        tcp.arrive(&bytes, urgent);
        if let Some(capture) = &mut self.capture {
            capture.arrived(to, count);
        }
        self.note(format_args!("{count} bytes arrive at s{to}{}", if urgent { ", the last one urgent" } else { "" }));
        self.wake(to);
        let now = self.now;
        if stalls && self.is_tcp(to, |tcp| !tcp.stalled && tcp.takes_until <= now) {
            let time = Duration::from_millis(self.random.between(1, 1000));
            if let Some(tcp) = self.tcp(to) {
                tcp.takes_until = now + 2 * time;
            }
            self.set_stalled(to, true);
            self.set_alarm(time, Alarm::EndStall(to));
        }
        // For a Unix stream it occupies its sender's memory until it is read.
        if !self.is_named(to) {
            self.send_back(to, Packet::Ack { to: from, count });
        }
    }

    fn deliver_ack(&mut self, to: SocketId, count: usize) {
        let Some(tcp) = self.tcp(to) else { return };
        tcp.probes = false;
        let is_awaited = tcp.names.is_none() || tcp.awaits_writable;
        if tcp.acknowledged(count) && (is_awaited || !self.is_registered(to)) {
            self.wake(to);
        }
        self.has_room(to);
        self.pump(to);
        self.reap(to);
    }

    fn deliver_fin(&mut self, to: SocketId, from: SocketId) {
        let Some(tcp) = self.tcp(to) else { return self.reset_unknown(from) };
        if tcp.phase == Phase::Closed {
            return self.reset_unknown(from);
        }
        tcp.fin_received = true;
        if tcp.fin_acknowledged {
            tcp.phase = Phase::Closed;
        }
        if let Some(capture) = &mut self.capture {
            capture.arrived(to, 1);
        }
        self.note(format_args!("the end arrives at s{to}"));
        self.wake(to);
        self.send_back(to, Packet::FinAck { to: from });
        self.reap(to);
    }

    fn deliver_fin_ack(&mut self, to: SocketId) {
        let Some(tcp) = self.tcp(to) else { return };
        tcp.fin_acknowledged = true;
        if tcp.fin_received && tcp.phase != Phase::Closed {
            tcp.phase = Phase::Closed;
            self.wake(to);
        }
        self.reap(to);
    }

    pub(super) fn deliver_reset(&mut self, to: SocketId) {
        let Some(tcp) = self.tcp(to) else { return };
        if tcp.orphan {
            return self.remove_tcp(to);
        }
        match tcp.phase {
            Phase::Closed => {}
            Phase::Connecting => self.fail(to, Errno::ConnectionRefused),
            Phase::Embryo(listener) => {
                if let Some(listener) = self.listener(listener) {
                    listener.embryos -= 1;
                }
                self.remove_tcp(to);
            }
            // Linux reports a broken pipe to a socket that has only its own half left.
            Phase::Open if tcp.fin_received && !tcp.write_shut => self.fail(to, Errno::BrokenPipe),
            Phase::Open => self.fail(to, Errno::ConnectionReset),
        }
    }

    /// Closes both halves of a socket, with an error. What had arrived stays readable; unsent data is dropped.
    pub(super) fn fail(&mut self, id: SocketId, error: Errno) {
        let Some(tcp) = self.tcp(id) else { return };
        if tcp.phase == Phase::Closed {
            return;
        }
        tcp.fail(error);
        self.drop_held(id);
        self.note(format_args!("s{id} fails: {error:?}"));
        self.wake(id);
        self.reap(id);
    }

    /// Answers a packet for a socket that no longer exists.
    pub(super) fn reset_unknown(&mut self, to: SocketId) {
        let Some(tcp) = self.tcp(to) else { return };
        let Some(remote) = tcp.remote_host else { return };
        let host = self.sockets[&to].host;
        self.transmit(0, (remote, host), Duration::ZERO, Packet::Reset { to, again: true });
    }

    /// Removes a socket that nothing holds any more, once both its halves are closed.
    pub(super) fn reap(&mut self, id: SocketId) {
        if self.tcp(id).is_some_and(|tcp| tcp.orphan && tcp.phase == Phase::Closed) {
            self.remove_tcp(id);
        }
    }

    /// After a link was healed: what its sockets send from now on comes after what they retransmit.
    pub(super) fn delay_senders(&mut self, one: HostIndex, other: HostIndex, at: Duration) {
        for socket in self.sockets.values_mut() {
            let host = socket.host;
            if let Kind::Tcp(tcp) = &mut socket.kind {
                if (host == one && tcp.remote_host == Some(other)) || (host == other && tcp.remote_host == Some(one)) {
                    tcp.last_arrival = tcp.last_arrival.max(at);
                }
            }
        }
    }
}
