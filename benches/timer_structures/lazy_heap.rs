//! A binary heap whose cancelled timers stay in place until they reach the top or outnumber the live ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use slab::Slab;

use super::{Payload, Structure};

/// By deadline, then by order of creation; and the slot of the payload.
type Key = (Instant, u64, usize);

#[derive(Default)]
pub(crate) struct LazyHeap {
    heap: BinaryHeap<Reverse<Key>>,
    /// The sequence tells whether an entry of the heap is alive.
    payloads: Slab<(u64, Payload)>,
    next_sequence: u64,
}

impl LazyHeap {
    fn is_live(payloads: &Slab<(u64, Payload)>, key: Key) -> bool {
        payloads.get(key.2).is_some_and(|payload| payload.0 == key.1)
    }

    /// Removes dead timers from the top, so that no wait ends for nothing, and compacts if half of the heap is dead.
    fn tidy(&mut self) {
        while self.heap.peek().is_some_and(|top| !Self::is_live(&self.payloads, top.0)) {
            self.heap.pop();
        }
        if self.heap.len() > 64 && self.heap.len() > 2 * self.payloads.len() {
            let payloads = &self.payloads;
            self.heap.retain(|entry| Self::is_live(payloads, entry.0));
            self.heap.shrink_to(2 * self.heap.len());
            self.payloads.shrink_to_fit();
        }
    }
}

impl Structure for LazyHeap {
    type Key = Key;

    fn insert(&mut self, deadline: Instant, what: Payload) -> Key {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let key = (deadline, sequence, self.payloads.insert((sequence, what)));
        self.heap.push(Reverse(key));
        key
    }

    fn remove(&mut self, key: Key) -> Option<Payload> {
        if !Self::is_live(&self.payloads, key) {
            return None;
        }
        let (_, what) = self.payloads.remove(key.2);
        self.tidy();
        Some(what)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|top| top.0.0)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Payload> {
        let key = self.heap.peek()?.0;
        if key.0 > now {
            return None;
        }
        self.remove(key)
    }
}
