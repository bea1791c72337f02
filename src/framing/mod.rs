//! Framing: protocols that are handed lines or frames in place of bytes.
//!
//! Each adapter here is a [`Protocol`](crate::Protocol) made from a smaller trait, of which one method must be written:
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
//! | adapter | what a frame is | what is handed to the user |
//! | --- | --- | --- |
//! | [`LineReceiver`] | a line | [`LineHandler::line_received`] |
//! | [`Telnet`] | a line, among telnet's control bytes | the same |
//! | [`Framed`] on [`LengthPrefixed`] | a length of 8, 16 or 32 bits, and so many bytes | [`FrameHandler::frame_received`] |
//! | [`Framed`] on [`Netstring`] | `5:hello,` | the same |
//! | [`Framed`] on [`Delimited`] | what stands before a delimiter | the same |
//! | [`Framed`] on [`FixedSize`] | so many bytes | the same |
//! | [`Framed`] on a [`Framer`] of your own | what that finds | the same |
//!
//! What is handed over is a slice of what was read: nothing is copied or buffered here, the loop keeps the beginning of
//! a frame until the rest of it comes. Only [`Telnet`] copies, and only frames that control bytes stand in. How the
//! bytes were cut on their way makes no difference (rule [F1](crate::guide::rules#f1)): to the callbacks, nor, by more
//! than a constant factor, to the cost.
//!
//! All frames that are complete are handed over in one go, until the handler pauses, closes, fails or replaces its
//! protocol: what is left then stays with the loop, for later or for the new protocol.
//!
//! A crate that frames by itself, on a `Read + Write` that it owns, is given a [`Pipe`].
//!
//! Where a frame may be longer than [`input_bytes_max`](crate::Limits::input_bytes_max), the adapter raises that limit of
//! its connection to its own; [`Framed`] lowers it again when the frame has come. Adapters use
//! [`set_input_low_bytes`](crate::Transport::set_input_low_bytes) themselves; a handler that does so gets in their way.

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

/// How long a frame may be unless told otherwise, as for lines (rule F2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Lets a connection keep the `bytes` that the beginning of a frame needs, where its limit is lower: then up to the
/// framing's own maximum.
fn raise_input_bytes_max(transport: &mut Transport<'_>, bytes: usize, max: usize) {
    if transport.input_bytes_max() < bytes {
        transport.set_input_bytes_max(max);
    }
}

/// Refuses to send a frame of more than `bytes_max` bytes.
fn check_sent(frame: &[u8], bytes_max: usize) -> Result<(), FramingError> {
    match frame.len() <= bytes_max {
        true => Ok(()),
        false => Err(FramingError::LengthOverMax { bytes: frame.len() as u64, bytes_max }),
    }
}

/// A connection's limit of kept input, raised while the beginning of a longer frame is kept.
#[derive(Debug, Default)]
struct Room {
    from_bytes: usize,
    /// 0 where it is not raised.
    to_bytes: usize,
}

impl Room {
    /// Lets a connection keep `bytes`, as [`raise_input_bytes_max`] does.
    fn raise(&mut self, transport: &mut Transport<'_>, bytes: usize, max: usize) {
        let from_bytes = transport.input_bytes_max();
        raise_input_bytes_max(transport, bytes, max);
        if from_bytes < bytes {
            *self = Room { from_bytes, to_bytes: max };
        }
    }

    /// Undoes that, unless the limit was set by somebody else meanwhile.
    fn lower(&mut self, transport: &mut Transport<'_>) {
        let Room { from_bytes, to_bytes } = std::mem::take(self);
        if to_bytes > 0 && transport.input_bytes_max() == to_bytes {
            transport.set_input_bytes_max(from_bytes);
        }
    }
}
