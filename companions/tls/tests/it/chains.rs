//! Clients that send more certificates than they need.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::kit::*;

const INTERMEDIATES_MAX: usize = 4;

/// A server that asks for a certificate, and for no more than these with it.
fn strict_server(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(), provider()).build().unwrap();
    let verifier = switchboard_tls::short_chains(verifier, INTERMEDIATES_MAX);
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let chain = vec![identities().server.certificate.clone()];
    builder.with_client_cert_verifier(verifier).with_single_cert(chain, identities().server.key.clone_key()).unwrap()
}

/// A client that sends these behind its own.
fn client_with(version: &'static SupportedProtocolVersion, more: &[CertificateDer<'static>]) -> ClientConfig {
    let identity = &identities().client;
    let chain = [std::slice::from_ref(&identity.certificate), more].concat();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    builder.with_root_certificates(roots()).with_client_auth_cert(chain, identity.key.clone_key()).unwrap()
}

#[test]
fn a_client_with_too_many_certificates_is_refused_before_any_is_looked_at() {
    for version in BOTH {
        for (count, is_served) in [(0, true), (INTERMEDIATES_MAX, true), (INTERMEDIATES_MAX + 1, false)] {
            let mut world = World::of(strict_server(version), echo);
            let more = vec![identities().authority.clone(); count];
            world.dial(&Arc::new(client_with(version, &more)), idle);
            world.rest();
            let (server, _) = world.events();
            match is_served {
                true => assert_eq!(server, ["made"], "{version:?}, {count}"),
                false => assert_eq!(server, [""; 0], "{version:?}, {count}"),
            }
        }
        // Not even whether they are certificates: the bound is checked first.
        let nothing = vec![CertificateDer::from(vec![0]); INTERMEDIATES_MAX + 1];
        let mut world = World::of(strict_server(version), echo);
        world.dial(&Arc::new(client_with(version, &nothing)), idle);
        world.rest();
        let (_, client) = world.events();
        let client = client.concat();
        assert!(client.contains("received fatal alert: CertificateUnknown"), "{version:?}: {client}");
    }
}

#[test]
fn a_bound_on_certificates_changes_nothing_else() {
    for version in BOTH {
        // Without the certificate that it is asked for, a client is refused as before.
        let mut world = World::of(strict_server(version), echo);
        world.dial(&Arc::new(client(version)), idle);
        world.rest();
        let (server, client) = world.events();
        assert_eq!(server, [""; 0]);
        assert!(client.concat().contains("received fatal alert: CertificateRequired"), "{client:?}");
    }
}
