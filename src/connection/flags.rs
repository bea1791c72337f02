//! What is true of a connection besides its state: bits of one word, so that one comparison recognizes the common case.

use crate::sys::Readiness;

/// One thing that may be true of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Flag {
    // The first six have the bits of `Readiness`, so that one comparison judges both.
    /// A read may find something. Cleared only when a read would block, or by a short read that means the same.
    Readable = Readiness::READABLE.bits(),
    /// A send may succeed. Cleared only when one would block.
    Writable = Readiness::WRITABLE.bits(),
    /// An event hinted at something special, so that a short read proves nothing.
    Hinted = Readiness::READ_CLOSED.bits(),
    /// The user paused reading.
    Paused = Readiness::ERROR.bits(),
    /// The queue went over the high mark and has not come down to the low one.
    OverHigh = Readiness::PRIORITY.bits(),
    /// Kept input is to be offered again, even if no new input arrives.
    OfferAgain = Readiness::WRITE_CLOSED.bits(),
    /// An event hinted at an error, or at an end of both halves.
    Errored = 1 << 6,
    /// `connection_made` was called.
    Made = 1 << 7,
    /// It is on the ready list.
    CarriedOver = 1 << 8,
    /// It is on the list of connections that others wrote to.
    WrittenTo = 1 << 9,
    /// A timer is set for its next send.
    SendsLater = 1 << 10,
    /// The quick path must not serve it: its limits are too tight for that, or it has filters.
    Careful = 1 << 11,
    /// A low mark of input is set that can withhold some.
    LowMark = 1 << 12,
    /// The loop limits how fast it is read from.
    Rated = 1 << 13,
    /// It has a new protocol that is to be told that it is made; another one was told before.
    Anew = 1 << 14,
    /// Its protocol is to produce output whenever there is room for it.
    Produces = 1 << 15,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    #[inline]
    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    #[inline]
    pub(super) fn has_any(self, flags: u16) -> bool {
        self.0 & flags != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, flag: Flag, value: bool) {
        self.replace(flag, value);
    }

    /// Returns whether a send may succeed and needs no further action.
    #[inline]
    pub(super) fn send_at_will(self) -> bool {
        const ANY: u16 = Flag::Writable as u16 | Flag::OverHigh as u16 | Flag::Produces as u16 | Flag::Careful as u16;
        self.0 & ANY == Flag::Writable as u16
    }

    /// Sets a flag, and returns its previous value.
    #[inline]
    pub(crate) fn replace(&mut self, flag: Flag, value: bool) -> bool {
        let old = self.has(flag);
        self.0 = if value { self.0 | flag as u16 } else { self.0 & !(flag as u16) };
        old
    }

    /// Records an event that reports nothing special.
    #[inline]
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.0 |= readiness.bits();
    }

    /// Records any other event.
    #[cold]
    pub(super) fn note_special(&mut self, readiness: Readiness) {
        let special = readiness.is_read_closed() | readiness.is_error() | readiness.is_priority();
        self.or(Flag::Readable, readiness.is_readable() | special);
        self.or(Flag::Writable, readiness.is_writable() | readiness.is_error());
        self.or(Flag::Hinted, special);
        self.or(Flag::Errored, readiness.is_error() | readiness.is_write_closed());
    }

    fn or(&mut self, flag: Flag, value: bool) {
        self.set(flag, self.has(flag) | value);
    }

    /// Sets the flags of an ordinary connection after a read, and whether another read may find more.
    #[inline]
    pub(super) fn set_after_read(&mut self, readable: bool) {
        self.set(Flag::Writable, true);
        self.set(Flag::Readable, readable);
    }

    /// Returns whether, after such an event, a read and a send may succeed and nothing prevents them: nothing is paused
    /// or hinted at, and nothing else is due first.
    #[inline]
    pub(super) fn are_quick(self, readiness: Readiness) -> bool {
        const PLAIN: u16 = Flag::Readable as u16 | Flag::Writable as u16 | Flag::Made as u16;
        const ANY: u16 = Flag::Errored as u16 | Flag::WrittenTo as u16 | Flag::SendsLater as u16;
        // Any hint besides readable and writable is the bit of a flag that must not be set.
        (self.0 | readiness.bits()) & !ANY == PLAIN
    }

    /// The same, except for a hint, now or earlier, that the peer may have ended its stream.
    #[inline]
    pub(super) fn are_quick_at_end(self, readiness: Readiness) -> bool {
        const PLAIN: u16 = Flag::Readable as u16 | Flag::Writable as u16 | Flag::Made as u16 | Flag::Hinted as u16;
        const ANY: u16 = Flag::WrittenTo as u16 | Flag::SendsLater as u16;
        (self.0 | readiness.bits()) & !ANY == PLAIN
    }
}
