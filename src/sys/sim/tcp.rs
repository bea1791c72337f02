//! Simulated TCP sockets, which behave like those of Linux.
//!
//! What is not obvious about them was taken from Linux, with which the differential tests compare it: which error is
//! reported when, where a read stops short, and when a socket becomes writable again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::by_hand::Queue;
use super::listener::port_of;
use super::named::Names;
use super::packet::Packet;
use super::world::{HostIndex, Kind, SocketId, World, address_of};
use super::{Call, Errno};
use crate::sys::Readiness;
use crate::sys::habits::Habits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// The far end of an incomplete connect, at this listener.
    Embryo(SocketId),
    Open,
    /// Both halves are closed: by an end each, or by an error.
    Closed,
}

pub(super) struct Tcp {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The names of a Unix stream, which has no addresses.
    pub(super) names: Option<Box<Names>>,
    /// Whether the loop of a Unix stream is to be told of room. (A TCP socket's loop always is.)
    pub(super) awaits_writable: bool,
    pub(super) remote_host: Option<HostIndex>,
    pub(super) peer: Option<SocketId>,
    pub(super) phase: Phase,
    /// The error that the next call reports, once.
    error: Option<Errno>,
    // Receiving.
    pub(super) received: VecDeque<u8>,
    received_max: usize,
    /// How many of the received bytes come before the urgent one.
    urgent: Option<usize>,
    /// The previous read reported that it would block, although the urgent byte was there.
    denied: bool,
    /// What is in flight to here: its room is reserved.
    pub(super) in_flight: usize,
    pub(super) fin_received: bool,
    /// Its window is closed.
    pub(super) stalled: bool,
    /// It is not closed again before this time.
    pub(super) takes_until: Duration,
    // Sending.
    /// What the test has queued, if the socket is operated by hand.
    pub(super) queue: Queue,
    unsent: VecDeque<u8>,
    /// It has asked whether its peer has room, and has no answer yet.
    pub(super) probes: bool,
    /// Which of the unsent bytes is urgent.
    urgent_unsent: Option<usize>,
    unacknowledged: usize,
    sent_max: usize,
    /// A caller was told that there is no room: a writable edge is due when there is.
    no_space: bool,
    pub(super) write_shut: bool,
    fin_sent: bool,
    pub(super) fin_acknowledged: bool,
    /// When the last packet of this direction arrives.
    pub(super) last_arrival: Duration,
    /// Its owner has closed it.
    pub(super) orphan: bool,
    /// It behaves like sockets of platforms other than Linux.
    pub(super) portable: bool,
    /// Its port was requested, and is free again when it closes.
    pub(super) bound: bool,
}

