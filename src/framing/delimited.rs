//! Frames that end with a delimiter.

use memchr::memmem::Finder;

use super::{FRAME_BYTES_MAX, Found, Framer, FramingError, check_sent};
use switchboard::Transport;

/// Frames that each end with the same bytes. For lines there is [`LineReceiver`](crate::framing::LineReceiver).
#[derive(Clone, Debug)]
pub struct Delimited {
    finder: Finder<'static>,
    frame_bytes_max: usize,
}

impl Delimited {
    /// Creates a framing whose frames end with `delimiter`, and have up to 16,384 bytes without it. Copies the
    /// delimiter.
    ///
    /// # Panics
    ///
    /// Panics if the delimiter is empty.
    pub fn new(delimiter: &[u8]) -> Delimited {
        assert!(!delimiter.is_empty(), "the delimiter must not be empty");
        Delimited { finder: Finder::new(delimiter).into_owned(), frame_bytes_max: FRAME_BYTES_MAX }
    }

    /// Sets the maximum length of a frame, not counting its delimiter.
    #[must_use]
    pub fn frame_bytes_max(mut self, bytes: usize) -> Delimited {
        self.frame_bytes_max = bytes;
        self
    }

    /// Writes a frame and the delimiter. The caller must make sure that the frame does not contain the delimiter.
    ///
    /// # Errors
    ///
    /// [`FramingError::LengthOverMax`] if the frame is longer than the maximum; nothing is written then.
    pub fn send(&self, transport: &mut Transport<'_>, frame: &[u8]) -> Result<(), FramingError> {
        check_sent(frame, self.frame_bytes_max)?;
        transport.write(frame);
        transport.write(self.finder.needle());
        Ok(())
    }
}

impl Framer for Delimited {
    fn find(&self, data: &[u8], scanned: usize, frame_bytes_max: usize) -> Found {
        let delimiter_bytes = self.finder.needle().len();
        // A frame of the maximum length ends within the window. Bytes after it do not count, so that splits make no
        // difference.
        let window_max = self.input_bytes_max(frame_bytes_max);
        let window = data.len().min(window_max);
        // If the maximum was lowered, more may have been scanned than the window holds.
        match data.get(scanned..window).and_then(|rest| self.finder.find(rest)) {
            Some(found) => {
                let end = scanned + found;
                Found::Frame { start: 0, end, next: end + delimiter_bytes }
            }
            None if window < window_max => {
                // The last bytes may be the beginning of the delimiter.
                let scanned = (window + 1).saturating_sub(delimiter_bytes).max(scanned);
                Found::Partial { scanned, needed_bytes: 0 }
            }
            None => Found::Broken(FramingError::NoDelimiter { bytes_max: frame_bytes_max }),
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    fn input_bytes_max(&self, frame_bytes_max: usize) -> usize {
        frame_bytes_max.saturating_add(self.finder.needle().len())
    }
}
