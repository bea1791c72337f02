//! What a callback writes to its own connection.

use std::cell::Cell;

use crate::connection::output::LARGE_BYTES;
use crate::ids::Id;

/// Gathers what a callback writes to its own connection, for one send when it returns.
///
/// It holds bytes only from a callback until the flush that follows it, so there is one for the whole loop.
///
/// It can be asked through a shared reference whether more input is wanted, and has to record the answer: hence the
/// cells.
#[derive(Default)]
pub(crate) struct Gathered {
    /// The generation of the connection whose callback is running, which nothing else in the loop shares; 0 for none.
    generation: u64,
    /// How much may be gathered before the queue must be checked.
    room: usize,
    /// The callback delivers input, and nothing has happened that might stop that.
    undisturbed: Cell<bool>,
    /// The running callback, or the one that has just returned, was told that no more input is wanted because of what
    /// it has written, most of which may be sent at once.
    held_input_back: Cell<bool>,
    /// The connection whose queue may hold pieces that its callback has handed over, to be sent when it returns.
    held: Option<Id>,
    pub(crate) bytes: Vec<u8>,
}

/// This much is gathered without checking whether the queue goes over its high mark.
const UNWATCHED_BYTES: usize = 4 * 1024;

/// This much of the buffer is kept.
const KEPT_BYTES: usize = 16 * 1024;

impl Gathered {
    /// A callback of `id` begins; its queue has `room`.
    #[inline]
    pub(crate) fn begin(&mut self, id: Id, room: usize) {
        self.generation = id.generation.get();
        self.undisturbed.set(false);
        self.room = room;
    }

    /// Like [`begin`](Gathered::begin), for a callback that delivers input.
    #[inline]
    pub(crate) fn begin_input(&mut self, id: Id, room: usize) {
        self.begin(id, room);
        self.delivers_input();
    }

    #[inline]
    pub(crate) fn end(&mut self) {
        self.generation = 0;
    }

    #[inline]
    pub(crate) fn is(&self, id: Id) -> bool {
        self.generation == id.generation.get()
    }

    /// The callback that has begun delivers input.
    #[inline]
    pub(crate) fn delivers_input(&mut self) {
        self.undisturbed.set(true);
    }

    /// Something happened to `id` that may stop its reading.
    pub(crate) fn disturb(&mut self, id: Id) {
        if self.is(id) {
            self.undisturbed.set(false);
        }
    }

    /// The callback of `id`, if it is running, is told that no more input is wanted because of what it has written.
    pub(crate) fn hold_input_back(&self, id: Id) {
        if self.is(id) {
            self.undisturbed.set(false);
            self.held_input_back.set(true);
        }
    }

    /// Returns whether the callback that has just returned was told so, and clears that.
    pub(crate) fn take_held_input_back(&mut self) -> bool {
        self.held_input_back.take()
    }

    /// Returns whether the callback, one that delivers input, has done more than write a little.
    #[inline]
    pub(crate) fn is_disturbed(&self) -> bool {
        !self.undisturbed.get()
    }

    /// Returns whether input is being delivered to `id` and nothing has happened that might stop that. This is quicker
    /// than checking the connection; `false` only means that the connection must be checked.
    #[inline]
    pub(crate) fn is_undisturbed(&self, id: Id) -> bool {
        self.is(id) && self.undisturbed.get() && self.bytes.len() <= UNWATCHED_BYTES
    }

    /// Takes a small write of the running callback, if there is room.
    #[inline]
    pub(crate) fn gather(&mut self, id: Id, data: &[u8]) -> bool {
        if !self.is(id) || data.len() >= LARGE_BYTES || self.bytes.len() + data.len() > self.room {
            return false;
        }
        if data.len() > self.bytes.capacity() - self.bytes.len() {
            self.grow_and_gather(data);
        } else {
            self.bytes.extend_from_slice(data);
        }
        true
    }

    /// Takes a large write of the running callback, if there is room; filters take it from here.
    pub(crate) fn gather_large(&mut self, id: Id, data: &[u8]) -> bool {
        let takes = self.is(id) && self.bytes.len() + data.len() <= self.room;
        if takes {
            self.disturb(id);
            self.bytes.extend_from_slice(data);
        }
        takes
    }

    /// Out of line, like everything that a small write rarely needs.
    #[cold]
    #[inline(never)]
    fn grow_and_gather(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    pub(crate) fn bytes_of(&self, id: Id) -> usize {
        if self.is(id) { self.bytes.len() } else { 0 }
    }

    /// From now on every write checks the connection first; the caller sends or drops `bytes`.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.undisturbed.set(false);
        self.room = room;
    }

    pub(crate) fn lower_room(&mut self, room: usize) {
        self.room = self.room.min(room);
    }

    /// The callback of `id` has handed over pieces that are sent when it returns.
    pub(crate) fn holds(&mut self, id: Id) {
        self.held = Some(id);
    }

    /// Returns the connection that holds pieces, or has held some, so that they are sent now.
    pub(crate) fn take_held(&mut self) -> Option<Id> {
        self.held.take()
    }

    /// Returns whether its buffer is larger than most callbacks need.
    pub(crate) fn holds_memory(&self) -> bool {
        self.bytes.capacity() > KEPT_BYTES
    }

    /// Releases what most callbacks do not need.
    pub(crate) fn decay(&mut self) {
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn w4_a_large_write_is_taken_only_if_it_fits_behind_what_was_gathered() {
        let id = Id { slot: 0, generation: NonZeroU64::MIN };
        for held in [0, 1, 2] {
            let mut gathered = Gathered::default();
            gathered.begin(id, LARGE_BYTES);
            assert!(gathered.gather(id, &vec![0; held]));
            assert!(!gathered.gather_large(id, &vec![0; LARGE_BYTES - held + 1]), "{held} before it");
            assert!(gathered.gather_large(id, &vec![0; LARGE_BYTES - held]), "{held} before it");
        }
    }
}
