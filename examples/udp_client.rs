//! A UDP client: sends a datagram each second, and prints the answers.
//!
//! Run `cargo run --example udp_echo`, and `cargo run --example udp_client -- localhost:1234` in another window. With
//! `--broadcast` the address may be a broadcast address, and the answers of all hosts are printed.
//!
//! Answers may be lost, and the server may not be running yet: the client prints the error, and tries again. It ends
//! after three answers. If it is stopped before the first one, its exit code is 1.

#[path = "support/client.rs"]
#[allow(dead_code)] // Some of it is for TCP clients.
mod client;
#[allow(dead_code)] // Some of it is for servers.
mod support;

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use support::{Failure, say};
use switchboard::{
    Address, CloseReason, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, EventLoop, escape,
};

/// How often the client asks.
const PERIOD: Duration = Duration::from_secs(1);

/// After how many answers the client ends.
const ANSWERS_WANTED: u32 = 3;

struct Client {
    /// The server's address. A broadcasting socket must not be connected: it would receive no answers.
    to: Address,
    broadcasts: bool,
    answers: Rc<Cell<u32>>,
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
        self.answers.set(self.answers.get() + 1);
        say(format_args!("{from} answers: {}", escape(data)));
        if self.answers.get() == ANSWERS_WANTED {
            transport.close();
        }
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        say(format_args!("{error}"));
    }

    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, _: CloseReason) {
        transport.context().stop();
    }
}

/// Sends a question, and the next one after [`PERIOD`].
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

/// Returns the server's address. If a name has several, IPv4 is preferred, which is what `udp_echo` listens on: UDP has
/// no failed connects that would tell the client to try the next one.
fn server() -> Result<SocketAddr, Failure> {
    let server = std::env::args().skip(1).find(|argument| argument != "--broadcast");
    let server = server.unwrap_or_else(|| "127.0.0.1:1234".to_owned());
    let target = client::name_and_port(&server).map_err(Failure::new)?;
    let unknown = |error: &dyn std::fmt::Display| Failure::new(format!("cannot look up {server:?}: {error}"));
    let found = target.to_socket_addrs().map_err(|error| unknown(&error))?;
    found.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| unknown(&"it has no address"))
}

fn main() -> Result<(), Failure> {
    support::show_log();
    let to = server()?;
    let broadcasts = std::env::args().any(|argument| argument == "--broadcast");
    let mut event_loop = EventLoop::new()?;
    let answers = Rc::new(Cell::new(0));
    let client = Client { to: to.into(), broadcasts, answers: answers.clone() };
    let mut context = event_loop.context();
    if broadcasts {
        context.bind_datagram(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), client)?;
    } else {
        context.connect_datagram(to, client)?;
    }
    support::shut_down_on_signals(&mut event_loop)?;
    event_loop.run()?;
    match answers.get() {
        0 => Err(Failure::new(format!("no answer from {to}"))),
        _ => Ok(()),
    }
}
