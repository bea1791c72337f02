//! The server of the tutorial's first pair: sends `byebye` to each client, prints what it answers, and hangs up.
//!
//! Run `cargo run --example greeting_server`, then `cargo run --example greeting_client`, or `telnet 127.0.0.1 1234`
//! and type a line. Unlike the tutorial's server, it keeps accepting.

mod support;

use support::say;
use switchboard::{EventLoop, Protocol, Transport, escape};

struct Greeter;

impl Protocol for Greeter {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        if let Some(peer) = transport.peer_addr() {
            say(format_args!("got connected from {peer}"));
        }
        transport.write(b"byebye");
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("{}", escape(data)));
        transport.close();
        data.len()
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, _| Some(Greeter));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
