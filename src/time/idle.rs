//! The timeouts of one connection that traffic resets: the idle timeout, and the read idle timeout.
//!
//! Pure data: no clock, `now` is an argument. A byte costs one store: the timer, which both timeouts share, is not
//! moved by it, but checks the stored time when it fires, and is set again for what is left.

use std::time::Duration;

use crate::time::heap::Key;
use crate::time::ns_of;

/// How long a connection may be idle, and since when it is. Times are nanoseconds of the loop's own time: a process has
/// one of these for each of many connections, and an `Instant` takes twice the space.
#[derive(Debug)]
pub(crate) struct Idle {
    /// [`NEVER`] if only the other timeout is set.
    after_ns: u64,
    /// When a byte was last received or sent, shifted by how long the peer was kept from sending; and [`BY_OUTPUT`].
    active: u64,
    /// Since when the peer is kept from sending; [`NOT`] if it is not.
    paused_ns: u64,
    /// The timer of both timeouts. `None` while neither runs.
    pub(crate) timer: Option<Key>,
}

/// How long a connection may receive nothing, and since when it has received nothing. Kept apart, since few connections
/// have it; it shares the timer and the pauses of [`Idle`].
#[derive(Debug)]
pub(crate) struct ReadIdle {
    after_ns: u64,
    /// When a byte was last received, shifted by how long the peer was kept from sending. If that was the last sign of
    /// life, as it mostly is, the time is in [`Idle`] instead, so that a message costs one store.
    received_ns: u64,
}

/// Set if the last sign of life was not a received byte, which is the rarer case.
const BY_OUTPUT: u64 = 1 << 63;

const NEVER: u64 = u64::MAX;

const NOT: u64 = u64::MAX;

impl Idle {
    /// Creates one that has no timeout yet.
    pub(crate) fn new(now_ns: u64, is_paused: bool) -> Idle {
        Idle {
            after_ns: NEVER,
            active: now_ns | BY_OUTPUT,
            paused_ns: if is_paused { now_ns } else { NOT },
            timer: None,
        }
    }

    /// Sets for how long nothing may be received or sent, from now on.
    pub(crate) fn set_after(&mut self, after: Option<Duration>, read: Option<&mut ReadIdle>, now_ns: u64) {
        self.after_ns = after.map_or(NEVER, ns_of);
        self.touch(read, now_ns);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.after_ns != NEVER
    }

    /// Returns when a byte was last received or sent.
    fn active_ns(&self) -> u64 {
        self.active & !BY_OUTPUT
    }

    /// Notes a received byte.
    #[inline]
    pub(crate) fn touch_by_input(&mut self, now_ns: u64) {
        self.active = now_ns;
    }

    /// Notes a sent byte.
    #[inline]
    pub(crate) fn touch(&mut self, read: Option<&mut ReadIdle>, now_ns: u64) {
        if let Some(read) = read {
            read.received_ns = self.received_ns(read);
        }
        self.active = now_ns | BY_OUTPUT;
    }

    /// Notes a received byte that is not a sign of life for the idle timeout.
    pub(crate) fn touch_read(&mut self, read: &mut ReadIdle, now_ns: u64) {
        read.received_ns = now_ns;
        self.active |= BY_OUTPUT;
    }

    fn received_ns(&self, read: &ReadIdle) -> u64 {
        if self.active & BY_OUTPUT == 0 { self.active } else { read.received_ns }
    }

    /// Corrects the time of bytes that were noted at `before_ns`: they were received or sent by `now_ns`.
    pub(crate) fn touch_again(&mut self, read: Option<&mut ReadIdle>, before_ns: u64, now_ns: u64) {
        if self.active_ns() == before_ns {
            self.active = now_ns | self.active & BY_OUTPUT;
        }
        match read {
            Some(read) if read.received_ns == before_ns => read.received_ns = now_ns,
            _ => {}
        }
    }

    pub(crate) fn pause(&mut self, now_ns: u64) {
        self.paused_ns = self.paused_ns.min(now_ns);
    }

    /// Resumes reading: the time of the pause does not count, except if output was queued.
    pub(crate) fn resume(&mut self, read: Option<&mut ReadIdle>, now_ns: u64) {
        if self.paused_ns != NOT {
            self.active += now_ns.saturating_sub(self.paused_ns.max(self.active_ns()));
            if let Some(read) = read {
                read.received_ns += now_ns.saturating_sub(self.paused_ns.max(read.received_ns));
            }
            self.paused_ns = NOT;
        }
    }

    /// Returns for how long nothing may be received or sent, if that is limited.
    pub(crate) fn set_to(&self) -> Option<Duration> {
        self.is_set().then(|| self.after())
    }

    pub(crate) fn after(&self) -> Duration {
        Duration::from_nanos(self.after_ns)
    }

    pub(crate) fn after_ns(&self) -> u64 {
        self.after_ns
    }

    /// Returns when nothing will have been received or sent for too long, which is `after_ns`. Time does not pass while
    /// the peer is kept from sending and has nothing to take (T5). `None` if time does not pass, or the deadline is too
    /// far off to be represented.
    pub(crate) fn deadline_ns(&self, has_output: bool, after_ns: u64) -> Option<u64> {
        let runs = self.is_set() && (has_output || self.paused_ns == NOT);
        runs.then(|| self.active_ns().checked_add(after_ns)).flatten()
    }

    /// Returns when nothing will have been received for too long.
    pub(crate) fn read_deadline_ns(&self, read: &ReadIdle) -> Option<u64> {
        (self.paused_ns == NOT).then(|| self.received_ns(read).checked_add(read.after_ns)).flatten()
    }
}

impl ReadIdle {
    pub(crate) fn after(&self) -> Duration {
        Duration::from_nanos(self.after_ns)
    }

    pub(crate) fn new(after: Duration) -> ReadIdle {
        ReadIdle { after_ns: ns_of(after), received_ns: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn t5_what_is_left_when_reading_is_paused_is_left_when_it_goes_on() {
        let mut idle = Idle::new(0, false);
        let mut read = ReadIdle::new(Duration::from_secs(10));
        idle.set_after(Some(Duration::from_secs(10)), None, 0);
        idle.pause(8 * SECOND);
        idle.pause(9 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), None);
        assert_eq!(idle.deadline_ns(true, 10 * SECOND), Some(10 * SECOND));
        assert_eq!(idle.read_deadline_ns(&read), None);
        idle.resume(Some(&mut read), 100 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), Some(102 * SECOND));
        assert_eq!(idle.read_deadline_ns(&read), Some(102 * SECOND));
        // What the peer took during the pause counts from then.
        idle.pause(101 * SECOND);
        idle.touch(Some(&mut read), 105 * SECOND);
        idle.resume(Some(&mut read), 106 * SECOND);
        assert_eq!(idle.deadline_ns(false, 10 * SECOND), Some(116 * SECOND));
        assert_eq!(idle.read_deadline_ns(&read), Some(107 * SECOND));
    }
}
