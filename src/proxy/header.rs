//! Parses the header at the beginning of a connection.
//!
//! Written by hand, since none of the available parsers meets the requirements (tested in the versions of November
//! 2026). `ppp` 2.3 treats a whole line with missing words as incomplete, rejects UNKNOWN with more than four words
//! after it and LOCAL with a family that it does not know, accepts `+80` as a port, and brings six crates, including a
//! procedural macro. `proxy-header` 0.1.3 accepts `PROXY_TCP4`, `UNKNOWNX`, ports like `080` and lines of any length,
//! drops the addresses of Unix sockets, and treats a header that is too short for its addresses as incomplete.
//! `haproxy-protocol` 0.0.4 rejects UNKNOWN with anything after it, and drops Unix addresses and extensions.
//! `proxy-protocol-codec` 0.3 rejects input after the header; `proxyproto` 0.2 and `proxy-protocol-rs` 0.8 need a newer
//! Rust than this crate does.
//!
//! The result depends only on the bytes, not on how they were split: the beginning of a header is partial until the
//! rest arrives, and an error in some bytes is an error whatever follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{FromStr, from_utf8};

use super::carried::{Tlvs, Version, tlv};
use super::checksum::crc32c;
use super::error::HeaderError;
use switchboard::Address;
#[cfg(unix)]
use switchboard::UnixAddress;

/// The maximum length of a line of version 1, including its end.
pub(super) const LINE_BYTES_MAX: usize = 107;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of everything before the addresses in version 2: signature, command, family, length.
const FIXED_BYTES: usize = SIGNATURE_V2.len() + 4;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The beginning of a header.
    Partial,
    Header(Header<'a>),
    Broken(HeaderError),
}

/// A whole header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// The length of the header.
    pub(super) bytes: usize,
    pub(super) version: Version,
    /// Source and destination; `None` if the connection's own addresses apply.
    pub(super) ends: Option<(Address, Address)>,
    pub(super) tlvs: &'a [u8],
}

/// Looks for a header of version 1, or of version 2 with at most `bytes_max` bytes.
pub(super) fn find(data: &[u8], bytes_max: usize) -> Found<'_> {
    let begins_as = |signature: &[u8]| data.iter().zip(signature).all(|(byte, of_signature)| byte == of_signature);
    let found = if begins_as(SIGNATURE_V2) {
        find_v2(data, bytes_max)
    } else if begins_as(SIGNATURE_V1) {
        find_v1(data)
    } else {
        Err(HeaderError::NoHeader)
    };
    match found {
        Ok(Some(header)) => Found::Header(header),
        Ok(None) => Found::Partial,
        Err(error) => Found::Broken(error),
    }
}

fn find_v1(data: &[u8]) -> Result<Option<Header<'_>>, HeaderError> {
    let most = &data[..data.len().min(LINE_BYTES_MAX)];
    let Some(end) = most.windows(2).position(|pair| pair == b"\r\n") else {
        return if data.len() < LINE_BYTES_MAX { Ok(None) } else { Err(HeaderError::LineTooLong) };
    };
    let ends = read_line(&data[SIGNATURE_V1.len()..end]).ok_or(HeaderError::BadLine)?;
    Ok(Some(Header { bytes: end + 2, version: Version::V1, ends, tlvs: &[] }))
}

/// Parses a line after its signature. Returns `None` if it is invalid.
fn read_line(line: &[u8]) -> Option<Option<(Address, Address)>> {
    let mut words = line.split(|&byte| byte == b' ');
    let kind = words.next()?;
    if kind == b"UNKNOWN" {
        // Anything may follow.
        return Some(None);
    }
    let [source, destination, source_port, destination_port] = [(); 4].map(|()| words.next());
    let address = match kind {
        b"TCP4" => read_word::<Ipv4Addr>,
        b"TCP6" => read_word::<Ipv6Addr>,
        _ => return None,
    };
    let end = |ip: Option<&[u8]>, port: Option<&[u8]>| {
        Some(SocketAddr::new(address(ip?)?.to_canonical(), read_port(port?)?).into())
    };
    let ends = (end(source, source_port)?, end(destination, destination_port)?);
    words.next().is_none().then_some(Some(ends))
}

fn read_word<Ip: FromStr + Into<IpAddr>>(word: &[u8]) -> Option<IpAddr> {
    from_utf8(word).ok()?.parse::<Ip>().ok().map(Into::into)
}

/// Parses a port: decimal digits, without leading zeros. A sign, which `parse` would accept, is invalid.
fn read_port(word: &[u8]) -> Option<u16> {
    let is_canonical = word.iter().all(u8::is_ascii_digit) && (word.len() == 1 || word.first() != Some(&b'0'));
    from_utf8(word).ok().filter(|_| is_canonical)?.parse().ok()
}

