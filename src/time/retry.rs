//! How long to wait before a call that failed for lack of resources is tried again.
//!
//! Pure data: no clock, no timer.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const MAX: Duration = Duration::from_secs(1);

/// The delays between successive failing tries: 10 ms at first, then twice as long each time, up to 1 s (rules A2 and
/// U1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retry {
    last: Duration,
}

impl Retry {
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(FIRST, MAX);
        self.last
    }

    /// Notes a success: the next delay is the first one again.
    pub(crate) fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_retries_back_off_from_10_ms_to_1_s() {
        let mut retry = Retry::default();
        for _ in 0..2 {
            let delays: Vec<_> = (0..9).map(|_| retry.next_delay().as_millis()).collect();
            assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
            retry.reset();
        }
    }
}
