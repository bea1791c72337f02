//! Input that a protocol left unconsumed.
//!
//! Pure data: no socket.

/// A buffer of this size is not worth shrinking, however little is in it.
const INPUT_BYTES_KEPT: usize = 1024;

/// Input that a protocol left unconsumed.
///
/// Appended at the back and consumed at the front by an offset. The consumed part is cut off only once it is the larger
/// one, so that input of single bytes and output of single frames take linear time.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Releases a buffer that has become far too large for what is left in it: the burst is over (W3).
    pub(crate) fn trim(&mut self) {
        if self.bytes.capacity() > INPUT_BYTES_KEPT.max(4 * self.rest().len()) {
            *self = Input { bytes: self.rest().to_vec(), start: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_single_bytes_in_and_single_frames_out_cost_linear_time() {
        let mut input = Input::default();
        let mut moved = 0;
        for n in 0..100_000_u32 {
            let (before, start) = (input.bytes.len(), input.start);
            input.append(&[n as u8]);
            // A compaction moves what was left; an append alone moves nothing.
            moved += if start > 0 && input.start == 0 { before - start } else { 0 };
            if n % 100 < 99 {
                continue;
            }
            input.consume(99);
        }
        assert_eq!(input.rest().len(), 1000);
        assert!(moved < 200_000, "{moved} bytes moved for 100,000");
    }

    #[test]
    fn r1_a_long_rest_is_seldom_moved() {
        let mut input = Input::default();
        input.append(&[7; 10_000]);
        let mut moved = 0;
        for _ in 0..100_000 {
            input.consume(1);
            let (start, rest) = (input.start, input.rest().len());
            input.append(&[7]);
            moved += if input.start < start { rest } else { 0 };
        }
        assert_eq!(input.rest().len(), 10_000);
        assert!(input.bytes.len() < 20_010, "{} bytes are kept", input.bytes.len());
        assert!(moved < 200_000, "{moved} bytes moved for 100,000");
    }

    #[test]
    fn w3_a_buffer_that_a_burst_has_blown_up_is_given_back_though_a_little_is_left() {
        let mut input = Input::default();
        input.append(&[7; 64 * 1024]);
        input.consume(64 * 1024 - 10);
        input.trim();
        assert_eq!(input.rest(), [7; 10]);
        assert!(input.bytes.capacity() <= INPUT_BYTES_KEPT);
    }
}
