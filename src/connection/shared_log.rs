//! Data that is written to many connections at once: each payload is stored once, however many receive it.
//!
//! Pure data: no socket. A connection has a share of the log: everything that was broadcast to it since the last flush,
//! which is one contiguous piece of the log as long as it misses no payload. So a payload costs each of its receivers a
//! look at sixteen bytes, and no copy; what a turn has gathered for one of them is sent straight from the log, in one
//! call.

use std::num::NonZeroU64;
use std::ops::Range;

use crate::connection::output::{CHUNK_OVERHEAD_BYTES, LARGE_BYTES};
use crate::ids::Id;

/// The log is sent before it grows beyond this, even in the middle of a turn: with what a share counts besides its
/// bytes it stays below what a callback may gather.
pub(crate) const LOG_BYTES_MAX: usize = 256 * 1024 - LARGE_BYTES;

/// Written payloads longer than this are not compared with the last one: each further receiver gets a copy.
const REPEATED_BYTES_MAX: usize = 4 * 1024;

/// The generation of the share's owner (0: no owner), and its range in the log.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    generation: u64,
    from: u32,
    to: u32,
}

/// One payload in the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

#[derive(Debug, Default)]
pub(crate) struct SharedLog {
    bytes: Vec<u8>,
    /// The last payload.
    last: Span,
    /// Indexed by slot.
    shares: Vec<Share>,
    /// How many of them have an owner.
    live: usize,
    /// Whether it was used since the last [`decay`](SharedLog::decay).
    was_used: bool,
}

impl SharedLog {
    /// Returns whether any connection has a share.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.live > 0
    }

    /// Returns whether there is room for another payload of this size.
    #[inline]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.live == 0 || self.bytes.len() + bytes <= LOG_BYTES_MAX
    }

    /// Returns how much more all shares would count with another payload of this size.
    pub(crate) fn cost_for_all(&self, bytes: usize) -> usize {
        self.live * bytes
    }

    /// Appends a payload. No connection has a share of it yet.
    pub(crate) fn append(&mut self, data: &[u8]) -> Span {
        if self.live == 0 {
            self.bytes.clear();
        }
        self.was_used = true;
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(data);
        self.last = Span { from, to: self.bytes.len() as u32 };
        self.last
    }

    /// Returns the last payload if it has the same bytes, for a connection that has not received it yet. Only while
    /// some connection has a share: otherwise the log could never begin anew.
    #[inline]
    pub(crate) fn repeated(&self, id: Id, data: &[u8]) -> Option<Span> {
        let last = &self.bytes[self.last.from as usize..self.last.to as usize];
        let is_the_same = self.live > 0 && data.len() <= REPEATED_BYTES_MAX && last == data;
        (is_the_same && !self.reaches_end(id)).then_some(self.last)
    }

    /// Returns whether a connection has a share that ends with the last payload.
    #[inline]
    pub(crate) fn reaches_end(&self, id: Id) -> bool {
        let share = self.shares.get(id.slot as usize);
        share.is_some_and(|share| share.generation == id.generation.get() && share.to == self.last.to)
    }

    /// Gives a payload to a connection whose share reaches up to it.
    #[inline]
    pub(crate) fn extend(&mut self, id: Id, span: Span) -> bool {
        match self.shares.get_mut(id.slot as usize) {
            Some(share) if share.generation == id.generation.get() && share.to == span.from => {
                share.to = span.to;
                true
            }
            _ => false,
        }
    }

    /// Gives a payload to a connection that has no share. Returns what that share counts against the loop's cap.
    pub(crate) fn open(&mut self, id: Id, span: Span) -> usize {
        let slot = id.slot as usize;
        if self.shares.len() <= slot {
            self.shares.resize(slot + 1, Share::default());
        }
        debug_assert!(self.shares[slot].generation == 0, "a slot is left only without shares");
        self.shares[slot] = Share { generation: id.generation.get(), from: span.from, to: span.to };
        self.live += 1;
        self.was_used = true;
        (span.to - span.from) as usize + CHUNK_OVERHEAD_BYTES
    }

    /// Returns a connection's share.
    fn share(&self, id: Id) -> Option<Range<usize>> {
        match self.shares.get(id.slot as usize) {
            Some(share) if share.generation == id.generation.get() => Some(share.from as usize..share.to as usize),
            _ => None,
        }
    }

    /// Returns whether a connection has a share.
    #[inline]
    pub(crate) fn has_share(&self, id: Id) -> bool {
        self.share(id).is_some()
    }

    /// Returns how many bytes a connection's share has.
    #[inline]
    pub(crate) fn share_bytes(&self, id: Id) -> usize {
        if self.live == 0 { 0 } else { self.share(id).map_or(0, |share| share.len()) }
    }

    /// Returns what a connection's share counts.
    #[cfg(test)]
    pub(crate) fn cost(&self, id: Id) -> usize {
        self.share(id).map_or(0, |share| share.len() + CHUNK_OVERHEAD_BYTES)
    }

    /// Returns how many bytes it holds.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes a connection's share. Returns its bytes, and what it counted.
    pub(crate) fn take(&mut self, id: Id) -> Option<(&[u8], usize)> {
        let share = self.share(id)?;
        self.shares[id.slot as usize] = Share::default();
        self.live -= 1;
        let cost = share.len() + CHUNK_OVERHEAD_BYTES;
        Some((&self.bytes[share], cost))
    }

    /// Returns a connection that has a share, from this slot on.
    pub(crate) fn next_sharer(&self, from_slot: usize) -> Option<Id> {
        if self.live == 0 {
            return None;
        }
        for slot in from_slot..self.shares.len() {
            if let Some(generation) = NonZeroU64::new(self.shares[slot].generation) {
                return Some(Id { slot: slot as u32, generation });
            }
        }
        None
    }

    /// Returns whether it holds anything that a later [`decay`](SharedLog::decay) could give back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.bytes.capacity() > 0 || self.shares.capacity() > 0
    }

    /// Releases its memory, unless it was used since the last call.
    pub(crate) fn decay(&mut self) {
        if !std::mem::take(&mut self.was_used) && self.live == 0 {
            *self = SharedLog::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_a_log_that_nobody_has_a_share_of_is_given_back_too() {
        let mut log = SharedLog::default();
        assert!(!log.holds_memory());
        log.append(b"for somebody who has closed");
        assert!(log.holds_memory());
        log.decay();
        assert!(log.holds_memory(), "it was just used");
        log.decay();
        assert!(!log.holds_memory());
    }
}
