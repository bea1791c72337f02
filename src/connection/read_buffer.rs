//! What every connection of a loop reads into, and what is there for longer datagrams.

use crate::connection::READ_BYTES_MAX;
use crate::filter::chain::Scratch;

/// It begins at a multiple of this. The kernel's own buffers do as well, and some processors copy slowly to a place that is a
/// little further on in its page than where from: on AMD EPYC, `cargo bench --bench alignment` has 64 KiB take up to three
/// times as long. Where an allocation happens to lie, that is a matter of luck.
const PAGE_BYTES: usize = 4096;

/// What a loop reads into.
pub(crate) struct Buffers {
    /// Every connection reads into this one.
    pub(crate) read: ReadBuffer,
    pub(crate) large: LargeBuffer,
    /// What filters put what they have made in.
    pub(crate) filters: Scratch,
    /// Whether a timer is set that gives memory back.
    decaying: bool,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers { read: ReadBuffer::new(), large: LargeBuffer::default(), filters: Scratch::default(), decaying: false }
    }

    /// Returns whether a timer must be set that gives memory back, there being some.
    #[inline]
    pub(crate) fn begin_decay(&mut self) -> bool {
        !std::mem::replace(&mut self.decaying, true)
    }

    /// That timer has fired.
    pub(crate) fn decay(&mut self) {
        self.decaying = false;
        self.large.decay();
        self.filters.decay();
    }
}

#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    from: usize,
}

impl ReadBuffer {
    pub(crate) fn new() -> ReadBuffer {
        let bytes = vec![0; READ_BYTES_MAX + PAGE_BYTES];
        let from = bytes.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        ReadBuffer { bytes, from }
    }

    #[inline]
    pub(crate) fn get(&mut self) -> &mut [u8; READ_BYTES_MAX] {
        self.bytes[self.from..].first_chunk_mut().expect("nobody reads while it is taken")
    }
}

/// For datagrams that are longer than that: there is none before a socket asks for it.
#[derive(Default)]
pub(crate) struct LargeBuffer {
    bytes: Vec<u8>,
    /// It was in use since the last decay.
    used: bool,
}

impl LargeBuffer {
    pub(crate) fn get(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < bytes {
            // Memory of the system's, which is there only as far as datagrams come into it.
            self.bytes = vec![0; bytes];
        }
        self.used = true;
        &mut self.bytes[..bytes]
    }

    pub(crate) fn holds_memory(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Gives its memory back where it is out of use.
    pub(crate) fn decay(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page_wherever_it_was_allocated() {
        let mut others = Vec::new();
        for n in 0..100 {
            let mut buffer = ReadBuffer::new();
            assert_eq!(buffer.get().as_ptr().addr() % PAGE_BYTES, 0);
            others.push((buffer, vec![0; 100 * n]));
        }
    }

    #[test]
    fn w3_the_buffer_for_longer_datagrams_is_given_back_when_it_is_out_of_use() {
        let mut buffer = LargeBuffer::default();
        assert!(!buffer.holds_memory());
        assert_eq!(buffer.get(100_000).len(), 100_000);
        buffer.get(100)[0] = 1;
        buffer.decay();
        assert!(buffer.holds_memory(), "it was in use just now");
        assert_eq!(buffer.get(100_001).len(), 100_001);
        buffer.decay();
        buffer.decay();
        assert!(!buffer.holds_memory());
    }
}
