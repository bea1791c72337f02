//! Output that waits to be sent from a loop: what the running callback has gathered, what is queued for connections and
//! datagram sockets, and what was broadcast and is not queued yet.
//!
//! It knows no slab, no poller and no clock, and calls no user code: the loop above finds the connection, and acts on
//! the result of a send.

use super::gathered::Gathered;
use super::output::{Piece, Pool};
use super::shared_log::{SharedLog, Span};
use super::{Connection, Flag, GATHERED_BYTES_MAX, Sent};
use crate::ids::Id;

pub(crate) struct Outbox {
    pub(crate) gathered: Gathered,
    log: SharedLog,
    pool: Pool,
    queued: Queued,
    /// The cap on `queued` (rule W4).
    queued_bytes_max: usize,
    /// The quick path is taken only while less than this is queued: then no callback on it can reach the cap.
    quick_below: usize,
    /// Connections that other connections' callbacks wrote to, each listed once.
    written_to: Vec<Id>,
}

/// What all output queues and all shares of the log cost together.
#[derive(Clone, Copy, Default)]
struct Queued(usize);

impl Queued {
    /// One of them has changed. Nothing else changes the sum.
    #[inline]
    fn change(&mut self, before: usize, after: usize) {
        self.0 = self.0 + after - before;
    }
}

impl Outbox {
    pub(crate) fn new(queued_bytes_max: usize) -> Outbox {
        Outbox {
            gathered: Gathered::default(),
            log: SharedLog::default(),
            pool: Pool::default(),
            queued: Queued::default(),
            queued_bytes_max,
            quick_below: queued_bytes_max.saturating_add(1).saturating_sub(GATHERED_BYTES_MAX),
            written_to: Vec::new(),
        }
    }

    // The cap.

    /// Returns the total that is queued, in bytes, including the overhead of keeping them.
    pub(crate) fn queued(&self) -> usize {
        self.queued.0
    }

    pub(crate) fn queued_bytes_max(&self) -> usize {
        self.queued_bytes_max
    }

    /// Returns whether more is queued than the cap allows.
    #[inline]
    pub(crate) fn is_over_cap(&self) -> bool {
        self.queued.0 > self.queued_bytes_max
    }

    /// Returns whether no callback can reach the cap with what it gathers.
    #[inline]
    pub(crate) fn is_far_from_cap(&self) -> bool {
        self.queued.0 < self.quick_below
    }

