//! One payload for many connections: everything that they are to be sent is in one log, and is sent from there.
//!
//! To the receivers it looks as if each was written to, one after the other. A share of the log comes after what is
//! queued for its connection, and before what a callback under way has gathered for it. A connection with a share is
//! established, may be written to, is far from its cap, and is on the list of those that were written to. Any other
//! operation that concerns a connection's output queues its share first: it is copied behind what is queued.
//!
//! Identical data that is written to one connection after another is recognised by its bytes, so a loop over many ids
//! costs much the same.

use super::Parts;
use crate::CloseReason;
use crate::connection::output::{LARGE_BYTES, Piece};
use crate::connection::shared_log::Span;
use crate::connection::{Connection, Sent};
use crate::ids::Id;

impl Parts {
    /// Writes `data` to each of `ids`, and returns how many of them it was written to.
    ///
    /// `ids` is user code, which may panic: the state is consistent between any two of them.
    #[inline]
    pub(crate) fn broadcast(&mut self, ids: impl Iterator<Item = Id>, data: &[u8]) -> usize {
        if data.len() >= LARGE_BYTES || data.is_empty() {
            return self.broadcast_large(ids, data);
        }
        let span = self.log_broadcast(data);
        let mut reached = 0;
        for id in ids {
            if !self.outbox.gathered.is(id) && self.outbox.extend_share(id, span, data.len()) {
                reached += 1;
            } else {
                reached += usize::from(self.broadcast_slowly(id, data, span));
            }
        }
        reached
    }

    /// Puts a payload into the log.
    fn log_broadcast(&mut self, data: &[u8]) -> Span {
        if !self.outbox.takes_broadcast(data.len()) {
            self.send_shares();
        }
        self.outbox.log_payload(data)
    }

    /// Handles a small write to a connection whose callback is not running. Data that was just written to another one
    /// is not copied again. Returns `false` if the general path is needed.
    #[inline]
    pub(super) fn write_by_log(&mut self, id: Id, data: &[u8]) -> bool {
        if let Some(span) = self.outbox.repeated(id, data) {
            return self.extend_share(id, data, span);
        }
        let Some(connection) = self.slots.connection(id) else { return false };
        if connection.has_output() && !self.outbox.reaches_end(id) {
            return self.write_behind(id, data);
        }
        if !self.outbox.takes_payload(data.len()) || !connection.can_write() {
            return false;
        }
        let span = self.outbox.log_payload(data);
        self.extend_share(id, data, span)
    }

    #[inline]
    fn extend_share(&mut self, id: Id, data: &[u8], span: Span) -> bool {
        let is_done = self.outbox.extend_share(id, span, data.len());
        is_done || self.slots.connection(id).is_some_and(Connection::can_write) && self.broadcast_slowly(id, data, span)
    }

    /// Copies a small piece behind others that are held until the end of the turn.
    fn write_behind(&mut self, id: Id, data: &[u8]) -> bool {
        self.queue_share(id);
        let is_done = self.slots.connection_mut(id).is_some_and(|connection| connection.write_behind(data));
        self.outbox.count(0, if is_done { data.len() } else { 0 });
        is_done
    }

    /// Gives a share to a connection that has none, or whose share ends before this payload; if it cannot have one,
    /// writes to it.
    #[inline(never)]
    fn broadcast_slowly(&mut self, id: Id, data: &[u8], span: Span) -> bool {
        if !self.slots.connection(id).is_some_and(Connection::can_write) {
            return self.broadcast_late(id);
        }
        let is_own = self.outbox.gathered.is(id);
        let is_behind_gathered = is_own && !self.outbox.gathered.bytes.is_empty();
        if is_behind_gathered || !self.outbox.extend_share(id, span, data.len()) {
            // It has missed a payload, is named twice, or has no share.
            self.queue_share(id);
            let may_share = self.slots.connection(id).is_some_and(Connection::may_share);
            if is_behind_gathered || !may_share || self.outbox.is_over_cap() {
                if !self.outbox.gathered.gather(id, data) {
                    self.write(id, Piece::Borrowed(data));
                }
                return true;
            }
            self.outbox.open_share(id, span);
            self.mark_written_to(id);
        }
        if is_own {
            self.outbox.gathered.disturb(id);
            let room = self.slots.connection(id).map_or(0, Connection::room);
            self.outbox.gathered.lower_room(room.saturating_sub(self.outbox.share_bytes(id)).min(self.outbox.room()));
        }
        true
    }

    /// The connection is closing, or over.
    #[cold]
    fn broadcast_late(&mut self, id: Id) -> bool {
        let is_alive = self.slots.connection(id).is_some_and(Connection::is_alive);
        self.counters.late_writes += u64::from(is_alive);
        false
    }

    /// Sends each connection as much of a large payload as its socket takes; one copy is kept for all that take less.
    fn broadcast_large(&mut self, ids: impl Iterator<Item = Id>, data: &[u8]) -> usize {
        if data.is_empty() {
            return 0;
        }
        // Data that precedes the payload then needs no copy.
        self.send_shares();
        let (mut reached, mut kept) = (0, None);
        for id in ids {
            if self.slots.connection(id).is_some_and(Connection::can_write) {
                self.write(id, Piece::Broadcast(data, &mut kept));
                reached += 1;
            } else {
                self.broadcast_late(id);
            }
        }
        reached
    }

    /// Copies a connection's share behind what is queued for it.
    #[inline]
    pub(super) fn queue_share(&mut self, id: Id) {
        if self.outbox.is_shared() {
            self.queue_share_slowly(id);
        }
    }

    #[inline(never)]
    fn queue_share_slowly(&mut self, id: Id) {
        if !self.outbox.has_share(id) {
            return;
        }
        if self.slots.connection(id).is_some_and(|connection| !connection.has_output()) {
            // From here on the connection waits for its peer.
            self.time.look_at_clock();
        }
        self.outbox.queue_share(id, self.slots.connection_mut(id), self.time.now_ns());
    }

    /// Sends a connection's share directly from the log, behind what is queued for it; what the kernel does not take is
    /// queued. Returns `None` if it has no share, or if it cannot be sent now: the share is then queued.
    pub(super) fn send_share(&mut self, id: Id) -> Option<Sent> {
        let connection = match self.slots.connection_mut(id) {
            Some(connection) if connection.sends_at_will() => connection,
            _ => {
                self.queue_share(id);
                return None;
            }
        };
        let was_queued = connection.has_output();
        let (sent, taken) = self.outbox.send_share(id, connection, self.time.now_ns())?;
        self.counters.bytes_sent += taken;
        if was_queued && matches!(sent, Sent::All) {
            // Nothing waits for the peer any more.
            self.note_sent(id, Sent::All);
        }
        Some(sent)
    }

    /// Sends all shares, before the log grows too long or before data is sent that must not overtake them.
    #[cold]
    pub(super) fn send_shares(&mut self) {
        let mut slot = 0;
        while let Some(id) = self.outbox.next_sharer(slot) {
            slot = id.slot as usize + 1;
            // They stay on the list of those that were written to: whatever else follows a send is done by the flush.
            if let Some(Sent::Failed(error)) = self.send_share(id) {
                self.fail_sending(id, CloseReason::from_error(error));
            }
        }
    }
}
