//! Timers: what is due when, and in which order.
//!
//! Pure data: no clock, `now` is an argument. An ordered map from (deadline, order of creation), so that the order is
//! exact, cancelling is exact, and what is cancelled gives its memory back at once. All operations are O(log n).

use std::collections::BTreeMap;
use std::time::Instant;

/// Where a timer stands in the order: by deadline, equal ones by creation (T1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    deadline: Instant,
    pub(crate) sequence: u64,
}

impl Key {
    pub(crate) fn deadline(self) -> Instant {
        self.deadline
    }
}

/// A set of timers, each with something to do.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    pending: BTreeMap<Key, T>,
    next_sequence: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { pending: BTreeMap::new(), next_sequence: 0 }
    }

    /// Adds a timer.
    pub(crate) fn insert(&mut self, deadline: Instant, what: T) -> Key {
        let key = Key { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.pending.insert(key, what);
        key
    }

    /// Takes a timer out: what it was to do, or `None` where it has fired or was cancelled before.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.pending.remove(&key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.pending.get_mut(&key)
    }

    /// When the earliest is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(key, _)| key.deadline)
    }

    /// A mark in the order of creation: what is inserted from here on is not taken by a [`pop_due`](Timers::pop_due)
    /// that is given this mark.
    pub(crate) fn mark(&self) -> u64 {
        self.next_sequence
    }

    /// Takes out the earliest that is due at `now` and was created before `mark` (T3).
    ///
    /// Whoever inserts while popping must not set deadlines before `now`; then the first one that is younger than the
    /// mark has only younger ones behind it.
    pub(crate) fn pop_due(&mut self, now: Instant, mark: u64) -> Option<T> {
        let first = self.pending.first_entry()?;
        let key = first.key();
        (key.deadline <= now && key.sequence < mark).then(|| first.remove())
    }

    /// Takes out all that is left.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.pending).into_values()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn due(timers: &mut Timers<u32>, now: Instant) -> Vec<u32> {
        let mark = timers.mark();
        std::iter::from_fn(|| timers.pop_due(now, mark)).collect()
    }

    #[test]
    fn t1_by_deadline_and_equal_ones_in_the_order_of_creation() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for (after_ms, what) in [(20, 3), (10, 0), (10, 1), (30, 4), (10, 2)] {
            timers.insert(start + Duration::from_millis(after_ms), what);
        }
        assert_eq!(due(&mut timers, start + Duration::from_millis(9)), []);
        assert_eq!(due(&mut timers, start + Duration::from_millis(29)), [0, 1, 2, 3]);
        assert_eq!(due(&mut timers, start + Duration::from_millis(30)), [4]);
    }

    #[test]
    fn t2_cancel_is_exact_and_gives_the_memory_back() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let keys: Vec<_> = (0..1000).map(|n| timers.insert(start, n)).collect();
        for key in &keys[1..] {
            assert!(timers.remove(*key).is_some());
            assert!(timers.remove(*key).is_none(), "the second time finds nothing");
        }
        assert_eq!(timers.len(), 1);
        assert_eq!(due(&mut timers, start), [0]);
        assert!(timers.remove(keys[0]).is_none(), "fired");
    }

    #[test]
    fn t3_what_is_set_while_popping_waits_for_the_next_time() {
        let now = Instant::now();
        let mut timers = Timers::new();
        timers.insert(now, 0);
        let mark = timers.mark();
        assert_eq!(timers.pop_due(now, mark), Some(0));
        timers.insert(now, 1);
        assert_eq!(timers.pop_due(now, mark), None);
        assert_eq!(due(&mut timers, now), [1]);
    }
}
