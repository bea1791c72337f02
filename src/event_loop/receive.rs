//! Input: how a ready connection is served.

use super::send::await_hang_up;
use super::work::Discarded;
use super::{Core, Parts, filtering};
use crate::connection::input::Input;
use crate::connection::{CheckedOut, Connection, Flag, Read, State};
use crate::ids::Id;
use crate::reason::Limit;
use crate::{CloseReason, Protocol, Timeout, Transport};

impl Core {
    /// Serves a connection: calls `connection_made` if it is due, reads within its budget, sends what that caused.
    pub(super) fn serve(&mut self, id: Id) {
        let mut buffer = std::mem::take(&mut self.parts.buffers.read);
        self.serve_with(id, buffer.get());
        self.parts.buffers.read = buffer;
    }

    /// Like [`serve`](Core::serve), for callers that already hold the loop's read buffer.
    pub(super) fn serve_with(&mut self, id: Id, buffer: &mut [u8]) {
        self.receive(id, buffer, 0);
        self.flush(id);
    }

    /// Calls `connection_made`, before anything is read (C2).
    pub(super) fn call_made(&mut self, id: Id) {
        let room = self.parts.outbox.room();
        let Some(mut connection) = self.parts.slots.alive_mut(id) else {
            return;
        };
        connection.flags.set(Flag::Made, true);
        if connection.begins_specially() || log::log_enabled!(log::Level::Debug) {
            self.parts.begin_specially(id);
            let Some(again) = self.parts.slots.connection_mut(id) else { return };
            connection = again;
        } else {
            self.parts.counters.connections_made += 1;
        }
        if let Some(out) = connection.check_out(room) {
            tell_made(self, id, out);
        }
    }

    /// Reads and delivers, up to the budget of a turn (R5), of which `received` bytes are used up already.
    pub(super) fn receive(&mut self, id: Id, buffer: &mut [u8], mut received: usize) {
        let mut looked_after = false;
        loop {
            // One slot look-up for each read: all rare cases are behind a single check.
            let Some(connection) = self.parts.slots.connection_mut(id) else { return };
            if connection.needs_preparation() {
                // Input kept for another protocol comes before anything still to be read, but in another turn.
                if looked_after || !self.prepare_reading(id, buffer) {
                    return;
                }
                looked_after = true;
                continue;
            }
            looked_after = true;
            if !connection.is_hungry() {
                return self.end_failing(id);
            }
            if !connection.is_readable() {
                return connection.has_nothing_to_read();
            }
            if connection.flags.has(Flag::Rated) {
                return self.receive_at_rate(id, buffer);
            }
            let budget = connection.settings.limits.read_bytes_per_turn_max - received;
            let before = connection.put_unfiltered_back(buffer);
            let most = (before + budget).min(buffer.len());
            match connection.read(&mut buffer[before..most]) {
                Read::Data(count) => {
                    let more = connection.is_readable();
                    connection.has_received(count, self.parts.time.now_ns());
                    self.parts.counters.bytes_received += count as u64;
                    received += count;
                    filtering::deliver(self, id, &mut buffer[..before + count]);
                    if !more || !self.reads_on(id, received) {
                        return;
                    }
                }
                nothing => {
                    connection.keep_unfiltered(&buffer[..before]);
                    return self.receive_nothing(id, nothing);
                }
            }
        }
    }

    /// Returns whether reading goes on in this turn, after `received` bytes and with more to read.
    pub(super) fn reads_on(&mut self, id: Id, received: usize) -> bool {
        let Some(connection) = self.parts.slots.connection(id) else { return false };
        if received >= connection.settings.limits.read_bytes_per_turn_max || self.parts.work.take_read_enough(id) {
            self.parts.carry_over(id);
            return false;
        }
        self.hold_back(id);
        true
    }

    /// Reads once, as much as the connection's rate allows; the rest is carried over.
    #[cold]
    fn receive_at_rate(&mut self, id: Id, buffer: &mut [u8]) {
        let allowed = self.parts.allow_reading(id);
        let connection = match self.parts.slots.connection_mut(id) {
            Some(connection) if allowed > 0 => connection,
            _ => return,
        };
        let budget = connection.settings.limits.read_bytes_per_turn_max;
        let most = budget.min(buffer.len()).min(allowed);
        match connection.read(&mut buffer[..most]) {
            Read::Data(count) => {
                let more = connection.is_readable();
                connection.has_received(count, self.parts.time.now_ns());
                self.parts.counters.bytes_received += count as u64;
                if let Some(rate) = connection.rate_mut() {
                    self.parts.rate_groups.charge(rate, count);
                }
                filtering::deliver(self, id, &mut buffer[..count]);
                if more {
                    self.parts.carry_over(id);
                }
            }
            nothing => self.receive_nothing(id, nothing),
        }
    }

