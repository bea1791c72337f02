//! The timeouts of one connection, as far as they are its own: the idle one.
//!
//! Pure data: no clock, `now` is an argument. A byte costs a store: the timer is not moved by it, but looks at that store
//! when it fires, and is set again for what is left.

use std::time::{Duration, Instant};

use crate::timers::Key;

/// How long a connection may be idle, and since when it is.
#[derive(Debug)]
pub(crate) struct Idle {
    after: Duration,
    /// When a byte last came or went, shifted by how long the user has kept the peer from sending.
    active: Instant,
    /// When the user paused reading, if it is paused.
    paused: Option<Instant>,
    /// None while it stands still.
    pub(crate) timer: Option<Key>,
}

impl Idle {
    pub(crate) fn new(after: Duration, now: Instant, is_paused: bool) -> Idle {
        Idle { after, active: now, paused: is_paused.then_some(now), timer: None }
    }

    /// A byte has come or gone.
    #[inline]
    pub(crate) fn touch(&mut self, now: Instant) {
        self.active = now;
    }

    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Reading goes on: the time that it was paused for does not count, but for what had output queued.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            self.active += now.saturating_duration_since(paused.max(self.active));
        }
    }

    /// When it is over, if no byte comes or goes until then; `None` where that is too far off to be told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.active.checked_add(self.after)
    }

    /// Whether time passes: not while the peer is kept from sending and there is nothing for it to take (T5).
    pub(crate) fn runs(&self, has_output: bool) -> bool {
        has_output || self.paused.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn t5_what_is_left_when_reading_is_paused_is_left_when_it_goes_on() {
        let start = Instant::now();
        let mut idle = Idle::new(10 * SECOND, start, false);
        idle.pause(start + 8 * SECOND);
        idle.pause(start + 9 * SECOND);
        assert!(!idle.runs(false) && idle.runs(true));
        idle.resume(start + 100 * SECOND);
        assert_eq!(idle.deadline(), Some(start + 102 * SECOND));
        // What the peer took while it was paused counts from then.
        idle.pause(start + 101 * SECOND);
        idle.touch(start + 105 * SECOND);
        idle.resume(start + 106 * SECOND);
        assert_eq!(idle.deadline(), Some(start + 116 * SECOND));
    }
}
