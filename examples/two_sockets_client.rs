//! The tutorial's client with two sockets in one program, here really at the same time: each receives the server's
//! greeting and sends its own answer.
//!
//! Run `cargo run --example two_sockets_client` beside `cargo run --example greeting_server`. It prints both greetings,
//! and the server prints both answers.

#[path = "support/client.rs"]
mod client;

use std::error::Error;
use std::process::ExitCode;

use client::{Outcome, say};
use switchboard::{CloseReason, ConnectError, EventLoop, Protocol, Transport, escape};

struct Guest {
    name: &'static str,
    answer: &'static [u8],
    is_greeted: bool,
    outcome: Outcome,
}

impl Protocol for Guest {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("{}: the data received is {}", self.name, escape(data)));
        self.is_greeted = true;
        transport.write(self.answer);
        transport.close();
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if !self.is_greeted {
            self.outcome.failed(&format_args!("{}: no greeting: {reason}", self.name));
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let server = client::server()?;
    let mut event_loop = EventLoop::new()?;
    let outcome = Outcome::default();
    let mut context = event_loop.context();
    for (name, answer) in [("sock1", &b"hihi I am client"[..]), ("sock2", b"client send use sock2")] {
        let guest = Guest { name, answer, is_greeted: false, outcome: outcome.clone() };
        context.connect(server.clone(), guest)?;
    }
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
