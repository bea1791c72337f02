//! What can be wrong with a header.

use std::error::Error;
use std::fmt;

/// What is wrong with a header. It ends its connection, as [`CloseReason::Protocol`](crate::CloseReason::Protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The connection does not begin with a header: with neither version's first bytes.
    NoHeader,
    /// Version 1: the line does not end within 107 bytes.
    LineTooLong,
    /// Version 1: the line is not what it must be.
    BadLine,
    /// Version 2: another version in its place.
    BadVersion(u8),
    /// Version 2: neither LOCAL nor PROXY.
    BadCommand(u8),
    /// Version 2: a family or a transport that there is none of.
    BadFamily(u8),
    /// Version 2: too short for the addresses of its family.
    AddressesTooShort,
    /// Version 2: longer than is allowed.
    TooLong {
        /// What is announced, in all.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// Version 2: what follows the addresses is no row of types, lengths and values.
    BadTlv,
    /// Version 2: it carries a checksum, which is not its own.
    BadChecksum,
    /// It is a good one, and what it carries is not accepted ([`ProxyHeader::admit`](super::ProxyHeader::admit)).
    NotAdmitted,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::NoHeader => f.write_str("no PROXY header"),
            HeaderError::LineTooLong => f.write_str("a PROXY line that does not end within 107 bytes"),
            HeaderError::BadLine => f.write_str("a PROXY line that is not as it must be"),
            HeaderError::BadVersion(version) => fmt::write(f, format_args!("a PROXY header of version {version}")),
            HeaderError::BadCommand(command) => {
                fmt::write(f, format_args!("a PROXY header with the command {command}"))
            }
            HeaderError::BadFamily(family) => fmt::write(f, format_args!("a PROXY header of the family {family:#04x}")),
            HeaderError::AddressesTooShort => f.write_str("a PROXY header that is too short for its addresses"),
            HeaderError::TooLong { bytes, bytes_max } => {
                fmt::write(f, format_args!("a PROXY header of {bytes} bytes is announced, and {bytes_max} are allowed"))
            }
            HeaderError::BadTlv => f.write_str("a PROXY header with an extension that goes beyond its end"),
            HeaderError::BadChecksum => f.write_str("a PROXY header whose checksum is wrong"),
            HeaderError::NotAdmitted => f.write_str("a client that is not admitted by its PROXY header"),
        }
    }
}

impl Error for HeaderError {}
