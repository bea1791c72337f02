//! Shared by the servers over TLS: their arguments, and one configuration.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};

use crate::{Address, Listener, listener, refuse};

/// The command line of a server: `SERVER CHAIN KEY ADDRESS [FLAG]`.
pub struct Arguments {
    pub config: Arc<ServerConfig>,
    pub address: SocketAddr,
    pub flag: Option<String>,
}

pub fn arguments() -> Arguments {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chain, key, address, flag) = match &arguments[..] {
        [chain, key, address] => (chain, key, address, None),
        [chain, key, address, flag] => (chain, key, address, Some(flag.clone())),
        _ => refuse("usage: SERVER CHAIN KEY ADDRESS [FLAG]"),
    };
    let config = match server_config(chain, key) {
        Ok(config) => Arc::new(config),
        Err(error) => refuse(format_args!("{chain} and {key}: {error}")),
    };
    match address.parse() {
        Ok(address) => Arguments { config, address, flag },
        Err(_) => refuse(format_args!("no address to listen on: {address}")),
    }
}

/// TLS 1.3, by ring, with stateless tickets: two for each connection, which is rustls' default.
fn server_config(chain: &str, key: &str) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let (chain, key) = (fs::read(chain)?, fs::read(key)?);
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Listens on TCP.
pub fn tcp_listener(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    match listener(&Address::Inet(address))? {
        Listener::Inet(listener) => Ok(listener),
        Listener::Unix(_) => unreachable!("an address of the internet has no other listener"),
    }
}
