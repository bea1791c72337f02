//! Headers, valid and invalid, split in every way, and random ones compared with a reference.

use switchboard::Limits;
use switchboard::proxy::AcceptProxy;
use switchboard::testing::{Harness, Random, every_cut, seeds};

use super::reference::{self, Outcome};
use super::{LINE, Log, REQUEST, harness, harness_of, v2, v2_tcp4};

/// What becomes of an input: what the factory and the protocol were told, and why it ended if it has.
fn outcome(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
    let (mut harness, log): (Harness, Log) = harness();
    for piece in pieces {
        harness.feed(piece);
    }
    assert_eq!(harness.take_written(), b"");
    assert_eq!(harness.saw_reset(), harness.lost().is_some());
    (log.take(), harness.lost().map(ToString::to_string))
}

/// Cuts an input at each place once, and into single bytes.
fn each_cut(input: &[u8], mut test: impl FnMut(&[&[u8]])) {
    (1..input.len()).for_each(|place| test(&[&input[..place], &input[place..]]));
    test(&input.chunks(1).collect::<Vec<_>>());
}

#[test]
fn proxy_a_header_of_each_version_is_read_in_every_cut() {
    for header in [LINE.to_vec(), v2_tcp4(b"\x02\0\x01a")] {
        every_cut(&[&header, &b"request"[..]].concat(), |pieces| {
            let (told, lost) = outcome(pieces);
            assert!(told[0].contains(" 192.168.0.1:56324 -> 192.168.0.11:443"));
            assert_eq!(
                (&told[1..], lost),
                (&["made for 192.168.0.1:56324".to_owned(), "data request".to_owned()][..], None)
            );
        });
    }
}

/// Fills the 108 bytes that a Unix socket has for its name.
fn filled(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.resize(108, 0);
    bytes
}

#[test]
fn proxy_headers_of_all_kinds_are_read_however_they_are_cut() {
    let tcp6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1], &[0x30, 0x39, 1, 0xbb]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
    let mut cases = vec![
        (LINE.to_vec(), "V1 192.168.0.1:56324 -> 192.168.0.11:443"),
        (b"PROXY TCP6 2001:DB8::1 ::1 65535 0\r\n".to_vec(), "V1 [2001:db8::1]:65535 -> [::1]:0"),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                .to_vec(),
            "V1 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 -> [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        (v2_tcp4(b""), "V2 192.168.0.1:56324 -> 192.168.0.11:443"),
        (v2_tcp4(b"\x02\0\x01a\xe0\0\0"), "V2 192.168.0.1:56324 -> 192.168.0.11:443 0x2=a 0xe0="),
        (v2(0x21, 0x12, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 1, 0]), "V2 1.2.3.4:9 -> 5.6.7.8:256"),
        (v2(0x21, 0x21, &tcp6), "V2 [2001:db8::1]:12345 -> [::1]:443"),
        (v2(0x21, 0x21, &mapped), "V2 10.0.0.1:1 -> [::1]:2"),
        (v2(0x20, 0x11, b"whatever"), "V2 itself"),
        // LOCAL is accepted whatever follows, and the length of the addresses of an unknown family is not known.
        (v2(0x20, 0x00, b"\x01\0"), "V2 itself"),
        (v2(0x21, 0x10, b"\x01\0"), "V2 itself"),
        (v2(0x21, 0x01, b"\x01\0"), "V2 itself"),
        (v2(0x21, 0x00, b""), "V2 itself"),
        (v2(0x21, 0x00, b"\x02\0\x01a"), "V2 itself 0x2=a"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "V1 itself"),
    ];
    if cfg!(unix) {
        let names = [filled(b"/run/a b"), filled(b"\0abstract")].concat();
        cases.push((v2(0x21, 0x31, &names), "V2 unix:/run/a b -> unix:@abstract"));
        let names = [filled(b""), vec![b'/'; 108]].concat();
        let long = format!("V2 unix:(unnamed) -> unix:{}", "/".repeat(108));
        cases.push((v2(0x21, 0x32, &names), Box::leak(long.into_boxed_str())));
    }
    for (header, carried) in cases {
        each_cut(&[&header, REQUEST].concat(), |pieces| {
            let (told, lost) = outcome(pieces);
            assert_eq!((told[0].as_str(), told.len(), lost), (carried, 3, None));
            assert_eq!(told[2], format!("data {}", REQUEST.escape_ascii()));
        });
    }
}

