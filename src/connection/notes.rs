//! What is remembered of a connection besides its flags, which recognize the common case in one comparison.

use super::Urgent;

const URGENT: u8 = 0b11 << 6;

/// One thing to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Note {
    /// The last send left something, because the kernel had no room for more.
    Blocked = 1,
    /// The last send after a blocked one took so much that the kernel may make room in large steps.
    Coarse = 1 << 1,
    /// Its protocol is in the middle of an answer, part of which it has not written yet.
    Answering = 1 << 2,
    /// A timeout ends it in order: nothing is unsent.
    TimedOutInOrder = 1 << 3,
    /// It has filters that must be ready before its protocol is told that it is made, which has not happened yet.
    BeginsFiltered = 1 << 4,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(u8);

impl Notes {
    #[inline]
    pub(crate) fn has(self, note: Note) -> bool {
        self.0 & note as u8 != 0
    }

    /// Returns whether none is set.
    #[inline]
    pub(crate) fn are_none(self) -> bool {
        self.0 & !URGENT == 0
    }

    /// Returns what is known of urgent data. It has two bits of its own here: there is no byte to spare in the record.
    #[inline]
    pub(super) fn urgent(self) -> Urgent {
        match (self.0 & URGENT) >> URGENT.trailing_zeros() {
            0 => Urgent::Never,
            1 => Urgent::Unasked,
            2 => Urgent::Asked,
            _ => Urgent::Waits,
        }
    }

    pub(super) fn set_urgent(&mut self, urgent: Urgent) {
        self.0 = self.0 & !URGENT | (urgent as u8) << URGENT.trailing_zeros();
    }

    pub(crate) fn set(&mut self, note: Note, value: bool) {
        self.0 = if value { self.0 | note as u8 } else { self.0 & !(note as u8) };
    }

    /// Clears a note. Returns whether it was set.
    pub(crate) fn take(&mut self, note: Note) -> bool {
        let was = self.has(note);
        self.set(note, false);
        was
    }
}
