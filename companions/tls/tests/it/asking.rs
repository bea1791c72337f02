//! What was negotiated, and what a configuration asks for.

use std::sync::Arc;

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use switchboard_tls::{Reloadable, Tls};

use super::kit::*;
use switchboard::testing::Faults;

#[test]
fn versions_suites_names_and_certificates_can_be_asked_for() {
    for (version, number) in [(V12, ProtocolVersion::TLSv1_2), (V13, ProtocolVersion::TLSv1_3)] {
        let mut world = made(version, idle, idle);
        let asked = |tls: &Tls| {
            let peer = tls.peer_certificates().map(<[CertificateDer<'_>]>::len);
            (tls.protocol_version(), tls.server_name().map(str::to_owned), peer, tls.is_resumed())
        };
        assert_eq!(world.of_server(asked), (Some(number), Some(NAME.into()), None, false));
        assert_eq!(world.of_client(asked), (Some(number), None, Some(1), false));
        let suite = world.of_server(|tls| tls.cipher_suite().unwrap().suite());
        assert_eq!(world.of_client(|tls| tls.cipher_suite().unwrap().suite()), suite);
        assert_eq!(world.of_client(|tls| tls.alpn_protocol().map(<[u8]>::to_vec)), None);
    }
}

#[test]
fn a_client_that_names_an_address_asks_for_no_name() {
    let mut world = World::of(server(V13), idle);
    world.dial_to(&Arc::new(client(V13)), "127.0.0.1", idle);
    world.rest();
    let (server, client) = world.events();
    assert_eq!(server, [""; 0]);
    assert!(client[0].contains("not valid for name"), "{client:?}");
}

#[test]
fn alpn_is_chosen_and_known_when_the_connection_is_made() {
    fn says(event: Event<'_>, transport: &mut switchboard::Transport<'_>) {
        if let Event::Made = event {
            let chosen = transport.filter::<Tls>().unwrap().alpn_protocol().unwrap_or(b"none").to_vec();
            transport.write(&chosen);
        }
    }
    for version in BOTH {
        let (mut of_server, mut of_client) = (server(version), client(version));
        of_server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        of_client.alpn_protocols = vec![b"http/1.1".to_vec(), b"spdy".to_vec()];
        let mut world = World::of(of_server.clone(), says);
        world.dial(&Arc::new(of_client.clone()), says);
        world.rest();
        assert_eq!(world.client.borrow().data, b"http/1.1");
        assert_eq!(world.server.borrow().data, b"http/1.1");
        // None that both have.
        of_client.alpn_protocols = vec![b"spdy".to_vec()];
        let mut world = World::of(of_server, says);
        world.dial(&Arc::new(of_client), says);
        world.rest();
        let refused = "failed: the handshake failed: protocol error: received fatal alert: NoApplicationProtocol";
        assert_eq!(world.events(), (vec![], vec![refused.to_owned()]));
        assert_eq!(world.connections(), (0, 0));
    }
}

#[test]
fn a_session_is_resumed() {
    for version in BOTH {
        let config = Arc::new(client(version));
        let mut world = World::of(server(version), idle);
        for is_resumed in [false, true, true] {
            world.dial(&config, idle);
            world.rest();
            assert_eq!(world.of_client(Tls::is_resumed), is_resumed, "{version:?}");
            assert_eq!(world.of_server(Tls::is_resumed), is_resumed);
            assert!(world.of_server(|tls| tls.server_name() == Some(NAME)), "of a resumed one, too");
            world.at_client(|transport| transport.close());
            assert_eq!(world.connections(), (0, 0));
        }
    }
}

#[test]
fn a_certificate_of_the_client_is_seen_where_it_is_asked_for() {
    for version in BOTH {
        let mut world = World::of(asking_server(version), echo);
        world.dial(&Arc::new(known_client(version, &identities().client)), idle);
        world.rest();
        let certificates = world.of_server(|tls| tls.peer_certificates().unwrap().to_vec());
        assert_eq!(certificates, [identities().client.certificate.clone()]);
    }
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_refused() {
    let stranger = || known_client(V12, &identities().stranger);
    for (config, why) in [(client(V12), "peer sent no certificates"), (stranger(), "invalid peer certificate")] {
        let mut world = World::of(asking_server(V12), echo);
        world.dial(&Arc::new(config), idle);
        world.rest();
        let (server, client) = world.events();
        assert_eq!(server, [""; 0]);
        assert!(
            client[0].starts_with("failed: the handshake failed: protocol error: received fatal alert"),
            "{client:?}"
        );
        assert!(world.errors.borrow()[0].contains(why), "{:?}", world.errors.borrow());
        assert_eq!(world.connections(), (0, 0));
    }
    // With TLS 1.3 the client is done before the server has looked.
    let mut world = World::of(asking_server(V13), echo);
    world.dial(&Arc::new(client(V13)), idle);
    world.rest();
    let (server, client) = world.events();
    assert_eq!(server, [""; 0]);
    assert_eq!(client[0], "made");
    assert!(client[1].starts_with("lost: protocol error: received fatal alert"), "{client:?}");
    assert_eq!(world.connections(), (0, 0));
}

#[test]
fn a_reloaded_configuration_holds_for_what_comes_and_not_for_what_is_there() {
    let config = Reloadable::new(Arc::new(server(V13)));
    let make = config.listen();
    let mut world = World::new(1, Faults::none(), |listen| listen.filter(make), echo);
    let dial = |world: &mut World| {
        world.dial(&Arc::new(client(V13)), idle);
        world.rest();
        world.of_client(|tls| tls.peer_certificates().unwrap()[0].clone())
    };
    assert_eq!(dial(&mut world), identities().server.certificate);
    let first = world.client.borrow().id;
    config.set(Arc::new(server_of(V13, &identities().renewed)));
    assert_eq!(dial(&mut world), identities().renewed.certificate);
    world.client.borrow_mut().id = first;
    world.at_client(|transport| transport.write(b"still there"));
    assert_eq!(world.client.borrow().data, b"still there");
    assert_eq!(world.of_client(|tls| tls.peer_certificates().unwrap()[0].clone()), identities().server.certificate);
}

#[test]
fn a_configuration_with_early_data_is_refused_at_once() {
    let mut config = server(V13);
    config.max_early_data_size = 1024;
    let mut world = World::of(config, echo);
    world.dial(&Arc::new(client(V13)), idle);
    world.rest();
    assert!(world.errors.borrow()[0].contains("max_early_data_size"), "{:?}", world.errors.borrow());
    assert_eq!(world.events().0, [""; 0]);
}
