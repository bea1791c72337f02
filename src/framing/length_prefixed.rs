//! Frames that are preceded by their length.

use super::{Found, Framer, FramingError, check_sent};
use switchboard::Transport;

/// Frames that are preceded by their length, a number of 8, 16 or 32 bits. Twisted calls them `Int8StringReceiver`,
/// `Int16StringReceiver` and `Int32StringReceiver`.
///
/// A length over the maximum breaks the framing as soon as it is read, without allocating anything for the frame (rule
/// [F3](crate::guide::rules#f3)). Nor is memory reserved for other frames before they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefixed {
    prefix: Prefix,
    frame_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    U8,
    U16Be,
    U16Le,
    U32Be,
    U32Le,
}

impl LengthPrefixed {
    /// Creates a framing with a length of one byte.
    pub const fn u8() -> LengthPrefixed {
        LengthPrefixed { prefix: Prefix::U8, frame_bytes_max: u8::MAX as usize }
    }

    /// Creates a framing with a big-endian length of two bytes. Frames have up to `frame_bytes_max` bytes, not counting
    /// the length.
    pub const fn u16_be(frame_bytes_max: usize) -> LengthPrefixed {
        LengthPrefixed { prefix: Prefix::U16Be, frame_bytes_max }
    }

    /// Creates a framing with a little-endian length of two bytes.
    pub const fn u16_le(frame_bytes_max: usize) -> LengthPrefixed {
        LengthPrefixed { prefix: Prefix::U16Le, frame_bytes_max }
    }

    /// Creates a framing with a big-endian length of four bytes.
    pub const fn u32_be(frame_bytes_max: usize) -> LengthPrefixed {
        LengthPrefixed { prefix: Prefix::U32Be, frame_bytes_max }
    }

    /// Creates a framing with a little-endian length of four bytes.
    pub const fn u32_le(frame_bytes_max: usize) -> LengthPrefixed {
        LengthPrefixed { prefix: Prefix::U32Le, frame_bytes_max }
    }

    /// Writes a frame, preceded by its length.
    ///
    /// # Errors
    ///
    /// [`FramingError::LengthOverMax`] if the frame is longer than the maximum or than the prefix can express; nothing
    /// is written then.
    pub fn send(&self, transport: &mut Transport<'_>, frame: &[u8]) -> Result<(), FramingError> {
        let fits_prefix = usize::try_from(self.length_max()).unwrap_or(usize::MAX);
        check_sent(frame, self.frame_bytes_max.min(fits_prefix))?;
        let length = frame.len() as u32;
        match self.prefix {
            Prefix::U8 => transport.write(&[length as u8]),
            Prefix::U16Be => transport.write(&(length as u16).to_be_bytes()),
            Prefix::U16Le => transport.write(&(length as u16).to_le_bytes()),
            Prefix::U32Be => transport.write(&length.to_be_bytes()),
            Prefix::U32Le => transport.write(&length.to_le_bytes()),
        }
        transport.write(frame);
        Ok(())
    }

    const fn prefix_bytes(&self) -> usize {
        match self.prefix {
            Prefix::U8 => 1,
            Prefix::U16Be | Prefix::U16Le => 2,
            Prefix::U32Be | Prefix::U32Le => 4,
        }
    }

    const fn length_max(&self) -> u32 {
        match self.prefix {
            Prefix::U8 => u8::MAX as u32,
            Prefix::U16Be | Prefix::U16Le => u16::MAX as u32,
            Prefix::U32Be | Prefix::U32Le => u32::MAX,
        }
    }

    /// Returns the length at the beginning of `data`, if all of it has arrived.
    fn length(&self, data: &[u8]) -> Option<u32> {
        match (self.prefix, data) {
            (Prefix::U8, &[a, ..]) => Some(a.into()),
            (Prefix::U16Be, &[a, b, ..]) => Some(u16::from_be_bytes([a, b]).into()),
            (Prefix::U16Le, &[a, b, ..]) => Some(u16::from_le_bytes([a, b]).into()),
            (Prefix::U32Be, &[a, b, c, d, ..]) => Some(u32::from_be_bytes([a, b, c, d])),
            (Prefix::U32Le, &[a, b, c, d, ..]) => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

impl Framer for LengthPrefixed {
    fn find(&self, data: &[u8], _: usize, frame_bytes_max: usize) -> Found {
        let start = self.prefix_bytes();
        let Some(bytes) = self.length(data) else {
            return Found::Partial { scanned: 0, needed_bytes: start };
        };
        // Compared before it is added to, so that it cannot overflow on any platform.
        if u64::from(bytes) > frame_bytes_max as u64 {
            return Found::Broken(FramingError::LengthOverMax { bytes: bytes.into(), bytes_max: frame_bytes_max });
        }
        let end = start.saturating_add(bytes as usize);
        match data.len() < end {
            true => Found::Partial { scanned: 0, needed_bytes: end },
            false => Found::Frame { start, end, next: end },
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    fn input_bytes_max(&self, frame_bytes_max: usize) -> usize {
        frame_bytes_max.saturating_add(self.prefix_bytes())
    }
}
