//! Output: how it is written and sent, and what is done once it has been sent.

use std::io;
use std::sync::Arc;

use super::producing::produce_later;
use super::{Core, Parts, filtering};
use crate::CloseReason;
use crate::connection::output::{LARGE_BYTES, Piece};
use crate::connection::{Flag, GATHERED_BYTES_MAX, Mark, Read, Sent, State};
use crate::ids::Id;
use crate::reason::Limit;
use crate::sys::Blocked;

impl Core {
    /// Sends what is queued for a connection and what its callback has gathered, and does what is due then. If others
    /// have written to the connection, that is left to the end of the turn, in one call together with whatever they
    /// still write.
    pub(super) fn flush(&mut self, id: Id) {
        let connection = match self.parts.slots.connection_mut(id) {
            Some(connection) if connection.has_no_duties() => connection,
            _ => return self.flush_or_defer(id),
        };
        if self.parts.outbox.gathered.bytes.is_empty() {
            return;
        }
        if connection.idle.is_some() {
            connection.touch_idle_by_output(self.parts.time.now_ns());
        }
        match connection.send_quickly(&self.parts.outbox.gathered.bytes) {
            Ok(()) => {
                self.parts.counters.bytes_sent += self.parts.outbox.gathered.bytes.len() as u64;
                self.parts.outbox.gathered.bytes.clear();
            }
            Err(first) => self.send_slowly(id, first),
        }
    }

    fn flush_or_defer(&mut self, id: Id) {
        // Held data waits only for the callback: a write that reaches the loop's cap later would not find it.
        let may_wait =
            self.parts.outbox.gathered.take_held() != Some(id) && self.parts.outbox.room() == GATHERED_BYTES_MAX;
        match self.parts.slots.connection(id) {
            Some(connection) if may_wait && connection.is_flushed_later() => self.parts.queue_gathered(id),
            _ => self.flush_now(id),
        }
    }

    /// Like [`flush`](Core::flush), even if others have written to the connection.
    pub(super) fn flush_now(&mut self, id: Id) {
        self.parts.queue_share(id);
        let Some(connection) = self.parts.slots.connection_mut(id) else {
            return self.parts.outbox.gathered.bytes.clear();
        };
        if connection.is_filtered() {
            if !filtering::pump(self, id) {
                return;
            }
        } else if connection.has_output() || !self.parts.outbox.gathered.bytes.is_empty() {
            self.parts.send(id);
        }
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if !connection.has_no_duties() {
            self.after_send(id);
        }
    }

    /// Continues when the kernel did not take everything.
    #[cold]
    pub(super) fn send_slowly(&mut self, id: Id, first: io::Result<usize>) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let (sent, taken) =
            self.parts.outbox.change(connection, self.parts.time.now_ns(), |connection, gathered, pool| {
                let sent = connection.send_rest(&gathered.bytes, first, pool);
                gathered.bytes.clear();
                sent
            });
        self.parts.counters.bytes_sent += taken;
        self.parts.note_sent(id, sent);
        self.after_send(id);
    }

    /// Does what follows a send: FIN or the end, if that was waiting for it, and the marks.
    #[cold]
    fn after_send(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let is_out = connection.queued_bytes() == 0 && !connection.owes_an_end();
        match connection.state() {
            // An error here means that the peer is gone, which reading reports.
            State::FinQueued if is_out => drop(connection.send_fin()),
            State::FlushingAfterEnd if is_out && connection.awaits_end_of_network() => {
                return filtering::linger(&mut self.parts, id);
            }
            State::FlushingAfterEnd if is_out => return self.parts.finish_begun(id),
            State::Flushing if is_out => return self.parts.end_flushed(id),
            State::Detaching => return self.parts.finish_begun(id),
            State::FlushingAfterEnd | State::Flushing => self.parts.set_close_deadline(id),
            _ => {}
        }
        self.tell_mark(id);
        produce_later(&mut self.parts, id);
    }

    /// Tells the protocol when its queue has crossed a mark (W2): once. If what it then writes crosses the other mark,
    /// that is reported in the next turn.
    fn tell_mark(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let Some(mark) = connection.cross_mark() else { return };
        if connection.idle.is_some() {
            connection.note_whether_it_keeps_from_sending(self.parts.time.clock_ns());
            self.parts.run_idle(id);
        }
        let Some(connection) = self.parts.slots.connection(id) else { return };
        if connection.can_write() {
            match mark {
                Mark::High => {
                    self.call(id, "pause_writing", &mut |protocol, transport| protocol.pause_writing(transport));
                }
                Mark::Low => {
                    self.call(id, "resume_writing", &mut |protocol, transport| protocol.resume_writing(transport));
                }
            }
            self.parts.send(id);
        }
        // The other mark, the end, and reading that was held back are all checked again.
        self.parts.carry_over(id);
    }

    /// Phase: flush. Sends to the connections that were written to before it began.
    pub(super) fn flush_written_to(&mut self) {
        if !self.parts.outbox.has_written_to() {
            return;
        }
        self.parts.time.look_at_clock();
        let mut written_to = self.parts.outbox.take_written_to();
        for id in written_to.drain(..) {
            let Some(connection) = self.parts.slots.connection_mut(id) else { continue };
            connection.flags.set(Flag::WrittenTo, false);
            // One that is not made yet is flushed when it is, except for what its filters send.
            if !connection.flags.has(Flag::Made) && (connection.is_connecting() || !connection.is_filtered()) {
                continue;
            }
            match self.parts.outbox.is_shared().then(|| self.parts.send_share(id)).flatten() {
                None => self.flush(id),
                Some(Sent::All) => {}
                Some(sent) => {
                    self.parts.note_sent(id, sent);
                    self.after_send(id);
                }
            }
        }
        self.parts.outbox.reuse_written_to(written_to);
    }
}

