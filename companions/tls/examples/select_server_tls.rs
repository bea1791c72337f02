//! The select server of the examples, over TLS, which takes one line.
//!
//! Run `cargo run --package switchboard-tls --example select_server_tls -- --write-cert own.pem`, then `openssl
//! s_client -connect localhost:1234 -CAfile own.pem -quiet` from several windows, and type. It prints the same as the
//! example `select_server`, whose protocol is used unchanged, and does not know about TLS.
//!
//! With `--cert FILE --key FILE` it uses an existing certificate, which is reloaded at SIGHUP.

mod certificate;
#[allow(dead_code, unexpected_cfgs)] // Its own `main`; the feature `signals` is the crate's.
#[path = "../../../examples/select_server.rs"]
mod select_server;

use select_server::{Client, support};
use switchboard::{EventLoop, Listen};

fn main() -> Result<(), support::Failure> {
    let mut arguments = std::env::args().skip(1).collect();
    let mut event_loop = EventLoop::new()?;
    let config = certificate::take_from(&mut arguments, &mut event_loop.context())?;
    let address = support::listening_address_in(arguments, &certificate::FLAGS)?;
    let listen = Listen::at(address).filter(config.listen()); // This is the line.
    let listener = event_loop.context().listen(listen, |_, peer| Some(Client::new(peer)));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
