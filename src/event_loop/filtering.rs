//! Filters: how bytes pass between a socket and a protocol, and how the loop acts on what filters report (rules Y1 to
//! Y8).
//!
//! Filters are user code: they are called only from here, are out of their connection meanwhile, and are guarded (Y10).

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::accept::tell_of_handshake;
use super::timers::{Due, Purpose};
use super::work::Discarded;
use super::{Core, Parts};
use crate::connection::output::Piece;
use crate::connection::{Connection, Flag, GATHERED_BYTES_MAX, Note, Sent, State};
use crate::filter::chain::{Chain, Way};
use crate::filter::{AcceptFilter, Bytes, Filter, STEP_BYTES_MAX};
use crate::ids::Id;
use crate::reason::{Limit, Timeout};
use crate::sys::deadline_after;
use crate::{CloseReason, ConnectError, ListenerError, Transport};

/// Data that arrived after the bytes that a filter was to begin with, but before the filter had begun.
#[derive(Debug)]
struct InputBehind;

impl fmt::Display for InputBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("input arrived before the filter for it had started")
    }
}

impl Error for InputBehind {}

/// Returns the close reason for a connection with leftover input that no filter has seen.
pub(super) fn input_behind() -> CloseReason {
    CloseReason::Protocol(Arc::new(InputBehind))
}

// Putting in.

/// # Filters
impl Transport<'_> {
    /// Puts a [filter](crate::filter) in, above the existing ones: data written before is sent below it, and data
    /// written or received from here on goes through it. Returns `false`, and drops the filter, if the connection is
    /// not established, our half was shut down or the connection has begun to end.
    ///
    /// No input is delivered before the filter is ready ([`is_reading`](Transport::is_reading) is false). Input that
    /// this callback leaves unconsumed arrived before the filter had begun, so it cannot be meant for the filter, and
    /// may be an attacker's: it ends the connection with [`CloseReason::Protocol`] (rule [Y6](crate::guide::rules#y6)).
    /// `connection_made` is not called again, unless [`start_protocol`](Transport::start_protocol) is called too: then
    /// it is, once the filter is ready.
    pub fn set_filter(&mut self, filter: impl Filter) -> bool {
        let stands = self.core.parts.slots.connection(self.id).is_some_and(Connection::takes_filter);
        match stands {
            true => put_in(&mut self.core.parts, self.id, Box::new(filter)),
            false => self.core.parts.work.discard(Discarded::Filter(Box::new(filter))),
        }
        stands
    }

    /// Returns the connection's filter of this type; if there are several, the one nearest to the protocol.
    pub fn filter<F: Filter>(&self) -> Option<&F> {
        self.core.parts.slots.connection(self.id)?.chain()?.find()
    }
}

/// Puts the filters of its listener into a connection. Returns `false` if a filter refuses the connection.
#[cold]
pub(super) fn put_in_accepted(core: &mut Core, id: Id, makers: &[AcceptFilter]) -> bool {
    for AcceptFilter(make) in makers {
        let Some(peer) = core.parts.slots.connection(id).and_then(|connection| connection.peer().cloned()) else {
            return false;
        };
        let mut made = None;
        let _ = core.guard_each("a filter factory", &mut |_| made = make(&peer));
        match made {
            Some(filter) => put_in(&mut core.parts, id, filter),
            None => {
                core.parts.finish(id, CloseReason::Aborted);
                return false;
            }
        }
    }
    if let Some(connection) = core.parts.slots.connection_mut(id) {
        connection.notes.set(Note::BeginsFiltered, true);
        connection.give_input_to_filters();
    }
    true
}

/// Puts a filter into a connection, above the existing ones. It begins once the data written before is on its way.
pub(super) fn put_in(parts: &mut Parts, id: Id, filter: Box<dyn Filter>) {
    parts.queue_share(id);
    if parts.outbox.gathered.is(id) {
        parts.push_gathered(id);
    }
    parts.outbox.gathered.disturb(id);
    let Some(connection) = parts.slots.connection_mut(id) else { return };
    parts.outbox.change(connection, parts.time.now_ns(), |connection, _, pool| connection.put_filter_in(filter, pool));
    parts.mark_written_to(id);
    parts.carry_over(id);
}

