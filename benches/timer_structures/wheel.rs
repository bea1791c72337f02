//! A hierarchical wheel: timers due in the current tick are ordered exactly, later ones are in buckets that grow with
//! the distance.

use std::collections::BTreeMap;
use std::time::Instant;

use slab::Slab;

use super::{Payload, Structure};

/// About a millisecond.
const TICK_BITS: u32 = 20;
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
/// Enough for every tick of 64 bits.
const LEVELS: usize = 11;
const NOWHERE: u32 = u32::MAX;

/// By deadline, then by order of creation.
type Order = (Instant, u64);

struct Node {
    order: Order,
    /// The bucket that it is in; none if it is in `near`.
    bucket: u32,
    before: u32,
    after: u32,
    what: Payload,
}

pub(crate) struct Wheel {
    origin: Option<Instant>,
    /// Timers due by this tick are in `near`.
    tick: u64,
    near: BTreeMap<Order, u32>,
    /// The first of each bucket, level by level.
    buckets: Vec<u32>,
    /// For each level, which buckets have timers.
    taken: [u64; LEVELS],
    nodes: Slab<Node>,
    earliest: Option<Order>,
    next_sequence: u64,
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel {
            origin: None,
            tick: 0,
            near: BTreeMap::new(),
            buckets: vec![NOWHERE; LEVELS * BUCKETS],
            taken: [0; LEVELS],
            nodes: Slab::new(),
            earliest: None,
            next_sequence: 0,
        }
    }
}

impl Wheel {
    fn tick_of(&self, time: Instant) -> u64 {
        let since = self.origin.map_or(0, |origin| time.saturating_duration_since(origin).as_nanos());
        u64::try_from(since).unwrap_or(u64::MAX) >> TICK_BITS
    }

    fn add(&mut self, number: u32) {
        let order = self.nodes[number as usize].order;
        let tick = self.tick_of(order.0);
        let mut bucket = NOWHERE;
        if tick <= self.tick {
            self.near.insert(order, number);
        } else {
            // The level is that of the highest digit in which it differs from the current tick.
            let level = (63 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
            let digit = (tick >> (level * LEVEL_BITS)) as usize % BUCKETS;
            bucket = level * BUCKETS as u32 + digit as u32;
            self.taken[level as usize] |= 1 << digit;
            let after = std::mem::replace(&mut self.buckets[bucket as usize], number);
            if after != NOWHERE {
                self.nodes[after as usize].before = number;
            }
            self.nodes[number as usize].before = NOWHERE;
            self.nodes[number as usize].after = after;
        }
        self.nodes[number as usize].bucket = bucket;
    }

    fn unlink(&mut self, number: u32) {
        let Node { order, bucket, before, after, .. } = self.nodes[number as usize];
        if bucket == NOWHERE {
            self.near.remove(&order);
            return;
        }
        if after != NOWHERE {
            self.nodes[after as usize].before = before;
        }
        if before != NOWHERE {
            self.nodes[before as usize].after = after;
        } else {
            self.buckets[bucket as usize] = after;
            if after == NOWHERE {
                self.taken[bucket as usize / BUCKETS] &= !(1 << (bucket as usize % BUCKETS));
            }
        }
    }

    /// The first bucket that has timers, and the first tick of it.
    fn first_bucket(&self) -> Option<(usize, u64)> {
        let level = self.taken.iter().position(|taken| *taken != 0)?;
        let digit = self.taken[level].trailing_zeros();
        let shift = level as u32 * LEVEL_BITS;
        let above = self.tick.checked_shr(shift + LEVEL_BITS).unwrap_or(0).checked_shl(shift + LEVEL_BITS).unwrap_or(0);
        Some((level * BUCKETS + digit as usize, above | u64::from(digit) << shift))
    }

    /// Advances to a time, and spreads the buckets that begin by then.
    fn advance(&mut self, now: Instant) {
        let now = self.tick_of(now);
        while let Some((bucket, start)) = self.first_bucket().filter(|(_, start)| *start <= now) {
            self.tick = start;
            self.taken[bucket / BUCKETS] &= !(1 << (bucket % BUCKETS));
            let mut next = std::mem::replace(&mut self.buckets[bucket], NOWHERE);
            while next != NOWHERE {
                let number = next;
                next = self.nodes[number as usize].after;
                self.add(number);
            }
        }
        self.tick = self.tick.max(now);
    }

    /// Finds the earliest: in a whole bucket, if `near` is empty.
    fn find_earliest(&mut self) {
        self.earliest = self.near.first_key_value().map(|(order, _)| *order).or_else(|| {
            let first = self.buckets[self.first_bucket()?.0];
            let after = |number: &u32| Some(self.nodes[*number as usize].after).filter(|number| *number != NOWHERE);
            std::iter::successors(Some(first), after).map(|number| self.nodes[number as usize].order).min()
        });
    }
}

impl Structure for Wheel {
    type Key = (u64, u32);

    fn insert(&mut self, deadline: Instant, what: Payload) -> Self::Key {
        self.origin.get_or_insert(deadline);
        let order = (deadline, self.next_sequence);
        self.next_sequence += 1;
        let number = self.nodes.insert(Node { order, bucket: NOWHERE, before: NOWHERE, after: NOWHERE, what }) as u32;
        self.add(number);
        self.earliest = Some(self.earliest.map_or(order, |earliest| earliest.min(order)));
        (order.1, number)
    }

    fn remove(&mut self, key: Self::Key) -> Option<Payload> {
        let order = self.nodes.get(key.1 as usize).map(|node| node.order).filter(|order| order.1 == key.0)?;
        self.unlink(key.1);
        if self.earliest == Some(order) {
            self.find_earliest();
        }
        let what = self.nodes.remove(key.1 as usize).what;
        if self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to_fit();
        }
        Some(what)
    }

    fn reset(&mut self, key: Self::Key, deadline: Instant) -> Option<Self::Key> {
        let order = self.nodes.get(key.1 as usize).map(|node| node.order).filter(|order| order.1 == key.0)?;
        self.unlink(key.1);
        let new = (deadline, self.next_sequence);
        self.next_sequence += 1;
        self.nodes[key.1 as usize].order = new;
        self.add(key.1);
        if self.earliest == Some(order) {
            self.find_earliest();
        } else {
            self.earliest = self.earliest.map(|earliest| earliest.min(new));
        }
        Some((new.1, key.1))
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.earliest.map(|order| order.0)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Payload> {
        let earliest = self.earliest.filter(|order| order.0 <= now)?;
        self.advance(now);
        let number = *self.near.get(&earliest)?;
        self.remove((earliest.1, number))
    }
}
