//! What `benches/growth.py` counts: each parser and each list of the loop, with n, 4n and 16n elements.
//!
//! `measured_growth PART COUNT…` runs each subject of the part (`parsers` or `lists`) with each count, and prints the
//! subject and the count of each before it does so. What is to be counted happens within [`counted`], which callgrind
//! is told to look at; preparing does not count.
//!
//! Sockets are real, since the simulator has lists of its own; what the kernel does is not counted.

// Two programs are included whole, each with what it shares with others.
#![allow(clippy::duplicate_mod)]

#[cfg(unix)]
mod lists;
#[cfg(unix)]
mod parsers;
#[cfg(unix)]
mod support;

use std::process::ExitCode;

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("valgrind, which counts, is of Unix");
    ExitCode::FAILURE
}

/// Runs what is to be counted, and nothing else: callgrind counts from its first instruction to its last.
#[cfg(unix)]
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    work();
}

/// The name of what is counted, and what does it with so many elements.
#[cfg(unix)]
pub(crate) type Subject = (&'static str, fn(usize));

#[cfg(unix)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((part, counts)) = arguments.split_first() else {
        eprintln!("parsers|lists COUNT...");
        return ExitCode::FAILURE;
    };
    let subjects = if part == "parsers" { parsers::SUBJECTS } else { lists::SUBJECTS };
    for &(name, run) in subjects {
        for count in counts.iter().filter_map(|count| count.parse().ok()) {
            println!("{name}: {count}");
            run(count);
        }
    }
    ExitCode::SUCCESS
}
