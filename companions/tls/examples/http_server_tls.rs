//! The HTTP server of the examples, over TLS: `https:`.
//!
//! Run `cargo run --package switchboard-tls --example http_server_tls -- --write-cert own.pem`, then `curl -i --cacert
//! own.pem https://localhost:1234/`. It takes the options of the example `http_server`, whose protocol is used
//! unchanged, and `--cert FILE --key FILE` for an existing certificate, which is reloaded at SIGHUP.

mod certificate;
#[allow(dead_code, unexpected_cfgs)] // Its own `main`; the feature `signals` is the crate's.
#[path = "../../../examples/http_server.rs"]
mod http_server;

use http_server::bounds::{self, Bounds};
use http_server::http::Responses;
use http_server::{Client, support};
use switchboard::{EventLoop, Listen};

fn main() -> Result<(), support::Failure> {
    let mut arguments = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, http_server::IDLE_TIMEOUT)?;
    let mut event_loop = EventLoop::with_limits(http_server::limits(&bounds))?;
    let config = certificate::take_from(&mut arguments, &mut event_loop.context())?;
    let address = support::listening_address_in(arguments, &[&bounds::FLAGS[..], &certificate::FLAGS].concat())?;
    let answers = Responses::new();
    let listen = Listen::at(address).filter(config.listen());
    let listener = event_loop.context().listen(listen, move |_, _| Some(Client::new(answers.clone())));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
