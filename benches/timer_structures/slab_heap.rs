//! A 4-ary heap of keys only; their positions and payloads are in a slab.

use std::time::Instant;

use slab::Slab;

use super::{Payload, Structure};

/// By deadline, then by order of creation; and the slot.
type Key = (Instant, u64, usize);

struct Slot {
    sequence: u64,
    place: usize,
    what: Payload,
}

#[derive(Default)]
pub(crate) struct SlabHeap {
    heap: Vec<Key>,
    slots: Slab<Slot>,
    next_sequence: u64,
}

impl SlabHeap {
    fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    fn put(&mut self, place: usize, key: Key) {
        self.heap[place] = key;
        self.slots[key.2].place = place;
    }

    /// Puts a key where it belongs, starting from a position.
    fn settle(&mut self, mut place: usize, key: Key) {
        let begun = place;
        while place > 0 && key < self.heap[(place - 1) / 4] {
            self.put(place, self.heap[(place - 1) / 4]);
            place = (place - 1) / 4;
        }
        while place >= begun {
            let first = 4 * place + 1;
            let end = self.heap.len().min(first + 4);
            let Some(least) = (first..end).min_by_key(|&child| self.heap[child]) else { break };
            if key < self.heap[least] {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, key);
    }
}

impl Structure for SlabHeap {
    type Key = Key;

    fn insert(&mut self, deadline: Instant, what: Payload) -> Key {
        let sequence = self.take_sequence();
        let place = self.heap.len();
        let key = (deadline, sequence, self.slots.insert(Slot { sequence, place, what }));
        self.heap.push(key);
        self.settle(place, key);
        key
    }

    fn remove(&mut self, key: Key) -> Option<Payload> {
        self.slots.get(key.2).filter(|slot| slot.sequence == key.1)?;
        let slot = self.slots.remove(key.2);
        let last = self.heap.pop()?;
        if slot.place < self.heap.len() {
            self.settle(slot.place, last);
        }
        if self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(2 * self.heap.len());
            // Up to the last used slot.
            self.slots.shrink_to_fit();
        }
        Some(slot.what)
    }

    fn reset(&mut self, key: Key, deadline: Instant) -> Option<Key> {
        let sequence = self.take_sequence();
        let slot = self.slots.get_mut(key.2).filter(|slot| slot.sequence == key.1)?;
        slot.sequence = sequence;
        let key = (deadline, sequence, key.2);
        let place = slot.place;
        self.settle(place, key);
        Some(key)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|key| key.0)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Payload> {
        let key = *self.heap.first()?;
        if key.0 > now {
            return None;
        }
        self.remove(key)
    }
}
