//! Limits how often a report is repeated.
//!
//! Pure data: no clock, `now` is an argument.

use std::time::{Duration, Instant};

/// Limits repeated reports to one a second.
#[derive(Debug, Default)]
pub(crate) struct Report {
    last: Option<Instant>,
    withheld: u64,
}

impl Report {
    /// Returns whether to report at `now`, and if so how many reports before it were withheld.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            self.withheld += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_the_log_is_told_once_a_second() {
        let start = Instant::now();
        let mut report = Report::default();
        let told: Vec<_> = (0..25).filter_map(|n| report.ask(start + Duration::from_millis(100 * n))).collect();
        assert_eq!(told, [0, 9, 9]);
    }
}
