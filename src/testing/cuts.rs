//! Cutting an input into pieces in all ways.

use std::thread;

use super::Random;

/// Inputs up to this length are cut in all ways.
const ALL_WAYS_BYTES_MAX: usize = 14;

/// In how many random ways a longer input is cut.
const RANDOM_WAYS: u64 = 1000;

/// Calls `test` with an input that is cut into pieces: up to 14 bytes in all 2^(n-1) ways; a longer one whole, byte by
/// byte, once at each place, and in 1,000 random ways, the same ones each time.
///
/// The pieces are never empty; an empty input has none. If `test` panics, the cut is printed.
pub fn every_cut(input: &[u8], mut test: impl FnMut(&[&[u8]])) {
    if input.len() <= ALL_WAYS_BYTES_MAX {
        let places = input.len().saturating_sub(1);
        for ways in 0..1_u32 << places {
            run(input, (0..places).filter(|place| ways & 1 << place != 0).map(|place| place + 1), &mut test);
        }
        return;
    }
    run(input, [], &mut test);
    run(input, 1..input.len(), &mut test);
    for place in 1..input.len() {
        run(input, [place], &mut test);
    }
    let mut random = Random::new(0);
    for _ in 0..RANDOM_WAYS {
        // From a few long pieces to many short ones.
        let permille = random.between(1, 700) as u32;
        let places: Vec<_> = (1..input.len()).filter(|_| random.hits(permille)).collect();
        run(input, places, &mut test);
    }
}

fn run(input: &[u8], places: impl IntoIterator<Item = usize>, test: &mut impl FnMut(&[&[u8]])) {
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places.into_iter().chain([input.len()]).filter(|&place| place > 0) {
        pieces.push(&input[start..place]);
        start = place;
    }
    let shown = Shown(&pieces);
    test(&pieces);
    drop(shown);
}

/// Prints the pieces if it is dropped during a panic.
struct Shown<'a>(&'a [&'a [u8]]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let pieces: Vec<_> = self.0.iter().map(|piece| format!("b\"{}\"", piece.escape_ascii())).collect();
            eprintln!("with the input cut so: [{}]", pieces.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn cuts(input: &[u8]) -> (usize, BTreeSet<Vec<Vec<u8>>>) {
        let mut calls = 0;
        let mut seen = BTreeSet::new();
        every_cut(input, |pieces| {
            calls += 1;
            assert_eq!(pieces.concat(), input);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            seen.insert(pieces.iter().map(|piece| piece.to_vec()).collect());
        });
        (calls, seen)
    }

    #[test]
    fn a_short_input_is_cut_in_all_ways_each_once() {
        for (input, ways) in [(&b""[..], 1), (b"a", 1), (b"ab", 2), (b"abc", 4), (b"fourteen bytes", 1 << 13)] {
            let (calls, seen) = cuts(input);
            assert_eq!((calls, seen.len()), (ways, ways));
        }
    }

    #[test]
    fn a_long_input_is_cut_at_every_place_and_at_random() {
        let input = b"an input that is longer than fourteen bytes";
        let (_, seen) = cuts(input);
        assert!(seen.contains(&vec![input.to_vec()]));
        assert!(seen.contains(&input.iter().map(|&byte| vec![byte]).collect::<Vec<_>>()));
        for place in 1..input.len() {
            assert!(seen.contains(&vec![input[..place].to_vec(), input[place..].to_vec()]));
        }
        assert!(seen.len() > 900);
    }
}
