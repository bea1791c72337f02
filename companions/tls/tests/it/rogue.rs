//! A client that does a proper handshake, and from then on sends whatever records a test wants.

use std::io;
use std::sync::{Arc, Mutex};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{AeadKey, Iv, MessageEncrypter, OutboundPlainMessage};
use rustls::crypto::ring::cipher_suite as suites;
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, Error, KeyLog, ProtocolVersion,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use switchboard::testing::Peer;

use super::kit::*;

/// Suites whose keys have 32 bytes, so that they can be made by hand.
const SUITES: [SupportedCipherSuite; 2] =
    [suites::TLS13_CHACHA20_POLY1305_SHA256, suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];

pub(crate) struct Rogue {
    pub(crate) peer: Peer,
    /// Decrypts what the server sends; with TLS 1.2 it is gone when the handshake is done.
    heard: Option<ClientConnection>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// For TLS 1.3: the secret from which the next keys are derived.
    secret: Option<OkmBlock>,
}

impl Rogue {
    /// Does a handshake with the server of a world.
    pub(crate) fn dial(world: &mut World, version: &'static SupportedProtocolVersion) -> Rogue {
        let log = Arc::new(Secret::default());
        let mut config = config(version);
        config.key_log = log.clone();
        let mut connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        let mut peer = world.peer();
        while connection.is_handshaking() || connection.wants_write() {
            shake(&mut connection, &mut peer).unwrap();
            world.rest();
        }
        match version == V13 {
            true => {
                let secret = OkmBlock::new(&log.0.lock().unwrap());
                let encrypter = encrypter(&secret);
                Rogue { peer, heard: Some(connection), encrypter, sequence: 0, secret: Some(secret) }
            }
            false => {
                let Some(SupportedCipherSuite::Tls12(suite)) = connection.negotiated_cipher_suite() else { panic!() };
                let (sequence, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
                let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else { panic!("{SUITES:?}") };
                let encrypter = suite.aead_alg.encrypter(key, iv.as_ref(), &[]);
                Rogue { peer, heard: None, encrypter, sequence, secret: None }
            }
        }
    }

    /// Makes a record.
    pub(crate) fn record(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let version = ProtocolVersion::TLSv1_2;
        let message = OutboundPlainMessage { typ: kind, version, payload: payload.into() };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap().encode();
        self.sequence += 1;
        record
    }

    pub(crate) fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        self.record(ContentType::ApplicationData, payload)
    }

    /// Makes an update of its keys that requests one of the server as well.
    pub(crate) fn key_update(&mut self) -> Vec<u8> {
        let record = self.record(ContentType::Handshake, &[24, 0, 0, 1, 1]);
        let secret = self.secret.as_ref().expect("TLS 1.3");
        let secret = OkmBlock::new(&expand::<32>(&*expander(secret), "traffic upd"));
        (self.encrypter, self.sequence, self.secret) = (encrypter(&secret), 0, Some(secret));
        record
    }

    /// Reads what the server has sent. With TLS 1.3 an alert is the error, and otherwise the data is returned.
    pub(crate) fn hear(&mut self) -> Result<Vec<u8>, Error> {
        let Some(connection) = &mut self.heard else {
            self.peer.read();
            return Ok(Vec::new());
        };
        let mut data = Vec::new();
        let bytes = self.peer.read();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            connection.read_tls(&mut rest).unwrap();
            connection.process_new_packets()?;
            match io::Read::read_to_end(&mut connection.reader(), &mut data) {
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                Ok(_) => break,
            }
        }
        Ok(data)
    }
}

/// Makes a connection send and receive what is pending.
pub(crate) fn shake(connection: &mut ClientConnection, peer: &mut Peer) -> Result<(), Error> {
    let bytes = peer.read();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        connection.read_tls(&mut rest).unwrap();
        connection.process_new_packets()?;
    }
    let mut said = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut said).unwrap();
    }
    peer.send(&said);
    Ok(())
}

fn config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = CryptoProvider { cipher_suites: SUITES.to_vec(), ..(*provider()).clone() };
    // This suite also works with Ed25519, which the certificates use.
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots()).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    config
}

/// The secret of what a client sends.
#[derive(Debug, Default)]
struct Secret(Mutex<Vec<u8>>);

impl KeyLog for Secret {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

fn expander(secret: &OkmBlock) -> Box<dyn HkdfExpander> {
    let SupportedCipherSuite::Tls13(suite) = SUITES[0] else { panic!("the first is of TLS 1.3") };
    suite.hkdf_provider.expander_for_okm(secret)
}

/// HKDF-Expand-Label of RFC 8446, 7.1, with an empty context.
fn expand<const N: usize>(expander: &dyn HkdfExpander, label: &str) -> [u8; N] {
    let mut made = [0; N];
    let lengths = [[0, N as u8], [6 + label.len() as u8, 0]];
    expander.expand_slice(&[&lengths[0], &lengths[1][..1], b"tls13 ", label.as_bytes(), &[0]], &mut made).unwrap();
    made
}

fn encrypter(secret: &OkmBlock) -> Box<dyn MessageEncrypter> {
    let SupportedCipherSuite::Tls13(suite) = SUITES[0] else { panic!("the first is of TLS 1.3") };
    let expander = expander(secret);
    let (key, iv) = (expand::<32>(&*expander, "key"), expand::<12>(&*expander, "iv"));
    suite.aead_alg.encrypter(AeadKey::from(key), Iv::new(iv))
}
