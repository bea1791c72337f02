//! Twisted's SimpleLogger: a protocol and a factory that print each connect, all data received, and each disconnect.
//!
//! Run `cargo run --example simple_logger`, then `telnet 127.0.0.1 1234` from several windows, and type. Data from
//! clients is shown escaped, in the pieces in which it arrives; `line_logger` does the same line by line.

mod support;

use support::say;
use switchboard::{CloseReason, EventLoop, Protocol, Transport, escape};

struct SimpleLogger {
    peer: String,
}

impl Protocol for SimpleLogger {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        say(format_args!("Got connection from {}", self.peer));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("{}: {}", self.peer, escape(data)));
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        say(format_args!("{} disconnected", self.peer));
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, peer| Some(SimpleLogger { peer: peer.to_string() }));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
