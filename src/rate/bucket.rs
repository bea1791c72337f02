//! A token bucket, which limits how fast bytes may be taken.

use std::time::{Duration, Instant};

use super::Rate;

/// A bucket that fills with tokens as time passes, up to a brim; each token is worth a byte.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    bytes_per_second: i128,
    /// In billionths of a byte, like `tokens`, so that not even a nanosecond's worth is lost to rounding.
    brim: i128,
    /// Below zero if more was taken than there was.
    tokens: i128,
    updated: Instant,
}

/// How many billionths a byte has.
const NANO: i128 = 1_000_000_000;

/// A reader that finds the bucket empty waits for what flows in within a hundredth of a second, so that a trickle costs
/// at most a hundred wake-ups a second.
const WAITS_PER_SECOND: i128 = 100;

impl TokenBucket {
    /// Creates a full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> TokenBucket {
        let brim = (rate.burst_bytes().max(1) as i128).saturating_mul(NANO);
        TokenBucket { bytes_per_second: rate.bytes_per_second().max(1) as i128, brim, tokens: brim, updated: now }
    }

    /// Returns the rate that it was made with.
    pub(crate) fn rate(&self) -> Rate {
        let bytes = |of: i128| usize::try_from(of).unwrap_or(usize::MAX);
        Rate::new(bytes(self.bytes_per_second)).burst(bytes(self.brim / NANO))
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos() as i128;
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(self.bytes_per_second)).min(self.brim);
        self.updated = self.updated.max(now);
    }

    /// Returns how many bytes may be taken now.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        self.fill(now);
        usize::try_from(self.tokens.max(0) / NANO).unwrap_or(usize::MAX)
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub((bytes as i128).saturating_mul(NANO));
    }

    /// Returns how long it takes until there is enough to be worth a wake-up, or the bucket is full.
    pub(crate) fn time_to_wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let worth = (self.bytes_per_second * NANO / WAITS_PER_SECOND).max(NANO).min(self.brim);
        let missing = (worth - self.tokens).max(0);
        // Rounded up: an early wake-up would find too little.
        let nanoseconds = (missing + self.bytes_per_second - 1) / self.bytes_per_second;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_then() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(1000).burst(500), start);
        assert_eq!(bucket.available(start), 500);
        bucket.take(500);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.time_to_wait(start), 10 * MS);
        assert_eq!(bucket.available(start + 9 * MS), 9);
        assert_eq!(bucket.time_to_wait(start + 9 * MS), MS);
        assert_eq!(bucket.available(start + 10_000 * MS), 500, "it is full");
    }

    #[test]
    fn a_bucket_rounds_nothing_away_however_often_it_is_asked() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(7).burst(100), start);
        bucket.take(100);
        let last = (1..=1_000_000).map(|n| bucket.available(start + n * Duration::from_micros(1))).last();
        assert_eq!(last, Some(7));
    }

    #[test]
    fn an_overdrawn_bucket_is_filled_before_it_gives_again() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(1000).burst(10), start);
        bucket.take(1010);
        assert_eq!(bucket.available(start + 999 * MS), 0);
        assert_eq!(bucket.time_to_wait(start + 999 * MS), 11 * MS);
        assert_eq!(bucket.available(start + 1010 * MS), 10);
    }

    #[test]
    fn extremes_neither_overflow_nor_come_to_a_standstill() {
        let start = Instant::now();
        for (rate, burst) in [(0, 0), (1, 1), (usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
            let mut bucket = TokenBucket::new(Rate::new(rate).burst(burst), start);
            for _ in 0..3 {
                let available = bucket.available(start);
                bucket.take(available);
                bucket.take(usize::MAX);
            }
            assert_eq!(bucket.available(start), 0);
            bucket.time_to_wait(start);
            let mut bucket = TokenBucket::new(Rate::new(rate).burst(burst), start);
            bucket.take(1);
            let later = start + bucket.time_to_wait(start);
            assert!(bucket.available(later) >= 1, "{rate} {burst}");
        }
    }
}
