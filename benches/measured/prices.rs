//! The servers that `benches/prices.py` attacks: one loop with an echo, lines, telnet, PROXY headers, datagrams and the
//! example `http_server`, all with default limits, except that the example has its own; so what a hostile peer costs is
//! what the crate itself does about it. It prints the name and the address of each, and is driven as `driven.rs` says.

mod driven;
#[allow(dead_code)] // Its own `main`.
#[path = "../../examples/http_server.rs"]
mod http_server;

use std::io;

use switchboard::framing::{LineHandler, LineReceiver, Telnet, send_line};
use switchboard::proxy::AcceptProxy;
use switchboard::{
    Address, Context, DatagramProtocol, DatagramTransport, EventLoop, Listen, ListenerId, Protocol, Transport,
};

use driven::any_port;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        transport.send_to(data, from);
    }
}

/// Sends back each line. The line `quit` ends the connection.
struct Lines;

impl LineHandler for Lines {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        match line {
            b"quit" => transport.close(),
            line => send_line(transport, line),
        }
    }
}

fn listeners(context: &mut Context<'_>) -> io::Result<[(&'static str, ListenerId); 5]> {
    let proxied = AcceptProxy::new().factory(|_, _| Some(Echo));
    let answers = http_server::http::Responses::new();
    let bounds = http_server::bounds::Bounds { timeout: http_server::IDLE_TIMEOUT, per_peer_max: None };
    let http = Listen::at(any_port()).limits(http_server::limits(&bounds));
    Ok([
        ("echo", context.listen(any_port(), |_, _| Some(Echo))?),
        ("lines", context.listen(any_port(), |_, _| Some(LineReceiver::new(Lines)))?),
        ("telnet", context.listen(any_port(), |_, _| Some(Telnet::new(LineReceiver::new(Lines))))?),
        ("proxy", context.listen(any_port(), proxied)?),
        ("http", context.listen(http, move |_, _| Some(http_server::Client::new(answers.clone())))?),
    ])
}

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let listeners = listeners(&mut event_loop.context())?;
    driven::announce(&mut event_loop, &listeners)?;
    let mut context = event_loop.context();
    let socket = context.bind_datagram(any_port(), Echo)?;
    let socket = context.datagram(socket).ok_or(io::ErrorKind::NotConnected)?;
    println!("datagrams {}", socket.local_addr()?);
    driven::drive(&mut event_loop)
}