/// The kind of addresses in a header of version 2.
#[derive(Clone, Copy)]
enum Family {
    /// Not known, or to be ignored, so it is not known where extensions would begin.
    Unknown,
    /// No addresses: only extensions follow.
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    /// Returns the family by the command and family bytes.
    fn of(command: u8, family: u8) -> Result<Family, HeaderError> {
        match (command & 0xf, family >> 4, family & 0xf) {
            // LOCAL: whatever follows, including the family, is to be discarded.
            (0, ..) => Ok(Family::Unknown),
            (_, 4.., _) | (_, _, 3..) => Err(HeaderError::BadFamily(family)),
            (_, 1, 1..) => Ok(Family::Inet),
            (_, 2, 1..) => Ok(Family::Inet6),
            (_, 3, 1..) => Ok(Family::Unix),
            // With an unknown transport or family, nothing is known about the rest.
            (_, 0, 0) => Ok(Family::Unspecified),
            _ => Ok(Family::Unknown),
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Family::Unknown | Family::Unspecified => 0,
            Family::Inet => 2 * 4 + 2 * 2,
            Family::Inet6 => 2 * 16 + 2 * 2,
            Family::Unix => 2 * 108,
        }
    }

    /// Parses the address bytes. Returns `None` if they have no meaning.
    fn read(self, bytes: &[u8]) -> Option<(Address, Address)> {
        match self {
            Family::Unknown | Family::Unspecified => None,
            Family::Inet => read_inet::<4>(bytes),
            Family::Inet6 => read_inet::<16>(bytes),
            #[cfg(unix)]
            Family::Unix => Some((read_unix(&bytes[..108]), read_unix(&bytes[108..]))),
            #[cfg(not(unix))]
            Family::Unix => None,
        }
    }
}

/// Parses two addresses of `N` bytes, then two ports.
fn read_inet<const N: usize>(bytes: &[u8]) -> Option<(Address, Address)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let &[source_high, source_low, destination_high, destination_low] = ports else { return None };
    let end = |ip: &[u8; N], port| SocketAddr::new(IpAddr::from(*ip).to_canonical(), u16::from_be_bytes(port)).into();
    Some((end(source, [source_high, source_low]), end(destination, [destination_high, destination_low])))
}

/// Parses a `sun_path`: a path up to the first zero, or a name after a zero; zeros after the name are padding.
#[cfg(unix)]
fn read_unix(bytes: &[u8]) -> Address {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let filled = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    Address::Unix(match filled {
        0 => UnixAddress::Unnamed,
        _ if path.is_empty() => UnixAddress::Abstract(bytes[1..filled].into()),
        _ => UnixAddress::Path(OsStr::from_bytes(path).into()),
    })
}

/// Each byte is checked as soon as it has arrived, in order, so that the result does not depend on how many have
/// arrived.
fn find_v2(data: &[u8], bytes_max: usize) -> Result<Option<Header<'_>>, HeaderError> {
    let Some(&command) = data.get(12) else { return Ok(None) };
    match (command >> 4, command & 0xf) {
        (2, 0 | 1) => {}
        (2, command) => return Err(HeaderError::BadCommand(command)),
        (version, _) => return Err(HeaderError::BadVersion(version)),
    }
    let Some(&family) = data.get(13) else { return Ok(None) };
    let family = Family::of(command, family)?;
    let Some(&[high, low]) = data.get(14..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = FIXED_BYTES + length;
    if bytes > bytes_max {
        return Err(HeaderError::TooLong { bytes, bytes_max });
    }
    if length < family.address_bytes() {
        return Err(HeaderError::AddressesTooShort);
    }
    let Some(whole) = data.get(..bytes) else { return Ok(None) };
    let (addresses, tlvs) = whole[FIXED_BYTES..].split_at(family.address_bytes());
    let ends = family.read(addresses);
    let tlvs = if matches!(family, Family::Unknown) { &[] } else { tlvs };
    check_tlvs(whole, tlvs)?;
    Ok(Some(Header { bytes, version: Version::V2, ends, tlvs }))
}

/// Checks that the extensions at the end of a header are complete, and its checksum if it has one.
fn check_tlvs(whole: &[u8], tlvs: &[u8]) -> Result<(), HeaderError> {
    let mut tlvs = Tlvs { rest: tlvs };
    if !tlvs.is_whole() {
        return Err(HeaderError::BadTlv);
    }
    let Some((_, value)) = tlvs.find(|&(kind, _)| kind == tlv::CRC32C) else { return Ok(()) };
    let after = tlvs.rest;
    let before = &whole[..whole.len() - after.len() - value.len()];
    // The checksum is computed with zeros in its own place.
    let expected = crc32c([before, &[0; 4], after]).to_be_bytes();
    if value == expected { Ok(()) } else { Err(HeaderError::BadChecksum) }
}
