//! Framing errors.

use std::error::Error;
use std::fmt;

/// How a peer violated the framing (rule [F4](crate::guide::rules#f4)), or why a frame cannot be sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum FramingError {
    /// The length of a frame is over the maximum.
    LengthOverMax {
        /// The length that the peer announced, or of the frame to be sent; for a received netstring, the digits read so
        /// far.
        bytes: u64,
        /// The maximum.
        bytes_max: usize,
    },
    /// A frame to be sent is shorter than the fixed size ([`FixedSize`](crate::framing::FixedSize)).
    LengthNotReached {
        /// The length of the frame to be sent.
        bytes: usize,
        /// The size of all frames.
        bytes_wanted: usize,
    },
    /// More bytes arrived than a frame may have, without a delimiter.
    NoDelimiter {
        /// The maximum.
        bytes_max: usize,
    },
    /// The length of a netstring is empty, has a leading zero, or contains something other than digits.
    BadNetstringLength,
    /// No comma follows a netstring.
    NoNetstringComma,
    /// A telnet subnegotiation is too long.
    SubnegotiationTooLong {
        /// The maximum.
        bytes_max: usize,
    },
    /// An error of another [`Framer`](crate::framing::Framer), which says what it found and where.
    Other(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, bytes_max) = match self {
            FramingError::LengthOverMax { bytes, bytes_max } => {
                return fmt::write(f, format_args!("a frame of {bytes} bytes exceeds the maximum of {bytes_max}"));
            }
            FramingError::LengthNotReached { bytes, bytes_wanted } => {
                return fmt::write(f, format_args!("a frame of {bytes} bytes, but all must have {bytes_wanted}"));
            }
            FramingError::NoDelimiter { bytes_max } => ("no delimiter within", bytes_max),
            FramingError::SubnegotiationTooLong { bytes_max } => ("a telnet subnegotiation of more than", bytes_max),
            FramingError::BadNetstringLength => {
                return f.write_str("invalid netstring length");
            }
            FramingError::NoNetstringComma => return f.write_str("no comma after a netstring"),
            FramingError::Other(error) => return error.fmt(f),
        };
        fmt::write(f, format_args!("{text} {bytes_max} bytes"))
    }
}

impl Error for FramingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FramingError::Other(error) => error.source(),
            _ => None,
        }
    }
}