    /// Returns how much may be gathered before the queues must be checked, as far as the whole loop is concerned.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.queued_bytes_max.saturating_sub(self.queued.0).min(GATHERED_BYTES_MAX)
    }

    // Queues.

    /// Runs `code` on the output of a connection, and counts what that changes. Returns its result, and how many bytes
    /// were sent.
    #[inline]
    pub(crate) fn change<R>(
        &mut self,
        connection: &mut Connection,
        now_ns: u64,
        work: impl FnOnce(&mut Connection, &mut Gathered, &mut Pool) -> R,
    ) -> (R, u64) {
        let before = connection.output_before();
        let result = work(connection, &mut self.gathered, &mut self.pool);
        let taken = connection.note_output(before, now_ns);
        self.queued.change(before.cost, connection.queued_cost());
        (result, taken)
    }

    /// The queue of a connection that begins or ends, or of a datagram socket, has changed its cost.
    #[inline]
    pub(crate) fn count(&mut self, before: usize, after: usize) {
        self.queued.change(before, after);
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Appends what its callback has gathered to a connection's queue.
    pub(crate) fn queue_gathered(&mut self, connection: &mut Connection, now_ns: u64) {
        self.change(connection, now_ns, |connection, gathered, pool| {
            connection.push(Piece::Borrowed(&gathered.bytes), 0, pool);
        });
        self.gathered.bytes.clear();
    }

    /// Sends a connection's queue, and what its callback has gathered.
    pub(crate) fn send(&mut self, connection: &mut Connection, now_ns: u64) -> (Sent, u64) {
        self.change(connection, now_ns, |connection, gathered, pool| {
            let sent = connection.send(&gathered.bytes, pool);
            gathered.bytes.clear();
            sent
        })
    }

    /// Returns how many bytes wait for a connection outside its queue.
    #[inline]
    pub(crate) fn waiting_bytes(&self, id: Id) -> usize {
        self.log.share_bytes(id) + self.gathered.bytes_of(id)
    }

    // Output that was written to many connections, or to another one.

    #[inline]
    pub(crate) fn share_bytes(&self, id: Id) -> usize {
        self.log.share_bytes(id)
    }

    /// Returns whether a connection has a share of the log.
    #[inline]
    pub(crate) fn has_share(&self, id: Id) -> bool {
        self.log.has_share(id)
    }

    /// Returns whether any connection has a share of the log.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.log.is_shared()
    }

    pub(crate) fn next_sharer(&self, from_slot: usize) -> Option<Id> {
        self.log.next_sharer(from_slot)
    }

    /// Returns whether the log takes another payload of this size, counting all connections that have a share.
    pub(crate) fn takes_broadcast(&self, bytes: usize) -> bool {
        let total = self.queued.0.saturating_add(self.log.cost_for_all(bytes));
        self.log.has_room(bytes) && total <= self.queued_bytes_max
    }

    /// Returns whether the log takes another payload of this size.
    #[inline]
    pub(crate) fn takes_payload(&self, bytes: usize) -> bool {
        self.log.has_room(bytes)
    }

    /// Appends a payload to the log.
    pub(crate) fn log_payload(&mut self, data: &[u8]) -> Span {
        self.log.append(data)
    }

    /// Returns the last payload, if it is the same as this one and was not given to `id`.
    #[inline]
    pub(crate) fn repeated(&self, id: Id, data: &[u8]) -> Option<Span> {
        self.log.repeated(id, data)
    }

    /// Turns what its callback has gathered into its share of the last payload, if both are the same.
    pub(crate) fn share_gathered(&mut self, id: Id) -> bool {
        let Some(span) = self.log.repeated(id, &self.gathered.bytes) else { return false };
        let is_shared = self.extend_share(id, span, self.gathered.bytes.len());
        if is_shared {
            self.gathered.bytes.clear();
        }
        is_shared
    }

    #[inline]
    pub(crate) fn reaches_end(&self, id: Id) -> bool {
        self.log.reaches_end(id)
    }

    /// Gives a payload of this many bytes to a connection whose share reaches up to it. Returns `false` for any other.
    #[inline]
    pub(crate) fn extend_share(&mut self, id: Id, span: Span, bytes: usize) -> bool {
        let extends = self.log.extend(id, span);
        if extends {
            self.queued.change(0, bytes);
        }
        extends
    }

    /// Gives a payload to a connection that has no share.
    pub(crate) fn open_share(&mut self, id: Id, span: Span) {
        let cost = self.log.open(id, span);
        self.queued.change(0, cost);
    }

    /// Appends a copy of a connection's share to its queue. If the connection is gone, its share is dropped.
    pub(crate) fn queue_share(&mut self, id: Id, connection: Option<&mut Connection>, now_ns: u64) {
        let Some((bytes, cost)) = self.log.take(id) else { return };
        self.queued.change(cost, 0);
        if let Some(connection) = connection {
            let before = connection.output_before();
            connection.push(Piece::Borrowed(bytes), 0, &mut self.pool);
            connection.note_output(before, now_ns);
            self.queued.change(before.cost, connection.queued_cost());
        }
    }

    /// Sends a connection's share straight from the log, after what is queued for it; queues what the kernel does not
    /// take. Returns `None` if it has no share.
    pub(crate) fn send_share(&mut self, id: Id, connection: &mut Connection, now_ns: u64) -> Option<(Sent, u64)> {
        let (bytes, cost) = self.log.take(id)?;
        let before = connection.output_before();
        let sent = connection.send_behind(bytes, &mut self.pool);
        let taken = connection.note_output(before, now_ns);
        self.queued.change(before.cost + cost, connection.queued_cost());
        Some((sent, taken))
    }

    // Connections whose output must be handled before the loop sleeps.

    #[inline]
    pub(crate) fn mark_written_to(&mut self, id: Id, connection: &mut Connection) {
        if !connection.flags.replace(Flag::WrittenTo, true) {
            self.written_to.push(id);
        }
    }

    #[inline]
    pub(crate) fn has_written_to(&self) -> bool {
        !self.written_to.is_empty()
    }

    pub(crate) fn take_written_to(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.written_to)
    }

    /// Puts the emptied list back, so that its memory serves the next turn.
    pub(crate) fn reuse_written_to(&mut self, emptied: Vec<Id>) {
        if self.written_to.is_empty() {
            self.written_to = emptied;
        }
    }

    // Memory.

    /// Returns whether it holds anything that a later [`decay`](Outbox::decay) could give back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.pool.holds_memory() || self.gathered.holds_memory() || self.log.holds_memory()
    }

    /// Releases memory that was not used since the last call.
    pub(crate) fn decay(&mut self) {
        self.pool.decay();
        self.gathered.decay();
        self.log.decay();
    }
}

/// What the tests of the guarantees look at.
#[cfg(test)]
impl Outbox {
    /// From now on the quick path is always taken, whatever is queued, or never.
    pub(crate) fn set_quick(&mut self, is_quick: bool) {
        self.quick_below = if is_quick { usize::MAX } else { 0 };
    }

    pub(crate) fn log(&self) -> &SharedLog {
        &self.log
    }

    #[cfg(feature = "testing")]
    pub(crate) fn pool_ref(&self) -> &Pool {
        &self.pool
    }

    #[cfg(feature = "testing")]
    pub(crate) fn written_to(&self) -> &[Id] {
        &self.written_to
    }
}
