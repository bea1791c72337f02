//! Bytes on their way through a filter.

use std::fmt;
use std::io;

/// Bytes that a filter puts up or down; see [`Flow`](super::Flow). Its memory is reused from call to call.
#[derive(Default)]
pub struct Bytes {
    /// Initialised up to its end, and of use up to `end`.
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

    /// Returns room for at least so many bytes, to be written into: what is in it before is of no meaning. What
    /// [`commit`](Bytes::commit) is told of it afterwards counts. It is zeroed when the buffer grows, and not for each call.
    pub fn space(&mut self, bytes: usize) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() < self.end + bytes && self.start >= self.len() {
            // Of a stream that always waits for the rest of a record it is never empty. Each byte is moved once for one that
            // was taken, at most.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        if self.buffer.len() < self.end + bytes {
            self.buffer.resize(self.end + bytes, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Appends the first `bytes` of what [`space`](Bytes::space) has returned.
    ///
    /// # Panics
    ///
    /// If it has not returned as many.
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

    /// Takes off the first `bytes`.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Takes off all but the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.end = self.end.min(self.start + bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Gives its memory back, if it holds nothing.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            *self = Bytes::default();
        }
    }

    /// Works in the memory of `other`, where it has none of its own, and holds nothing.
    #[inline]
    pub(super) fn borrow_memory(&mut self, other: &mut Bytes) {
        if self.is_empty() && self.buffer.capacity() < other.buffer.capacity() {
            std::mem::swap(self, other);
        }
    }

    /// Gives its memory to `other`, if it holds nothing and that has less; and keeps none then.
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

/// Never fails.
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
