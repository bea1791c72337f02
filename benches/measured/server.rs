//! The server that `benches/measure.py` measures: it echoes, and does nothing else.
//!
//! It prints `listening on ADDRESS` and runs until it is killed. With `--turn-by-turn` it does one turn for every byte
//! on its standard input, and ends with that: so whoever drives it says how many connections are ready at a poll. With
//! `--timed` each callback is timed, with `--idle-timeout` each connection has one.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use switchboard::{EventLoop, Limits, Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// A turn for each byte, each byte by a call of its own. That costs next to nothing beside the turn of fifty connections.
fn turn_by_turn(event_loop: &mut EventLoop) -> io::Result<()> {
    let mut go_ahead = File::open("/dev/stdin")?;
    while go_ahead.read(&mut [0])? > 0 {
        event_loop.turn(None)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut limits = Limits::default();
    let mut is_driven = false;
    for flag in std::env::args().skip(1) {
        match flag.as_str() {
            "--turn-by-turn" => is_driven = true,
            "--timed" => limits.time_callbacks = true,
            "--idle-timeout" => limits.idle_timeout = Some(Duration::from_secs(3600)),
            _ => return Err(io::Error::other(format!("no such flag: {flag}"))),
        }
    }
    let mut event_loop = EventLoop::with_limits(limits)?;
    let mut context = event_loop.context();
    let listener = context.listen(([127, 0, 0, 1], 0).into(), |_, _| Some(Box::new(Echo)))?;
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    println!("listening on {}", listening.local_addr()?);
    if is_driven { turn_by_turn(&mut event_loop) } else { event_loop.run() }
}
