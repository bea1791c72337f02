//! A UDP client: sends a datagram a second, and prints what comes back.
//!
//! Run `cargo run --example udp_echo`, and `cargo run --example udp_client -- 127.0.0.1:1234` in another window. With
//! `--broadcast` the address may be one that all hosts of a network hear, and whoever answers is printed.
//!
//! An answer may be lost, and a server that is not there yet is no reason to end: it says so, and tries again. After
//! three answers it ends.

#[allow(dead_code)] // What is for who listens.
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::say;
use switchboard::{
    Address, CloseReason, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, EventLoop, escape,
};

/// How often it asks.
const PERIOD: Duration = Duration::from_secs(1);

/// After how many answers it ends.
const ANSWERS_WANTED: u32 = 3;

struct Client {
    /// Where it asks; a socket that broadcasts cannot be connected, or it would hear nobody.
    to: Address,
    broadcasts: bool,
    answers: u32,
}

impl DatagramProtocol for Client {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        if self.broadcasts {
            if let Err(error) = transport.set_broadcast(true) {
                say(format_args!("cannot broadcast: {error}"));
                return transport.close();
            }
        }
        ask(transport, self.to.clone(), 1);
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.answers += 1;
        say(format_args!("{from} answers: {}", escape(data)));
        if self.answers == ANSWERS_WANTED {
            transport.close();
        }
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: DatagramError) {
        say(format_args!("{error}"));
    }

    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, _: CloseReason) {
        transport.context().stop();
    }
}

/// Asks, and again after a while.
fn ask(transport: &mut DatagramTransport<'_>, to: Address, number: u32) {
    let question = format!("question {number}");
    match transport.peer_addr() {
        Some(_) => transport.send(question.as_bytes()),
        None => transport.send_to(question.as_bytes(), &to),
    }
    let id: DatagramId = transport.id();
    transport.context().call_later(PERIOD, move |context| {
        if let Some(mut transport) = context.datagram(id) {
            ask(&mut transport, to, number + 1);
        }
    });
}

fn main() -> Result<(), support::Failure> {
    let to = support::listening_address(&["--broadcast"])?;
    let broadcasts = std::env::args().any(|argument| argument == "--broadcast");
    let mut event_loop = EventLoop::new()?;
    let client = Box::new(Client { to: to.into(), broadcasts, answers: 0 });
    let mut context = event_loop.context();
    if broadcasts {
        context.bind_datagram(SocketAddr::from(([0, 0, 0, 0], 0)), client)?;
    } else {
        context.connect_datagram(to, client)?;
    }
    support::shut_down_on_signals(&mut event_loop)?;
    event_loop.run()?;
    Ok(())
}
