//! The select server of the tutorial: many clients at once, and a line printed for whatever one of them does.
//!
//! Run `cargo run --example select_server`, then `telnet 127.0.0.1 1234` from several windows, and type. `RUST_LOG=debug`
//! before it shows the loop's own log.
//!
//! It prints who comes, each line that somebody sends, and who leaves. A line that is not finished is printed when it
//! has waited for a moment, or when its client leaves. What clients send is shown escaped: none of them can clear the
//! screen or forge a line.
//!
//! It stays plain: peers that say nothing stay for ever, and enough of them hold all of its descriptors. What a server on
//! the open network sets against that is in the guide, on the page of limits.
//!
//! It is written three times, to be read side by side: on bare mio (`select_server_mio`), on sources of the loop
//! (`select_server_register`), and here, on `Protocol`. They print the same; what gets shorter is what the loop does.

pub(crate) mod support;
#[path = "support/transcript.rs"]
mod transcript;

use switchboard::{CloseReason, EventLoop, Protocol, Transport};
pub(crate) use transcript::Client;
use transcript::UNFINISHED_WAIT;

/// The timer of a line that is not finished.
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
