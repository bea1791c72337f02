//! Framing: protocols that receive lines or frames instead of bytes.
//!
//! Each adapter here is a [`Protocol`](crate::Protocol) made from a smaller trait with one required method:
//!
//! ```
//! use switchboard::Transport;
//! use switchboard::framing::{LineHandler, LineReceiver, send_line};
//!
//! struct Shout;
//!
//! impl LineHandler for Shout {
//!     fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
//!         send_line(transport, &line.to_ascii_uppercase());
//!     }
//! }
//!
//! let protocol = LineReceiver::new(Shout); // what a factory returns
//! # drop(protocol);
//! ```
//!
//! | adapter | frame | passed to |
//! | --- | --- | --- |
//! | [`LineReceiver`] | a line | [`LineHandler::line_received`] |
//! | [`Telnet`] | a line, without telnet's control bytes | the same |
//! | [`Framed`] on [`LengthPrefixed`] | a length of 8, 16 or 32 bits and as many bytes | [`FrameHandler::frame_received`] |
//! | [`Framed`] on [`Netstring`] | `5:hello,` | the same |
//! | [`Framed`] on [`Delimited`] | the bytes before a delimiter | the same |
//! | [`Framed`] on [`FixedSize`] | a fixed number of bytes | the same |
//! | [`Framed`] on a [`Framer`] of your own | what it finds | the same |
//!
//! A frame is passed on as a slice of what was read. Nothing is copied or buffered here: the loop keeps the beginning
//! of a frame until the rest of it arrives. Only [`Telnet`] copies, and only lines that contain control bytes. How the
//! bytes were split on their way makes no difference to the callbacks, nor, by more than a constant factor, to the cost
//! (rule [F1](crate::guide::rules#f1)).
//!
//! All complete frames are passed on in one go, until the handler pauses, closes, fails or replaces its protocol: the
//! remaining bytes then stay with the loop, for later or for the new protocol.
//!
//! For a crate that does its own framing, on a `Read + Write` that it owns, there is [`Pipe`].
//!
//! If a frame may be longer than [`input_bytes_max`](crate::Limits::input_bytes_max), the adapter raises its
//! connection's limit to its own maximum; [`Framed`] lowers it again once the frame has arrived. Adapters use
//! [`set_input_low_bytes`](crate::Transport::set_input_low_bytes) themselves, so a handler should not set it.

#[macro_use]
mod forward;

mod delimited;
mod error;
mod fixed_size;
mod framed;
mod length_prefixed;
mod lines;
mod netstring;
mod pipe;
mod telnet;
mod telnet_command;

pub use delimited::Delimited;
pub use error::FramingError;
pub use fixed_size::FixedSize;
pub use framed::{Found, FrameHandler, Framed, Framer};
pub use length_prefixed::LengthPrefixed;
pub use lines::{LineEnding, LineHandler, LineReceiver, send_line};
pub use netstring::Netstring;
pub use pipe::Pipe;
pub use telnet::Telnet;
pub use telnet_command::TelnetCommand;

use switchboard::Transport;

/// The default maximum length of a frame, as for lines (rule F2).
const FRAME_BYTES_MAX: usize = 16_384;

/// If a connection's limit is below the `bytes` that the beginning of a frame needs, raises it to the framing's own
/// maximum.
fn raise_input_bytes_max(transport: &mut Transport<'_>, bytes: usize, max: usize) {
    if transport.input_bytes_max() < bytes {
        transport.set_input_bytes_max(max);
    }
}

/// Returns an error if a frame to be sent has more than `bytes_max` bytes.
fn check_sent(frame: &[u8], bytes_max: usize) -> Result<(), FramingError> {
    match frame.len() <= bytes_max {
        true => Ok(()),
        false => Err(FramingError::LengthOverMax { bytes: frame.len() as u64, bytes_max }),
    }
}

/// A connection's limit of buffered input, raised while the beginning of a longer frame is buffered.
#[derive(Debug, Default)]
struct Room {
    from_bytes: usize,
    /// 0 if it is not raised.
    to_bytes: usize,
}

impl Room {
    /// Raises the limit if `bytes` need it, as [`raise_input_bytes_max`] does.
    fn raise(&mut self, transport: &mut Transport<'_>, bytes: usize, max: usize) {
        let from_bytes = transport.input_bytes_max();
        raise_input_bytes_max(transport, bytes, max);
        if from_bytes < bytes {
            *self = Room { from_bytes, to_bytes: max };
        }
    }

    /// Restores the old limit, unless it was set by someone else meanwhile.
    fn lower(&mut self, transport: &mut Transport<'_>) {
        let Room { from_bytes, to_bytes } = std::mem::take(self);
        if to_bytes > 0 && transport.input_bytes_max() == to_bytes {
            transport.set_input_bytes_max(from_bytes);
        }
    }
}
