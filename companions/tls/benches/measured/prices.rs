//! The servers that `benches/prices.py` attacks over TLS: one loop with an echo over TLS 1.3, one over TLS 1.2, and two
//! that ask clients for a certificate, with default limits and rustls' defaults. It prints the name and the address of
//! each, and is driven as `driven.rs` says.
//!
//! Each version has one suite, with ChaCha20-Poly1305: the script makes records of its own, for which that is the
//! simplest one.

#[path = "../../../../benches/measured/driven.rs"]
mod driven;

use std::error::Error;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite as suites};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use switchboard::{EventLoop, Listen, Protocol, Transport};

use driven::any_port;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// The server's certificate, of its own making (ECDSA, P-256), which is also the authority of its clients.
struct Own {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Own {
    fn new() -> Result<Own, Box<dyn Error>> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        Ok(Own { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der().try_into()? })
    }

    fn config(&self, version: &'static SupportedProtocolVersion, asks: Asks) -> Result<ServerConfig, Box<dyn Error>> {
        let cipher_suites =
            vec![suites::TLS13_CHACHA20_POLY1305_SHA256, suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
        let provider = Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() });
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
        let verifier = match asks {
            Asks::Nothing => WebPkiClientVerifier::no_client_auth(),
            Asks::ShortChain => switchboard_tls::short_chains(verifier, 4),
            Asks::AnyChain => verifier,
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version])?;
        let builder = builder.with_client_cert_verifier(verifier);
        Ok(builder.with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?)
    }
}

/// What a client is asked for.
enum Asks {
    Nothing,
    ShortChain,
    AnyChain,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new()?;
    let own = Own::new()?;
    let mut listeners = Vec::new();
    for (name, version, asks) in [
        ("tls", &TLS13, Asks::Nothing),
        ("tls12", &TLS12, Asks::Nothing),
        ("asking", &TLS13, Asks::ShortChain),
        ("asking_all", &TLS13, Asks::AnyChain),
    ] {
        let filter = switchboard_tls::listen(Arc::new(own.config(version, asks)?));
        let listen = Listen::at(any_port()).filter(filter);
        listeners.push((name, event_loop.context().listen(listen, |_, _| Some(Echo))?));
    }
    driven::announce(&mut event_loop, &listeners)?;
    Ok(driven::drive(&mut event_loop)?)
}
