//! The client of the tutorial's echo handler: sends a message, waits until it has come back, prints it, and sends the
//! next one.
//!
//! Run `cargo run --example echo_client` while `cargo run --example socket_server --features server -- --echo --once`
//! is running. To use another server and your own messages, run
//! `cargo run --example echo_client localhost:1234 'Hello!' 'I like Tuesdays!'`.

#[path = "support/client.rs"]
#[allow(dead_code)] // Contains more than this example uses.
mod client;

use std::error::Error;
use std::process::ExitCode;
use std::vec::IntoIter;

use client::{Outcome, say};
use switchboard::{CloseReason, Connect, ConnectError, EventLoop, Protocol, Transport, escape};

struct Client {
    messages: IntoIter<String>,
    /// The message whose echo is expected.
    said: String,
    outcome: Outcome,
}

impl Client {
    /// Sends the next message, or closes after the last one. Skips empty messages, since they have no echo.
    fn say_next(&mut self, transport: &mut Transport<'_>) {
        match self.messages.find(|message| !message.is_empty()) {
            Some(message) => {
                transport.write(message.as_bytes());
                transport.set_input_bytes_max(message.len());
                self.said = message;
            }
            None => {
                self.said.clear();
                transport.close();
            }
        }
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.say_next(transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        // The tutorial's `recv(1024)` may return only half of it. Here, input that is not consumed is delivered again,
        // together with what follows.
        if data.len() < self.said.len() {
            return 0;
        }
        say(escape(data));
        if data != self.said.as_bytes() {
            transport.close_for("the answer differs from what was sent");
        } else {
            self.say_next(transport);
        }
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if !self.said.is_empty() {
            self.outcome.failed(&format_args!("no answer to {:?}: {reason}", self.said));
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    client::show_log();
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:1234".to_owned());
    let server = Connect::to(client::name_and_port(&server)?);
    let mut messages: Vec<_> = arguments.collect();
    if messages.is_empty() {
        messages = vec!["Hello!".to_owned(), "I like Tuesdays!".to_owned()];
    }
    let mut event_loop = EventLoop::new()?;
    let outcome = Outcome::default();
    let client = Client { messages: messages.into_iter(), said: String::new(), outcome: outcome.clone() };
    event_loop.context().connect(server, client)?;
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
