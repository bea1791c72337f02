//! The links between hosts: how long packets are in flight, and which of them are lost.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Faults;
use super::packet::{Alarm, GIVE_UP, Packet};
use super::rules::Fate;
use super::tcp::{Phase, Tcp};
use super::world::{HostIndex, SocketId, World};

/// How long a sender waits before it first retransmits a lost packet; the time doubles with each try.
const SEND_AGAIN: Duration = Duration::from_millis(200);

/// The maximum of that time.
const SEND_AGAIN_MAX: Duration = Duration::from_secs(120);

/// The size of a packet's headers, which counts for the time that a link needs for it.
const HEADER_BYTES: u64 = 40;

/// How far apart the pieces of a split segment arrive: far enough for the receiver to see each.
const PIECE_APART: Duration = Duration::from_micros(1);

/// Something that is due at some time.
#[derive(Clone, Debug)]
pub(super) enum Due {
    Arrives(Packet),
    /// The packet was lost on its way, and its sender retransmits it.
    Again(Sending),
}

/// A packet that is being sent.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub(super) sender: SocketId,
    pub(super) from: HostIndex,
    pub(super) to: HostIndex,
    pub(super) packet: Packet,
    /// How often it was lost before.
    pub(super) attempt: u32,
    /// How long its sender has waited to retransmit it, in total.
    waited: Duration,
    /// Since when it waits for its link to be healed.
    held_at: Duration,
    /// The number of its first byte in its stream, once that was needed.
    pub(super) first: Option<u32>,
}

impl Sending {
    fn is_awaited_by(&self, waits: SocketId) -> bool {
        self.packet.waits_for_it(self.sender) == waits
    }
}

/// The link between two hosts.
#[derive(Default)]
struct Link {
    /// From the lower to the higher host, and back.
    ways: [Way; 2],
    /// Packets that wait for the link to be healed, as senders retransmit what was not acknowledged.
    held: Vec<Sending>,
}

/// One of a link's two directions.
#[derive(Default)]
struct Way {
    cut: bool,
    /// Set if it differs from the faults' latency.
    latency: Option<(Duration, Duration)>,
    loss_permille: u32,
    /// `None` means no limit.
    bytes_per_second: Option<u64>,
    /// When everything that was sent before is out.
    free_at: Duration,
}

/// All links, and what waits behind a lost packet of the same connection.
#[derive(Default)]
pub(super) struct Links {
    pairs: BTreeMap<(HostIndex, HostIndex), Link>,
    /// By sender: what it has sent after a lost packet, which the receiver cannot see before that one.
    lines: BTreeMap<SocketId, VecDeque<Sending>>,
}

impl Links {
    fn pair(&mut self, one: HostIndex, other: HostIndex) -> &mut Link {
        self.pairs.entry((one.min(other), one.max(other))).or_default()
    }

    fn way(&self, from: HostIndex, to: HostIndex) -> Option<&Way> {
        self.pairs.get(&(from.min(to), from.max(to))).map(|link| &link.ways[usize::from(from > to)])
    }

    fn way_mut(&mut self, from: HostIndex, to: HostIndex) -> &mut Way {
        &mut self.pair(from, to).ways[usize::from(from > to)]
    }
}

impl World {
    // Sending.

    /// Sends a packet from a socket, or on behalf of one that is gone, to another host. Returns when it arrives, if it
    /// does.
    ///
    /// It arrives no earlier than `not_before`: packets of one connection keep their order.
    pub(super) fn transmit(
        &mut self,
        sender: SocketId,
        (from, to): (HostIndex, HostIndex),
        not_before: Duration,
        packet: Packet,
    ) -> Duration {
        if self.is_named(sender) {
            self.hand_over(packet);
            return self.now;
        }
        let (waited, held_at) = (Duration::ZERO, Duration::ZERO);
        let sending = Sending { sender, from, to, packet, attempt: 0, waited, held_at, first: None };
        if sending.packet.keeps_order() {
            if let Some(line) = self.links.lines.get_mut(&sender) {
                line.push_back(sending);
                return not_before;
            }
        }
        self.dispatch(sending, not_before)
    }