impl Parts {
    /// Handles a write that is not simply gathered: to another connection, a large one, or one that finds no room.
    pub(crate) fn write(&mut self, id: Id, piece: Piece<'_>) {
        if piece.bytes().is_empty() {
            return;
        }
        self.outbox.gathered.disturb(id);
        self.time.look_at_clock();
        self.send_what_only_waits();
        self.queue_share(id);
        let joins = self.joins(id, piece.bytes().len());
        let holds = joins && piece.is_handed_over();
        if joins {
            self.push_gathered(id);
        } else {
            self.send_gathered(id);
        }
        match self.slots.connection(id) {
            // Judged by the queue as the write finds it, not as it leaves it, so a write is never cut in two (W4).
            Some(connection) if connection.can_write() && connection.is_over_cap() => {
                return self.finish(id, CloseReason::Limit(Limit::QueueBytes));
            }
            Some(connection) if connection.can_write() => self.keep_below_cap(None),
            _ => {}
        }
        let connection = match self.slots.connection_mut(id) {
            Some(connection) if connection.can_write() => connection,
            _ => {
                self.counters.late_writes += 1;
                return;
            }
        };
        let was_queued = connection.has_output();
        let (sent, taken) = self.outbox.change(connection, self.time.now_ns(), |connection, gathered, pool| {
            let sent = if holds {
                gathered.holds(id);
                connection.push(piece, 0, pool);
                Sent::Blocked(Blocked::UntilEvent)
            } else {
                connection.write(piece, pool)
            };
            match connection.queued_bytes() > GATHERED_BYTES_MAX && !matches!(sent, Sent::Failed(_)) {
                true => connection.send(&[], pool),
                false => sent,
            }
        });
        self.counters.bytes_sent += taken;
        let (room_of_connection, is_emptied) = (connection.room(), was_queued && !connection.has_output());
        // How much the callback under way may still gather without checking the queues.
        let room = self.outbox.room();
        self.outbox.gathered.lower_room(if self.outbox.gathered.is(id) { room.min(room_of_connection) } else { room });
        if let Sent::Failed(error) = sent {
            return self.fail_sending(id, CloseReason::from_error(error));
        }
        if is_emptied {
            // Nothing waits for the peer any more.
            self.note_sent(id, Sent::All);
        }
        if !self.outbox.gathered.is(id) {
            self.mark_written_to(id);
        }
    }

    /// Like [`write`](Parts::write), for writes from within a callback. Its common case is many small pieces to many
    /// connections, far from all limits.
    #[inline(never)]
    pub(crate) fn write_borrowed(&mut self, id: Id, data: &[u8]) {
        if !self.write_small(id, data) && !filtering::gather_large(self, id, data) {
            self.write(id, Piece::Borrowed(data));
        }
    }

    /// Like [`write_borrowed`](Parts::write_borrowed), for a shared payload.
    #[inline(never)]
    pub(crate) fn write_shared(&mut self, id: Id, data: Arc<[u8]>) {
        if !self.write_small(id, &data) {
            self.write(id, Piece::Shared(data));
        }
    }

    #[inline]
    fn write_small(&mut self, id: Id, data: &[u8]) -> bool {
        let is_small = (1..LARGE_BYTES).contains(&data.len());
        let is_common = is_small && !self.outbox.gathered.is(id) && self.outbox.room() == GATHERED_BYTES_MAX;
        is_common && self.write_by_log(id, data)
    }

    /// Returns whether a large piece is sent in one call with what the callback of `id` has gathered, rather than after
    /// it. Only far from all caps, which others might otherwise reach because of the held data.
    fn joins(&self, id: Id, length: usize) -> bool {
        let is_worth_it =
            length >= LARGE_BYTES && self.outbox.gathered.is(id) && self.outbox.gathered.bytes.len() < LARGE_BYTES;
        is_worth_it
            && self.outbox.room() == GATHERED_BYTES_MAX
            && self
                .slots
                .connection(id)
                .is_some_and(|connection| connection.can_write() && connection.is_far_from_cap())
    }

    /// If the loop is over its cap, perhaps only because data is held until the end of the turn or of the callback,
    /// sends that data.
    #[inline]
    pub(super) fn send_what_only_waits(&mut self) {
        if self.outbox.is_over_cap() {
            self.send_shares();
            match self.outbox.gathered.take_held() {
                Some(id) if self.outbox.gathered.is(id) => self.send(id),
                _ => {}
            }
        }
    }

