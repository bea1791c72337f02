//! The output queue of a connection: data that was written and that the kernel has not taken yet.
//!
//! Pure data: no socket. Small pieces are copied together, large ones that were handed over are kept as they are, and
//! all are sent with vectored writes. Measured on loopback, 64 pieces of 64 bytes cost 9 µs copied into one buffer, 12
//! as one vectored write and 346 as single sends; with pieces of 16 KiB the vectored write costs less than half of the
//! copy.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// A piece of this size or more is worth a slot of its own in a vectored write; a smaller one is copied.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;

/// A buffer of copied pieces grows up to this size; then the next one is begun.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// What a chunk counts besides its bytes, so that tiny ones cannot dodge the marks (W3).
pub(crate) const CHUNK_OVERHEAD_BYTES: usize = 64;

/// How many chunks are sent in one call.
pub(crate) const GATHER_MAX: usize = 64;

/// One piece of output, as the caller hands it over.
pub(crate) enum Piece<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    /// A piece for many receivers, with the copy that is shared by those who have to keep some of it, once there is
    /// one.
    Broadcast(&'a [u8], &'a mut Option<Arc<[u8]>>),
}

impl Piece<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Borrowed(bytes) | Piece::Broadcast(bytes, _) => bytes,
            Piece::Owned(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }

    /// Returns whether it can wait without being copied.
    pub(crate) fn is_handed_over(&self) -> bool {
        matches!(self, Piece::Owned(_) | Piece::Shared(_))
    }
}

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Copied(bytes) | Chunk::Owned(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// Bytes in order, waiting to be sent.
#[derive(Debug, Default)]
pub(crate) struct OutputQueue {
    chunks: VecDeque<Chunk>,
    /// Copied pieces that come after all chunks, open for the next one; keeps its buffer when it is empty.
    tail: Vec<u8>,
    /// How much of the first chunk is sent already, or of the tail if there are no chunks.
    sent: usize,
    bytes: usize,
    /// When the peer last took some of it, or it began to wait, in the loop's own time; the sender maintains this.
    pub(crate) taken_ns: u64,
    /// The number of bytes that are sent before all of it: what filters have made of earlier data.
    pub(crate) beneath: usize,
}

impl OutputQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Returns how many bytes are queued.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.beneath
    }

    /// Returns what the queue counts against marks and caps: its bytes and an overhead for each chunk.
    pub(crate) fn cost(&self) -> usize {
        self.bytes() + self.chunks() * CHUNK_OVERHEAD_BYTES
    }

    /// Drops what is queued, except for what is beneath.
    pub(crate) fn forget(&mut self) {
        self.chunks.clear();
        self.tail.clear();
        self.bytes = 0;
        self.sent = 0;
    }

    /// Adds a piece, of which the first `skip` bytes are sent already.
    pub(crate) fn push(&mut self, piece: Piece<'_>, skip: usize) {
        let left = piece.bytes().len() - skip;
        if left == 0 {
            return;
        }
        match piece {
            Piece::Owned(bytes) if left >= LARGE_BYTES => self.push_chunk(Chunk::Owned(bytes), skip),
            Piece::Shared(bytes) if left >= LARGE_BYTES => self.push_chunk(Chunk::Shared(bytes), skip),
            Piece::Broadcast(bytes, kept) if left >= LARGE_BYTES => {
                let shared = match kept {
                    Some(shared) => shared,
                    None => kept.insert(bytes.into()),
                };
                self.push_chunk(Chunk::Shared(shared.clone()), skip);
            }
            piece => self.copy(&piece.bytes()[skip..]),
        }
    }

    fn push_chunk(&mut self, chunk: Chunk, skip: usize) {
        debug_assert!(skip == 0 || self.is_empty(), "only the first chunk can be partly sent");
        if skip > 0 {
            self.sent = skip;
        }
        self.end_tail();
        self.bytes += chunk.bytes().len() - skip;
        self.chunks.push_back(chunk);
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > CHUNK_BYTES_MAX {
            self.end_tail();
        }
        self.bytes += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Closes the tail, so that the next piece begins another chunk.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(Chunk::Copied(std::mem::take(&mut self.tail)));
        }
    }

    /// Appends a copy of a small piece to the tail, the common case of many pieces that are sent together. Returns
    /// `false` if it would begin a chunk, or the queue would be too long.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8], bytes_max: usize) -> bool {
        let fits = self.tail.len() + bytes.len() <= CHUNK_BYTES_MAX && self.bytes + bytes.len() <= bytes_max;
        if !fits || self.tail.is_empty() {
            return false;
        }
        self.bytes += bytes.len();
        self.tail.extend_from_slice(bytes);
        true
    }

    /// Points `slices` at what is sent next, and returns how many of them it used.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = self.chunks().min(slices.len());
        for (index, slice) in slices[..count].iter_mut().enumerate() {
            *slice = IoSlice::new(self.chunk(index));
        }
        count
    }

    /// Returns a copy of everything that is queued.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.bytes);
        for index in 0..self.chunks() {
            copy.extend_from_slice(self.chunk(index));
        }
        copy
    }

    /// Returns what is left of a chunk; the tail is the last one.
    fn chunk(&self, index: usize) -> &[u8] {
        let bytes = match self.chunks.get(index) {
            Some(chunk) => chunk.bytes(),
            None => &self.tail,
        };
        if index == 0 { &bytes[self.sent..] } else { bytes }
    }

    /// Returns how many chunks are queued.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len() + usize::from(!self.tail.is_empty())
    }

    /// Returns the chunk that is sent next.
    pub(crate) fn first(&self) -> &[u8] {
        self.chunk(0)
    }

    /// Removes `count` bytes that the kernel has taken.
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.bytes);
        self.bytes -= count;
        self.sent += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            if let Some(Chunk::Copied(mut emptied)) = self.chunks.pop_front() {
                // One buffer is kept for the next burst.
                if self.tail.capacity() == 0 {
                    emptied.clear();
                    self.tail = emptied;
                }
            }
        }
        if self.sent == self.tail.len() {
            self.sent = 0;
            self.tail.clear();
            // Unless a single large write has blown it up.
            if self.tail.capacity() > 2 * CHUNK_BYTES_MAX {
                self.tail = Vec::new();
            }
        }
    }
}

