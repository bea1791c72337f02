//! The smallest UDP server: sends every datagram back to its source.
//!
//! Run `cargo run --example udp_echo`, then `nc -u 127.0.0.1 1234`, or `cargo run --example udp_client`. Errors are
//! printed, and the server continues.
//!
//! Do not run it where strangers can reach it: the source of a datagram can be forged. A datagram with another echo
//! server as its source is sent back and forth between the two for ever.
//!
//! It also receives broadcasts if it listens on all interfaces, as with `0.0.0.0:1234`.

#[allow(dead_code)] // Some of it is for TCP listeners.
mod support;

use switchboard::{Address, DatagramError, DatagramProtocol, DatagramTransport, EventLoop};

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        transport.send_to(data, from);
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        support::say(format_args!("{error}"));
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let socket = event_loop.context().bind_datagram(address, Echo);
    let socket = socket.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    if let Some(transport) = event_loop.context().datagram(socket) {
        support::say(format_args!("listening on {}", transport.local_addr()?));
    }
    event_loop.run()?;
    Ok(())
}
