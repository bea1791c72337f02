//! The loop's time: its clock, its own nanoseconds, and what is due when (rules T1 to T5).
//!
//! Calls nothing: the loop above asks what is due, and does it.

use std::time::{Duration, Instant};

use super::heap::{Key, Timers};
use super::ns_of;
use crate::ids::Range;
use crate::sys::{Clock, deadline_after};

/// A peer that is waited for is not checked more often than this.
const LOOK_NS_MIN: u64 = 10_000_000;

/// What a timer is for.
pub(crate) trait Awaited {
    /// Returns whether a loop that runs until it is idle waits for it.
    fn is_awaited(&self) -> bool;

    /// Sets whether it is in the background, and so not awaited. Returns `false` if it is not the user's.
    fn set_background(&mut self, background: bool) -> bool;
}

/// Nanoseconds are the loop's own time: they count from its creation.
pub(crate) struct Deadlines<D> {
    clock: Clock,
    /// When the loop was made.
    made: Instant,
    /// When the wait of this turn ended.
    turn_began: Instant,
    /// The time when the clock was last read in this turn.
    now_ns: u64,
    timers: Timers<D>,
    /// How many timers are awaited.
    awaited: usize,
}

impl<D: Awaited> Deadlines<D> {
    pub(crate) fn new(clock: Clock, numbers: Range) -> Deadlines<D> {
        let made = clock.now();
        Deadlines {
            clock,
            made,
            turn_began: made,
            now_ns: 0,
            timers: Timers::numbered_from(numbers.start()),
            awaited: 0,
        }
    }

    // The clock.

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Reads the clock, in the loop's own time.
    pub(crate) fn clock_ns(&self) -> u64 {
        self.ns(self.clock.now())
    }

    /// Returns the time when the clock was last read.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(crate) fn ns(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.made).as_nanos() as u64
    }

    /// Converts the loop's own time to an instant.
    pub(crate) fn instant(&self, ns: u64) -> Instant {
        deadline_after(self.made, Duration::from_nanos(ns))
    }

    /// Notes that the wait of a turn has ended.
    pub(crate) fn begin_turn(&mut self) {
        self.turn_began = self.clock.now();
        self.now_ns = self.ns(self.turn_began);
    }

    pub(crate) fn turn_began(&self) -> Instant {
        self.turn_began
    }

    /// Reads the clock again if a timeout may depend on it: for use after anything that may have taken long.
    pub(crate) fn look_at_clock(&mut self) {
        if self.has_timers() {
            self.look_at_clock_anyway();
        }
    }

    /// Reads the clock again, for what depends on it without a timer.
    pub(crate) fn look_at_clock_anyway(&mut self) {
        self.now_ns = self.clock_ns();
    }

    // Timers.

    /// Sets a timer.
    #[inline(never)]
    pub(crate) fn set(&mut self, deadline: Instant, what: D) -> Key {
        self.awaited += usize::from(what.is_awaited());
        self.timers.insert(deadline, what)
    }

    /// Sets a timer that is due after `delay` from the actual time (T3): counted from the end of the last wait, a timer
    /// that is set after slow work would be early.
    pub(crate) fn set_after(&mut self, delay: Duration, what: D) -> Key {
        self.set(self.after(delay), what)
    }

    /// Returns the actual time plus `delay`.
    pub(crate) fn after(&self, delay: Duration) -> Instant {
        deadline_after(self.clock.now(), delay)
    }

    /// Moves a timer to another deadline. Returns `false` if there is no such timer.
    pub(crate) fn reset(&mut self, key: Key, deadline: Instant) -> bool {
        self.timers.reset(key, deadline)
    }

    /// Moves a timer to another deadline if that is earlier. Does nothing if there is no such timer.
    pub(crate) fn bring_nearer(&mut self, key: Key, end: Instant) {
        if self.deadline(key).is_some_and(|deadline| end < deadline) {
            self.reset(key, end);
        }
    }

    /// Removes a timer. Returns what it was for, or `None` if there is no such timer.
    #[inline(never)]
    pub(crate) fn remove(&mut self, key: Key) -> Option<D> {
        let what = self.timers.remove(key)?;
        self.awaited -= usize::from(what.is_awaited());
        Some(what)
    }

    /// Removes a timer, if there is one.
    pub(crate) fn cancel(&mut self, timer: Option<Key>) {
        if let Some(timer) = timer {
            self.remove(timer);
        }
    }

    /// Returns what a timer is for. It may be changed, except for whether it is awaited.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut D> {
        self.timers.get_mut(key)
    }

    /// Sets whether a timer is in the background. Returns `false` if the user has no such timer.
    pub(crate) fn set_background(&mut self, key: Key, background: bool) -> bool {
        let Some(what) = self.timers.get_mut(key) else { return false };
        self.awaited -= usize::from(what.is_awaited());
        let is_users = what.set_background(background);
        self.awaited += usize::from(what.is_awaited());
        is_users
    }

    pub(crate) fn deadline(&self, key: Key) -> Option<Instant> {
        self.timers.deadline(key)
    }

    #[inline]
    pub(crate) fn has_timers(&self) -> bool {
        self.timers.next_deadline().is_some()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Returns whether a loop that runs until it is idle has a timer to wait for.
    pub(crate) fn has_awaited(&self) -> bool {
        self.awaited > 0
    }

    /// Returns a mark for [`first_due`](Deadlines::first_due).
    pub(crate) fn mark(&self) -> u64 {
        self.timers.mark()
    }

    /// Returns the first timer that is due and was set before the mark.
    pub(crate) fn first_due(&self, now: Instant, mark: u64) -> Option<Key> {
        self.timers.first_due(now, mark)
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = D> + use<D> {
        self.awaited = 0;
        self.timers.take_all()
    }

    /// Returns when to check a connection again whose peer may take nothing until the deadline: a few times before
    /// that, too.
    ///
    /// A send is tried then. No event reports a little room: Linux raises a writable edge only when a third of the send
    /// buffer is free, which is more than a megabyte.
    pub(crate) fn next_look(&self, now_ns: u64, timeout: Duration, deadline_ns: u64) -> Instant {
        let step_ns = (ns_of(timeout) / 4).max(LOOK_NS_MIN);
        self.instant(deadline_ns.min(now_ns.saturating_add(step_ns)))
    }
}

/// Read by the tests of the guarantees.
#[cfg(all(test, feature = "testing"))]
impl<D> Deadlines<D> {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.timers.len(), self.awaited)
    }
}
