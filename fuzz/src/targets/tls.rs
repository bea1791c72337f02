//! TLS: records that are cut anywhere carry the same bytes, and what is damaged on its way ends the connection.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use switchboard::testing::{Faults, Network, Peer};
use switchboard::{CloseReason, Listen, Protocol, Transport};

use crate::input::{Input, pieces};

pub const WORDS: &[&[u8]] = &[
    b"\x16\x03\x01\x00\x05",
    b"\x16\x03\x03\x40\x00",
    b"\x17\x03\x03\x00\x00",
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x01\x00\x00\x2a\x03\x03",
];

fn configs() -> &'static (Arc<ServerConfig>, Arc<ClientConfig>) {
    static MADE: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("../../certificate/certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../certificate/key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    })
}

/// What the server's protocol got.
#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    reason: Option<CloseReason>,
}

struct Echo(Rc<RefCell<Got>>);

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().bytes.extend_from_slice(data);
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.borrow_mut().reason = Some(reason);
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, seed) = (input.byte(), input.byte());
    let mut network = Network::new(0, Faults::none());
    network.set_tracing(false);
    let host = network.host();
    let got = Rc::new(RefCell::new(Got::default()));
    let of_echo = got.clone();
    let listen = Listen::at(network.address(host, 443)).filter(switchboard_tls::listen(configs().0.clone()));
    network.context(host).listen(listen, move |_, _| Some(Echo(of_echo.clone()))).unwrap();
    let mut peer = network.peer(network.address(host, 443));
    network.run_until(|_| peer.is_connected());
    match kind % 4 {
        // Anything: no data gets through without a handshake, and nothing is told that was not made.
        0 | 1 => {
            for piece in pieces(input.rest(), seed) {
                send(&mut network, &mut peer, piece);
            }
            peer.end();
            network.run_until_rest();
            assert!(got.borrow().bytes.is_empty() && got.borrow().reason.is_none());
        }
        // An honest client, whose stream is cut, and in every second case damaged at one place.
        _ => {
            let damage = (kind & 4 > 0).then(|| usize::from(input.byte()) << 3 | usize::from(input.byte() & 7));
            honest(&mut network, &mut peer, &got, input.rest(), seed, damage);
        }
    }
}

fn send(network: &mut Network, peer: &mut Peer, bytes: &[u8]) {
    peer.queue(bytes);
    network.run_until_rest();
}

fn honest(network: &mut Network, peer: &mut Peer, got: &RefCell<Got>, data: &[u8], seed: u8, damage: Option<usize>) {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(configs().1.clone(), name).unwrap();
    let (mut sent, mut echoed, mut is_damaged) = (0, Vec::new(), false);
    let mut left = pieces(data, seed.rotate_left(3));
    loop {
        let mut out = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut out).unwrap();
        }
        let place = damage.filter(|place| !is_damaged && (sent..sent + out.len()).contains(place));
        if let Some(place) = place {
            out[place - sent] ^= 1 << (place % 8);
            is_damaged = true;
        }
        sent += out.len();
        for piece in pieces(&out, seed) {
            send(network, peer, piece);
        }
        network.run_until_rest();
        let answer = peer.read();
        if !answer.is_empty() {
            let mut answer = &answer[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                let Ok(state) = client.process_new_packets() else {
                    assert!(is_damaged, "an honest server's records are right");
                    return;
                };
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                client.reader().read_exact(&mut plain).unwrap();
                echoed.extend_from_slice(&plain);
            }
        } else if !client.is_handshaking() && !client.wants_write() {
            let Some(piece) = left.next() else { break };
            client.writer().write_all(piece).unwrap();
        } else if !client.wants_write() {
            assert!(is_damaged, "a handshake goes on");
            break;
        }
    }
    let got = got.borrow();
    assert!(data.starts_with(&got.bytes) && data.starts_with(&echoed), "no byte is another");
    if !is_damaged {
        assert_eq!(got.bytes, data);
        assert_eq!(echoed, data);
        assert!(got.reason.is_none());
    }
}
