//! The timeouts of one connection that its bytes reset: the idle one, and that of what it receives.
//!
//! Pure data: no clock, `now` is an argument. A byte costs a store or two: the timer, one for both, is not moved by it, but
//! looks at them when it fires, and is set again for what is left.

use std::time::Duration;

use crate::time::heap::Key;

/// How long a connection may be idle, and since when it is. Times are nanoseconds of the loop's own time: a process has
/// one of these for each of many connections, and an `Instant` takes twice the room.
#[derive(Debug)]
pub(crate) struct Idle {
    /// [`NEVER`] if it has no such timeout; likewise for the next one.
    after_ns: u64,
    read_after_ns: u64,
    /// When a byte last came or went, shifted by how long the peer was kept from sending.
    active_ns: u64,
    /// When a byte last came, shifted likewise.
    received_ns: u64,
    /// Since when the peer is kept from sending; [`NOT`] if it is not.
    paused_ns: u64,
    /// None while it stands still.
    pub(crate) timer: Option<Key>,
}

const NEVER: u64 = u64::MAX;

const NOT: u64 = u64::MAX;

impl Idle {
    /// One that has neither timeout yet.
    pub(crate) fn new(now_ns: u64, is_paused: bool) -> Idle {
        Idle {
            after_ns: NEVER,
            read_after_ns: NEVER,
            active_ns: now_ns,
            received_ns: now_ns,
            paused_ns: if is_paused { now_ns } else { NOT },
            timer: None,
        }
    }

    /// Sets how long nothing may come or go, from now on.
    pub(crate) fn set_after(&mut self, after: Option<Duration>, now_ns: u64) {
        (self.after_ns, self.active_ns) = (ns_of(after), now_ns);
    }

    /// Sets how long nothing may come, from now on.
    pub(crate) fn set_read_after(&mut self, after: Option<Duration>, now_ns: u64) {
        (self.read_after_ns, self.received_ns) = (ns_of(after), now_ns);
    }

    pub(crate) fn has_none(&self) -> bool {
        self.after_ns == NEVER && self.read_after_ns == NEVER
    }

    /// A byte has come or gone.
    #[inline]
    pub(crate) fn touch(&mut self, now_ns: u64) {
        self.active_ns = now_ns;
    }

    /// A byte has come.
    #[inline]
    pub(crate) fn touch_received(&mut self, now_ns: u64) {
        self.received_ns = now_ns;
    }

    /// Bytes that were taken to have come or gone at `before_ns` have done so by `now_ns`.
    pub(crate) fn touch_again(&mut self, before_ns: u64, now_ns: u64) {
        for noted_ns in [&mut self.active_ns, &mut self.received_ns] {
            if *noted_ns == before_ns {
                *noted_ns = now_ns;
            }
        }
    }

    pub(crate) fn pause(&mut self, now_ns: u64) {
        self.paused_ns = self.paused_ns.min(now_ns);
    }

    /// Reading goes on: the time that it was paused for does not count, but for what had output queued.
    pub(crate) fn resume(&mut self, now_ns: u64) {
        if self.paused_ns != NOT {
            self.active_ns += now_ns.saturating_sub(self.paused_ns.max(self.active_ns));
            self.received_ns += now_ns.saturating_sub(self.paused_ns.max(self.received_ns));
            self.paused_ns = NOT;
        }
    }

    pub(crate) fn after(&self) -> Duration {
        Duration::from_nanos(self.after_ns)
    }

    pub(crate) fn after_ns(&self) -> u64 {
        self.after_ns
    }

    /// Returns when nothing will have come or gone for too long, if that is `after_ns`. Time does not pass while the peer is
    /// kept from sending and there is nothing for it to take (T5). `None` where none passes, or that is too far off to be told.
    pub(crate) fn deadline_ns(&self, has_output: bool, after_ns: u64) -> Option<u64> {
        let runs = self.after_ns != NEVER && (has_output || self.paused_ns == NOT);
        runs.then(|| self.active_ns.checked_add(after_ns)).flatten()
    }

    /// Returns when nothing will have come for too long.
    pub(crate) fn read_deadline_ns(&self) -> Option<u64> {
        let runs = self.read_after_ns != NEVER && self.paused_ns == NOT;
        runs.then(|| self.received_ns.checked_add(self.read_after_ns)).flatten()
    }
}

fn ns_of(after: Option<Duration>) -> u64 {
    after.map_or(NEVER, |after| u64::try_from(after.as_nanos()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn t5_what_is_left_when_reading_is_paused_is_left_when_it_goes_on() {
        let mut idle = Idle::new(0, false);
        let after = Some(Duration::from_secs(10));
        idle.set_after(after, 0);
        idle.set_read_after(after, 0);
        idle.pause(8 * SECOND);
        idle.pause(9 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), None);
        assert_eq!(idle.deadline_ns(true, 10 * SECOND), Some(10 * SECOND));
        assert_eq!(idle.read_deadline_ns(), None);
        idle.resume(100 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), Some(102 * SECOND));
        assert_eq!(idle.read_deadline_ns(), Some(102 * SECOND));
        // What the peer took while it was paused counts from then.
        idle.pause(101 * SECOND);
        idle.touch(105 * SECOND);
        idle.resume(106 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), Some(116 * SECOND));
        assert_eq!(idle.read_deadline_ns(), Some(107 * SECOND));
    }
}