/// Begins the filters that have not begun. Does nothing if the connection is not established.
#[cold]
pub(super) fn begin(core: &mut Core, id: Id) {
    let Some(connection) = core.parts.slots.connection_mut(id) else { return };
    if !connection.may_shake() {
        return;
    }
    if connection.has_input() && connection.flags.has(Flag::Made) {
        return core.parts.finish(id, input_behind());
    }
    let after = connection.settings.limits.filter_timeout;
    let timer = after.map(|after| {
        let at = deadline_after(core.parts.time.now(), after);
        core.parts.time.set(at, Due::of(Purpose::Filter, id))
    });
    let replaced = connection.chain_mut().and_then(|chain| std::mem::replace(&mut chain.timer, timer));
    core.parts.time.cancel(replaced);
    if run(core, id, Way::Down, &mut |chain, _, now| chain.begin(now)) {
        heed(core, id);
    }
    // No event comes for data that is there already.
    core.parts.carry_over(id);
}

/// The time for the handshake of a connection's filters has run out.
pub(super) fn timed_out(core: &mut Core, id: Id) {
    let Some(connection) = core.parts.slots.connection_mut(id) else { return };
    let ends = connection.has_begun_to_end();
    let Some(chain) = connection.chain_mut() else { return };
    chain.timer = None;
    // A connection that is ending has its reason, and a deadline for it.
    if !chain.is_ready() && !ends {
        core.parts.finish(id, CloseReason::Timeout(Timeout::Handshake));
    }
}

// Coming in.

/// Delivers the result of a read, passed through the filters if there are any.
#[inline]
pub(super) fn deliver(core: &mut Core, id: Id, data: &mut [u8]) {
    match core.parts.slots.connection(id).is_some_and(Connection::is_filtered) {
        true => receive(core, id, data),
        false => core.deliver(id, data),
    }
}

/// Handles the end of the stream from the network.
pub(super) fn deliver_end(core: &mut Core, id: Id) {
    match core.parts.slots.connection(id).is_some_and(Connection::is_filtered) {
        true => receive_end(core, id),
        false => core.deliver_end(id),
    }
}

/// Passes the result of a read, or what filters left before, to the filters, for as long as the result is wanted, and
/// delivers that to the protocol.
pub(super) fn receive(core: &mut Core, id: Id, data: &mut [u8]) {
    let mut rest = data;
    let mut delivered = 0;
    let is_kept = loop {
        let Some(connection) = core.parts.slots.connection_mut(id) else { return };
        let budget = connection.settings.limits.read_bytes_per_turn_max;
        if !connection.is_filtered() {
            // The last filter has left. There may be nothing behind the input it took.
            if !rest.is_empty() {
                core.deliver(id, rest);
            }
            return;
        }
        if !connection.is_hungry() || delivered >= budget {
            let goes_on = connection.is_hungry();
            let is_kept = connection.chain_mut().is_none_or(|chain| chain.keep(rest));
            if goes_on {
                connection.flags.set(Flag::OfferAgain, true);
                core.parts.carry_over(id);
            }
            break is_kept;
        }
        connection.flags.set(Flag::OfferAgain, false);
        let (mut answer, mut beneath) = ((0, false), 0);
        let runs = run(core, id, Way::Up, &mut |chain, _, now| {
            beneath = chain.outward_bytes();
            answer = chain.receive(rest, now);
        });
        if !runs {
            return;
        }
        if core.parts.slots.connection(id).is_some_and(|connection| connection.is_over_cap_beneath(beneath)) {
            return core.parts.finish(id, CloseReason::Limit(Limit::QueueBytes));
        }
        rest = &mut std::mem::take(&mut rest)[answer.0..];
        if let Some(chain) = core.parts.slots.connection_mut(id).and_then(may_leave_when_made) {
            // The result of one read is never too much.
            chain.keep(rest);
            rest = &mut [];
        }
        delivered += heed(core, id);
        if rest.is_empty() && !core.parts.slots.connection(id).is_some_and(Connection::has_unfiltered_input) {
            // The filters have taken everything: another call would bring nothing.
            return;
        }
        if !answer.1 {
            let chain = core.parts.slots.connection_mut(id).and_then(Connection::chain_mut);
            break chain.is_none_or(|chain| chain.keep(rest));
        }
    };
    if !is_kept {
        core.fail_reading(id, CloseReason::Limit(Limit::InputBytes));
    }
}

