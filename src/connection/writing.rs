//! The writing half of a connection: what it queues and sends.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::{Connection, Flag, GATHERED_BYTES_MAX, Mark, Note, READ_BYTES_MAX, Sent, State};
use crate::connection::output::{CHUNK_OVERHEAD_BYTES, GATHER_MAX, LARGE_BYTES, Piece, Pool};
use crate::sys::{Blocked, is_blocked, of_send};
use crate::time::ns_of;

/// How much was queued, and how much had been sent, before something was written or sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputBefore {
    pub(crate) cost: usize,
    pub(crate) bytes_sent: u64,
}

/// A kernel that takes this much at once after it was full makes room in large steps.
const COARSE_STEP_BYTES: u64 = 32 * 1024;

/// Once this much was sent, the kernel may hold a lot of it.
pub(super) const MUCH_SENT_BYTES: u64 = 64 * 1024;

impl Connection {
    /// Returns whether data that is written now will be sent, and the protocol told of marks.
    #[inline]
    pub(crate) fn can_write(&self) -> bool {
        self.state().can_write()
    }

    /// Returns how much may be written before the cap is reached.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        match self.can_write() {
            true => self.settings.limits.queue_bytes_max.saturating_sub(self.queued_cost()),
            false => 0,
        }
    }

    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// Returns how many written bytes have been sent or are queued.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.bytes_sent + self.queued_bytes() as u64
    }

    /// Returns the size of the queue, as marks and caps count it.
    #[inline]
    pub(crate) fn queued_cost(&self) -> usize {
        self.output.as_ref().map_or(0, |queue| queue.cost())
    }

    /// Queues a piece, of which the first `skip` bytes are sent already.
    pub(crate) fn push(&mut self, piece: Piece<'_>, skip: usize, pool: &mut Pool) {
        if skip < piece.bytes().len() {
            let queue = match &mut self.output {
                Some(queue) => queue,
                None => self.output.insert(pool.take()),
            };
            queue.push(piece, skip);
        }
    }

    /// Appends a small piece to others that were written outside its own callbacks; they are all sent together before
    /// the loop sleeps. Returns `false` if the piece needs more care.
    #[inline]
    pub(crate) fn write_behind(&mut self, bytes: &[u8]) -> bool {
        let flushed_later = self.flags.has(Flag::WrittenTo) && !self.flags.has(Flag::Careful);
        match &mut self.output {
            Some(queue) if flushed_later && self.life.state() == State::Open && bytes.len() < LARGE_BYTES => {
                queue.append(bytes, GATHERED_BYTES_MAX)
            }
            _ => false,
        }
    }

    /// Queues a piece. A large one is sent at once, after what is queued, as far as the kernel takes it.
    pub(crate) fn write(&mut self, piece: Piece<'_>, pool: &mut Pool) -> Sent {
        if piece.bytes().len() < LARGE_BYTES {
            self.push(piece, 0, pool);
            return Sent::Blocked(Blocked::UntilEvent);
        }
        if self.is_filtered() {
            self.push(piece, 0, pool);
            return Sent::All;
        }
        if self.output.is_none() {
            let mut sent = 0;
            let result = self.send_slice(piece.bytes(), &mut sent);
            self.push(piece, sent, pool);
            return result;
        }
        if piece.is_handed_over() {
            self.push(piece, 0, pool);
            return self.send(&[], pool);
        }
        self.send_vectored(piece, pool)
    }

    /// Returns what [`note_output`](Connection::note_output) must know of the state before something is written or
    /// sent.
    #[inline]
    pub(crate) fn output_before(&self) -> OutputBefore {
        OutputBefore { cost: self.queued_cost(), bytes_sent: self.bytes_sent }
    }

    /// Something was written or sent. If some was sent since `before`, or begins to wait for the peer, that counts as a
    /// sign of life, and its idle timeout begins anew. Returns how many bytes were sent.
    #[inline]
    pub(crate) fn note_output(&mut self, before: OutputBefore, now_ns: u64) -> u64 {
        let taken = self.bytes_sent - before.bytes_sent;
        if taken > 0 || before.cost == 0 && self.output.is_some() {
            self.touch_idle_by_output(now_ns);
            if let Some(queue) = &mut self.output {
                queue.taken_ns = now_ns;
            }
        }
        if self.output.is_some() || self.notes.has(Note::Blocked) {
            self.note_how_it_takes(taken);
        }
        taken
    }

    /// Bytes were sent, or begin to wait for the peer.
    #[inline]
    pub(crate) fn touch_idle_by_output(&mut self, now_ns: u64) {
        if let (Some(idle), read) = self.idle_pair() {
            idle.touch(read, now_ns);
        }
    }

    /// `taken` bytes were sent, and either more is queued or the queue was blocked before. If everything was sent, the
    /// kernel may have had room for more.
    fn note_how_it_takes(&mut self, taken: u64) {
        if taken > 0 && self.notes.has(Note::Blocked) {
            self.notes.set(Note::Coarse, taken >= COARSE_STEP_BYTES || self.output.is_none());
        }
        let is_blocked = self.output.is_some() && !self.flags.has(Flag::Writable);
        self.notes.set(Note::Blocked, is_blocked);
    }

    /// Returns when the peer last took some of the queue, or the queue began to wait for it.
    pub(crate) fn taken_ns(&self) -> Option<u64> {
        self.output.as_ref().map(|queue| queue.taken_ns)
    }

    /// Moves the last activity from `before_ns` to `now_ns`, if it was recorded at `before_ns`: the data may have been
    /// received or sent as late as that.
    pub(crate) fn touch_again(&mut self, before_ns: u64, now_ns: u64) {
        if let (Some(idle), read) = self.idle_pair() {
            idle.touch_again(read, before_ns, now_ns);
        }
        match &mut self.output {
            Some(queue) if queue.taken_ns == before_ns => queue.taken_ns = now_ns,
            _ => {}
        }
    }

    /// Returns how long the kernel may take nothing until the peer counts as taking nothing for `timeout` (X1).
    ///
    /// A send succeeds only when the kernel has freed a whole piece of what it holds, of which the peer has taken the
    /// last byte. Measured on Linux over loopback, where pieces are largest, and whatever the peer's rate: after the
    /// buffers were full, the first send that takes anything succeeds when the peer has taken 66,660 bytes, the next
    /// one after 129,584 more, further ones after 95,232. So once large steps were seen, a peer is given twice the
    /// time. Smaller sends do not help: with 4 KiB each the steps were 66,660, 114,404 and 80,052.
    pub(crate) fn patience_ns(&self, timeout: Duration) -> u64 {
        let timeout_ns = ns_of(timeout);
        match self.bytes_sent >= MUCH_SENT_BYTES && self.notes.has(Note::Coarse) {
            true => timeout_ns.saturating_mul(2),
            false => timeout_ns,
        }
    }

    /// Returns when its peer will have been idle for too long, in the loop's own time. `None` if no such timeout is
    /// running, or it is too far off to be represented.
    pub(crate) fn idle_deadline_ns(&self) -> Option<u64> {
        let (idle, has_output) = (self.idle.as_deref()?, self.output.is_some());
        let after_ns = if has_output { self.patience_ns(idle.after()) } else { idle.after_ns() };
        idle.deadline_ns(has_output, after_ns)
    }

    /// Returns when its peer will have sent nothing for too long. The timeout runs while input is wanted, even with
    /// output queued.
    pub(crate) fn read_idle_deadline_ns(&self) -> Option<u64> {
        let read = self.extras.as_ref().and_then(|extras| extras.read_idle.as_ref())?;
        if !self.state().delivers_input() {
            return None;
        }
        self.idle.as_deref()?.read_deadline_ns(read)
    }

    /// Tries a send, although no event has reported room: a little room raises no event.
    pub(crate) fn look_for_room(&mut self) {
        self.flags.set(Flag::Writable, true);
    }

    /// Its protocol says whether it is in the middle of an answer; once the connection has begun to end, that has no
    /// effect.
    pub(crate) fn set_answering(&mut self, answering: bool) {
        if !self.is_closing() {
            self.notes.set(Note::Answering, answering);
        }
    }

    /// Sends the queue and then `more`; what the kernel does not take stays queued.
    #[inline]
    pub(crate) fn send(&mut self, more: &[u8], pool: &mut Pool) -> Sent {
        if self.is_filtered() {
            self.push(Piece::Borrowed(more), 0, pool);
            return Sent::All;
        }
        if self.output.is_none() {
            return self.send_unqueued(more, pool);
        }
        self.push(Piece::Borrowed(more), 0, pool);
        let result = self.send_queue();
        if self.output.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.drop_output(pool);
        }
        result
    }

    /// Sends the queue and then `bytes`, of which there are many: in one call without copying them, as far as the
    /// kernel takes them.
    #[inline]
    pub(crate) fn send_behind(&mut self, bytes: &[u8], pool: &mut Pool) -> Sent {
        if self.output.is_some() {
            return self.send_vectored(Piece::Borrowed(bytes), pool);
        }
        match self.send_quickly(bytes) {
            Ok(()) => Sent::All,
            Err(first) => self.send_rest(bytes, first, pool),
        }
    }

    fn send_vectored(&mut self, more: Piece<'_>, pool: &mut Pool) -> Sent {
        let mut slices = [IoSlice::new(&[]); GATHER_MAX];
        let (socket, queue) = match (&mut self.socket, &mut self.output) {
            (Some(socket), Some(queue)) if queue.chunks() < GATHER_MAX && self.flags.has(Flag::Writable) => {
                (socket, queue)
            }
            _ => {
                self.push(more, 0, pool);
                return self.send(&[], pool);
            }
        };
        let count = queue.gather(&mut slices);
        slices[count] = IoSlice::new(more.bytes());
        let (mut sent_of_more, mut result) = (0, Sent::All);
        match taken(socket.write_vectored(&slices[..=count])) {
            Taken::Bytes(count) => {
                let queued = queue.bytes();
                sent_of_more = count.saturating_sub(queued);
                queue.advance(count.min(queued));
                self.bytes_sent += count as u64;
            }
            Taken::Nothing(Blocked::UntilEvent) => self.flags.set(Flag::Writable, false),
            Taken::Nothing(Blocked::UntilLater) => result = Sent::Blocked(Blocked::UntilLater),
            Taken::Failed(error) => result = Sent::Failed(error),
        }
        self.push(more, sent_of_more, pool);
        match result {
            // Sends what is left, if anything.
            Sent::All => self.send(&[], pool),
            other => other,
        }
    }

    /// Like [`send`](Connection::send), if nothing is queued.
    fn send_unqueued(&mut self, bytes: &[u8], pool: &mut Pool) -> Sent {
        let mut sent = 0;
        let result = self.send_slice(bytes, &mut sent);
        self.push(Piece::Borrowed(bytes), sent, pool);
        result
    }

    /// Finishes sending `bytes` after a first call that did not take them all.
    pub(crate) fn send_rest(&mut self, bytes: &[u8], first: io::Result<usize>, pool: &mut Pool) -> Sent {
        let (mut sent, mut result) = (0, Sent::All);
        match taken(first) {
            Taken::Bytes(count) => {
                sent = count;
                self.bytes_sent += count as u64;
            }
            Taken::Nothing(Blocked::UntilEvent) => self.flags.set(Flag::Writable, false),
            Taken::Nothing(Blocked::UntilLater) => result = Sent::Blocked(Blocked::UntilLater),
            Taken::Failed(error) => result = Sent::Failed(error),
        }
        if let Sent::All = result {
            result = self.send_slice(bytes, &mut sent);
        }
        self.push(Piece::Borrowed(bytes), sent, pool);
        result
    }

    #[inline]
    fn send_slice(&mut self, bytes: &[u8], sent: &mut usize) -> Sent {
        let Some(socket) = &mut self.socket else { return Sent::All };
        while *sent < bytes.len() {
            if !self.flags.has(Flag::Writable) {
                return Sent::Blocked(Blocked::UntilEvent);
            }
            match taken(socket.write(&bytes[*sent..])) {
                Taken::Bytes(count) => {
                    *sent += count;
                    self.bytes_sent += count as u64;
                }
                Taken::Nothing(Blocked::UntilEvent) => self.flags.set(Flag::Writable, false),
                Taken::Nothing(Blocked::UntilLater) => return Sent::Blocked(Blocked::UntilLater),
                Taken::Failed(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    fn send_queue(&mut self) -> Sent {
        let (Some(socket), Some(queue)) = (&mut self.socket, &mut self.output) else { return Sent::All };
        while !queue.is_empty() {
            if !self.flags.has(Flag::Writable) {
                return Sent::Blocked(Blocked::UntilEvent);
            }
            let result = if queue.chunks() == 1 {
                socket.write(queue.first())
            } else {
                let mut slices = [IoSlice::new(&[]); GATHER_MAX];
                let count = queue.gather(&mut slices);
                socket.write_vectored(&slices[..count])
            };
            match taken(result) {
                Taken::Bytes(count) => {
                    queue.advance(count);
                    self.bytes_sent += count as u64;
                }
                Taken::Nothing(Blocked::UntilEvent) => self.flags.set(Flag::Writable, false),
                Taken::Nothing(Blocked::UntilLater) => return Sent::Blocked(Blocked::UntilLater),
                Taken::Failed(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    pub(super) fn drop_output(&mut self, pool: &mut Pool) {
        if let Some(queue) = self.output.take() {
            match self.chain_mut() {
                Some(chain) if !queue.is_empty() => chain.drop_output(),
                _ => {}
            }
            pool.give_back(queue);
        }
    }

    /// Returns which mark the queue has crossed since the last call (W2): strictly one after the other.
    pub(crate) fn cross_mark(&mut self) -> Option<Mark> {
        if !self.flags.has(Flag::Made) {
            return None;
        }
        let cost = self.queued_cost();
        let mark = match self.flags.has(Flag::OverHigh) {
            false if cost > self.settings.limits.queue_bytes_high => Mark::High,
            true if cost <= self.settings.limits.low() => Mark::Low,
            _ => return None,
        };
        let was_held_back = self.is_held_back();
        self.flags.set(Flag::OverHigh, mark == Mark::High);
        if was_held_back && !self.is_held_back() {
            self.retry_reading();
        }
        Some(mark)
    }

    /// Returns whether nothing is left to do after a callback, whose protocol was not replaced.
    #[inline]
    pub(crate) fn is_out_and_idle(&self) -> bool {
        self.has_no_duties() && self.protocol.is_none()
    }

    /// Returns whether the loop has nothing left to do after a send: the common case, checked quickly.
    #[inline]
    pub(crate) fn has_no_duties(&self) -> bool {
        self.sends_at_will() && self.output.is_none() && !self.flags.has(Flag::WrittenTo)
    }

    /// Returns whether its protocol is to produce output now: it has been told that the connection is made, and no more
    /// than the low mark is queued, including `waiting_bytes` that are not in the queue yet (W8).
    pub(crate) fn has_room_to_produce(&self, waiting_bytes: usize) -> bool {
        let produces = self.flags.has(Flag::Produces) && self.flags.has(Flag::Made) && self.can_write();
        produces && self.queued_cost() + waiting_bytes <= self.settings.limits.low()
    }

    /// Returns the longest piece that one call should produce: one that does not exceed the high mark, including
    /// `waiting_bytes` that are not in the queue yet.
    pub(crate) fn piece_bytes_max(&self, waiting_bytes: usize) -> usize {
        let queued = self.queued_cost() + waiting_bytes + CHUNK_OVERHEAD_BYTES;
        self.settings.limits.queue_bytes_high.saturating_sub(queued).clamp(1, READ_BYTES_MAX)
    }

    /// Returns whether nothing is due for it but a send, of what is queued or of more.
    #[inline]
    pub(crate) fn sends_at_will(&self) -> bool {
        self.flags.send_at_will() && matches!(self.state(), State::Open)
    }

    /// Returns whether it is flushed at the end of the turn, because others have written to it, and nothing is due
    /// before. Near its cap nothing waits: otherwise the next write might find the queue over the cap, although the
    /// peer takes everything.
    pub(crate) fn is_flushed_later(&self) -> bool {
        self.flags.has(Flag::WrittenTo) && matches!(self.state(), State::Open) && self.may_share()
    }

    /// Returns whether it is flushed at the end of the turn, or a read may find more: checked quickly.
    #[inline]
    pub(crate) fn is_flushed_later_or_readable(&self) -> bool {
        self.flags.has_any(Flag::WrittenTo as u16 | Flag::Readable as u16)
    }

    /// Returns whether more is queued for it than its cap allows (W4).
    pub(crate) fn is_over_cap(&self) -> bool {
        self.queued_cost() > self.settings.limits.queue_bytes_max
    }

    /// Returns whether it may have a share of a broadcast: even the longest one reaches no limit.
    pub(crate) fn may_share(&self) -> bool {
        self.flags.has(Flag::Made) && self.is_far_from_cap()
    }

    /// Returns whether what a turn may gather for it unchecked cannot take it over its cap.
    pub(crate) fn is_far_from_cap(&self) -> bool {
        !self.flags.has(Flag::Careful)
            && self.queued_cost() <= self.settings.limits.queue_bytes_max - GATHERED_BYTES_MAX
    }
}

pub(super) enum Taken {
    Bytes(usize),
    Nothing(Blocked),
    Failed(io::Error),
}

#[inline]
pub(super) fn taken(result: io::Result<usize>) -> Taken {
    match result {
        // For a non-empty input (W6).
        Ok(0) => Taken::Failed(io::ErrorKind::WriteZero.into()),
        Ok(count) => Taken::Bytes(count),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Taken::Bytes(0),
        Err(error) => is_blocked(&error).map_or_else(|| Taken::Failed(of_send(error)), Taken::Nothing),
    }
}
