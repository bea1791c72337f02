//! Twisted's SimpleLogger on top of LineReceiver: prints each connection, each line received, and each disconnection.
//!
//! Run `cargo run --example line_logger`, then `telnet 127.0.0.1 1234` from several windows, and type. Only
//! `line_received` deals with lines: how they were split on the way makes no difference.

mod support;

use support::say;
use switchboard::framing::{LineHandler, LineReceiver};
use switchboard::{CloseReason, EventLoop, Transport, escape};

struct LineLogger {
    peer: String,
}

impl LineHandler for LineLogger {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        say(format_args!("Got connection from {}", self.peer));
    }

    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        say(format_args!("{}: {}", self.peer, escape(line)));
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        if !rest.is_empty() {
            say(format_args!("{}: {} (unfinished)", self.peer, escape(rest)));
        }
        transport.close();
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        say(format_args!("{} disconnected: {reason}", self.peer));
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener =
        event_loop.context().listen(address, |_, peer| Some(LineReceiver::new(LineLogger { peer: peer.to_string() })));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