/// Returns the filters of a connection whose protocol is about to be told `connection_made`, and may detach it at once,
/// with all input that has arrived.
fn may_leave_when_made(connection: &mut Connection) -> Option<&mut Chain> {
    let is_made = connection.flags.has(Flag::Made);
    connection.chain_mut().filter(|chain| !is_made && chain.is_ready())
}

fn receive_end(core: &mut Core, id: Id) {
    if !run(core, id, Way::Up, &mut |chain, _, now| chain.receive_end(now)) {
        return;
    }
    let Some(chain) = core.parts.slots.connection_mut(id).and_then(Connection::chain_mut) else { return };
    // A peer that closes before the filters are ready has not even begun to send its data.
    let is_cut = !chain.is_ready() | chain.said.failure.take().is_some();
    heed(core, id);
    if is_cut {
        core.fail_reading(id, CloseReason::Truncated);
    }
}

/// Acts on what filters have reported and delivers their output to the protocol. Returns how many bytes that was.
fn heed(core: &mut Core, id: Id) -> usize {
    let Some(connection) = core.parts.slots.alive_mut(id) else { return 0 };
    let is_made = connection.flags.has(Flag::Made);
    let Some(chain) = connection.chain_mut() else { return 0 };
    if is_made && chain.is_quiet() {
        let plain = chain.take_plain();
        return deliver_plain(core, id, plain);
    }
    let (peer, is_ready) = (chain.said.peer.take(), chain.is_open());
    let timer = if is_ready { chain.timer.take() } else { None };
    if let Some(peer) = peer {
        connection.set_peer(peer);
    }
    core.parts.time.cancel(timer);
    if is_ready && !is_made && core.parts.slots.connection(id).is_some_and(|connection| connection.state().is_timed()) {
        if core.parts.slots.connection_mut(id).is_some_and(|connection| connection.notes.take(Note::BeginsFiltered)) {
            // Its follower is told that it is established when its protocol is.
            core.tell_follower_of_made(id);
        }
        core.call_made(id);
    }
    let Some(chain) = core.parts.slots.connection_mut(id).and_then(Connection::chain_mut) else { return 0 };
    let plain = chain.take_plain();
    let count = deliver_plain(core, id, plain);
    let Some(connection) = core.parts.slots.connection_mut(id) else { return count };
    // A protocol that has paused reading is not told of the end either, since the end comes after data that it has not
    // seen.
    let (delivers, is_told) = (connection.state().delivers_input(), connection.wants_input());
    let Some(chain) = connection.chain_mut() else { return count };
    let has_ended = chain.said.end && is_told;
    chain.said.end &= delivers && !is_told;
    if !heed_failure(core, id, false) && has_ended {
        core.deliver_end(id);
    }
    count
}

/// Delivers data that has passed the filters. Returns how many bytes that was.
fn deliver_plain(core: &mut Core, id: Id, plain: Bytes) -> usize {
    let count = plain.len();
    if count > 0 {
        core.deliver(id, plain.rest());
    }
    core.parts.buffers.filters.put_back(plain);
    count
}

/// Acts on the failure of a filter, after the data that came before it. Returns whether there is one.
///
/// A protocol that has paused reading is told when it resumes, as with a peer's reset (R4), unless something is being
/// sent: then the send has failed. A connection that is being detached takes the failure with it.
fn heed_failure(core: &mut Core, id: Id, is_sending: bool) -> bool {
    let connection = core.parts.slots.connection_mut(id).filter(|of| of.state() != State::Detaching);
    let Some(connection) = connection else { return false };
    let waits = connection.keeps_in_a_pause() && !is_sending && connection.unfiltered().is_empty();
    let Some(chain) = connection.chain_mut() else { return false };
    if waits || chain.said.failure.is_none() {
        return chain.said.failure.is_some();
    }
    let failure = chain.said.failure.take();
    if let Some(failure) = failure {
        // Data that the filter has output is still sent; data that it has not taken is not.
        core.offer_withheld(id);
        core.parts.close_for(id, CloseReason::of_protocol(failure));
    }
    true
}

// Going out.

/// Sends the output of filters, and makes them take written data, as much as the kernel has room for (Y2). Returns
/// `false` in the common case, in which there is nothing else to do.
pub(super) fn pump(core: &mut Core, id: Id) -> bool {
    if filter_gathered(core, id) {
        return false;
    }
    core.parts.push_gathered(id);
    begin(core, id);
    while send_beneath(&mut core.parts, id) && filter_more(core, id) {}
    if let Some(connection) = core.parts.slots.connection_mut(id) {
        if connection.dissolve_filters() {
            // Data that the last filter left takes the usual path from here on.
            core.parts.carry_over(id);
        }
    }
    true
}