    /// Handles a read that has brought no bytes.
    pub(super) fn receive_nothing(&mut self, id: Id, read: Read) {
        match read {
            Read::Data(_) | Read::Blocked => self.end_failing(id),
            Read::Unconfirmed => self.confirm_would_block(id),
            Read::Later => self.read_later(id),
            Read::End => filtering::deliver_end(self, id),
            Read::Failed(error) => self.fail_reading(id, CloseReason::from_error(error)),
        }
    }

    /// Does what must be done before a connection is read. Returns `false` if it is not to be read.
    #[cold]
    fn prepare_reading(&mut self, id: Id, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return false };
        match connection.state() {
            State::Lingering => self.discard(id, buffer),
            State::Connecting | State::ConnectingFinQueued => {
                if connection.may_be_established() {
                    self.look_at_attempt(id, None);
                }
                let stands = |connection: &Connection| connection.flags.has(Flag::Made) && connection.is_alive();
                return self.parts.slots.connection(id).is_some_and(stands);
            }
            _ => {
                match connection.flags.has(Flag::Made) {
                    true => {}
                    false if connection.is_shut() => filtering::begin(self, id),
                    false => self.call_made(id),
                }
                if self.parts.slots.connection(id).is_some_and(Connection::offers) {
                    self.offer_kept(id);
                }
            }
        }
        let reads = |connection: &Connection| connection.is_alive() && connection.state() != State::Lingering;
        self.parts.slots.connection(id).is_some_and(reads)
    }

    /// Ends a connection on which sending has failed, once it has delivered what had arrived, or cannot.
    pub(super) fn end_failing(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if connection.state() == State::Failing {
            self.offer_withheld(id);
            self.parts.finish_begun(id);
        } else if let Some(reason) = connection.find_end() {
            self.parts.finish(id, reason);
        }
    }

    /// Offers input that a low mark has withheld, at an end that no `eof_received` reports (R4).
    pub(super) fn offer_withheld(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if connection.withholds_input() {
            connection.set_input_low_bytes(0);
            self.offer_kept(id);
        }
    }

    /// Handles a failed read. If a send had failed before, that was the first error, and is the reason (W1).
    pub(super) fn fail_reading(&mut self, id: Id, reason: CloseReason) {
        self.offer_withheld(id);
        match self.parts.slots.connection(id).map(Connection::state) {
            Some(State::Failing) => self.parts.finish_begun(id),
            _ => self.parts.finish(id, reason),
        }
    }

    /// Delivers data to the protocol, after what the connection has buffered.
    pub(super) fn deliver(&mut self, id: Id, data: &[u8]) {
        let kept = self.parts.slots.connection_mut(id).and_then(Connection::take_input);
        match kept {
            None => {
                let consumed = self.offer(id, data);
                self.keep_rest(id, &data[consumed..]);
            }
            Some(mut input) => {
                input.append(data);
                self.offer_input(id, input);
            }
        }
    }

    /// Like [`deliver`](Core::deliver), for data that the protocol was called with already, with this result.
    pub(super) fn deliver_on(&mut self, id: Id, data: &[u8], answer: Option<usize>) {
        let (mut consumed, goes_on) = self.judge(id, data.len(), answer);
        if goes_on {
            consumed += self.offer(id, &data[consumed..]);
        }
        self.keep_rest(id, &data[consumed..]);
    }

    fn keep_rest(&mut self, id: Id, rest: &[u8]) {
        if !rest.is_empty() {
            let mut input = Box::<Input>::default();
            input.append(rest);
            self.keep(id, input);
        }
    }

    /// Offers buffered input, as requested: after resuming, or to a new protocol.
    fn offer_kept(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        connection.flags.set(Flag::OfferAgain, false);
        if let Some(input) = connection.take_input() {
            self.offer_input(id, input);
        }
        if self.parts.slots.connection(id).is_some_and(Connection::has_unfiltered_input) {
            filtering::receive(self, id, &mut []);
        }
    }

    fn offer_input(&mut self, id: Id, mut input: Box<Input>) {
        let consumed = self.offer(id, input.rest());
        input.consume(consumed);
        self.keep(id, input);
    }

    /// Offers data until it is consumed, the protocol leaves the rest, or nothing may be delivered any more (R1).
    /// Returns how much was consumed.
    fn offer(&mut self, id: Id, data: &[u8]) -> usize {
        let mut consumed = 0;
        loop {
            let rest = &data[consumed..];
            let room = self.parts.outbox.room();
            let Some(connection) = self.parts.slots.connection_mut(id) else { return data.len() };
            if !connection.wants_input() {
                return consumed;
            }
            if rest.len() < connection.input_low_bytes() {
                // This has been dealt with: reading goes on, and it is offered again only together with more input.
                connection.flags.set(Flag::OfferAgain, false);
                return consumed;
            }
            connection.flags.set(Flag::OfferAgain, false);
            let Some(out) = connection.check_out(room) else { return data.len() };
            let called = self.call_checked_out(id, out, "data_received", |protocol, transport| {
                transport.delivers_input();
                protocol.data_received(transport, rest)
            });
            let (count, goes_on) = self.judge(id, rest.len(), called);
            consumed += count;
            if !goes_on {
                return consumed;
            }
        }
    }

    /// Returns how many of the `given` bytes are done with, given the result of a call, and whether the rest is offered
    /// at once.
    fn judge(&mut self, id: Id, given: usize, answer: Option<usize>) -> (usize, bool) {
        let was_held_back = self.parts.outbox.gathered.take_held_input_back();
        match answer {
            None => (given, false),
            Some(count) if count < given && self.parts.slots.connection(id).is_some_and(Connection::waits_to_shake) => {
                self.parts.finish(id, filtering::input_behind());
                (given, false)
            }
            Some(count) if count > given => {
                self.parts.finish(id, CloseReason::Overconsumed { consumed: count, given });
                (given, false)
            }
            Some(count) => (count, count < given && self.goes_on(id, count, was_held_back)),
        }
    }

    /// Returns whether the rest is offered again at once, after a call that consumed `count` bytes. In that call the
    /// protocol may have been told that its input is held back, because of what it has written.
    fn goes_on(&mut self, id: Id, count: usize, was_held_back: bool) -> bool {
        if count == 0 && was_held_back {
            self.offer_again_unless_held_back(id);
        }
        let Some(connection) = self.parts.slots.connection_mut(id) else { return false };
        if count == 0 {
            // Another protocol is offered it, but in the next turn: two that only pass it to each other would never
            // end.
            if connection.flags.has(Flag::OfferAgain) {
                self.parts.carry_over(id);
            }
            return false;
        }
        connection.flags.set(Flag::OfferAgain, false);
        if !connection.wants_input() {
            return false;
        }
        self.hold_back(id);
        true
    }

    /// The protocol has consumed nothing, and was told that no more is wanted, because of what it has written. That is
    /// sent now, and if the peer has taken it, the input is wanted again.
    #[cold]
    fn offer_again_unless_held_back(&mut self, id: Id) {
        self.hold_back(id);
        match self.parts.slots.connection_mut(id) {
            Some(connection) if connection.wants_input() => connection.flags.set(Flag::OfferAgain, true),
            _ => {}
        }
    }

    /// If the answers so far may hold back reading, sends them now, and reports the mark.
    #[inline]
    fn hold_back(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection(id) else { return };
        let queued =
            self.parts.outbox.gathered.bytes.len() + self.parts.outbox.share_bytes(id) + connection.queued_cost();
        if queued > connection.settings.limits.queue_bytes_high {
            self.flush_now(id);
        }
    }

    /// Buffers unconsumed input, up to the limit.
    fn keep(&mut self, id: Id, input: Box<Input>) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        // If reading is paused, or the input is offered again, the protocol may not have seen all of it: the limit is
        // checked once it has.
        let is_looked_at = connection.wants_input() && !connection.flags.has(Flag::OfferAgain);
        let too_much = input.rest().len() > connection.settings.limits.input_bytes_max && is_looked_at;
        connection.keep_input(input);
        if too_much {
            self.fail_reading(id, CloseReason::Limit(Limit::InputBytes));
        }
    }

    /// Delivers the peer's end of stream, with the unconsumed input (H1, H3).
    pub(super) fn deliver_end(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if connection.state() == State::Failing {
            return self.end_failing(id);
        }
        let input = connection.take_input();
        connection.peer_ended();
        let looks_again = connection.has_error_hint();
        self.call(id, "eof_received", &mut |protocol, transport| {
            protocol.eof_received(transport, input.as_deref().map_or(&[], Input::rest));
        });
        if looks_again {
            self.parts.carry_over(id);
        }
        await_hang_up(&mut self.parts, id);
    }

    /// Reads and discards what the peer of a lingering connection still sends (X1).
    fn discard(&mut self, id: Id, buffer: &mut [u8]) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let mut budget = connection.settings.limits.read_bytes_per_turn_max;
        while connection.is_readable() {
            let most = budget.min(buffer.len());
            match connection.read(&mut buffer[..most]) {
                Read::Data(count) if connection.may_discard(count) => budget -= count,
                Read::Blocked => return,
                Read::Unconfirmed => return self.confirm_would_block(id),
                Read::Later => return self.read_later(id),
                Read::Data(_) | Read::End | Read::Failed(_) => return self.parts.finish_begun(id),
            }
            if budget == 0 {
                return self.parts.carry_over(id);
            }
        }
    }
}

