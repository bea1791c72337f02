//! The generator behind a seed.

/// A seeded generator of random numbers: SplitMix64, in a few lines of our own.
///
/// It does not come from another crate, because a seed must replay the same run with every version of every dependency,
/// for as long as this crate lives. It is good enough to pick faults; do not use it for secrets.
///
/// ```
/// use switchboard::testing::Random;
/// let (mut one, mut other) = (Random::new(7), Random::new(7));
/// assert_eq!(one.below(1000), other.below(1000));
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns the generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns the next number, from the whole range of `u64`.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, or 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number from `low` to `high`, both included, or `low` if `high` is lower.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Returns whether something happens that does so `permille` times in a thousand. With 0 it takes no number from
    /// the generator.
    pub fn hits(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// Returns a length from 1 to `length`: mostly a short one, and often 1 or all of it, where the bugs are.
    pub(crate) fn part_of(&mut self, length: usize) -> usize {
        let all = length as u64;
        let part = match self.below(4) {
            0 => 1,
            1 => all,
            2 => self.between(1, all.min(8)),
            _ => self.between(1, all),
        };
        part as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_that_its_inventors_published() {
        let mut random = Random::new(1_234_567);
        let numbers: Vec<_> = (0..3).map(|_| random.number()).collect();
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_keep_within_their_bounds() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            assert!(random.below(3) < 3);
            assert!((5..=7).contains(&random.between(5, 7)));
            assert!((1..=20).contains(&random.part_of(20)));
            assert_eq!(random.part_of(1), 1);
            assert!(!random.hits(0) && random.hits(1000));
        }
    }
}
