//! The server name that a client has asked for. rustls' unbuffered connections do not return it, but the certificate
//! resolver gets it.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The name that the client of this connection has asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<OnceLock<Option<Box<str>>>>);

impl Asked {
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.get()?.as_deref()
    }
}

/// Resolves as the configuration does, and records the name.
#[derive(Debug)]
struct Noting {
    resolver: Arc<dyn ResolvesServerCert>,
    asked: Asked,
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.0.get_or_init(|| hello.server_name().map(|name| name.to_ascii_lowercase().into()));
        self.resolver.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

/// A copy of the configuration for one connection, which is dropped when the handshake is done. It shares all lasting
/// state, such as sessions and tickets.
pub(crate) fn noted(config: &ServerConfig) -> (Arc<ServerConfig>, Asked) {
    let asked = Asked::default();
    let mut config = config.clone();
    config.cert_resolver = Arc::new(Noting { resolver: config.cert_resolver.clone(), asked: asked.clone() });
    (Arc::new(config), asked)
}
