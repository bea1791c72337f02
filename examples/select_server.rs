//! The tutorial's select server: serves many clients at once, and prints a line for everything they do.
//!
//! Run `cargo run --example select_server`, then `telnet 127.0.0.1 1234` from several windows, and type.
//! `RUST_LOG=debug` in front of it shows the loop's own log.
//!
//! It prints each connect, each line that a client sends, and each disconnect. An unfinished line is printed after a
//! moment, or when its client disconnects. Data from clients is escaped: none of them can clear the screen or forge a
//! line.
//!
//! It is kept simple: silent peers stay connected for ever, and enough of them use up all of its descriptors. The
//! guide's page on limits shows how a server on the open network prevents that.
//!
//! There are three versions, to be read side by side: on bare mio (`select_server_mio`), on event sources of the loop
//! (`select_server_register`), and this one, on `Protocol`. They print the same, and get shorter as the loop does more.

pub(crate) mod support;
#[path = "support/transcript.rs"]
mod transcript;

use switchboard::{CloseReason, EventLoop, Protocol, Transport};
pub(crate) use transcript::Client;
use transcript::UNFINISHED_WAIT;

/// The timer for an unfinished line.
const UNFINISHED: u16 = 0;

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        match self.received(data) {
            true => transport.set_timer(UNFINISHED, UNFINISHED_WAIT),
            false => _ = transport.cancel_timer(UNFINISHED),
        }
        data.len()
    }

    fn timer(&mut self, _: &mut Transport<'_>, _: u16) {
        self.print_unfinished();
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        self.left();
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, peer| Some(Client::new(peer)));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