    fn dispatch(&mut self, mut sending: Sending, not_before: Duration) -> Duration {
        let (from, to) = (sending.from, sending.to);
        if let Packet::Reset { to, again } = &mut sending.packet {
            *again |= self.is_tcp(*to, Tcp::is_sending);
        }
        let (mut low, mut high) = self.latency_of(&sending.packet);
        if let Some(way) = self.links.way(from, to) {
            if way.cut {
                self.hold(sending);
                return not_before;
            }
            (low, high) = way.latency.unwrap_or((low, high));
        }
        self.record(&mut sending);
        let loss_permille = self.links.way(from, to).map_or(0, |way| way.loss_permille);
        let fate = match self.judge(&sending) {
            Fate::Pass if self.random.hits(loss_permille) => {
                self.note(format_args!("a packet of s{} to host {to} is lost", sending.sender));
                Fate::Drop
            }
            fate => fate,
        };
        let latency = match high.is_zero() {
            true => Duration::ZERO,
            false => Duration::from_micros(self.random.between(low.as_micros() as u64, high.as_micros() as u64)),
        };
        let out = self.leave_at(from, to, &sending.packet);
        let at = not_before.max(out + latency);
        match fate {
            Fate::Pass => self.arrive_at(at, sending.packet),
            Fate::Drop => {
                self.drop_on_the_way(sending);
                not_before
            }
            Fate::Delay(time) => self.arrive_at(at + time, sending.packet),
            Fate::Duplicate => {
                if let Some(copy) = sending.packet.copy() {
                    self.record(&mut sending);
                    self.arrive_at(at, copy);
                }
                self.arrive_at(at, sending.packet)
            }
            Fate::Split(bytes) => self.arrive_in_pieces(at, sending.packet, bytes.max(1)),
            Fate::Reset => {
                self.reset_between(&sending);
                not_before
            }
        }
    }

    pub(super) fn arrive_at(&mut self, at: Duration, packet: Packet) -> Duration {
        let key = (at, self.sequence());
        self.due.insert(key, Due::Arrives(packet));
        at
    }

    fn arrive_in_pieces(&mut self, at: Duration, packet: Packet, most: usize) -> Duration {
        let Packet::Data { to, from, bytes, urgent } = packet else { return self.arrive_at(at, packet) };
        let mut at = at;
        let pieces = bytes.len().div_ceil(most);
        for (index, piece) in bytes.chunks(most).enumerate() {
            let is_last = index + 1 == pieces;
            at = self.arrive_at(at, Packet::Data { to, from, bytes: piece.to_vec(), urgent: urgent && is_last });
            if !is_last {
                at += PIECE_APART;
            }
        }
        at
    }

