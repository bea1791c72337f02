//! How long it takes to find the ends of lines, by their length: `cargo bench --bench line_search`.
//!
//! `LineReceiver` searches with the baseline instructions of the target; the other search picks the widest instructions
//! that this processor has, at the price of a call. Each round finds all lines in 64 KiB that are in the processor's
//! caches, as after a read. Medians of alternating rounds; compare only figures from the same machine and hour. With
//! `-- --short` it runs only for a moment, to check that it works. On targets with only one search there is nothing to
//! compare.

use std::hint::black_box;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 * 1024;

/// Counts the lines in `data` by a search that starts again for each.
fn count(data: &[u8], find: impl Fn(&[u8]) -> Option<usize>) -> usize {
    let (mut rest, mut lines) = (data, 0);
    while let Some(end) = find(rest) {
        rest = &rest[end + 1..];
        lines += 1;
    }
    lines
}

fn widest(data: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', data)
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
fn inlined(data: &[u8]) -> Option<usize> {
    memchr::arch::x86_64::sse2::memchr::One::new(b'\n')?.find(data)
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
use widest as inlined;

fn time(data: &[u8], lines: usize, find: impl Fn(&[u8]) -> Option<usize>) -> Duration {
    let start = Instant::now();
    assert_eq!(count(black_box(data), find), lines);
    start.elapsed()
}

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--short") { 11 } else { 2001 };
    for line_bytes in [8, 16, 32, 64, 128, 256, 1024, 4096, 16_384, READ_BYTES] {
        let mut data = vec![b'x'; READ_BYTES];
        data.iter_mut().skip(line_bytes - 1).step_by(line_bytes).for_each(|byte| *byte = b'\n');
        let lines = READ_BYTES / line_bytes;
        let mut times: Vec<_> =
            (0..rounds).map(|_| (time(&data, lines, inlined), time(&data, lines, widest))).collect();
        let mut median = |of: fn(&(Duration, Duration)) -> Duration| {
            times.sort_unstable_by_key(of);
            of(&times[rounds / 2]).as_nanos() as f64 / lines as f64
        };
        let (inlined, widest) = (median(|times| times.0), median(|times| times.1));
        println!("a line of {line_bytes} bytes: {inlined:.1} ns by what is inlined, {widest:.1} by the widest");
    }
}
