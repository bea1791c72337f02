//! The buffer that every connection of a loop reads into, and one for longer datagrams.

use crate::connection::READ_BYTES_MAX;
use crate::filter::chain::Scratch;

/// The buffer begins at a multiple of this. So do the kernel's own buffers, and some processors copy slowly to an
/// address that is a little further into its page than the source is: on AMD EPYC, `cargo bench --bench alignment`
/// measures up to three times as long for 64 KiB. Without this, the address of the allocation would be a matter of
/// luck.
const PAGE_BYTES: usize = 4096;

/// The buffers that a loop reads into.
pub(crate) struct Buffers {
    /// Every connection reads into this one.
    pub(crate) read: ReadBuffer,
    pub(crate) large: LargeBuffer,
    /// Filters put their output here.
    pub(crate) filters: Scratch,
    /// Whether a timer is set to release memory.
    decaying: bool,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers { read: ReadBuffer::new(), large: LargeBuffer::default(), filters: Scratch::default(), decaying: false }
    }

    /// Returns whether a timer must be set to release memory, now that there is some.
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

/// For datagrams that are longer than that. Not allocated before a socket asks for it.
#[derive(Default)]
pub(crate) struct LargeBuffer {
    bytes: Vec<u8>,
    /// Whether it was in use since the last decay.
    used: bool,
}

impl LargeBuffer {
    pub(crate) fn get(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < bytes {
            // Fresh memory from the system, which is only committed as far as datagrams fill it.
            self.bytes = vec![0; bytes];
        }
        self.used = true;
        &mut self.bytes[..bytes]
    }

    pub(crate) fn holds_memory(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Releases its memory if it is not in use.
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