    /// Returns when a packet has left its host, given the limit on its way.
    fn leave_at(&mut self, from: HostIndex, to: HostIndex, packet: &Packet) -> Duration {
        let now = self.now;
        if self.links.way(from, to).is_none_or(|way| way.bytes_per_second.is_none()) {
            return now;
        }
        let way = self.links.way_mut(from, to);
        let rate = way.bytes_per_second.unwrap_or(u64::MAX).max(1);
        let bytes = HEADER_BYTES + packet.payload().len() as u64;
        let needs = Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64);
        way.free_at = way.free_at.max(now) + needs;
        way.free_at
    }

    /// Returns how long a packet is in flight, according to the faults. A connection needs a round trip for each full
    /// buffer.
    fn latency_of(&self, packet: &Packet) -> (Duration, Duration) {
        let Faults { latency_min, latency_max, bytes_per_second_min, .. } = self.faults;
        if bytes_per_second_min == 0 || matches!(packet, Packet::Datagram { .. }) {
            return (latency_min, latency_max);
        }
        let most = Duration::from_micros(self.buffer_bytes * 1_000_000 / (2 * bytes_per_second_min as u64));
        (latency_min.min(most), latency_max.min(most))
    }

    // Losing.

    /// The network has lost a packet. Its sender retransmits it, if it does that with such packets.
    fn drop_on_the_way(&mut self, mut sending: Sending) {
        if let Packet::Datagram { sender: (sender, held), .. } = sending.packet {
            self.datagram_has_left(sender, held);
        }
        if !sending.packet.is_sent_again() {
            return;
        }
        let wait = SEND_AGAIN.saturating_mul(1 << sending.attempt.min(16)).min(SEND_AGAIN_MAX);
        sending.attempt += 1;
        sending.waited += wait;
        if sending.waited > self.awaited_for(&sending.packet, sending.sender).unwrap_or(GIVE_UP) {
            return self.give_up(sending.packet.waits_for_it(sending.sender));
        }
        if sending.packet.keeps_order() {
            self.links.lines.entry(sending.sender).or_default();
        }
        let key = (self.now + wait, self.sequence());
        self.due.insert(key, Due::Again(sending));
    }

    /// Retransmits a lost packet. If it gets through, the packets that wait behind it follow.
    pub(super) fn send_again(&mut self, sending: Sending) {
        let (sender, keeps_order) = (sending.sender, sending.packet.keeps_order());
        let line = if keeps_order { self.links.lines.remove(&sender) } else { None };
        let Some(sending) = self.still_sent(sending) else { return };
        let mut at = self.dispatch(sending, Duration::ZERO);
        if !self.may_send(sender) {
            // It has ended, or has given up just now.
            return;
        }
        for next in line.into_iter().flatten() {
            match self.links.lines.get_mut(&sender) {
                // It was lost once more, or another one was.
                Some(line) => line.push_back(next),
                None => at = self.dispatch(next, at),
            }
        }
        if let Some(tcp) = self.tcp(sender) {
            tcp.last_arrival = tcp.last_arrival.max(at);
        }
    }

    /// Returns what is sent again of a packet, which may be another one if its sender has ended.
    fn still_sent(&self, mut sending: Sending) -> Option<Sending> {
        if sending.packet.keeps_order() && !self.may_send(sending.sender) {
            sending.packet = sending.packet.after_the_end()?;
        }
        Some(sending)
    }

    /// Returns whether a socket still sends what was lost.
    fn may_send(&self, sender: SocketId) -> bool {
        self.is_tcp(sender, |tcp| tcp.phase != Phase::Closed)
    }

    /// Resets a connection, for both its ends.
    fn reset_between(&mut self, sending: &Sending) {
        if let Packet::Datagram { sender: (sender, held), .. } = sending.packet {
            return self.datagram_has_left(sender, held);
        }
        for to in [sending.packet.target(), Some(sending.sender)].into_iter().flatten() {
            let key = (self.now, self.sequence());
            self.due.insert(key, Due::Arrives(Packet::Reset { to, again: false }));
        }
    }

    // Cutting.

    pub(super) fn is_cut(&self, from: HostIndex, to: HostIndex) -> bool {
        self.links.way(from, to).is_some_and(|way| way.cut)
    }

    /// Keeps a packet until its link is healed, if its sender would retransmit it until then.
    fn hold(&mut self, mut sending: Sending) {
        sending.held_at = self.now;
        let waits = sending.packet.waits_for_it(sending.sender);
        let awaited_for = self.awaited_for(&sending.packet, sending.sender);
        if sending.packet.is_sent_again() {
            self.links.pair(sending.from, sending.to).held.push(sending);
        }
        if let Some(time) = awaited_for {
            self.set_alarm(time, Alarm::GiveUp(waits, self.now));
        }
    }

    pub(super) fn cut(&mut self, one: HostIndex, other: HostIndex) {
        self.note(format_args!("the link of hosts {one} and {other} is cut"));
        for way in &mut self.links.pair(one, other).ways {
            way.cut = true;
        }
        self.probe_through(one, other);
    }

    pub(super) fn cut_one_way(&mut self, from: HostIndex, to: HostIndex) {
        self.note(format_args!("the link from host {from} to {to} is cut"));
        self.links.way_mut(from, to).cut = true;
        self.probe_through(from, to);
    }

    /// Sends the held packets again some time later, in their order: senders back off.
    pub(super) fn heal(&mut self, one: HostIndex, other: HostIndex) {
        self.note(format_args!("the link of hosts {one} and {other} is healed"));
        let link = self.links.pair(one, other);
        for way in &mut link.ways {
            way.cut = false;
        }
        let held = std::mem::take(&mut link.held);
        let at = self.now + Duration::from_millis(self.random.between(200, 2000));
        for sending in held {
            let Some(mut sending) = self.still_sent(sending) else { continue };
            self.record(&mut sending);
            // What was sent before may still be under way, if the link was healed twice in a short time.
            let last = self.tcp(sending.sender).map_or(Duration::ZERO, |tcp| tcp.last_arrival);
            let key = (if sending.packet.keeps_order() { at.max(last) } else { at }, self.sequence());
            self.due.insert(key, Due::Arrives(sending.packet));
        }
        self.delay_senders(one, other, at);
    }

    /// Drops the packets whose acknowledgement a socket has waited for that is gone: nobody retransmits them any more.
    pub(super) fn drop_held(&mut self, waits: SocketId) {
        self.drop_held_for_dark(waits);
        for link in self.links.pairs.values_mut() {
            link.held.retain(|sending| !sending.is_awaited_by(waits));
        }
    }

    /// Returns whether a packet whose acknowledgement a socket waits for has been held since this time.
    pub(super) fn was_held(&self, waits: SocketId, by: Duration) -> bool {
        let mut held = self.links.pairs.values().flat_map(|link| &link.held);
        held.any(|sending| sending.is_awaited_by(waits) && sending.held_at <= by) || self.was_held_for_dark(waits, by)
    }

    // Numbers.

    pub(super) fn set_latency(&mut self, one: HostIndex, other: HostIndex, low: Duration, high: Duration) {
        self.note(format_args!("the link of hosts {one} and {other} takes {low:?} to {high:?}"));
        for way in &mut self.links.pair(one, other).ways {
            way.latency = Some((low, high.max(low)));
        }
    }

    pub(super) fn set_loss(&mut self, from: HostIndex, to: HostIndex, permille: u32) {
        self.note(format_args!("the link from host {from} to {to} loses {permille} packets in 1000"));
        self.links.way_mut(from, to).loss_permille = permille;
    }

    pub(super) fn set_bandwidth(&mut self, from: HostIndex, to: HostIndex, bytes_per_second: Option<u64>) {
        self.note(format_args!("the link from host {from} to {to} carries {bytes_per_second:?} bytes a second"));
        self.links.way_mut(from, to).bytes_per_second = bytes_per_second;
    }
}
