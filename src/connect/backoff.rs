//! How long to wait before another try.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How long to wait before each of several successive tries (rule [K5](crate::guide::rules#k5)): longer each time, up
/// to a maximum, and randomized so that clients do not all try at the same time.
///
/// The first delay is used as given. Each further one is the previous one times a factor, varied at random (jitter),
/// and then clamped between zero and the maximum. The jitter of one delay has no effect on the next.
///
/// ```
/// use std::time::Duration;
/// use switchboard::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_secs(1)).factor(3.0).jitter(0.0).max_delay(Duration::from_secs(10));
/// let delays: Vec<_> = (0..4).map(|_| backoff.next_delay().as_secs()).collect();
/// assert_eq!(delays, [1, 3, 9, 10]);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    factor: f64,
    jitter: f64,
    max: Duration,
    /// The next delay in seconds, without its jitter; `None` before the first.
    next_secs: Option<f64>,
    random: u64,
}

impl Backoff {
    /// Creates a backoff with this first delay. Each further one is 1.7 times as long, varied by a fifth, and at most
    /// 60 seconds.
    pub fn new(first: Duration) -> Backoff {
        let random = RandomState::new().build_hasher().finish();
        Backoff { first, factor: 1.7, jitter: 0.2, max: Duration::from_secs(60), next_secs: None, random }
    }

    /// Sets how many times as long each delay is as the previous one. Below 1 delays get shorter; NaN counts as 0.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Backoff {
        self.factor = factor;
        self
    }

    /// Sets how much delays are varied: by up to this fraction of themselves, up or down. A value that is not finite
    /// counts as 0.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Backoff {
        self.jitter = if jitter.is_finite() { jitter } else { 0.0 };
        self
    }

    /// Sets the longest delay, which limits the first one, too.
    #[must_use]
    pub fn max_delay(mut self, max: Duration) -> Backoff {
        self.max = max;
        self
    }

    /// Sets the seed of the jitter, for runs that can be repeated. By default it is random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Backoff {
        self.random = seed;
        self
    }

    /// Returns the delay before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let Some(secs) = self.next_secs else {
            self.next_secs = Some(self.clamp(self.first.as_secs_f64() * self.factor));
            return self.first.min(self.max);
        };
        self.next_secs = Some(self.clamp(secs * self.factor));
        let varied = secs * (1.0 + self.jitter * self.random_sign());
        Duration::try_from_secs_f64(self.clamp(varied)).map_or(self.max, |delay| delay.min(self.max))
    }

    /// Starts over: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.next_secs = None;
    }

    /// NaN counts as 0.
    fn clamp(&self, secs: f64) -> f64 {
        secs.max(0.0).min(self.max.as_secs_f64())
    }

    /// Returns a random number, uniform between -1 and 1 (SplitMix64).
    fn random_sign(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn delays(mut backoff: Backoff, count: usize) -> Vec<f64> {
        (0..count).map(|_| backoff.next_delay().as_secs_f64()).collect()
    }

    #[test]
    fn k5_the_first_delay_is_as_given_and_the_default_cap_is_60_s() {
        let plain = Backoff::new(SECOND).factor(2.0).jitter(0.0);
        assert_eq!(delays(plain, 9), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(delays(Backoff::new(7 * SECOND).jitter(0.9), 1), [7.0]);
        assert_eq!(delays(Backoff::new(90 * SECOND), 1), [60.0]);
    }

    #[test]
    fn k5_jitter_comes_before_the_clamp_is_never_negative_and_is_not_fed_back() {
        for seed in 0..200 {
            let all = delays(Backoff::new(SECOND).factor(2.0).jitter(0.5).seed(seed), 12);
            for (n, delay) in all.iter().enumerate().skip(1) {
                let base = 2f64.powi(n as i32).min(60.0);
                assert!(*delay >= base * 0.5 && *delay <= (base * 1.5).min(60.0), "{n}: {delay}, seed {seed}");
            }
            let wild = delays(Backoff::new(SECOND).jitter(50.0).seed(seed), 50);
            assert!(wild.iter().all(|delay| (0.0..=60.0).contains(delay)), "{wild:?}");
            assert!(wild.contains(&0.0), "what would be below zero is zero: {wild:?}");
        }
        let at_the_cap = |seed| delays(Backoff::new(60 * SECOND).seed(seed), 2)[1];
        assert!((0..50).any(|seed| at_the_cap(seed) < 60.0), "at the cap they still differ");
        assert!((0..50).any(|seed| at_the_cap(seed) == 60.0), "clamped after the jitter");
    }

    #[test]
    fn k5_reset_begins_anew() {
        let mut backoff = Backoff::new(SECOND).jitter(0.0);
        let first: Vec<_> = (0..3).map(|_| backoff.next_delay()).collect();
        backoff.reset();
        assert_eq!((0..3).map(|_| backoff.next_delay()).collect::<Vec<_>>(), first);
    }

    #[test]
    fn k5_no_number_is_so_strange_that_it_panics() {
        for factor in [f64::NAN, f64::INFINITY, -3.0, 0.0, 1e300] {
            for jitter in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
                for (first, max) in [(Duration::MAX, Duration::MAX), (Duration::ZERO, SECOND), (SECOND, Duration::ZERO)]
                {
                    let mut backoff = Backoff::new(first).factor(factor).jitter(jitter).max_delay(max);
                    assert!((0..20).all(|_| backoff.next_delay() <= max));
                }
            }
        }
    }
}
