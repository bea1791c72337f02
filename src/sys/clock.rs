//! The clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::{self, InMemory};

/// Where the loop gets its time from: monotonic, whatever the wall clock does.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    System,
    #[allow(dead_code)] // Only objects in memory make one.
    Memory(InMemory<Arc<dyn memory::Clock>>),
}

/// A deadline further off than this might as well be never: about a century.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            Clock::Memory(clock) => clock.now(),
        }
    }
}

/// Returns `start` plus `delay`, clamped if that is too far off for an [`Instant`] (rule T1).
pub(crate) fn deadline_after(start: Instant, delay: Duration) -> Instant {
    let delay = delay.min(FAR);
    start.checked_add(delay).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_far_deadlines_clamp_and_none_overflows() {
        let now = Instant::now();
        for delay in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_millis(1 << 40)] {
            assert!(deadline_after(now, delay) > now + Duration::from_secs(1 << 30));
        }
        assert_eq!(deadline_after(now, Duration::from_nanos(1)), now + Duration::from_nanos(1));
    }
}
