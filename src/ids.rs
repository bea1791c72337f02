//! Names for what lives in the loop: a slot and the generation of its occupant.

use std::fmt;
use std::num::NonZeroU64;

/// A slot of the table, and which of its successive occupants is meant.
///
/// The generation counts every insertion of the loop, from where its [`Range`] begins, so no two occupants, of whatever
/// kind, slot and loop, share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) slot: u32,
    pub(crate) generation: NonZeroU64,
}

/// The numbers of one loop: it counts from the first of these, so that the numbers of two loops differ.
///
/// A loop that counts a million things a second runs into the range of the next loop after half a year, and a process
/// that has made a million loops starts again at the first range.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    loop_number: u64,
}

/// How many low bits of a number count within a loop.
const COUNT_BITS: u32 = 44;

impl Range {
    pub(crate) fn of(loop_number: u64) -> Range {
        Range { loop_number: loop_number % (1 << (u64::BITS - COUNT_BITS)) }
    }

    /// Returns the number before the first one.
    pub(crate) fn start(self) -> u64 {
        self.loop_number << COUNT_BITS
    }

    /// Returns the first number.
    pub(crate) fn first(self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.start())
    }
}

/// Displays a number: the count, and the loop if it is not the first one.
struct Shown(u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, count) = (self.0 >> COUNT_BITS, self.0 & ((1 << COUNT_BITS) - 1));
        match of {
            0 => fmt::write(f, format_args!("{count}")),
            of => fmt::write(f, format_args!("{count}@{of}")),
        }
    }
}

/// How many low bits of a token hold the slot; the rest holds as much of the generation as fits.
pub(crate) const SLOT_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };

/// The highest slot that a token can name.
pub(crate) const SLOT_MAX: usize = (1 << SLOT_BITS) - 2;

impl Id {
    /// Returns the token that the poller hands back with an event.
    ///
    /// It holds only the low part of the generation. That is enough: it has to tell apart the occupants that one slot
    /// had within one batch of events, and there is only one, since slots are not reused before the end of the turn.
    pub(crate) fn token(self) -> usize {
        ((self.generation.get() as usize) << SLOT_BITS) | self.slot as usize
    }

    /// Returns whether this is its token. The id must be that of the token's slot.
    #[inline]
    pub(crate) fn has_token(self, token: usize) -> bool {
        debug_assert_eq!(self.slot as usize, slot_of(token), "another slot's");
        self.generation.get() as usize & (usize::MAX >> SLOT_BITS) == token >> SLOT_BITS
    }
}

/// Returns the slot that a token names.
pub(crate) fn slot_of(token: usize) -> usize {
    token & ((1 << SLOT_BITS) - 1)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(f, format_args!("{}.{}", self.slot, Shown(self.generation.get())))
    }
}

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $short:literal) => {
        $(#[$doc])*
        ///
        /// `Copy + Send`, valid for one loop, and unique within the process: to any other loop it is stale. It outlives
        /// what it names: after that the id is stale, every use of it reports so (`None` or `false`), and it never
        /// names anything else. Loops of a simulated network tell their ids apart by host and restart, so that they are
        /// the same for each run of a seed; the ids of two networks can be equal.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) Id);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::write(f, format_args!(concat!($short, "{}"), self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::write(f, format_args!(concat!(stringify!($name), "({})"), self.0))
            }
        }
    };
}

public_id!(
    /// Names a connection of a loop.
    ConnectionId,
    "c"
);
public_id!(
    /// Names a listener of a loop.
    ListenerId,
    "l"
);
public_id!(
    /// Names a datagram socket of a loop.
    DatagramId,
    "d"
);
public_id!(
    /// Names a source that was registered with a loop.
    SourceId,
    "s"
);

public_id!(
    /// Names a call of a loop that waits for another thread.
    CompletionId,
    "w"
);

/// Names a timer of a loop.
///
/// `Copy + Send`, valid for one loop, unique within the process like a [`ConnectionId`], and unchanged however often
/// the timer is reset. Once the timer has fired (a repeating one: has ended) or was cancelled, the id is stale:
/// cancelling it returns `false`, and it never names another timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub(crate) crate::time::heap::Key);

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(f, format_args!("TimerId({})", Shown(self.0.created.get())))
    }
}

/// The id of anything that keeps [`run_until_idle`](crate::EventLoop::run_until_idle) going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyId {
    /// A connection.
    Connection(ConnectionId),
    /// A listener.
    Listener(ListenerId),
    /// A datagram socket.
    Datagram(DatagramId),
    /// A registered source.
    Source(SourceId),
    /// A call that waits for another thread.
    Completion(CompletionId),
    /// A timer.
    Timer(TimerId),
}

macro_rules! any_id {
    ($($id:ident => $variant:ident),*) => {
        $(impl From<$id> for AnyId {
            fn from(id: $id) -> AnyId {
                AnyId::$variant(id)
            }
        })*
    };
}

any_id!(
    ConnectionId => Connection, ListenerId => Listener, DatagramId => Datagram, SourceId => Source,
    CompletionId => Completion, TimerId => Timer
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_slot_back_and_differs_by_generation() {
        let id = |slot, generation| Id { slot, generation: NonZeroU64::new(generation).unwrap() };
        assert_eq!(slot_of(id(7, 1).token()), 7);
        assert_eq!(slot_of(id(SLOT_MAX as u32, u64::MAX).token()), SLOT_MAX);
        assert_ne!(id(7, 1).token(), id(7, 2).token());
        assert_ne!(id(SLOT_MAX as u32, u64::MAX).token(), usize::MAX, "that one is the waker's");
    }

    #[test]
    fn an_id_is_shown_as_its_count_and_the_loop_unless_that_is_the_first() {
        for (of, shown) in [(0, "6"), (3, "6@3")] {
            assert_eq!(Shown(Range::of(of).start() + 6).to_string(), shown);
        }
    }
}
