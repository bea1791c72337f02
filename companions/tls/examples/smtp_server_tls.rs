//! The mail server of the examples, with STARTTLS (RFC 3207).
//!
//! Run `cargo run --package switchboard-tls --example smtp_server_tls -- --write-cert own.pem --maildir mail`, then
//! `openssl s_client -starttls smtp -connect localhost:1234 -CAfile own.pem -crlf -quiet`, and type the commands that
//! the example `smtp_server` documents. It takes that program's options except `--threads`, since request handlers have
//! no filters, and `--cert FILE --key FILE` for an existing certificate, which is reloaded at SIGHUP.
//!
//! The session, the spool and the loop are that example's code; this file adds the filter that the STARTTLS command
//! installs.

mod certificate;
#[allow(dead_code, unexpected_cfgs)] // Its own `main`; the feature `signals` is the crate's.
#[path = "../../../examples/smtp_server.rs"]
mod smtp_server;
#[cfg(test)]
#[path = "starttls/tests.rs"]
mod tests;

use std::env;
use std::rc::Rc;

use smtp_server::smtp::StartTls;
use smtp_server::support::{self, Failure};
use switchboard::EventLoop;
use switchboard_tls::{Reloadable, Tls};

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument.starts_with("--threads")) {
        return Err(Failure::new("--threads has no TLS: request handlers cannot have filters".to_owned()));
    }
    let mut event_loop = EventLoop::new()?;
    let config = certificate::take_from(&mut arguments, &mut event_loop.context())?;
    smtp_server::serve(event_loop, arguments, Some(starttls(config)))
}

/// Makes a TLS filter with the current configuration.
fn starttls(config: Reloadable) -> StartTls {
    Rc::new(move || Box::new(Tls::server(config.get())))
}
