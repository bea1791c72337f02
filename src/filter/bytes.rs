//! Bytes on their way through a filter.

use std::fmt;
use std::io;

/// Bytes that a filter passes up or down; see [`Flow`](super::Flow). Its memory is reused from call to call.
#[derive(Default)]
pub struct Bytes {
    /// Initialised throughout, and meaningful up to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Bytes {
    /// Appends a copy of `data`.
    pub fn push(&mut self, data: &[u8]) {
        self.space(data.len())[..data.len()].copy_from_slice(data);
        self.end += data.len();
    }

    /// Returns room for at least this many bytes, to be written into: what it contains before has no meaning. Only what
    /// is passed to [`commit`](Bytes::commit) afterwards counts. The room is zeroed when the buffer grows, and not for
    /// each call.
    pub fn space(&mut self, bytes: usize) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() < self.end + bytes && self.start >= self.len() {
            // In a stream that always waits for the rest of a record, the buffer is never empty. For each byte that was
            // taken, at most one byte is moved.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        if self.buffer.len() < self.end + bytes {
            self.buffer.resize(self.end + bytes, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Appends the first `bytes` of the room that [`space`](Bytes::space) has returned.
    ///
    /// # Panics
    ///
    /// If that room was smaller.
    pub fn commit(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.end, "more is committed than there was room for");
        self.end += bytes;
    }

    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn rest_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Removes the first `bytes`.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Removes all but the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.end = self.end.min(self.start + bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Releases its memory, if it holds nothing.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            *self = Bytes::default();
        }
    }

    /// Takes over the memory of `other`, if it holds nothing and has less of its own.
    #[inline]
    pub(super) fn borrow_memory(&mut self, other: &mut Bytes) {
        if self.is_empty() && self.buffer.capacity() < other.buffer.capacity() {
            std::mem::swap(self, other);
        }
    }

    /// Gives its memory to `other` if that has less, and then keeps none. Does nothing if it holds something.
    #[inline]
    pub(super) fn return_memory(&mut self, other: &mut Bytes) {
        if self.is_empty() && self.buffer.capacity() > 0 {
            if self.buffer.capacity() > other.buffer.capacity() {
                std::mem::swap(self, other);
            }
            self.trim();
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Writing never fails.
impl io::Write for Bytes {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.push(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y3_bytes_that_are_never_all_taken_keep_no_room_for_those_that_were() {
        let mut bytes = Bytes::default();
        bytes.push(&[0; 100]);
        for round in 0..10_000 {
            bytes.push(&[round as u8; 1000]);
            bytes.consume(1000);
            assert_eq!(bytes.len(), 100);
        }
        assert_eq!(bytes.rest(), [9999_u32 as u8; 100]);
        assert!(bytes.capacity() < 5000, "{}", bytes.capacity());
    }
}
