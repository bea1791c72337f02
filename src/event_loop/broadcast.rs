//! One payload to many connections: what each of them is to get stands in one log, and goes out from there.
//!
//! It is to the receivers as if each was written to, one after the other. A share of the log comes behind what is queued
//! for its connection, and before what a callback under way has gathered for it; its connection is made, may be written to,
//! is far from its cap, and stands on the list of those that were written to. Whatever else is done to a connection that
//! concerns its output *settles* its share first: that is copied behind what is queued.
//!
//! What is written to one connection after another is recognised by its bytes, so that a loop over many ids is much the
//! same.

use super::Core;
use crate::CloseReason;
use crate::connection::output::{LARGE_BYTES, Piece};
use crate::connection::shared_log::Span;
use crate::connection::{Connection, Sent};
use crate::ids::Id;

impl Core {
    /// Writes `data` to each of `ids`, and answers to how many of them.
    ///
    /// `ids` is code of the user's, which may panic: between two of them everything is as it should be.
    #[inline]
    pub(crate) fn broadcast(&mut self, ids: impl Iterator<Item = Id>, data: &[u8]) -> usize {
        if data.len() >= LARGE_BYTES || data.is_empty() {
            return self.broadcast_large(ids, data);
        }
        let span = self.log_broadcast(data);
        let mut reached = 0;
        for id in ids {
            if !self.own.is(id) && self.log.extend(id, span) {
                self.queued_total += data.len();
                reached += 1;
            } else {
                reached += usize::from(self.broadcast_slowly(id, data, span));
            }
        }
        reached
    }

    /// Puts a payload into the log.
    fn log_broadcast(&mut self, data: &[u8]) -> Span {
        let total = self.queued_total.saturating_add(self.log.cost_for_all(data.len()));
        if !self.log.has_room(data.len()) || total > self.terms.limits.loop_queue_bytes_max {
            self.send_shares();
        }
        self.log.append(data)
    }

    /// A small write to a connection whose callback does not run. What was just written to another one is not copied
    /// again. `false` where more is to be seen to.
    #[inline]
    pub(super) fn write_by_log(&mut self, id: Id, data: &[u8]) -> bool {
        if let Some(span) = self.log.repeated(id, data) {
            return self.extend_share(id, data, span);
        }
        let Some(connection) = self.slots.connection(id) else { return false };
        if connection.has_output() && !self.log.reaches_end(id) {
            return self.write_behind(id, data);
        }
        if !self.log.has_room(data.len()) || !connection.can_write() {
            return false;
        }
        let span = self.log.append(data);
        self.extend_share(id, data, span)
    }

    #[inline]
    fn extend_share(&mut self, id: Id, data: &[u8], span: Span) -> bool {
        if self.log.extend(id, span) {
            self.queued_total += data.len();
            return true;
        }
        self.slots.connection(id).is_some_and(Connection::can_write) && self.broadcast_slowly(id, data, span)
    }

    /// Copies a small piece behind others that wait for the turn's end.
    fn write_behind(&mut self, id: Id, data: &[u8]) -> bool {
        self.settle(id);
        let is_done = self.slots.connection_mut(id).is_some_and(|connection| connection.write_behind(data));
        self.queued_total += if is_done { data.len() } else { 0 };
        is_done
    }

    /// Of one that has no share, or one that ends before this payload: gives it a share, or writes to it.
    #[inline(never)]
    fn broadcast_slowly(&mut self, id: Id, data: &[u8], span: Span) -> bool {
        if !self.slots.connection(id).is_some_and(Connection::can_write) {
            return self.broadcast_late(id);
        }
        let is_own = self.own.is(id);
        let is_behind_gathered = is_own && !self.own.gathered.is_empty();
        if is_behind_gathered || !self.log.extend(id, span) {
            // It has missed one, is named twice, or has none.
            self.settle(id);
            let may_share = self.slots.connection(id).is_some_and(Connection::may_share);
            let is_over = self.queued_total > self.terms.limits.loop_queue_bytes_max;
            if is_behind_gathered || !may_share || is_over {
                if !self.own.gather(id, data) {
                    self.write(id, Piece::Borrowed(data));
                }
                return true;
            }
            self.queued_total += self.log.open(id, span);
            self.mark_written_to(id);
        } else {
            self.queued_total += data.len();
        }
        if is_own {
            self.own.disturb(id);
            let room = self.slots.connection(id).map_or(0, Connection::room);
            self.own.lower_room(room.saturating_sub(self.log.share_bytes(id)).min(self.room_in_loop()));
        }
        true
    }

    /// It is closing, or over.
    #[cold]
    fn broadcast_late(&mut self, id: Id) -> bool {
        let is_alive = self.slots.connection(id).is_some_and(Connection::is_alive);
        self.counters.late_writes += u64::from(is_alive);
        false
    }

    /// Of a large payload each of them gets as much as its socket takes; one copy is kept for all that take less.
    fn broadcast_large(&mut self, ids: impl Iterator<Item = Id>, data: &[u8]) -> usize {
        if data.is_empty() {
            return 0;
        }
        // What they are to get before it needs no copy then.
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
    pub(super) fn settle(&mut self, id: Id) {
        if self.log.is_shared() {
            self.settle_share(id);
        }
    }

    #[inline(never)]
    fn settle_share(&mut self, id: Id) {
        if self.slots.connection(id).is_some_and(|connection| !connection.has_output()) {
            // It begins to wait for its peer.
            self.look_at_clock();
        }
        let Some((bytes, cost)) = self.log.take(id) else { return };
        self.queued_total -= cost;
        if let Some(connection) = self.slots.connection_mut(id) {
            let before = connection.output_before();
            connection.push(Piece::Borrowed(bytes), 0, &mut self.pool);
            connection.note_output(before, self.now_ns);
            self.queued_total += connection.queued_cost() - before.cost;
        }
    }

    /// Sends a connection's share straight from the log, behind what is queued for it; what the kernel does not take is
    /// queued. `None` where it has no share, or something stands in its way: then it is settled.
    pub(super) fn send_share(&mut self, id: Id) -> Option<Sent> {
        let connection = self.slots.connection_mut(id).filter(|connection| connection.sends_at_will());
        let Some(connection) = connection else {
            self.settle(id);
            return None;
        };
        let (bytes, cost) = self.log.take(id)?;
        let before = connection.output_before();
        let sent = connection.send_behind(bytes, &mut self.pool);
        self.counters.bytes_sent += connection.note_output(before, self.now_ns);
        self.queued_total = self.queued_total + connection.queued_cost() - before.cost - cost;
        if before.cost > 0 && matches!(sent, Sent::All) {
            // Nothing waits for the peer any more.
            self.note_sent(id, Sent::All);
        }
        Some(sent)
    }

    /// Sends all shares, before the log grows too long or what must not come before them is sent.
    #[cold]
    pub(super) fn send_shares(&mut self) {
        let mut slot = 0;
        while let Some(id) = self.log.next_sharer(slot) {
            slot = id.slot as usize + 1;
            // They stay on the list of those that were written to: what else follows a send comes with the flush.
            if let Some(Sent::Failed(error)) = self.send_share(id) {
                self.fail_sending(id, CloseReason::from_error(error));
            }
        }
    }
}
