//! What a read or a write of 64 KiB costs, depending on the buffer's offset in its page: `cargo bench --bench
//! alignment`, on Unix.
//!
//! The data goes through a pair of Unix stream sockets on one thread, so the copy is nearly all of the cost. It prints
//! medians of rounds in which the offsets take turns. With `-- --short` it runs only for a moment, to check that it
//! works.

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {
    println!("there is nothing to compare here");
}

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const PAGE_BYTES: usize = 4096;
    const BYTES: usize = 64 * 1024;
    const PLACES: [usize; 10] = [0, 16, 64, 128, 256, 304, 336, 1024, 2048, 4080];

    /// The times that one write and one read take.
    fn there_and_back(pair: &mut (UnixStream, UnixStream), bytes: &mut [u8]) -> [Duration; 2] {
        let start = Instant::now();
        pair.0.write_all(bytes).expect("the socket takes it");
        let written = start.elapsed();
        let start = Instant::now();
        pair.1.read_exact(bytes).expect("it is there");
        [written, start.elapsed()]
    }

    fn median_us(mut times: Vec<Duration>) -> f64 {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    }

    pub(super) fn main() {
        let rounds = if std::env::args().any(|argument| argument == "--short") { 5 } else { 2000 };
        let mut pair = UnixStream::pair().expect("a pair of sockets");
        let mut buffer = vec![1; BYTES + 2 * PAGE_BYTES];
        let page = buffer.as_ptr().align_offset(PAGE_BYTES);
        let mut times = PLACES.map(|_| [const { Vec::new() }; 2]);
        for _ in 0..rounds {
            for (place, times) in PLACES.iter().zip(&mut times) {
                let taken = there_and_back(&mut pair, &mut buffer[page + place..][..BYTES]);
                times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
            }
        }
        for (place, [writes, reads]) in PLACES.iter().zip(times) {
            println!(
                "{place:4} bytes into a page: a write {:5.1} us, a read {:5.1} us",
                median_us(writes),
                median_us(reads)
            );
        }
    }
}
