//! The client of the tutorial's first pair: waits for the server's greeting, answers `hihi`, and prints what it got.
//!
//! Run `cargo run --example greeting_client` while `cargo run --example greeting_server` is running. An argument such
//! as `localhost:1234` selects another server.

#[path = "support/client.rs"]
mod client;

use std::error::Error;
use std::process::ExitCode;

use client::{Outcome, say};
use switchboard::{CloseReason, ConnectError, EventLoop, Protocol, Transport, escape};

struct Guest {
    is_greeted: bool,
    outcome: Outcome,
}

impl Protocol for Guest {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("the data received is {}", escape(data)));
        self.is_greeted = true;
        transport.write(b"hihi");
        transport.close();
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if !self.is_greeted {
            self.outcome.failed(&format_args!("no greeting: {reason}"));
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let server = client::server()?;
    let mut event_loop = EventLoop::new()?;
    let outcome = Outcome::default();
    event_loop.context().connect(server, Guest { is_greeted: false, outcome: outcome.clone() })?;
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