/// The address of a socket that has a name instead.
pub(crate) const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Tcp {
    pub(super) fn new(local: SocketAddr, remote: SocketAddr, remote_host: Option<HostIndex>, world: &mut World) -> Tcp {
        Tcp {
            local,
            remote,
            names: None,
            awaits_writable: false,
            remote_host,
            peer: None,
            phase: Phase::Connecting,
            error: None,
            received: VecDeque::new(),
            received_max: world.pick_buffer(),
            urgent: None,
            denied: false,
            in_flight: 0,
            fin_received: false,
            stalled: false,
            takes_until: Duration::ZERO,
            queue: Queue::default(),
            unsent: VecDeque::new(),
            probes: false,
            urgent_unsent: None,
            unacknowledged: 0,
            sent_max: world.pick_buffer(),
            no_space: false,
            write_shut: false,
            fin_sent: false,
            fin_acknowledged: false,
            last_arrival: Duration::ZERO,
            orphan: false,
            portable: world.random.hits(world.faults.portable_sockets_permille),
            bound: false,
        }
    }

    /// Returns a Unix stream, or a pipe.
    pub(super) fn named(world: &mut World, host: HostIndex, names: Names) -> Tcp {
        let mut tcp = Tcp::new(NO_ADDRESS, NO_ADDRESS, Some(host), world);
        tcp.names = Some(Box::new(names));
        tcp
    }

    /// Returns what the poller of a system with these habits would report of it, as mio passes it on.
    pub(super) fn readiness(&mut self, habits: &Habits) -> Readiness {
        let all = self.readiness_by_epoll();
        let is_deaf = habits.hang_up_by_writing && self.names.is_some() && !self.awaits_writable;
        match (is_deaf, habits.tells_urgent_data) {
            (true, _) => all.without(Readiness::WRITE_CLOSED.and(Readiness::PRIORITY)),
            (false, true) => all,
            (false, false) => all.without(Readiness::PRIORITY),
        }
    }

    fn readiness_by_epoll(&mut self) -> Readiness {
        let mut readiness = Readiness::default();
        let closed = self.phase == Phase::Closed;
        let read_shut = self.fin_received || closed;
        if closed || (read_shut && self.write_shut) {
            readiness = readiness.and(Readiness::READ_CLOSED).and(Readiness::WRITE_CLOSED);
        }
        if self.phase != Phase::Connecting {
            if read_shut {
                readiness = readiness.and(Readiness::READABLE).and(Readiness::READ_CLOSED);
            }
            if !self.received.is_empty() {
                readiness = readiness.and(Readiness::READABLE);
            }
            if self.urgent.is_some() {
                readiness = readiness.and(Readiness::PRIORITY).and(Readiness::READABLE);
            }
            if self.names.is_some() && !self.awaits_writable {
                // Nothing asks for it.
            } else if self.write_shut || closed || self.has_space() {
                readiness = readiness.and(Readiness::WRITABLE);
            } else {
                self.no_space = true;
            }
        }
        if self.error.is_some() {
            readiness = readiness.and(Readiness::ERROR).and(Readiness::WRITE_CLOSED);
        }
        readiness
    }

    /// Returns whether both its halves have ended, and everything that it had to send is out.
    pub(super) fn has_ended(&self) -> bool {
        self.fin_received && self.fin_sent && self.unsent.is_empty()
    }

    /// Returns whether it sends packets until they are acknowledged: data, or probes of a closed window.
    pub(super) fn is_sending(&self) -> bool {
        self.unacknowledged > 0 || !self.unsent.is_empty() || self.fin_sent && !self.fin_acknowledged
    }

    /// Returns whether it has data to send and none under way: its peer has no room.
    pub(super) fn is_blocked(&self) -> bool {
        self.phase == Phase::Open && !self.unsent.is_empty() && self.unacknowledged == 0
    }

    /// Returns how many bytes were not read yet.
    pub(super) fn unread(&self) -> usize {
        self.received.len()
    }

    #[cfg(test)]
    pub(super) fn inspected(&self, host: HostIndex, token: usize) -> super::Inspected {
        let closed = self.phase == Phase::Closed;
        let has_space = closed || self.has_space();
        let unread = self.received.len();
        super::Inspected { host, token, unread, has_space, read_shut: self.fin_received || closed }
    }

    fn used(&self) -> usize {
        self.unsent.len() + self.unacknowledged
    }

    fn free(&self) -> usize {
        self.sent_max.saturating_sub(self.used())
    }

    /// Returns whether it counts as writable: not with the first free byte, but with a third of the buffer.
    fn has_space(&self) -> bool {
        match self.names {
            // For a Unix stream, no more than a quarter may be used.
            Some(_) => self.free() > 0 && 4 * self.used() <= self.sent_max,
            None => self.free() > 0 && self.free() >= self.used() / 2,
        }
    }

    /// Returns whether both its halves are closed.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Closed || (self.fin_received && self.write_shut)
    }

    /// Returns whether written data may still be sent.
    pub(super) fn can_send(&self) -> bool {
        !self.write_shut && self.phase != Phase::Closed
    }

    /// A caller is told that there is no room.
    pub(super) fn lacks_room(&mut self) {
        self.no_space = true;
    }

    /// Returns whether a caller was told that there is no room, and there is some by now.
    pub(super) fn got_room(&self) -> bool {
        self.no_space && self.free() > 0
    }

    fn window(&self) -> usize {
        let is_boundless = self.orphan || self.phase == Phase::Closed || self.names.is_some();
        match (is_boundless, self.stalled) {
            (true, _) => usize::MAX,
            (_, true) => 0,
            _ => self.received_max.saturating_sub(self.received.len() + self.in_flight),
        }
    }

    pub(super) fn arrive(&mut self, bytes: &[u8], urgent: bool) {
        self.received.extend(bytes);
        if urgent {
            self.urgent = Some(self.received.len() - 1);
        }
    }

    /// Returns whether that is a writable edge.
    pub(super) fn acknowledged(&mut self, count: usize) -> bool {
        self.unacknowledged = self.unacknowledged.saturating_sub(count);
        self.phase == Phase::Open && self.has_space() && std::mem::take(&mut self.no_space)
    }

    /// The peer of this Unix stream has closed. An error is reported before the end, once.
    pub(super) fn is_hung_up(&mut self, error: Option<Errno>) {
        self.error = self.error.or(error);
        self.fin_received = false;
        self.phase = Phase::Closed;
        self.write_shut = true;
        self.queue.clear();
        self.unsent.clear();
        self.unacknowledged = 0;
    }

    pub(super) fn fail(&mut self, error: Errno) {
        self.error = Some(error);
        self.phase = Phase::Closed;
        self.write_shut = true;
        self.queue.clear();
        self.unsent.clear();
        self.unacknowledged = 0;
    }
}

