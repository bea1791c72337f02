//! What breaks a framing.

use std::error::Error;
use std::fmt;

/// How a peer broke the framing (rule [F4](crate::guide::rules#f4)), or what is to be sent would break it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FramingError {
    /// The length in front of a frame is over the maximum.
    LengthOverMax {
        /// What the peer announced, or was to be sent; of a netstring that comes, as far as its digits were read.
        bytes: u64,
        /// What is allowed.
        bytes_max: usize,
    },
    /// A frame that is to be sent is shorter than all frames are ([`FixedSize`](crate::framing::FixedSize)).
    LengthNotReached {
        /// What was to be sent.
        bytes: usize,
        /// What all frames have.
        bytes_wanted: usize,
    },
    /// More came than a frame may have, and no delimiter.
    NoDelimiter {
        /// What is allowed.
        bytes_max: usize,
    },
    /// The length of a netstring is empty, has a leading zero, or another character than digits.
    BadNetstringLength,
    /// No comma follows a netstring.
    NoNetstringComma,
    /// A telnet subnegotiation is too long.
    SubnegotiationTooLong {
        /// What is allowed.
        bytes_max: usize,
    },
    /// An error of another [`Framer`](crate::framing::Framer): what it found, and where.
    Other(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, bytes_max) = match self {
            FramingError::LengthOverMax { bytes, bytes_max } => {
                return fmt::write(f, format_args!("a frame has {bytes} bytes, and {bytes_max} are allowed"));
            }
            FramingError::LengthNotReached { bytes, bytes_wanted } => {
                return fmt::write(f, format_args!("a frame has {bytes} bytes, and all have {bytes_wanted}"));
            }
            FramingError::NoDelimiter { bytes_max } => ("no delimiter within", bytes_max),
            FramingError::SubnegotiationTooLong { bytes_max } => ("a telnet subnegotiation of more than", bytes_max),
            FramingError::BadNetstringLength => {
                return f.write_str("the length of a netstring is not a number as it must be");
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
