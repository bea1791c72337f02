//! PROXY headers, whole and cut, and a second parser of both versions.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStringExt;

use switchboard::{Address, UnixAddress};

use crate::input::{Input, first_result};
use crate::proxy_header::{Found, crc32c, find};

pub const WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"127.0.0.1 ",
    b"::1 ",
    b"::ffff:10.0.0.1 ",
    b"65535",
    b" 80\r\n",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x21\x21\0\x24",
    b"\x21\x31\0\xd8",
    b"\x20\0\0\0",
    b"\x03\0\x04",
    b"\x04\0\x01",
];

/// The longest header that is accepted here.
const BYTES_MAX: usize = 600;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (seed, fix) = (input.byte(), input.byte());
    let mut data = input.rest().to_vec();
    if fix == 1 {
        correct_checksum(&mut data);
    }
    let whole = find(&data, BYTES_MAX);
    // However it is cut, the first result is the result.
    let cut = first_result(&data, seed, |beginning| find(beginning, BYTES_MAX));
    assert_eq!(cut, whole, "cut, and whole");
    match &whole {
        None => assert!(data.len() < BYTES_MAX, "a header is complete or wrong at its longest"),
        Some(Ok(found)) => {
            assert_eq!(find(&data[..found.bytes], BYTES_MAX), whole, "what follows a header has no part in it");
            assert_eq!(find(&data[..found.bytes - 1], BYTES_MAX), None, "it is complete with its last byte");
            assert_eq!(reference(&data).as_ref(), Some(found));
        }
        Some(Err(_)) => assert_eq!(reference(&data), None),
    }
}

/// Writes the right checksum into a value of four bytes of that type, so that headers with one are accepted at times.
fn correct_checksum(data: &mut [u8]) {
    let Some(length) = data.get(14..16).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]]))) else {
        return;
    };
    let Some(whole) = data.get_mut(..16 + length) else { return };
    let Some(at) = whole.windows(3).rposition(|window| window == [3, 0, 4]).filter(|at| at + 7 <= whole.len()) else {
        return;
    };
    whole[at + 3..at + 7].fill(0);
    let sum = crc32c(whole);
    whole[at + 3..at + 7].copy_from_slice(&sum.to_be_bytes());
}

/// Returns the header that `data` begins with, if it does.
fn reference(data: &[u8]) -> Option<Found> {
    if data.starts_with(b"PROXY ") { line(data) } else { binary(data) }
}

fn line(data: &[u8]) -> Option<Found> {
    let bytes = data.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let text = std::str::from_utf8(&data[..bytes - 2]);
    if bytes > 107 {
        return None;
    }
    if data[6..bytes - 2].split(|byte| *byte == b' ').next() == Some(b"UNKNOWN") {
        return Some(Found { bytes, ends: None, tlvs: Vec::new() });
    }
    let words: Vec<&str> = text.ok()?.split(' ').collect();
    let [_, kind, source, destination, source_port, destination_port] = words[..] else { return None };
    let end = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        let number: u16 = port.parse().ok()?;
        let is_of_kind = ip.is_ipv4() == (kind == "TCP4") && (kind == "TCP4" || kind == "TCP6");
        (is_of_kind && number.to_string() == port).then(|| SocketAddr::new(ip.to_canonical(), number).into())
    };
    Some(Found {
        bytes,
        ends: Some((end(source, source_port)?, end(destination, destination_port)?)),
        tlvs: Vec::new(),
    })
}

fn binary(data: &[u8]) -> Option<Found> {
    let rest = data.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let [command @ (0x20 | 0x21), family, high, low, rest @ ..] = rest else { return None };
    let length = usize::from(*high) << 8 | usize::from(*low);
    let rest = rest.get(..length).filter(|_| 16 + length <= BYTES_MAX)?;
    let local = *command == 0x20;
    if !local && (*family >> 4 > 3 || family & 15 > 2) {
        return None;
    }
    let nothing = Found { bytes: 16 + length, ends: None, tlvs: Vec::new() };
    let (ends, tlvs) = match family {
        _ if local => return Some(nothing),
        0x11 | 0x12 => (Some(inet(rest, 4)?), &rest[12..]),
        0x21 | 0x22 => (Some(inet(rest, 16)?), &rest[36..]),
        0x31 | 0x32 => (Some((unix(rest.get(..108)?), unix(rest.get(108..216)?))), &rest[216..]),
        0 => (None, rest),
        _ => return Some(nothing),
    };
    // The extensions are a chain to the very end, and the first checksum is right.
    let (mut at, mut is_checked) = (0, false);
    while at < tlvs.len() {
        let header = tlvs.get(at..at + 3)?;
        let value = tlvs.get(at + 3..at + 3 + usize::from(u16::from_be_bytes([header[1], header[2]])))?;
        if header[0] == 3 && !is_checked {
            is_checked = true;
            let mut whole = data[..16 + length].to_vec();
            let place = whole.len() - tlvs.len() + at + 3;
            if value.len() != 4 {
                return None;
            }
            whole[place..place + 4].fill(0);
            if crc32c(&whole).to_be_bytes() != value {
                return None;
            }
        }
        at += 3 + value.len();
    }
    Some(Found { ends, tlvs: tlvs.to_vec(), ..nothing })
}

fn inet(bytes: &[u8], length: usize) -> Option<(Address, Address)> {
    let bytes = bytes.get(..2 * length + 4)?;
    let end = |which: usize| -> Address {
        let ip = &bytes[which * length..(which + 1) * length];
        let ip: IpAddr = match <[u8; 4]>::try_from(ip) {
            Ok(ip) => ip.into(),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()).to_canonical(),
        };
        let port = 2 * length + 2 * which;
        SocketAddr::new(ip, u16::from_be_bytes([bytes[port], bytes[port + 1]])).into()
    };
    Some((end(0), end(1)))
}

fn unix(bytes: &[u8]) -> Address {
    let mut name = bytes.to_vec();
    while name.last() == Some(&0) {
        name.pop();
    }
    Address::Unix(match name.split_first() {
        None => UnixAddress::Unnamed,
        Some((0, name)) => UnixAddress::Abstract(name.into()),
        Some(_) => {
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
            UnixAddress::Path(std::ffi::OsString::from_vec(name).into())
        }
    })
}
