//! The server that `benches/measure.py` measures: it echoes, and does nothing else.
//!
//! It prints `listening on ADDRESS` and runs until it is killed. With `--turn-by-turn` it does one turn for every byte
//! on its standard input, and ends with that: so whoever drives it says how many connections are ready at a poll.

use std::fs::File;
use std::io::{self, Read};

use switchboard::{EventLoop, Protocol, Transport};

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
    let flags: Vec<_> = std::env::args().skip(1).collect();
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let listener = context.listen(([127, 0, 0, 1], 0).into(), |_, _| Some(Box::new(Echo)))?;
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    println!("listening on {}", listening.local_addr()?);
    match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => event_loop.run(),
        ["--turn-by-turn"] => turn_by_turn(&mut event_loop),
        _ => Err(io::Error::other(format!("no such flags: {flags:?}"))),
    }
}