/// The protocol sees both ends of a connection as closed, but its peer may still send data for its filters. If it were
/// closed now, the kernel might answer that data with a reset, which can destroy our last bytes before the peer has
/// read them (X1).
#[cold]
pub(super) fn linger(parts: &mut Parts, id: Id) {
    let Some(connection) = parts.slots.connection_mut(id) else { return };
    connection.ending_record();
    // An error here means that the peer is gone, which reading reports.
    let _ = connection.send_fin();
    parts.linger(id, 0);
}

/// Gathers a large piece that a callback writes to its own connection, if filters will take it from there when the
/// callback returns. Without filters the kernel takes it at once. Done only far from all caps.
pub(super) fn gather_large(parts: &mut Parts, id: Id, data: &[u8]) -> bool {
    let takes = |connection: &Connection| connection.is_filtered() && connection.gathers_large();
    let is_roomy = parts.outbox.gathered.is(id) && parts.outbox.room() == GATHERED_BYTES_MAX;
    let takes = is_roomy && !parts.outbox.is_shared() && parts.slots.connection(id).is_some_and(takes);
    takes && parts.outbox.gathered.gather_large(id, data)
}

/// Passes what a callback has gathered to the filters, without copying it, and sends their output, if nothing is queued
/// before it. Returns whether everything was sent and nothing else is to be done. It does nothing that the general path
/// does not.
fn filter_gathered(core: &mut Core, id: Id) -> bool {
    let goes = |connection: &mut Connection| connection.filters_at_once();
    if core.parts.outbox.gathered.bytes.is_empty() || !core.parts.slots.alive_mut(id).is_some_and(goes) {
        return false;
    }
    let mut gathered = std::mem::take(&mut core.parts.outbox.gathered.bytes);
    let mut taken = 0;
    let runs = call(core, id, Way::Down, &mut |chain, _, now| {
        taken = chain.send(&gathered[..gathered.len().min(STEP_BYTES_MAX)], now);
    });
    let is_all = taken == gathered.len();
    if let (true, false, Some(connection)) = (runs, is_all, core.parts.slots.connection_mut(id)) {
        core.parts.outbox.change(connection, core.parts.time.now_ns(), |connection, _, pool| {
            connection.push(Piece::Borrowed(&gathered), taken, pool);
        });
    }
    gathered.clear();
    core.parts.outbox.gathered.bytes = gathered;
    let is_quiet =
        |connection: &Connection| connection.chain().is_some_and(|chain| chain.is_quiet() && !chain.has_input());
    if runs && !core.parts.slots.connection(id).is_some_and(is_quiet) {
        count_beneath(&mut core.parts, id);
        heed_sending(core, id);
        return false;
    }
    send_beneath(&mut core.parts, id) && is_all
}

/// Sends the output of filters. Returns whether all of it was sent.
pub(super) fn send_beneath(parts: &mut Parts, id: Id) -> bool {
    let Some(connection) = parts.slots.alive_mut(id) else { return false };
    let had_output = connection.has_output();
    let (sent, taken) = parts.outbox.change(connection, parts.time.now_ns(), |connection, _, pool| {
        let sent = connection.send_beneath();
        connection.count_beneath(pool);
        sent
    });
    if let Some(chain) = connection.chain_mut() {
        chain.give_back(&mut parts.buffers.filters);
    }
    parts.counters.bytes_sent += taken;
    let is_out = matches!(sent, Sent::All);
    if had_output || !is_out {
        parts.note_sent(id, sent);
    }
    is_out && parts.slots.connection(id).is_some_and(Connection::is_filtered)
}

