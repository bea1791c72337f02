//! The smallest useful server: sends back to each client what it has sent, for any number of clients at once.
//!
//! Run `cargo run --example echo_server`, then `telnet 127.0.0.1 1234` from several windows: each line that you type
//! comes back.
//!
//! The example is kept simple: silent peers may stay for ever, and enough of them use up all of its descriptors. The
//! guide's page on limits describes what a server on the open network does about that.

mod support;

use switchboard::{EventLoop, Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, _| Some(Echo));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
