//! What it costs to write to many connections: `cargo bench --bench fanout`.
//!
//! Every member of a room sends a line of 64 bytes, and each line goes to every member: written to each by its id
//! ([`Transport::write`]), the same with a payload that is shared ([`Transport::write_shared`]), and as one operation
//! ([`Context::broadcast`]). For comparison, a loop written by hand on mio for this purpose only appends each line to a
//! buffer for each receiver, and sends each buffer once at the end of a pass. Another one gathers all lines once, in
//! one buffer for all: no loop can do less for a receiver than one send.
//!
//! One thread runs all members of all rooms, on one core; the servers share the other core, each in its own thread. All
//! run throughout and are measured in short turns, in a different order each time. What counts is how long a server's thread
//! was on a core, as a ratio to the hand-written loop within a round, and the median of that: other load on the machine
//! spoils some rounds, but not the median of many. Only Linux reports that time.
//!
//! `-- 100` measures rooms of 100 members only. It needs some eight descriptors for each member, and fails with a message if
//! it has fewer. With `-- --short` it runs for a moment only, with 20 members, to check that it works.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[path = "fanout/measured.rs"]
mod measured;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    measured::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("this needs Linux: elsewhere the time that a thread was on a core is not reported");
    ExitCode::FAILURE
}
