//! Certificates that are missing, wrong, garbled or too many: each with its alert at one end, and a reason that names it
//! at both.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::kit::*;

const CUT_OFF: &str = "the stream was truncated";

/// How a client and a server have reported that their handshake failed.
fn told(mut world: World) -> (String, String) {
    world.rest();
    assert_eq!(world.connections(), (0, 0));
    let (server, client) = world.events();
    let errors = world.errors.borrow();
    assert_eq!((server, errors.len()), (vec![], 1), "{errors:?} {client:?}");
    (client.last().unwrap().clone(), errors[0].clone())
}

#[test]
fn a_server_says_what_is_wrong_with_a_certificate_of_a_client() {
    let expired = |version| known_client(version, &identities().expired);
    let stranger = |version| known_client(version, &identities().stranger);
    let of_server = |version| known_client(version, &identities().renewed);
    type Made = fn(&'static SupportedProtocolVersion) -> rustls::ClientConfig;
    let cases: [(Made, &str, &str); 3] = [
        (client, "peer sent no certificates", "CertificateRequired"),
        (expired, "invalid peer certificate: certificate expired", "CertificateExpired"),
        (stranger, "invalid peer certificate: BadSignature", "DecryptError"),
    ];
    for version in BOTH {
        for (make, why, alert) in cases {
            let mut world = World::of(asking_server(version), echo);
            world.dial(&Arc::new(make(version)), idle);
            let (client, server) = told(world);
            let alert = format!("received fatal alert: {alert}");
            assert!(client.ends_with(&alert), "{version:?}: {client:?}");
            assert!(server.contains(why), "{version:?}: {server:?}");
        }
        // A server requires no name of a client: the protocol checks it.
        let mut world = World::of(asking_server(version), echo);
        world.dial(&Arc::new(of_server(version)), idle);
        world.rest();
        assert_eq!(world.events().1, ["made"]);
    }
}

#[test]
fn a_client_says_what_is_wrong_with_the_certificate_of_a_server() {
    let cases = [
        (&identities().server, "other.example", "certificate not valid for name \"other.example\"", "BadCertificate"),
        (&identities().expired, NAME, "certificate expired", "CertificateExpired"),
        (&identities().stranger, NAME, "BadSignature", "DecryptError"),
    ];
    for version in BOTH {
        for (identity, name, why, alert) in cases {
            let mut world = World::of(server_of(version, identity), echo);
            world.dial_to(&Arc::new(client(version)), name, idle);
            let (client, server) = told(world);
            assert!(client.contains(why), "{client:?}");
            assert!(server.ends_with(&format!("received fatal alert: {alert}")), "{server:?}");
        }
    }
}

/// Always resolves to the same chain, whatever that is.
#[derive(Debug)]
struct Chain(Arc<CertifiedKey>);

impl ResolvesServerCert for Chain {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn server_with(version: &'static SupportedProtocolVersion, chain: Vec<CertificateDer<'static>>) -> ServerConfig {
    let key = provider().key_provider.load_private_key(identities().server.key.clone_key()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let resolver = Arc::new(Chain(Arc::new(CertifiedKey::new(chain, key))));
    builder.with_no_client_auth().with_cert_resolver(resolver)
}

#[test]
fn chains_that_are_long_pass_and_those_that_are_too_long_or_garbled_are_refused() {
    let leaf = &identities().server.certificate;
    let garbage = CertificateDer::from(bytes(500));
    let repeated = |first: &CertificateDer<'static>, count: usize, rest: &CertificateDer<'static>| {
        [first.clone()].into_iter().chain((0..count).map(|_| rest.clone())).collect::<Vec<_>>()
    };
    for version in BOTH {
        // Certificates that are not needed are not looked at.
        for chain in [repeated(leaf, 160, leaf), repeated(leaf, 100, &garbage)] {
            let size: usize = chain.iter().map(|one| one.len()).sum();
            assert!((40_000..60_000).contains(&size), "{size}");
            let mut world = World::of(server_with(version, chain), echo);
            world.dial(&Arc::new(client(version)), idle);
            world.rest();
            assert_eq!(world.events(), (vec!["made".to_owned()], vec!["made".to_owned()]), "{version:?}");
        }
        let cases = [
            (repeated(leaf, 400, leaf), "of type HandshakePayloadTooLarge"),
            (repeated(leaf, 1, &CertificateDer::from(bytes(100_000))), "of type HandshakePayloadTooLarge"),
            (repeated(&garbage, 0, leaf), "invalid peer certificate: BadEncoding"),
            (repeated(&CertificateDer::from(leaf[..leaf.len() - 1].to_vec()), 0, leaf), "BadEncoding"),
            (vec![], "peer sent no certificates"),
        ];
        for (chain, why) in cases {
            let mut world = World::of(server_with(version, chain), echo);
            world.dial(&Arc::new(client(version)), idle);
            let (client, server) = told(world);
            assert!(client.starts_with("failed: the handshake failed: "), "{client:?}");
            assert!(client.contains(why), "{version:?} {client:?}, not {why}");
            // rustls sends no alert for one that is too large, or for none at all.
            let alert = if why.ends_with("BadEncoding") { "received fatal alert: BadCertificate" } else { CUT_OFF };
            assert!(server.ends_with(alert), "{server:?}");
        }
    }
}