/// Makes filters take more of the written data, or announce our end. Returns whether they may have produced output.
fn filter_more(core: &mut Core, id: Id) -> bool {
    let Some(connection) = core.parts.slots.connection_mut(id) else { return false };
    let Some(chain) = connection.chain() else { return false };
    if !chain.is_ready() {
        if chain.has_failed() && connection.keeps_in_a_pause() && !connection.unfiltered().is_empty() {
            heed_failure(core, id, true);
        }
        let Some(connection) = core.parts.slots.connection(id) else { return false };
        if connection.is_closing() || connection.chain().is_some_and(Chain::has_failed) {
            // It closes without the filters' end of stream, and so without the data that they have not taken.
            drop_unfiltered(&mut core.parts, id);
        }
        return false;
    }
    if chain.outward_bytes() > 0 {
        // A filter does not take the output of the one above it. It is asked again when something has arrived.
        return false;
    }
    let (has_more, finishes) = (!connection.unfiltered().is_empty(), connection.finishes_filters());
    if connection.state() == State::Failing || !has_more && !finishes {
        return false;
    }
    let mut taken = 0;
    let runs = run(core, id, Way::Down, &mut |chain, connection, now| match has_more {
        true => {
            let data = connection.unfiltered();
            taken = chain.send(&data[..data.len().min(STEP_BYTES_MAX)], now);
            connection.advance_unfiltered(taken);
        }
        false => chain.finish(now),
    });
    if !runs {
        return false;
    }
    heed_sending(core, id);
    // A filter that has taken nothing is asked again when something has arrived.
    let Some(connection) = core.parts.slots.connection(id) else { return false };
    taken > 0 || connection.chain().is_some_and(|chain| chain.outward_bytes() > 0)
}

fn drop_unfiltered(parts: &mut Parts, id: Id) {
    let Some(connection) = parts.slots.connection_mut(id) else { return };
    parts.outbox.change(connection, parts.time.now_ns(), |connection, _, pool| connection.drop_unfiltered(pool));
}

/// Acts on what filters have reported when they were given something to send.
fn heed_sending(core: &mut Core, id: Id) {
    heed_failure(core, id, true);
    let Some(connection) = core.parts.slots.connection_mut(id) else { return };
    if connection.chain().is_some_and(Chain::has_input) {
        // Not from within a flush, which may come in the middle of a delivery.
        connection.flags.set(Flag::OfferAgain, true);
        core.parts.carry_over(id);
    }
}

/// Calls filters of a connection, and counts their output as queued. Returns `false` if that has ended the connection.
fn run(core: &mut Core, id: Id, way: Way, code: &mut dyn FnMut(&mut Chain, &mut Connection, Instant)) -> bool {
    let runs = call(core, id, way, code);
    if runs {
        count_beneath(&mut core.parts, id);
    }
    runs
}

/// Counts the output of a connection's filters as queued.
fn count_beneath(parts: &mut Parts, id: Id) {
    let Some(connection) = parts.slots.connection_mut(id) else { return };
    if connection.counts_beneath() {
        parts.outbox.change(connection, parts.time.now_ns(), |connection, _, pool| connection.count_beneath(pool));
    }
}

/// Calls filters of a connection, which are out of it meanwhile. Returns `false` if that has ended the connection.
fn call(core: &mut Core, id: Id, way: Way, code: &mut dyn FnMut(&mut Chain, &mut Connection, Instant)) -> bool {
    let now = core.parts.time.now();
    let extras = core.parts.slots.alive_mut(id).and_then(|connection| connection.extras.as_mut());
    let Some(mut chain) = extras.and_then(|extras| extras.chain.take()) else { return false };
    chain.lend(way, &mut core.parts.buffers.filters);
    let result = core.guard_each("a filter", &mut |core| {
        if let Some(connection) = core.parts.slots.connection_mut(id) {
            let before = connection.output_before();
            code(&mut chain, connection, now);
            core.parts.outbox.count(before.cost, connection.queued_cost());
        }
    });
    chain.give_back(&mut core.parts.buffers.filters);
    let Some(connection) = core.parts.slots.connection_mut(id) else { return false };
    connection.extras_mut().chain = Some(chain);
    if let Err(message) = result {
        core.parts.finish(id, CloseReason::Panic(message));
        return false;
    }
    true
}

/// A connection has ended before its filters were ready. Tells its protocol if it is an outgoing one, otherwise its
/// listener's owner.
pub(super) fn tell_of_end(core: &mut Core, id: Id, reason: CloseReason) {
    let Some(connection) = core.parts.slots.connection(id) else { return };
    let Some(listener) = connection.settings.listener else {
        return core.deliver_connect_failure(id, ConnectError::of_filter(reason));
    };
    core.parts.counters.handshakes_failed += 1;
    if let Some(peer) = connection.peer().cloned() {
        tell_of_handshake(core, listener, &ListenerError::Handshake(peer, reason));
    }
}