#[test]
fn proxy_what_is_no_header_is_reset_however_it_is_cut() {
    let checksum = [3, 0, 4, 0, 0, 0, 0];
    for (bytes, error) in [
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), "no PROXY header"),
        (b"\r\n\r\n\0\r\nQUIX\n!\x11\0\0".to_vec(), "no PROXY header"),
        (b"\0".to_vec(), "no PROXY header"),
        (b"PROXY_TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "no PROXY header"),
        (b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY UNKNOWNX\r\n".to_vec(), "invalid PROXY line"),
        (b"PROXY \r\n".to_vec(), "invalid PROXY line"),
        (v2(0x11, 0x11, &[0; 12]), "unknown version 1 of a PROXY header"),
        (v2(0x22, 0x11, &[0; 12]), "unknown command 2 in a PROXY header"),
        (v2(0x21, 0x41, &[0; 12]), "unknown address family 0x41 in a PROXY header"),
        (v2(0x21, 0x13, &[0; 12]), "unknown address family 0x13 in a PROXY header"),
        (v2(0x21, 0x11, &[0; 11]), "the PROXY header is too short for its addresses"),
        (v2(0x21, 0x21, &[0; 35]), "the PROXY header is too short for its addresses"),
        (v2(0x21, 0x31, &[0; 215]), "the PROXY header is too short for its addresses"),
        (v2(0x21, 0x11, &[0; 4081]), "a PROXY header of 4097 bytes exceeds the maximum of 4096"),
        (v2_tcp4(b"\x01\0"), "an extension of the PROXY header extends past its end"),
        (v2_tcp4(b"\x01\0\x02a"), "an extension of the PROXY header extends past its end"),
        (v2(0x21, 0x00, b"\x01\0"), "an extension of the PROXY header extends past its end"),
        (v2(0x21, 0x00, b"\x01\0\x02a"), "an extension of the PROXY header extends past its end"),
        (v2(0x21, 0x00, &checksum), "the checksum of the PROXY header is wrong"),
        (v2_tcp4(&checksum), "the checksum of the PROXY header is wrong"),
        // Where Unix sockets have no addresses, too.
        (v2(0x21, 0x31, &[&[0; 216][..], &checksum].concat()), "the checksum of the PROXY header is wrong"),
        (v2_tcp4(&[3, 0, 0]), "the checksum of the PROXY header is wrong"),
    ] {
        let check = |pieces: &[&[u8]]| {
            let (told, lost) = outcome(pieces);
            assert_eq!((told, lost.as_deref()), (vec![], Some(&*format!("protocol error: {error}"))));
        };
        match bytes.len() {
            0..=300 => each_cut(&[&bytes, REQUEST].concat(), check),
            _ => check(&[&bytes]),
        }
    }
    let (mut harness, _) = harness();
    harness.feed(b"GET");
    assert_eq!(harness.context().counters().losses.protocol, 1);
}

#[test]
fn proxy_a_line_of_107_bytes_is_one_and_a_longer_one_is_found_out_by_those() {
    let line = |bytes: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(bytes - 2, b'x');
        [&line, &b"\r\n"[..]].concat()
    };
    assert_eq!(outcome(&[&line(107)]).0[0], "V1 itself");
    let too_long = Some("protocol error: the PROXY line does not end within 107 bytes".to_owned());
    assert_eq!(outcome(&[&line(108)[..106]]), (vec![], None));
    assert_eq!(outcome(&[&line(108)[..107]]), (vec![], too_long.clone()));
    assert_eq!(outcome(&[&line(108)]), (vec![], too_long.clone()));
    assert_eq!(outcome(&[&line(100_000)]), (vec![], too_long));
}

#[test]
fn proxy_a_header_over_the_bound_is_found_out_by_its_first_16_bytes() {
    let header = v2_tcp4(&[&[4, 0, 85][..], &[0; 85]].concat());
    assert_eq!(header.len(), 116);
    let fed = |bytes_max, bytes: &[u8]| {
        let (mut harness, log) = harness_of(AcceptProxy::new().header_bytes_max(bytes_max), Limits::default());
        harness.feed(bytes);
        (log.take().len(), harness.lost().map(ToString::to_string))
    };
    let too_long = "protocol error: a PROXY header of 116 bytes exceeds the maximum of 115";
    assert_eq!(fed(115, &header[..15]), (0, None));
    assert_eq!(fed(115, &header[..16]), (0, Some(too_long.to_owned())));
    assert_eq!(fed(115, &header), (0, Some(too_long.to_owned())));
    assert_eq!(fed(116, &header), (2, None));
    // The longest that there can be, and longer than what a protocol may leave by default.
    let longest = v2_tcp4(&[&[4, 0xff, 0xf0][..], &[0; 0xfff0]].concat());
    assert_eq!(longest.len(), 16 + 0xffff);
    assert_eq!(fed(longest.len(), &longest), (2, None));
}