impl World {
    pub(super) fn tcp(&mut self, id: SocketId) -> Option<&mut Tcp> {
        match &mut self.sockets.get_mut(&id)?.kind {
            Kind::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    pub(super) fn is_tcp(&self, id: SocketId, is: impl Fn(&Tcp) -> bool) -> bool {
        matches!(self.sockets.get(&id).map(|socket| &socket.kind), Some(Kind::Tcp(tcp)) if is(tcp))
    }

    pub(super) fn connect(
        &mut self,
        host: HostIndex,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> io::Result<SocketId> {
        self.check_opening(host, Call::Connect)?;
        let bound = local.is_some_and(|local| local.port() != 0);
        let ipv6 = remote.is_ipv6();
        let own = if remote.ip().is_loopback() { remote.ip() } else { address_of(host, ipv6) };
        let mut from = self.bind(true, host, local.unwrap_or_else(|| (own, 0).into()))?;
        if from.ip().is_unspecified() {
            from.set_ip(own);
        }
        let remote_host = self.host_of(host, remote.ip());
        let mut tcp = Tcp::new(from, remote, remote_host, self);
        tcp.bound = bound;
        let id = self.insert(host, Kind::Tcp(Box::new(tcp)));
        if bound {
            self.bound.insert(port_of(true, host, from), id);
        }
        self.note(format_args!("s{id} of host {host}: {from} connects to {remote}"));
        if from == remote {
            // A socket that connects to itself: TCP's simultaneous open makes a connection of that.
            if let Some(tcp) = self.tcp(id) {
                tcp.phase = Phase::Open;
                tcp.peer = Some(id);
            }
        } else {
            self.send_syn(id, 0);
        }
        self.settle();
        Ok(id)
    }

    pub(super) fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<usize> {
        self.begin_call();
        self.check_call(id, Call::Read)?;
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        if self.would_block_at_mark(id) {
            return Err(Errno::WouldBlock.into());
        }
        let short = self.random.hits(self.faults.short_reads_permille);
        let Some(tcp) = self.tcp(id) else { return Err(Errno::NotConnected.into()) };
        if buffer.is_empty() {
            return Ok(0);
        }
        if tcp.received.is_empty() {
            let answer = match () {
                // After an end a read finds the end again, even if the peer has reset in the meantime.
                () if tcp.fin_received => Ok(0),
                () if tcp.error.is_some() => Err(tcp.error.take().expect("it was just seen")),
                () if tcp.phase == Phase::Closed => Ok(0),
                () => return Err(Errno::WouldBlock.into()),
            };
            self.progress += 1;
            self.note(format_args!("s{id} reads: {answer:?}"));
            return answer.map_err(io::Error::from);
        }
        let mut count = tcp.received.len().min(buffer.len());
        if let Some(mark) = tcp.urgent.filter(|&mark| mark > 0) {
            count = count.min(mark);
        }
        if short && tcp.portable {
            count = self.random.part_of(count);
        }
        let Some(tcp) = self.tcp(id) else { return Ok(0) };
        for (to, from) in buffer.iter_mut().zip(tcp.received.drain(..count)) {
            *to = from;
        }
        tcp.urgent = tcp.urgent.and_then(|mark| mark.checked_sub(count));
        let left = !tcp.received.is_empty();
        self.progress += 1;
        self.note(format_args!("s{id} reads {count}"));
        if left && !self.is_registered(id) {
            // A test that operates it by hand may read on, even if nothing else happens.
            self.wake(id);
        }
        match self.tcp(id).and_then(|tcp| tcp.peer) {
            Some(peer) if self.is_named(id) => self.hand_over(Packet::Ack { to: peer, count }),
            _ => self.open_window(id),
        }
        self.settle();
        Ok(count)
    }

    /// Returns whether a read finds the urgent byte next and a signal pending, and so reports that it would block.
    fn would_block_at_mark(&mut self, id: SocketId) -> bool {
        let may =
            self.is_registered(id) && self.is_tcp(id, |tcp| tcp.urgent == Some(0) && !tcp.portable && !tcp.denied);
        // Only on Linux.
        let may = may && self.habits(id).tells_urgent_data;
        let denies = may && self.random.hits(self.faults.urgent_would_blocks_permille);
        if let Some(tcp) = self.tcp(id) {
            tcp.denied = denies;
        }
        if denies {
            self.note(format_args!("s{id} would block at an urgent byte that is there"));
        }
        denies
    }

    /// Tells the peer that there is room again, if it waits for that.
    pub(super) fn open_window(&mut self, id: SocketId) {
        let Some(peer) = self.tcp(id).and_then(|tcp| tcp.peer) else { return };
        if self.tcp(peer).is_some_and(|peer| !peer.unsent.is_empty()) {
            self.send_back(id, Packet::Window { to: peer });
        }
    }

    pub(super) fn write(&mut self, id: SocketId, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.begin_call();
        self.check_call(id, Call::Write)?;
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        let partial = self.random.hits(self.faults.partial_writes_permille);
        let no_buffers = self.random.hits(self.faults.out_of_buffers_permille);
        let is_prototype = self.habits(id).going_down_is_prototype;
        let Some(tcp) = self.tcp(id) else { return Err(Errno::NotConnected.into()) };
        if matches!(tcp.phase, Phase::Connecting | Phase::Embryo(_)) {
            return Err(Errno::WouldBlock.into());
        }
        if tcp.write_shut || tcp.error.is_some() {
            // A write to a Unix stream does not take the error: that is left for a read.
            let error = if tcp.names.is_some() { None } else { tcp.error.take() };
            let error = match error.unwrap_or(Errno::BrokenPipe) {
                Errno::ConnectionReset if is_prototype => Errno::Prototype,
                error => error,
            };
            self.progress += 1;
            self.note(format_args!("s{id} writes: {error:?}"));
            return Err(error.into());
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut count = total.min(tcp.free());
        if total == 0 {
            return Ok(0);
        }
        if count == 0 {
            tcp.no_space = true;
            return Err(Errno::WouldBlock.into());
        }
        if no_buffers {
            self.has_no_buffers(id);
            return Err(Errno::NoBuffers.into());
        }
        if partial {
            count = self.random.part_of(count);
        }
        let Some(tcp) = self.tcp(id) else { return Ok(0) };
        tcp.no_space |= count < total;
        tcp.unsent.extend(pieces.iter().flat_map(|piece| piece.iter()).take(count));
        self.progress += 1;
        self.note(format_args!("s{id} writes {count} of {total}"));
        self.pump(id);
        self.settle();
        Ok(count)
    }

    /// Writes one urgent byte, or would block.
    pub(super) fn write_urgent(&mut self, id: SocketId, byte: u8) -> io::Result<()> {
        let Some(tcp) = self.tcp(id) else { return Err(Errno::NotConnected.into()) };
        if tcp.free() > 0 && tcp.phase == Phase::Open && !tcp.write_shut {
            tcp.urgent_unsent = Some(tcp.unsent.len());
        }
        self.write(id, &[IoSlice::new(&[byte])]).map(|_| ())
    }

    /// Sends whatever there is to send and room for at the other end, and after the last byte the end, if that was
    /// asked for.
    pub(super) fn pump(&mut self, id: SocketId) {
        loop {
            let Some(tcp) = self.tcp(id).filter(|tcp| tcp.phase == Phase::Open) else { return };
            let Some(peer) = tcp.peer else { return };
            if tcp.unsent.is_empty() {
                if tcp.write_shut && !std::mem::replace(&mut tcp.fin_sent, true) {
                    self.send_in_order(id, Packet::Fin { to: peer, from: id });
                }
                return;
            }
            let (unsent, mark) = (tcp.unsent.len(), tcp.urgent_unsent);
            let window = self.tcp(peer).map_or(usize::MAX, |peer| peer.window());
            let mut count = unsent.min(window).min(64 * 1024);
            if count == 0 {
                return self.probe_if_cut(id);
            }
            if let Some(mark) = mark {
                count = count.min(mark + 1);
            }
            if self.random.hits(self.faults.tiny_segments_permille) {
                count = self.random.part_of(count);
            }
            self.send_segment(id, peer, count);
        }
    }

    fn send_segment(&mut self, id: SocketId, peer: SocketId, count: usize) {
        if self.random.hits(self.faults.resets_permille) && !self.is_named(id) {
            self.note(format_args!("something between s{id} and s{peer} resets their connection"));
            self.send_in_order(id, Packet::Reset { to: peer, again: false });
            self.send_in_order(peer, Packet::Reset { to: id, again: false });
        }
        let Some(tcp) = self.tcp(id) else { return };
        let bytes: Vec<u8> = tcp.unsent.drain(..count).collect();
        tcp.unacknowledged += count;
        let urgent = tcp.urgent_unsent.is_some_and(|mark| mark + 1 == count);
        tcp.urgent_unsent = tcp.urgent_unsent.and_then(|mark| mark.checked_sub(count));
        if let Some(peer) = self.tcp(peer) {
            peer.in_flight += count;
        }
        self.send_in_order(id, Packet::Data { to: peer, from: id, bytes, urgent });
    }

    /// Sends a packet to the peer of a socket, after what it has sent before.
    pub(super) fn send_in_order(&mut self, id: SocketId, packet: Packet) {
        let overtakes =
            matches!(packet, Packet::Reset { .. }) && self.random.hits(self.faults.overtaking_resets_permille);
        let Some(tcp) = self.tcp(id) else { return };
        let Some(remote) = tcp.remote_host else { return };
        let not_before = if overtakes { Duration::ZERO } else { tcp.last_arrival };
        let host = self.sockets[&id].host;
        let at = self.transmit(id, (host, remote), not_before, packet);
        if let Some(tcp) = self.tcp(id) {
            tcp.last_arrival = tcp.last_arrival.max(at);
        }
    }

    /// Sends the kernel's reply to a packet, which may overtake data.
    pub(super) fn send_back(&mut self, id: SocketId, packet: Packet) {
        let Some(remote) = self.tcp(id).and_then(|tcp| tcp.remote_host) else { return };
        let host = self.sockets[&id].host;
        self.transmit(id, (host, remote), Duration::ZERO, packet);
    }

    pub(super) fn take_error(&mut self, id: SocketId) -> Option<io::Error> {
        self.begin_call();
        let tcp = self.tcp(id)?;
        let error = tcp.error.take().map(io::Error::from).or_else(|| tcp.queue.take_error());
        self.progress += u64::from(error.is_some());
        error
    }

    /// Fails if its peer can no longer be asked for.
    pub(super) fn check_over(&self, id: SocketId) -> io::Result<()> {
        let habits = self.habits(id);
        match self.is_tcp(id, Tcp::is_over) {
            true if habits.invalid_once_over => Err(Errno::Invalid.into()),
            true if habits.forgets_unix_peer && self.is_named(id) => Err(Errno::NotConnected.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn peer_addr(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        self.begin_call();
        self.check_over(id)?;
        let tcp = self.tcp(id).filter(|tcp| tcp.phase == Phase::Open);
        tcp.map(|tcp| tcp.remote).ok_or_else(|| Errno::NotConnected.into())
    }

    /// Closes or opens the window of a receiver.
    pub(super) fn set_stalled(&mut self, id: SocketId, stalled: bool) {
        let Some(tcp) = self.tcp(id) else { return };
        tcp.stalled = stalled;
        self.note(format_args!("s{id} {}", if stalled { "takes nothing" } else { "takes data again" }));
        if !stalled {
            self.open_window(id);
        }
    }
}