/// Calls the `connection_made` of a protocol that is taken out for it.
#[inline(never)]
pub(super) fn tell_made(core: &mut Core, id: Id, mut out: CheckedOut) {
    let tell = |protocol: &mut dyn Protocol, transport: &mut Transport<'_>| protocol.connection_made(transport);
    let result = core.call_out(id, &mut out, "connection_made", tell);
    let is_quiet = result.is_ok() && core.parts.outbox.gathered.bytes.is_empty();
    match core.parts.slots.connection_mut(id) {
        Some(connection) if is_quiet && connection.is_out_and_idle() => connection.protocol = Some(out.protocol),
        // A flush follows whatever made its filters ready, and by then the rest of the same read has been handled.
        Some(connection) if is_quiet && connection.is_out_and_filtered() => connection.protocol = Some(out.protocol),
        _ => core.end_slowly(id, out.protocol, result),
    }
}

impl Parts {
    /// Prepares `connection_made` for a connection that has timeouts or a rate, starts again, or is logged.
    #[cold]
    fn begin_specially(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        if let Some(peer) = connection.peer() {
            log::debug!("connection {id} with {peer} is established");
        }
        if connection.flags.has(Flag::Anew) {
            self.begin_anew(id);
        } else {
            self.counters.connections_made += 1;
        }
        self.start_read_rate(id);
        self.start_timeouts(id);
    }