#[test]
fn proxy_a_checksum_is_checked_where_there_is_one() {
    let mut header = v2_tcp4(b"\x04\0\x01x\x03\0\x04\0\0\0\0\x02\0\x01a");
    let place = header.len() - 8;
    let crc = reference::crc32c(&header);
    header[place..place + 4].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(outcome(&[&header]).1, None);
    for byte in 16..header.len() {
        // Where lengths stand, that is no row of extensions any more.
        let mut broken = header.clone();
        broken[byte] ^= 1;
        // Another type in its place is no checksum.
        if byte != place - 3 {
            assert!(outcome(&[&broken]).1.is_some(), "the byte {byte}");
        }
    }
}

/// A header that is right in most places.
fn nearly_a_header(random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random, words: &[&'static str]| words[random.between(0, words.len() as u64 - 1) as usize];
    let mut bytes = if random.hits(500) {
        let kind = pick(random, &["TCP4", "TCP6", "UNKNOWN", "TCP", ""]);
        let ip = ["1.2.3.4", "255.255.255.255", "::1", "fe80::a:b", "::ffff:1.2.3.4", "1.2.3.256", "01.2.3.4", ""];
        let port = ["0", "1", "443", "65535", "65536", "+1", "-1", "00", ""];
        let space = pick(random, &[" ", " ", " ", " ", "  ", "\t"]);
        let end = pick(random, &["\r\n", "\r\n", "\r\n", "\n", "\r", "", " \r\n", "\r\r\n"]);
        let (from, to) = (pick(random, &ip), pick(random, &ip));
        let (from_port, to_port) = (pick(random, &port), pick(random, &port));
        format!("PROXY {kind}{space}{from} {to} {from_port} {to_port}{end}").into_bytes()
    } else {
        let command = [0x20, 0x21, 0x21, 0x21, 0x22, 0x31][random.between(0, 5) as usize];
        let family = [0x00, 0x11, 0x12, 0x21, 0x31, 0x10, 0x01, 0x41, 0x13][random.between(0, 8) as usize];
        let length = [0, 11, 12, 15, 16, 20, 36, 40, 216, 219, 230][random.between(0, 10) as usize];
        let rest: Vec<u8> = (0..length).map(|_| random.between(0, 3) as u8).collect();
        v2(command, family, &rest)
    };
    for _ in 0..random.between(0, 2) {
        let place = random.between(0, bytes.len() as u64 - 1) as usize;
        match random.between(0, 3) {
            0 => bytes[place] = random.between(0, 255) as u8,
            1 => bytes.truncate(place + 1),
            2 => bytes.insert(place, random.between(0, 255) as u8),
            _ => {}
        }
    }
    bytes.extend_from_slice(
        &b"and what follows, up to more than a line can have: ...................................."
            [..random.between(0, 80) as usize],
    );
    bytes
}

#[test]
fn proxy_random_headers_are_taken_as_the_reference_takes_them_however_they_are_cut() {
    let mut seen = [0; 3];
    seeds(|seed| {
        let mut random = Random::new(seed);
        for _ in 0..10 {
            let bytes = nearly_a_header(&mut random);
            let expected = match reference::read(&bytes, 4096) {
                Outcome::Partial => {
                    seen[0] += 1;
                    (vec![], None)
                }
                Outcome::Header { bytes: header, carried } => {
                    seen[1] += 1;
                    let rest = &bytes[header..];
                    let data = (!rest.is_empty()).then(|| format!("data {}", rest.escape_ascii()));
                    ([carried].into_iter().chain(data).collect(), None)
                }
                Outcome::Broken => {
                    seen[2] += 1;
                    (vec![], Some(()))
                }
            };
            let cuts: Vec<_> = (1..bytes.len()).filter(|_| random.hits(100)).collect();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[start..cut]);
                start = cut;
            }
            let (mut told, lost) = outcome(&pieces);
            told.retain(|what| !what.starts_with("made"));
            let whole = outcome(&[&bytes]);
            assert_eq!(
                (told.clone(), lost.is_some()),
                (expected.0, expected.1.is_some()),
                "{:?}",
                bytes.escape_ascii()
            );
            let mut told_whole = whole.0;
            told_whole.retain(|what| !what.starts_with("made"));
            assert_eq!((told, lost), (told_whole, whole.1), "{:?}", bytes.escape_ascii());
        }
    });
    // One seed alone, as to replay it, proves nothing of that.
    assert!(seen.iter().sum::<u32>() <= 10 || seen.iter().all(|&count| count > 100), "{seen:?}");
}
