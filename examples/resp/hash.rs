// SipHash-1-3 with random keys: what std's hasher computes, for a key that is one slice of bytes.
//
// If peers could predict collisions, they could make each lookup linear. Std's hasher would do, but takes its input in
// pieces, the length of a slice being one: a third of the instructions of a GET were its.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with the keys of one table.
pub(super) struct Keyed([u64; 2]);

impl Default for Keyed {
    fn default() -> Keyed {
        let random = RandomState::new();
        Keyed([0, 1].map(|n: u64| random.hash_one(n)))
    }
}

impl BuildHasher for Keyed {
    type Hasher = OfSlice;

    #[inline]
    fn build_hasher(&self) -> OfSlice {
        OfSlice { keys: self.0, hash: 0 }
    }
}

/// The hasher of one slice.
pub(super) struct OfSlice {
    keys: [u64; 2],
    hash: u64,
}

impl Hasher for OfSlice {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.hash = hash(self.keys, bytes);
    }

    /// Ignores the slice's length, which is part of its hash.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[inline]
fn hash([first, second]: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        first ^ 0x736f_6d65_7073_6575,
        second ^ 0x646f_7261_6e64_6f6d,
        first ^ 0x6c79_6765_6e65_7261,
        second ^ 0x7465_6462_7974_6573,
    ];
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        compress(&mut state, u64::from_le_bytes(*word));
        rest = behind;
    }
    // The last word has the bytes that are left, and the length in its highest byte.
    let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
    compress(&mut state, last | (bytes.len() as u64) << 56);
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline]
fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn resp_keys_are_hashed_by_siphash() {
        let mut bytes = Vec::new();
        for n in 0..100_u8 {
            let mut expected = DefaultHasher::new();
            expected.write(&bytes);
            assert_eq!(hash([0, 0], &bytes), expected.finish(), "{n} bytes");
            bytes.push(n);
        }
    }
}
