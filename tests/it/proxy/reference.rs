//! A second implementation of the specification, for complete inputs, written for clarity only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) enum Outcome {
    /// This much can be the beginning of a header.
    Partial,
    Header {
        bytes: usize,
        carried: String,
    },
    Broken,
}

pub(super) fn read(bytes: &[u8], bytes_max: usize) -> Outcome {
    match bytes.first() {
        None => Outcome::Partial,
        Some(b'P') => read_text(bytes),
        Some(_) => read_binary(bytes, bytes_max),
    }
}

/// The bytes of a text as characters, so that any bytes are one.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn read_text(bytes: &[u8]) -> Outcome {
    let begin = &bytes[..bytes.len().min(6)];
    if begin != &b"PROXY "[..begin.len()] {
        return Outcome::Broken;
    }
    let shown = text(&bytes[..bytes.len().min(107)]);
    let Some((line, _)) = shown.split_once("\r\n") else {
        return if bytes.len() >= 107 { Outcome::Broken } else { Outcome::Partial };
    };
    let bytes = line.chars().count() + 2;
    let words: Vec<_> = line.split(' ').collect();
    let carried = match words[..] {
        ["PROXY", "UNKNOWN", ..] => "V1 itself".to_owned(),
        ["PROXY", kind @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let ports = [from, to].map(|port| (0..=65_535_u16).find(|number| number.to_string() == port));
            let ips = [source, destination].map(|ip| match kind {
                "TCP4" => ip.parse::<Ipv4Addr>().ok().map(|ip| ip.into()),
                _ => ip.parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical()),
            });
            match (ips, ports) {
                ([Some(source), Some(destination)], [Some(from), Some(to)]) => {
                    format!("V1 {} -> {}", SocketAddr::new(source, from), SocketAddr::new(destination, to))
                }
                _ => return Outcome::Broken,
            }
        }
        _ => return Outcome::Broken,
    };
    Outcome::Header { bytes, carried }
}

fn read_binary(bytes: &[u8], bytes_max: usize) -> Outcome {
    let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
    if bytes.iter().zip(signature).any(|(&byte, of_signature)| byte != of_signature) {
        return Outcome::Broken;
    }
    let at = |place: usize| bytes.get(place).copied();
    if !matches!(at(12), None | Some(0x20 | 0x21)) {
        return Outcome::Broken;
    }
    let is_local = at(12) == Some(0x20);
    let is_known = at(13).is_none_or(|family| family <= 0x32 && family % 16 <= 2);
    if !is_local && !is_known {
        return Outcome::Broken;
    }
    if bytes.len() < 16 {
        return Outcome::Partial;
    }
    let end = 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    let begin_of_tlvs = match bytes[13] {
        _ if is_local => None,
        0x11 | 0x12 => Some(28),
        0x21 | 0x22 => Some(52),
        0x31 | 0x32 => Some(232),
        0x00 => Some(16),
        _ => None,
    };
    if end > bytes_max || begin_of_tlvs.is_some_and(|begin| begin > end) {
        return Outcome::Broken;
    }
    if bytes.len() < end {
        return Outcome::Partial;
    }
    let Some(begin) = begin_of_tlvs else { return Outcome::Header { bytes: end, carried: "V2 itself".to_owned() } };
    let Some(tlvs) = read_tlvs(&bytes[..end], begin) else { return Outcome::Broken };
    let two = match begin {
        16 => return Outcome::Header { bytes: end, carried: format!("V2 itself{tlvs}") },
        28 => [16, 20].map(|at| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]).into()),
        52 => [16, 32].map(|at| {
            let octets: [u8; 16] = std::array::from_fn(|n| bytes[at + n]);
            Ipv6Addr::from(octets).to_canonical()
        }),
        _ => {
            let [source, destination] = [16, 124].map(|at| unix(&bytes[at..at + 108]));
            return Outcome::Header { bytes: end, carried: format!("V2 {source} -> {destination}{tlvs}") };
        }
    };
    let port = |at: usize| u16::from(bytes[at]) * 256 + u16::from(bytes[at + 1]);
    let source = SocketAddr::new(two[0], port(begin - 4));
    let destination = SocketAddr::new(two[1], port(begin - 2));
    Outcome::Header { bytes: end, carried: format!("V2 {source} -> {destination}{tlvs}") }
}

fn unix(name: &[u8]) -> String {
    let end_of_name = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    match name.iter().position(|&byte| byte == 0) {
        _ if end_of_name == 0 => "unix:(unnamed)".to_owned(),
        Some(0) => format!("unix:@{}", switchboard::escape(&name[1..end_of_name])),
        Some(end) => format!("unix:{}", switchboard::escape(&name[..end])),
        None => format!("unix:{}", switchboard::escape(name)),
    }
}

/// The extensions as text; `None` if they are invalid.
fn read_tlvs(header: &[u8], begin: usize) -> Option<String> {
    let mut shown = String::new();
    let mut place = begin;
    let mut has_checksum = false;
    while place < header.len() {
        if place + 3 > header.len() {
            return None;
        }
        let (kind, length) = (header[place], usize::from(header[place + 1]) * 256 + usize::from(header[place + 2]));
        if place + 3 + length > header.len() {
            return None;
        }
        let value = &header[place + 3..place + 3 + length];
        if kind == 3 && !std::mem::replace(&mut has_checksum, true) {
            let mut zeroed = header.to_vec();
            zeroed[place + 3..place + 3 + length].fill(0);
            if length != 4 || value != crc32c(&zeroed).to_be_bytes() {
                return None;
            }
        }
        shown += &format!(" {kind:#x}={}", value.escape_ascii());
        place += 3 + length;
    }
    Some(shown)
}

/// CRC32c by long division, the first bit of each byte being its lowest.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
    bits.extend([false; 32]);
    bits.iter_mut().take(32).for_each(|bit| *bit = !*bit);
    let polynomial = 0x1_1edc_6f41_u64;
    for place in 0..bits.len() - 32 {
        if bits[place] {
            (0..=32).for_each(|n| bits[place + n] ^= polynomial >> (32 - n) & 1 == 1);
        }
    }
    let remainder = &bits[bits.len() - 32..];
    !remainder.iter().enumerate().map(|(n, &bit)| u32::from(bit) << n).sum::<u32>()
}
