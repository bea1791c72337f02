//! Decisions that are made of an input's bytes.

use std::sync::atomic::{AtomicBool, Ordering};

/// Reads decisions from the front of an input. Behind its end every decision is 0.
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.rest {
            [first, rest @ ..] => {
                self.rest = rest;
                *first
            }
            [] => 0,
        }
    }

    /// Returns a number below `end`, which is at most 256 and not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Returns what is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Whether each input goes through what only one in a thousand needs: in a replay, and while an input is made shorter.
pub static IS_THOROUGH: AtomicBool = AtomicBool::new(false);

/// Returns whether an input is one of the thousandth part that also goes through something slow. Which these are
/// depends on the input alone.
pub fn is_one_in_a_thousand(data: &[u8]) -> bool {
    let sum = data.iter().fold(0_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (sum >> 8) % 1000 == 0 || IS_THOROUGH.load(Ordering::Relaxed)
}

/// Cuts data into pieces, by a seed.
pub struct Pieces<'a> {
    rest: &'a [u8],
    state: u32,
    /// No piece is longer.
    most: usize,
}

/// Returns `data` in pieces. A `seed` of 0 gives pieces of one byte.
pub fn pieces(data: &[u8], seed: u8) -> Pieces<'_> {
    let most = match seed {
        0 => 1,
        _ => 1 << (seed % 8),
    };
    Pieces { rest: data, state: u32::from(seed) << 8 | 1, most }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        // A linear congruential generator, of which the high bits are good enough.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (self.state >> 16) as usize % self.most;
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}

/// Feeds `parse` longer and longer beginnings of `data`, by pieces, until it returns something.
///
/// This is what a protocol does: what is not consumed comes again, with more behind it.
pub fn first_result<T>(data: &[u8], seed: u8, mut parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let mut length = 0;
    pieces(data, seed).find_map(|piece| {
        length += piece.len();
        parse(&data[..length])
    })
}
