//! The bytes that are sent, and so the bytes that must come back.
//!
//! A stream is a window that slides over one table of random bytes, again and again. So nothing is generated while the
//! clock runs, and verifying is comparing two slices. The table's length is prime, so losing or duplicating a power of
//! two of bytes is noticed, and every connection begins at a different place, so getting another one's bytes is
//! noticed, too.

/// A prime, close to the size of the largest piece.
const PERIOD: usize = 65_537;
/// The longest slice that can be had at once.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
/// The distance between the beginnings of consecutive streams: no divisor of the period, and not the size of a message.
const APART: u64 = 4_099;

pub struct Pattern {
    /// The bytes of a period, and enough of the next that a slice from any position is contiguous.
    bytes: Vec<u8>,
}

impl Pattern {
    pub fn new() -> Self {
        let mut state = 0u64;
        let once: Vec<u8> = (0..PERIOD).map(|_| random(&mut state) as u8).collect();
        let bytes = once.iter().chain(&once[..PIECE_BYTES_MAX]).copied().collect();
        Self { bytes }
    }

    /// Where the stream of a connection begins.
    pub fn beginning(connection: usize) -> u64 {
        connection as u64 * APART
    }

    /// Returns the bytes from a position of a stream. `length` is at most `PIECE_BYTES_MAX`.
    pub fn at(&self, position: u64, length: usize) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.bytes[start..start + length]
    }

    /// Compares received with expected bytes; the error says at which byte they differ.
    pub fn verify(&self, position: u64, came: &[u8]) -> std::result::Result<(), usize> {
        let wanted = self.at(position, came.len());
        if wanted == came {
            return Ok(());
        }
        Err(wanted.iter().zip(came).position(|(wanted, came)| wanted != came).unwrap_or(0))
    }
}

/// Splitmix64: the same bytes on every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_over_the_end_of_the_table() {
        let pattern = Pattern::new();
        let position = PERIOD as u64 - 3;
        let (before, after) = pattern.at(position, 10).split_at(3);
        assert_eq!((before, after), (pattern.at(position, 3), pattern.at(0, 7)));
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_is() {
        let pattern = Pattern::new();
        let mut came = pattern.at(70_000, PIECE_BYTES_MAX).to_vec();
        assert_eq!(pattern.verify(70_000, &came), Ok(()));
        came[50_000] ^= 1;
        assert_eq!(pattern.verify(70_000, &came), Err(50_000));
    }

    #[test]
    fn lost_and_doubled_pieces_are_found() {
        let pattern = Pattern::new();
        for length in [1, 64, 1_024, 4_096, 16_384, 65_536] {
            for position in [0, 64, 6_400, 65_536] {
                assert!(pattern.verify(position, pattern.at(position + length, 64)).is_err(), "{length} at {position}");
            }
        }
    }

    #[test]
    fn no_two_of_ten_thousand_streams_begin_at_one_place() {
        let mut places: Vec<_> = (0..10_000).map(|nth| Pattern::beginning(nth) % PERIOD as u64).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 10_000);
    }
}
