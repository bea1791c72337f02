//! Errors in a header.

use std::error::Error;
use std::fmt;

/// What is wrong with a header. Ends the connection with [`CloseReason::Protocol`](crate::CloseReason::Protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The connection begins with neither version's first bytes.
    NoHeader,
    /// Version 1: the line does not end within 107 bytes.
    LineTooLong,
    /// Version 1: the line is invalid.
    BadLine,
    /// Version 2: the version field has another value.
    BadVersion(u8),
    /// Version 2: the command is neither LOCAL nor PROXY.
    BadCommand(u8),
    /// Version 2: the family or the transport is unknown.
    BadFamily(u8),
    /// Version 2: the header is too short for the addresses of its family.
    AddressesTooShort,
    /// Version 2: the header is longer than the maximum.
    TooLong {
        /// The announced length of the whole header.
        bytes: usize,
        /// The maximum.
        bytes_max: usize,
    },
    /// Version 2: what follows the addresses is not a sequence of types, lengths and values.
    BadTlv,
    /// Version 2: the checksum is wrong.
    BadChecksum,
    /// The header is valid, but [`ProxyHeader::admit`](super::ProxyHeader::admit) rejected it.
    NotAdmitted,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::NoHeader => f.write_str("no PROXY header"),
            HeaderError::LineTooLong => f.write_str("the PROXY line does not end within 107 bytes"),
            HeaderError::BadLine => f.write_str("invalid PROXY line"),
            HeaderError::BadVersion(version) => {
                fmt::write(f, format_args!("unknown version {version} of a PROXY header"))
            }
            HeaderError::BadCommand(command) => {
                fmt::write(f, format_args!("unknown command {command} in a PROXY header"))
            }
            HeaderError::BadFamily(family) => {
                fmt::write(f, format_args!("unknown address family {family:#04x} in a PROXY header"))
            }
            HeaderError::AddressesTooShort => f.write_str("the PROXY header is too short for its addresses"),
            HeaderError::TooLong { bytes, bytes_max } => {
                fmt::write(f, format_args!("a PROXY header of {bytes} bytes exceeds the maximum of {bytes_max}"))
            }
            HeaderError::BadTlv => f.write_str("an extension of the PROXY header extends past its end"),
            HeaderError::BadChecksum => f.write_str("the checksum of the PROXY header is wrong"),
            HeaderError::NotAdmitted => f.write_str("the client was rejected by its PROXY header"),
        }
    }
}

impl Error for HeaderError {}
