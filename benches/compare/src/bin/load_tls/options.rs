//! The command line.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lexopt::prelude::*;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, version};

use crate::address::Address;
use crate::pattern::PIECE_BYTES_MAX;
use crate::server::Server;

pub const USAGE: &str = "\
load_tls WORKLOAD HOST:PORT --ca FILE [OPTION...]

WORKLOAD is one of
  echo     each client sends messages and waits for their echoes
  full     connect, a full handshake, one message echoed, close; so many clients at a time
  resumed  the same with a session resumed

  --ca FILE     the certificate that is trusted, for localhost
  --clients N   connections
  --bytes N     the size of a message
  --depth N     messages under way on each connection
  --turns       nothing: each line of standard input is a turn, which says for how many seconds
  --cut-ends    the server may close without close_notify, as nginx does where it passes streams on
  --limit S     how long anything else may take: connecting, the last answers, closing; 30 if not given
  --core N      the core to run on
  --server PID  the process whose CPU time is measured";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    Echo,
    Full,
    Resumed,
}

#[derive(Clone)]
pub struct Options {
    pub workload: Workload,
    pub address: Address,
    pub config: Arc<ClientConfig>,
    pub clients: usize,
    pub message_bytes: usize,
    pub depth: usize,
    pub cut_ends: bool,
    pub limit: Duration,
    pub core: Option<usize>,
    pub server: Option<Server>,
}

pub fn parse() -> Result<Options, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut positional = Vec::new();
    let (mut ca, mut clients, mut message_bytes, mut depth) = (None, 4, 64, 1);
    let (mut cut_ends, mut limit, mut core, mut server) = (false, 30, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("ca") => ca = Some(parser.value()?.string()?),
            Long("clients") => clients = parser.value()?.parse()?,
            Long("bytes") => message_bytes = parser.value()?.parse()?,
            Long("depth") => depth = parser.value()?.parse()?,
            Long("turns") => {}
            Long("cut-ends") => cut_ends = true,
            Long("limit") => limit = parser.value()?.parse()?,
            Long("core") => core = Some(parser.value()?.parse()?),
            Long("server") => server = Some(Server { pid: parser.value()?.parse()? }),
            Value(value) => positional.push(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let [workload, address] = &positional[..] else { return Err("a workload and an address are needed".into()) };
    let workload = match workload.as_str() {
        "echo" => Workload::Echo,
        "full" => Workload::Full,
        "resumed" => Workload::Resumed,
        other => return Err(format!("no such workload: {other}").into()),
    };
    if clients == 0 || depth == 0 || !(1..=PIECE_BYTES_MAX).contains(&message_bytes) {
        return Err(format!("at least a client and a message, of 1 to {PIECE_BYTES_MAX} bytes").into());
    }
    let mut config = trusting(&ca.ok_or("--ca says whom to trust")?).map_err(|error| error.to_string())?;
    if workload != Workload::Resumed {
        config.resumption = Resumption::disabled();
    }
    Ok(Options {
        workload,
        address: address.parse()?,
        config: Arc::new(config),
        clients,
        message_bytes,
        depth,
        cut_ends,
        limit: Duration::from_secs(limit),
        core,
        server,
    })
}

/// TLS 1.3, by ring.
fn trusting(file: &str) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(file)?)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
