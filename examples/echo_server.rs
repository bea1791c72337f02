//! The smallest useful server: every client gets back what it sends, any number of them at once.
//!
//! Run `cargo run --example echo_server`, then `telnet 127.0.0.1 1234` from several windows: each line that
//! you type comes back.
//!
//! It stays plain: peers that say nothing stay for ever, and enough of them hold all of its descriptors. What a server on
//! the open network sets against that is in the guide, on the page of limits.

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