    /// Sends or queues what the callback of `id`, if it runs, has gathered: before anything that must come after it.
    fn send_gathered(&mut self, id: Id) {
        if self.outbox.gathered.is(id) && !self.outbox.gathered.bytes.is_empty() {
            self.send(id);
        }
    }

    /// Queues what a callback has gathered behind what is queued already.
    fn queue_gathered(&mut self, id: Id) {
        if self.outbox.gathered.bytes.is_empty() {
            return;
        }
        if !self.outbox.share_gathered(id) {
            self.queue_share(id);
            self.push_gathered(id);
        }
    }

    pub(super) fn push_gathered(&mut self, id: Id) {
        match self.slots.connection_mut(id) {
            Some(connection) => self.outbox.queue_gathered(connection, self.time.now_ns()),
            None => self.outbox.gathered.bytes.clear(),
        }
    }

    fn send(&mut self, id: Id) {
        self.queue_share(id);
        let Some(connection) = self.slots.alive_mut(id) else {
            self.outbox.gathered.bytes.clear();
            return;
        };
        if connection.is_filtered() {
            // It has to pass through filters, which are never called from here.
            self.push_gathered(id);
            return self.mark_written_to(id);
        }
        let was_queued = connection.has_output();
        let (sent, taken) = self.outbox.send(connection, self.time.now_ns());
        self.counters.bytes_sent += taken;
        if was_queued || connection.has_output() || !matches!(sent, Sent::All) {
            self.note_sent(id, sent);
        }
    }

    /// Handles the rare results of a send: it failed, it was blocked, or there was a queue.
    #[cold]
    pub(super) fn note_sent(&mut self, id: Id, sent: Sent) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let awaits = matches!(sent, Sent::Blocked(Blocked::UntilEvent)) || connection.awaits_hang_up();
        let asked = match connection.socket_mut() {
            Some(socket) => socket.await_writable(&self.poller, id.token(), awaits),
            None => Ok(()),
        };
        match (sent, asked) {
            (Sent::Failed(error), _) | (_, Err(error)) => self.fail_sending(id, CloseReason::from_error(error)),
            (Sent::Blocked(Blocked::UntilLater), Ok(())) => self.send_later(id),
            // From here on the peer is judged by what it takes.
            (Sent::Blocked(Blocked::UntilEvent), Ok(())) => self.run_idle(id),
            (Sent::All, Ok(())) => {}
        }
    }

    /// Handles a failed send: the first error is the reason of the end (W1), once what had arrived is delivered (R4).
    pub(super) fn fail_sending(&mut self, id: Id, reason: CloseReason) {
        self.queue_share(id);
        let Some(connection) = self.slots.connection_mut(id) else { return };
        self.outbox.count(connection.queued_cost(), 0);
        if self.outbox.gathered.is(id) {
            self.outbox.gathered.set_room(0);
            // It comes after what was not sent.
            self.outbox.gathered.bytes.clear();
        }
        match connection.begin_failing(reason, self.outbox.pool()) {
            Ok(()) => self.carry_over(id),
            Err(reason) => self.finish(id, reason),
        }
    }

    /// Ends a closed connection that has nothing left to send, and whose peer's end was not seen (X1).
    ///
    /// If the peer may still be sending, closing the socket at once would make the kernel answer with a reset, which
    /// can destroy our last answer before the peer has read it.
    fn end_flushed(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if connection.is_cut_short() {
            return self.finish_begun(id);
        }
        // An error here means that both halves have ended already, or that the peer is gone: reading tells which.
        let _ = connection.send_fin();
        let mut probe = [0; 1024];
        match connection.read(&mut probe) {
            // A filter's peer replies to an end with one of its own, and may have more to send before that.
            Read::Blocked | Read::Unconfirmed if connection.awaits_answer() => self.linger(id, 0),
            Read::Blocked | Read::Unconfirmed | Read::End => self.finish_begun(id),
            Read::Failed(error) => self.finish(id, CloseReason::from_error(error)),
            Read::Data(count) => self.linger(id, count),
            // There may be input.
            Read::Later => self.linger(id, 0),
        }
    }

    /// Begins to discard what the peer still sends, of which `count` bytes have arrived already.
    pub(super) fn linger(&mut self, id: Id, count: usize) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if !connection.begin_lingering(count) {
            return self.finish_begun(id);
        }
        let listener = connection.settings.listener;
        self.set_linger_deadline(id);
        self.carry_over(id);
        self.one_lingers(listener);
    }
}

/// The peer has closed its half: makes the poller report when it closes the other one too, if it does not by itself
/// (H3).
pub(super) fn await_hang_up(parts: &mut Parts, id: Id) {
    let Some(connection) = parts.slots.alive_mut(id) else { return };
    if !connection.awaits_hang_up() {
        return;
    }
    let asked = connection.socket_mut().map(|socket| socket.await_writable(&parts.poller, id.token(), true));
    if let Some(Err(error)) = asked {
        parts.fail_sending(id, CloseReason::from_error(error));
    }
}
