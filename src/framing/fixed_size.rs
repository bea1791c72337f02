//! Frames of a fixed size.

use super::{Found, Framer, FramingError, check_sent};
use switchboard::Transport;

/// Frames that all have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSize {
    bytes: usize,
}

impl FixedSize {
    /// Creates a framing with frames of this many bytes.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is 0.
    pub const fn new(bytes: usize) -> FixedSize {
        assert!(bytes > 0, "the frame size must not be 0");
        FixedSize { bytes }
    }

    /// Writes a frame.
    ///
    /// # Errors
    ///
    /// [`FramingError::LengthOverMax`] if it is longer than the fixed size, [`FramingError::LengthNotReached`] if it is
    /// shorter; nothing is written then.
    pub fn send(&self, transport: &mut Transport<'_>, frame: &[u8]) -> Result<(), FramingError> {
        check_sent(frame, self.bytes)?;
        if frame.len() < self.bytes {
            return Err(FramingError::LengthNotReached { bytes: frame.len(), bytes_wanted: self.bytes });
        }
        transport.write(frame);
        Ok(())
    }
}

impl Framer for FixedSize {
    fn find(&self, data: &[u8], _: usize, frame_bytes_max: usize) -> Found {
        if self.bytes > frame_bytes_max {
            return Found::Broken(FramingError::LengthOverMax { bytes: self.bytes as u64, bytes_max: frame_bytes_max });
        }
        match data.len() < self.bytes {
            true => Found::Partial { scanned: 0, needed_bytes: self.bytes },
            false => Found::Frame { start: 0, end: self.bytes, next: self.bytes },
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.bytes
    }

    fn input_bytes_max(&self, _: usize) -> usize {
        self.bytes
    }
}