    /// Makes the loop offer the old protocol's unconsumed input to the protocol that was started in its place.
    fn begin_anew(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.flags.set(Flag::Anew, false);
        connection.flags.set(Flag::OfferAgain, true);
    }

    /// Like [`set_protocol`](Parts::set_protocol), for a protocol that gets `connection_made`: in the next turn, before
    /// anything else. Until then the connection does not count as made, which holds back everything else. The protocol
    /// inherits nothing (C7): its timeouts and its read rate begin with it.
    pub(crate) fn start_protocol(&mut self, id: Id, protocol: Box<dyn Protocol>) {
        self.queue_share(id);
        if !self.slots.connection_mut(id).is_some_and(Connection::begin_anew) {
            return self.work.discard(Discarded::Protocol(protocol));
        }
        self.set_protocol(id, protocol);
        self.drop_read_rate(id);
        if self.slots.connection(id).is_some_and(|connection| !connection.is_to_be_made()) {
            self.set_timeout(id, Timeout::Idle, None);
            self.set_timeout(id, Timeout::ReadIdle, None);
            self.set_timeout(id, Timeout::Handshake, None);
            self.set_timeout(id, Timeout::Total, None);
            self.carry_over(id);
        }
    }

    /// Returns whether the protocol would be given data now, as far as that is known before what it has written is
    /// sent.
    #[inline(never)]
    pub(crate) fn wants_input(&self, id: Id) -> bool {
        let Some(connection) = self.slots.connection(id) else { return false };
        let is_replaced = self.outbox.gathered.is(id) && connection.protocol.is_some();
        if is_replaced || !connection.wants_input() {
            return false;
        }
        // Over the mark, gathered data is sent first: only then is it known whether reading is held back.
        let queued = self.outbox.waiting_bytes(id) + connection.queued_cost();
        let limits = &connection.settings.limits;
        let over_high = queued > limits.queue_bytes_high && limits.pause_reading_over_high;
        if over_high {
            self.outbox.gathered.hold_input_back(id);
        }
        !over_high
    }
}
