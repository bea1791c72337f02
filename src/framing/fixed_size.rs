//! Frames of a fixed size.

use super::{Found, Framer};

/// Frames that all have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSize {
    bytes: usize,
}

impl FixedSize {
    /// Frames of so many bytes.
    ///
    /// # Panics
    ///
    /// Where that is none.
    pub const fn new(bytes: usize) -> FixedSize {
        assert!(bytes > 0, "frames of no bytes would never end");
        FixedSize { bytes }
    }
}

impl Framer for FixedSize {
    fn find(&self, data: &[u8], _: usize) -> Found {
        match data.len() < self.bytes {
            true => Found::Partial { scanned: 0, needed_bytes: self.bytes },
            false => Found::Frame { start: 0, end: self.bytes, next: self.bytes },
        }
    }

    fn input_bytes_max(&self) -> usize {
        self.bytes
    }
}
