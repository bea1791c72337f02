//! The timeouts of one connection, as far as they are its own: the idle one.
//!
//! Pure data: no clock, `now` is an argument. A byte costs a store: the timer is not moved by it, but looks at that store
//! when it fires, and is set again for what is left.

use std::time::Duration;

use crate::time::heap::Key;

/// How long a connection may be idle, and since when it is. Times are nanoseconds of the loop's own time: a process has
/// one of these for each of many connections, and an `Instant` takes twice the room.
#[derive(Debug)]
pub(crate) struct Idle {
    after_ns: u64,
    /// When a byte last came or went, shifted by how long the user has kept the peer from sending.
    active_ns: u64,
    /// When the user paused reading; [`NOT`] where it goes on.
    paused_ns: u64,
    /// None while it stands still.
    pub(crate) timer: Option<Key>,
}

const NOT: u64 = u64::MAX;

impl Idle {
    pub(crate) fn new(after: Duration, now_ns: u64, is_paused: bool) -> Idle {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Idle { after_ns, active_ns: now_ns, paused_ns: if is_paused { now_ns } else { NOT }, timer: None }
    }

    /// A byte has come or gone.
    #[inline]
    pub(crate) fn touch(&mut self, now_ns: u64) {
        self.active_ns = now_ns;
    }

    /// Bytes that were taken to have come or gone at `before_ns` have done so by `now_ns`.
    pub(crate) fn touch_again(&mut self, before_ns: u64, now_ns: u64) {
        if self.active_ns == before_ns {
            self.active_ns = now_ns;
        }
    }

    pub(crate) fn pause(&mut self, now_ns: u64) {
        self.paused_ns = self.paused_ns.min(now_ns);
    }

    /// Reading goes on: the time that it was paused for does not count, but for what had output queued.
    pub(crate) fn resume(&mut self, now_ns: u64) {
        if self.paused_ns != NOT {
            self.active_ns += now_ns.saturating_sub(self.paused_ns.max(self.active_ns));
            self.paused_ns = NOT;
        }
    }

    pub(crate) fn after(&self) -> Duration {
        Duration::from_nanos(self.after_ns)
    }

    pub(crate) fn after_ns(&self) -> u64 {
        self.after_ns
    }

    /// When a byte last came or went.
    pub(crate) fn active_ns(&self) -> u64 {
        self.active_ns
    }

    /// Whether time passes: not while the peer is kept from sending and there is nothing for it to take (T5).
    pub(crate) fn runs(&self, has_output: bool) -> bool {
        has_output || self.paused_ns == NOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn t5_what_is_left_when_reading_is_paused_is_left_when_it_goes_on() {
        let mut idle = Idle::new(Duration::from_secs(10), 0, false);
        idle.pause(8 * SECOND);
        idle.pause(9 * SECOND);
        assert!(!idle.runs(false) && idle.runs(true));
        idle.resume(100 * SECOND);
        assert_eq!(idle.active_ns(), 92 * SECOND);
        // What the peer took while it was paused counts from then.
        idle.pause(101 * SECOND);
        idle.touch(105 * SECOND);
        idle.resume(106 * SECOND);
        assert_eq!(idle.active_ns(), 106 * SECOND);
    }
}