/// Emptied queues with their buffers, kept for the connections that block next.
///
/// It keeps as many as were in use at once since the last [`decay`](Pool::decay): a pool smaller than the burst would
/// allocate every buffer anew each turn, and one that never shrinks would keep the burst's memory (W3).
#[derive(Debug, Default)]
pub(crate) struct Pool {
    // Boxed, because a connection's record has room only for a pointer; the box moves between there and here.
    #[allow(clippy::vec_box)]
    free: Vec<Box<OutputQueue>>,
    in_use: usize,
    peak: usize,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Box<OutputQueue> {
        self.in_use += 1;
        self.peak = self.peak.max(self.in_use);
        self.free.pop().unwrap_or_default()
    }

    /// Takes a queue back, and drops what is left in it.
    pub(crate) fn give_back(&mut self, mut queue: Box<OutputQueue>) {
        self.in_use -= 1;
        if !queue.is_empty() {
            queue.forget();
            queue.beneath = 0;
        }
        self.free.push(queue);
    }

    /// Releases the memory that was not needed since the last call.
    pub(crate) fn decay(&mut self) {
        self.free.truncate(self.peak - self.in_use.min(self.peak));
        self.free.shrink_to_fit();
        self.peak = self.in_use;
    }

    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns whether it holds anything that a later [`decay`](Pool::decay) could give back.
    pub(crate) fn holds_memory(&self) -> bool {
        !self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first bytes that would be sent, at most `count`.
    fn first_bytes(queue: &OutputQueue, count: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); GATHER_MAX];
        let gathered = queue.gather(&mut slices);
        slices[..gathered].iter().flat_map(|slice| slice.iter().copied()).take(count).collect()
    }

    #[test]
    fn w1_bytes_go_out_in_order_whatever_the_pieces_and_the_partial_sends() {
        for step in [1, 7, 1000, 50_000, 100_000] {
            let mut queue = OutputQueue::default();
            let mut expected = Vec::new();
            for n in 0..40_u8 {
                let size = [0, 1, 300, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES][usize::from(n) % 6];
                let bytes = vec![n; size];
                expected.extend_from_slice(&bytes);
                match n % 3 {
                    0 => queue.push(Piece::Borrowed(&bytes), 0),
                    1 => queue.push(Piece::Owned(bytes), 0),
                    _ => queue.push(Piece::Shared(bytes.into()), 0),
                }
            }
            let mut out = Vec::new();
            while !queue.is_empty() {
                let next = first_bytes(&queue, step);
                assert_eq!(queue.first()[0], next[0]);
                queue.advance(next.len());
                out.extend(next);
            }
            assert!(out == expected, "step {step}");
            assert_eq!(queue.cost(), 0);
        }
    }

    #[test]
    fn a_piece_that_went_out_in_part_keeps_its_place() {
        let mut queue = OutputQueue::default();
        queue.push(Piece::Owned([vec![1; 10], vec![2; LARGE_BYTES]].concat()), 10);
        queue.push(Piece::Borrowed(b"abc"), 1);
        assert_eq!(first_bytes(&queue, usize::MAX), [vec![2; LARGE_BYTES], b"bc".to_vec()].concat());
        assert_eq!(queue.bytes(), LARGE_BYTES + 2);
    }

    #[test]
    fn w3_tiny_pieces_share_a_chunk_and_each_chunk_counts() {
        let mut queue = OutputQueue::default();
        for _ in 0..1000 {
            queue.push(Piece::Shared(b"x".as_slice().into()), 0);
        }
        assert_eq!((queue.chunks(), queue.cost()), (1, 1000 + CHUNK_OVERHEAD_BYTES));
        queue.push(Piece::Owned(vec![0; LARGE_BYTES]), 0);
        queue.push(Piece::Borrowed(b"x"), 0);
        assert_eq!(queue.cost(), 1001 + LARGE_BYTES + 3 * CHUNK_OVERHEAD_BYTES);
    }

    #[test]
    fn w3_what_is_appended_fills_a_chunk_and_the_queue_up_to_their_limits() {
        for held in [1, 2, CHUNK_BYTES_MAX / 2] {
            let mut queue = OutputQueue::default();
            assert!(!queue.append(b"x", usize::MAX), "it would begin a chunk");
            queue.push(Piece::Borrowed(&vec![0; held]), 0);
            assert!(!queue.append(&vec![0; CHUNK_BYTES_MAX - held + 1], usize::MAX), "{held} before it");
            assert!(!queue.append(&vec![0; CHUNK_BYTES_MAX - held], CHUNK_BYTES_MAX - 1), "{held} before it");
            assert!(queue.append(&vec![0; CHUNK_BYTES_MAX - held], CHUNK_BYTES_MAX), "{held} before it");
            assert_eq!((queue.chunks(), queue.bytes()), (1, CHUNK_BYTES_MAX));
        }
    }

    #[test]
    fn w3_an_emptied_queue_keeps_its_buffer_unless_that_is_far_too_large() {
        for (capacity, is_kept) in [(CHUNK_BYTES_MAX * 3 / 2, true), (CHUNK_BYTES_MAX * 3, false)] {
            let mut queue = OutputQueue { tail: Vec::with_capacity(capacity), ..OutputQueue::default() };
            queue.push(Piece::Borrowed(b"x"), 0);
            queue.advance(1);
            assert_eq!(queue.tail.capacity() >= capacity, is_kept, "{capacity}");
        }
    }

    #[test]
    fn w3_the_pool_keeps_a_burst_s_buffers_and_then_lets_them_go() {
        let mut pool = Pool::default();
        let burst = |pool: &mut Pool, size: usize| {
            let mut queues: Vec<_> = (0..size).map(|_| pool.take()).collect();
            for queue in &mut queues {
                queue.push(Piece::Borrowed(&[0; 100]), 0);
                queue.advance(100);
            }
            queues.into_iter().for_each(|queue| pool.give_back(queue));
        };
        burst(&mut pool, 100);
        assert_eq!(pool.free.len(), 100);
        pool.decay();
        assert_eq!(pool.free.len(), 100, "they were all in use a moment ago");
        burst(&mut pool, 10);
        pool.decay();
        assert_eq!(pool.free.len(), 10);
        pool.decay();
        assert!(!pool.holds_memory());
    }
}
