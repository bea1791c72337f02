//! The server that `benches/measure.py tls` measures: it echoes over TLS, and does nothing else.
//!
//! It prints `listening on ADDRESS` and does one turn for every byte on its standard input, like
//! `benches/measured/server.rs` with `--turn-by-turn`. A turn with nothing to do ends after a while: the number of
//! turns that a handshake takes does not matter.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use switchboard::{EventLoop, Listen, Protocol, Transport};

const TURN_MAX: Duration = Duration::from_millis(20);

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// TLS 1.3 with a certificate of its own (ECDSA, P-256).
fn config() -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into()?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let listen = Listen::at(SocketAddr::from(([127, 0, 0, 1], 0))).filter(switchboard_tls::listen(Arc::new(config()?)));
    let listener = context.listen(listen, |_, _| Some(Echo))?;
    let listening = context.listener(listener).ok_or("the listener has failed")?;
    println!("listening on {}", listening.local_addr()?);
    let mut go_ahead = File::open("/dev/stdin")?;
    while go_ahead.read(&mut [0])? > 0 {
        event_loop.turn(Some(TURN_MAX))?;
    }
    Ok(())
}
