//! What every connection of a loop reads into.

use crate::connection::READ_BYTES_MAX;

/// It begins at a multiple of this. The kernel's own buffers do as well, and some processors copy slowly to a place that is a
/// little further on in its page than where from: on AMD EPYC, `cargo bench --bench alignment` has 64 KiB take up to three
/// times as long. Where an allocation happens to lie, that is a matter of luck.
const PAGE_BYTES: usize = 4096;

#[derive(Default)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    from: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> ReadBuffer {
        let bytes = vec![0; READ_BYTES_MAX + PAGE_BYTES];
        let from = bytes.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        ReadBuffer { bytes, from }
    }

    #[inline]
    pub(super) fn get(&mut self) -> &mut [u8; READ_BYTES_MAX] {
        self.bytes[self.from..].first_chunk_mut().expect("nobody reads while it is taken")
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
}
