//! What an event says a source is ready for.

use std::fmt;

/// What an event says a source is ready for. These are all hints: only trying tells (rule
/// [R6](crate::guide::rules#r6)).
///
/// Values of this type are only read; they cannot be combined:
///
/// ```compile_fail,E0369
/// use switchboard::Readiness;
/// let both = Readiness::default() | Readiness::default();
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(2);
    pub(crate) const READ_CLOSED: Readiness = Readiness(4);
    pub(crate) const ERROR: Readiness = Readiness(8);
    pub(crate) const PRIORITY: Readiness = Readiness(16);
    pub(crate) const WRITE_CLOSED: Readiness = Readiness(32);

    /// Returns whether there may be something to read or to accept.
    pub fn is_readable(self) -> bool {
        self.has(Readiness::READABLE)
    }

    /// Returns whether there may be room to write.
    pub fn is_writable(self) -> bool {
        self.has(Readiness::WRITABLE)
    }

    /// Returns whether the peer may have ended its stream.
    pub fn is_read_closed(self) -> bool {
        self.has(Readiness::READ_CLOSED)
    }

    /// Returns whether written data may no longer arrive.
    pub fn is_write_closed(self) -> bool {
        self.has(Readiness::WRITE_CLOSED)
    }

    /// Returns whether there may be an error to fetch.
    pub fn is_error(self) -> bool {
        self.has(Readiness::ERROR)
    }

    /// Returns whether there may be urgent data.
    pub fn is_priority(self) -> bool {
        self.has(Readiness::PRIORITY)
    }

    /// Returns whether it says more than readable and writable.
    #[inline]
    pub(crate) fn is_special(self) -> bool {
        self.0 & !(Readiness::READABLE.0 | Readiness::WRITABLE.0) != 0
    }

    #[inline]
    pub(crate) const fn and(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    #[cfg(feature = "testing")]
    pub(super) fn without(self, hints: Readiness) -> Readiness {
        Readiness(self.0 & !hints.0)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0 as u16
    }

    fn has(self, hint: Readiness) -> bool {
        self.0 & hint.0 != 0
    }

    #[inline]
    pub(super) fn from_mio(event: &mio::event::Event) -> Readiness {
        // In this order the checks cost next to nothing, and most events are of this kind.
        if !event.is_error() && !event.is_priority() && !event.is_write_closed() {
            let plain = Readiness(u8::from(event.is_readable()) | u8::from(event.is_writable()) << 1);
            if !event.is_read_closed() {
                return plain;
            }
            return plain.and(Readiness::READ_CLOSED);
        }
        Readiness::from_special(event)
    }

    #[cold]
    fn from_special(event: &mio::event::Event) -> Readiness {
        Readiness(
            u8::from(event.is_readable())
                | u8::from(event.is_writable()) << 1
                | u8::from(event.is_read_closed()) << 2
                | u8::from(event.is_error()) << 3
                | u8::from(event.is_priority()) << 4
                | u8::from(event.is_write_closed()) << 5,
        )
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["readable", "writable", "read closed", "error", "priority", "write closed"];
        let mut set = f.debug_set();
        for (bit, name) in names.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                set.entry(name);
            }
        }
        set.finish()
    }
}
