//! What a callback writes to its own connection.

use std::cell::Cell;

use crate::connection::output::LARGE_BYTES;
use crate::ids::Id;

/// Gathers what a callback writes to its own connection, for one send when it returns.
///
/// It holds bytes only from a callback until the flush that follows it, so there is one for the whole loop.
///
/// A question whether more input is wanted may change nothing, and leaves a note of its answer all the same.
#[derive(Default)]
pub(crate) struct Gathered {
    /// The generation of the connection whose callback runs, which no other tenant of the loop shares; 0 for none.
    generation: u64,
    /// How much may be gathered before the queue must be looked at.
    room: usize,
    /// The callback delivers input, and nothing has happened that might stop that.
    undisturbed: Cell<bool>,
    /// The callback that runs or has just run was told that no more input is wanted, for what it has written, most of
    /// which may go out at once.
    held_input_back: Cell<bool>,
    /// The connection whose queue may hold pieces that its callback has handed over, and that go out when it returns.
    held: Option<Id>,
    pub(crate) bytes: Vec<u8>,
}

/// So much is gathered without a look whether it takes the queue over its high mark.
const UNWATCHED_BYTES: usize = 4 * 1024;

/// So much of the buffer is kept.
const KEPT_BYTES: usize = 16 * 1024;

impl Gathered {
    /// A callback of `id` begins; its queue has `room`.
    #[inline]
    pub(crate) fn begin(&mut self, id: Id, room: usize) {
        self.generation = id.generation.get();
        self.undisturbed.set(false);
        self.room = room;
    }

    /// As [`begin`](Gathered::begin), of a callback that delivers input.
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

    /// The callback that has begun is one that delivers input.
    #[inline]
    pub(crate) fn delivers_input(&mut self) {
        self.undisturbed.set(true);
    }

    /// Something was done to `id` that may stop its reading.
    pub(crate) fn disturb(&mut self, id: Id) {
        if self.is(id) {
            self.undisturbed.set(false);
        }
    }

    /// The callback of `id`, if it runs, is told that no more input is wanted, for what it has written.
    pub(crate) fn hold_input_back(&self, id: Id) {
        if self.is(id) {
            self.undisturbed.set(false);
            self.held_input_back.set(true);
        }
    }

    /// Whether the callback that has just returned was told so. Tells it once.
    pub(crate) fn take_held_input_back(&mut self) -> bool {
        self.held_input_back.take()
    }

    /// Whether the callback, one that delivers input, has done anything but to write a little.
    #[inline]
    pub(crate) fn is_disturbed(&self) -> bool {
        !self.undisturbed.get()
    }

    /// Whether input is being delivered to `id` and nothing has happened that might stop that. Quicker than looking at
    /// the connection, and `false` only means that one must.
    #[inline]
    pub(crate) fn is_undisturbed(&self, id: Id) -> bool {
        self.is(id) && self.undisturbed.get() && self.bytes.len() <= UNWATCHED_BYTES
    }

    /// Takes a small write of the callback that runs, if there is room.
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

    /// Takes a large write of the callback that runs, for filters which take it from here, if there is room.
    pub(crate) fn gather_large(&mut self, id: Id, data: &[u8]) -> bool {
        let takes = self.is(id) && self.bytes.len() + data.len() <= self.room;
        if takes {
            self.disturb(id);
            self.bytes.extend_from_slice(data);
        }
        takes
    }

    /// Out of line, as is all that a small write rarely needs.
    #[cold]
    #[inline(never)]
    fn grow_and_gather(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    pub(crate) fn bytes_of(&self, id: Id) -> usize {
        if self.is(id) { self.bytes.len() } else { 0 }
    }

    /// From here on every write looks at the connection first; `bytes` are to be sent or dropped by the caller.
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

    /// The connection that holds pieces, or has held some; they are to be sent now.
    pub(crate) fn take_held(&mut self) -> Option<Id> {
        self.held.take()
    }

    /// Whether its buffer is larger than most callbacks need.
    pub(crate) fn holds_memory(&self) -> bool {
        self.bytes.capacity() > KEPT_BYTES
    }

    /// Gives back what most callbacks do not need.
    pub(crate) fn decay(&mut self) {
        self.bytes.shrink_to(KEPT_BYTES);
    }
}
