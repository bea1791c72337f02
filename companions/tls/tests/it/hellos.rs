//! Handwritten hellos: which versions, suites and compressions a server accepts, out of all that exist.

use rustls::{ALL_VERSIONS, ServerConfig};

use super::kit::*;

/// A suite of TLS 1.2 that matches the server's certificate, and one of TLS 1.3: both with ChaCha20.
const SUITE_12: u16 = 0xcca9;
const SUITE_13: u16 = 0x1303;

/// The first message of a client.
struct Hello<'a> {
    version: u16,
    suites: &'a [u16],
    compressions: &'a [u8],
    /// Whether it offers TLS 1.3 as well.
    is_modern: bool,
}

impl Hello<'_> {
    /// Its bytes, in as many records as are needed.
    fn records(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        body.extend(sized(2, &suites));
        body.extend(sized(1, self.compressions));
        body.extend(sized(2, &self.extensions()));
        let message = [&[1][..], &sized(3, &body)].concat();
        let record = |payload: &[u8]| [&[22, 3, 1][..], &sized(2, payload)].concat();
        message.chunks(16_000).flat_map(record).collect()
    }

    fn extensions(&self) -> Vec<u8> {
        let name = sized(2, &[&[0][..], &sized(2, NAME.as_bytes())].concat());
        // x25519, and Ed25519 and two more.
        let (groups, signatures) = (sized(2, &[0, 29]), sized(2, &[8, 7, 4, 3, 8, 4]));
        let mut all = vec![(0, name), (10, groups), (11, sized(1, &[0])), (13, signatures)];
        if self.is_modern {
            let share = sized(2, &[&[0, 29][..], &sized(2, &[9; 32])].concat());
            all.extend([(43, sized(1, &[3, 4])), (51, share)]);
        }
        all.iter().flat_map(|(kind, payload)| [&[0, *kind][..], &sized(2, payload)].concat()).collect()
    }
}

/// Bytes after their length, which itself has this many bytes.
fn sized(length_bytes: usize, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_be_bytes();
    [&length[8 - length_bytes..], bytes].concat()
}

const FINE: Hello<'_> = Hello { version: 0x303, suites: &[SUITE_12], compressions: &[0], is_modern: false };

#[derive(Debug, PartialEq)]
enum Said {
    Hello,
    /// By its number.
    Alert(u8),
    Nothing,
}

const PROTOCOL_VERSION: Said = Said::Alert(70);
const HANDSHAKE_FAILURE: Said = Said::Alert(40);
const DECODE_ERROR: Said = Said::Alert(50);

/// Returns what a server of both versions answers to these bytes. It also closes connections that it rejects.
fn said(bytes: &[u8]) -> Said {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(ALL_VERSIONS).unwrap();
    let identity = &identities().server;
    let chain = vec![identity.certificate.clone()];
    let config = builder.with_no_client_auth().with_single_cert(chain, identity.key.clone_key()).unwrap();
    let mut world = World::of(config, echo);
    let mut peer = world.peer();
    peer.queue(bytes);
    world.network.run_for(3 * SECOND);
    world.does_not_spin();
    let said = match peer.read()[..] {
        [22, 3, 3, _, _, 2, ..] => return Said::Hello,
        [21, 3, _, 0, 2, 2, number] => Said::Alert(number),
        [] => Said::Nothing,
        ref other => panic!("{other:?}"),
    };
    assert_eq!((world.connections().0, world.errors.borrow().len()), (0, 1));
    said
}

#[test]
fn a_server_takes_no_version_below_1_2_and_no_compression() {
    assert_eq!(said(&FINE.records()), Said::Hello, "else nothing here could fail");
    for version in [0x0002, 0x0200, 0x0300, 0x0301, 0x0302] {
        assert_eq!(said(&Hello { version, ..FINE }.records()), PROTOCOL_VERSION, "{version:#06x}");
    }
    // An SSL 2.0 hello: a length of two bytes, the type, its version, and three suites of three bytes.
    let oldest = [&[0x80, 34, 1, 0, 2, 0, 9, 0, 0, 0, 16, 1, 0, 128, 7, 0, 192, 3, 0, 128][..], &[7; 16]].concat();
    assert_ne!(said(&oldest), Said::Hello);
    for compressions in [&[1][..], &[64], &[]] {
        assert_ne!(said(&Hello { compressions, ..FINE }.records()), Said::Hello, "{compressions:?}");
    }
    assert_eq!(said(&Hello { compressions: &[1, 0], ..FINE }.records()), Said::Hello);
}

#[test]
fn a_server_takes_no_suite_but_those_of_its_provider() {
    let known: Vec<u16> = provider().cipher_suites.iter().map(|suite| u16::from(suite.suite())).collect();
    assert_eq!(known.len(), 9, "{known:x?}");
    let all: Vec<u16> = (0..=u16::MAX).filter(|suite| !known.contains(suite)).collect();
    for is_modern in [false, true] {
        let good = if is_modern { SUITE_13 } else { SUITE_12 };
        for part in all.chunks(12_000) {
            assert_eq!(said(&Hello { suites: part, is_modern, ..FINE }.records()), HANDSHAKE_FAILURE);
        }
        // The same with one that it knows among them.
        let suites = [&all[..10_000], &[good]].concat();
        assert_eq!(said(&Hello { suites: &suites, is_modern, ..FINE }.records()), Said::Hello);
    }
    // Of those that it knows, those that match the certificate and the version.
    for suite in known {
        let is_taken = [false, true]
            .map(|is_modern| said(&Hello { suites: &[suite], is_modern, ..FINE }.records()) == Said::Hello);
        let of_13 = suite >> 8 == 0x13;
        let with_rsa = [0xc02f, 0xc030, 0xcca8].contains(&suite);
        assert_eq!(is_taken, [!of_13 && !with_rsa, of_13], "{suite:#06x}");
    }
}

#[test]
fn a_hello_that_is_cut_short_or_longer_than_it_says_is_refused() {
    let whole = Hello { is_modern: true, suites: &[SUITE_13, SUITE_12], ..FINE }.records();
    assert_eq!(said(&whole), Said::Hello);
    let body = &whole[9..];
    let framed = |body: &[u8]| [&[22, 3, 1][..], &sized(2, &[&[1][..], &sized(3, body)].concat())].concat();
    assert_eq!(framed(body), whole);
    for cut in 0..body.len() {
        let said = said(&framed(&body[..cut]));
        // Cut after the compressions it could be a hello without extensions.
        assert!(matches!(said, Said::Alert(_)), "{cut}: {said:?}");
    }
    assert_eq!(said(&framed(&[body, &[0]].concat())), DECODE_ERROR);
    // Each byte of it is changed: whatever results, no other connection is affected and nothing is left.
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        if !matches!(at, 1..=4 | 6..=8) {
            said(&changed);
        }
    }
}
