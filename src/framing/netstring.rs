//! Netstrings.

use std::io::Write;

use super::{FRAME_BYTES_MAX, Found, Framer, FramingError, check_sent};
use switchboard::Transport;

/// Netstrings: a length in decimal digits, a colon, that many bytes, and a comma, as in `5:hello,`.
///
/// The length has no leading zeros (the empty netstring is `0:,`). A length over the maximum breaks the framing as soon
/// as that is certain, so the number of digits is bounded, and before anything is allocated (rule
/// [F3](crate::guide::rules#f3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Netstring {
    frame_bytes_max: usize,
}

impl Netstring {
    /// Creates a framing for netstrings with a content of up to `frame_bytes_max` bytes.
    pub const fn new(frame_bytes_max: usize) -> Netstring {
        Netstring { frame_bytes_max }
    }

    /// Writes a netstring.
    ///
    /// # Errors
    ///
    /// [`FramingError::LengthOverMax`] if its content is longer than the maximum; nothing is written then.
    pub fn send(&self, transport: &mut Transport<'_>, frame: &[u8]) -> Result<(), FramingError> {
        check_sent(frame, self.frame_bytes_max)?;
        // Writing to a transport cannot fail.
        let _ = write!(transport, "{}:", frame.len());
        transport.write(frame);
        transport.write(b",");
        Ok(())
    }

    /// Reads a length of up to `bytes_max`. Returns the length of the content and where it begins, or else what was
    /// found.
    fn length(data: &[u8], bytes_max: usize) -> Result<(usize, usize), Found> {
        let over_max = |bytes| Found::Broken(FramingError::LengthOverMax { bytes, bytes_max });
        let mut bytes: u64 = 0;
        for (position, &byte) in data.iter().enumerate() {
            match byte {
                b':' if position > 0 => return Ok((bytes as usize, position + 1)),
                b'0'..=b'9' if position == 0 || data[0] != b'0' => {
                    let more = bytes.checked_mul(10).and_then(|bytes| bytes.checked_add((byte - b'0').into()));
                    bytes = more.ok_or(over_max(u64::MAX))?;
                }
                _ => return Err(Found::Broken(FramingError::BadNetstringLength)),
            }
            // As there are no leading zeros, this bounds the digits too.
            if bytes > bytes_max as u64 {
                return Err(over_max(bytes));
            }
        }
        Err(Found::Partial { scanned: 0, needed_bytes: 0 })
    }
}

/// A maximum of 16,384 bytes.
impl Default for Netstring {
    fn default() -> Netstring {
        Netstring::new(FRAME_BYTES_MAX)
    }
}

impl Framer for Netstring {
    fn find(&self, data: &[u8], _: usize, frame_bytes_max: usize) -> Found {
        let (bytes, start) = match Netstring::length(data, frame_bytes_max) {
            Ok(length) => length,
            Err(found) => return found,
        };
        let end = start.saturating_add(bytes);
        match data.get(end) {
            Some(b',') => Found::Frame { start, end, next: end + 1 },
            Some(_) => Found::Broken(FramingError::NoNetstringComma),
            None => Found::Partial { scanned: 0, needed_bytes: end.saturating_add(1) },
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    fn input_bytes_max(&self, frame_bytes_max: usize) -> usize {
        let digits = frame_bytes_max.checked_ilog10().map_or(1, |digits| digits as usize + 1);
        frame_bytes_max.saturating_add(digits + 2)
    }
}
