//! Timers: what is due when, and in which order.
//!
//! Pure data: no clock, `now` is an argument.
//!
//! A heap in which every place has four children, and beside it a note of where in the heap each timer is. So the order
//! is exact to the nanosecond, what is cancelled is gone at once and wakes nobody, and setting a timer anew leaves what
//! it does alone. All but [`Timers::next_deadline`] are O(log n); setting one that is due after most others is O(1).
//!
//! Chosen by measuring: `cargo bench --bench timer_structures`, of 2026-11-24, ns for each with 100,000 timers live and
//! with 1,000,000, their deadlines random within an hour:
//!
//! | structure                     | set      | set anew   | cancel   | fire       | cancel the first | bytes a timer |
//! | ----------------------------- | -------- | ---------- | -------- | ---------- | ---------------- | ------------- |
//! | this one                      | 17, 44   | 83, 197    | 83, 198  | 213, 618   | 277, 656         | 68, 54        |
//! | heap of keys, the rest aside  | 44, 96   | 112, 208   | 145, 265 | 385, 937   | 502, 1,029       | 104, 83       |
//! | binary heap, cancelled lazily | 37, 69   | 80, 118    | 44, 57   | 895, 1,493 | 1,007, 1,579     | 94, 75        |
//! | ordered map                   | 183, 755 | 393, 1,585 | 249, 834 | 47, 91     | 78, 125          | 74, 74        |
//! | hierarchical wheel            | 71, 137  | 172, 260   | 102, 155 | 265, 281   | 47,949, 5,408    | 83, 67        |
//!
//! Most timers of a network program are timeouts, which are set, set anew and cancelled, and seldom fire: that speaks
//! against the map. The lazy heap holds up to as many dead entries as live ones, and its slab never moves what lives.
//! The wheel has to look through a whole bucket for the exact next deadline when the first one is cancelled.
//!
//! Memory: a timer takes 20 bytes, what it does, and padding: 52 with the loop's 24 bytes, 36 with a number of 64 bits.
//! Room for at most four times as many as are live is kept, or for 64. Of the notes alone, 4 bytes each, those before
//! one that is in use stay: a survivor may hold 4 bytes for each timer of the peak for as long as it lives.

use std::time::{Duration, Instant};

/// Where a timer stands in the order: by deadline, equal ones by creation (T1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    deadline: Instant,
    pub(crate) sequence: u64,
    /// Where its place in the heap is noted.
    slot: u32,
}

impl Key {
    pub(crate) fn deadline(self) -> Instant {
        self.deadline
    }
}

/// A set of timers, each with something to do.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    /// None is due before its parent; the children of `n` are the [`ARITY`] from `ARITY * n + 1` on.
    heap: Vec<Timer<T>>,
    /// Where in the heap each timer is. A free slot has [`FREE`] set, and leads to the next free one.
    slots: Vec<u32>,
    /// The first free slot, or [`NONE`].
    free: u32,
    /// How many slots were freed since `slots` was last cut.
    freed: usize,
    next_sequence: u64,
    /// What the heap counts deadlines from: the first one there was.
    origin: Option<Instant>,
}

#[derive(Debug)]
struct Timer<T> {
    order: Order,
    slot: u32,
    what: T,
}

/// A deadline and a sequence in one number, so that comparing two takes no branch: a fifth to a half less for a timer
/// that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order(u128);

/// How many children a place in the heap has.
const ARITY: usize = 4;

const FREE: u32 = 1 << 31;
const NONE: u32 = FREE - 1;

/// Room for so many is kept, however few there are.
const KEPT: usize = 64;

impl<T> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { heap: Vec::new(), slots: Vec::new(), free: NONE, freed: 0, next_sequence: 0, origin: None }
    }

    /// Adds a timer. Deadlines may lie 292 years apart, further ones count as that.
    pub(crate) fn insert(&mut self, deadline: Instant, what: T) -> Key {
        let key = Key { deadline, sequence: self.take_sequence(), slot: self.take_slot() };
        self.origin.get_or_insert(deadline);
        self.heap.push(Timer { order: self.order(deadline, key.sequence), slot: key.slot, what });
        self.rise(self.heap.len() - 1);
        key
    }

    /// Sets a timer anew and leaves what it is to do as it is. It counts as created now, for T1 and for marks.
    ///
    /// Answers its new key, and the old one is stale; `None` where it has fired or was cancelled before.
    pub(crate) fn reset(&mut self, key: Key, deadline: Instant) -> Option<Key> {
        let place = self.place(key)?;
        let key = Key { deadline, sequence: self.take_sequence(), ..key };
        self.heap[place].order = self.order(deadline, key.sequence);
        self.settle(place);
        Some(key)
    }

    /// Takes a timer out: what it was to do, or `None` where it has fired or was cancelled before.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        Some(self.take(self.place(key)?))
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.place(key)?;
        Some(&mut self.heap[place].what)
    }

    /// When the earliest is due: exactly, since nothing cancelled is left in the way. O(1).
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let ns = self.heap.first()?.order.ns();
        let distance = Duration::from_nanos(ns.unsigned_abs());
        self.origin.map(|origin| if ns < 0 { origin - distance } else { origin + distance })
    }

    /// A mark in the order of creation: what is set from here on is not taken by a [`pop_due`](Timers::pop_due) that
    /// is given this mark.
    pub(crate) fn mark(&self) -> u64 {
        self.next_sequence
    }

    /// Takes out the earliest that is due at `now` and was created before `mark` (T3).
    ///
    /// Whoever sets timers while popping must not set them for before `now`; then the first one that is younger than
    /// the mark has only younger ones behind it.
    pub(crate) fn pop_due(&mut self, now: Instant, mark: u64) -> Option<T> {
        let order = self.heap.first()?.order;
        (order.ns() <= self.ns(now) && order.sequence() < mark).then(|| self.take(0))
    }

    /// Takes out all that is left, in order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let mut left = std::mem::replace(self, Timers { next_sequence: self.next_sequence, ..Timers::new() }).heap;
        left.sort_unstable_by_key(|timer| timer.order);
        left.into_iter().map(|timer| timer.what)
    }

    fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    fn order(&self, deadline: Instant, sequence: u64) -> Order {
        Order::new(self.ns(deadline), sequence)
    }

    /// How long after the origin a time is; negative if before.
    fn ns(&self, time: Instant) -> i64 {
        let origin = self.origin.unwrap_or(time);
        let ns = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
        match time.checked_duration_since(origin) {
            Some(after) => ns(after),
            None => -ns(origin - time),
        }
    }

    // The heap.

    /// Where in the heap a timer is.
    fn place(&self, key: Key) -> Option<usize> {
        // A slot that is free leads out of the heap, one with a new tenant to another sequence.
        let place = *self.slots.get(key.slot as usize)? as usize;
        (self.heap.get(place)?.order.sequence() == key.sequence).then_some(place)
    }

    fn take(&mut self, place: usize) -> T {
        let timer = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.settle(place);
        }
        self.free_slot(timer.slot);
        self.give_back();
        timer.what
    }

    /// Moves what is at a place to where it belongs.
    fn settle(&mut self, place: usize) {
        if self.rise(place) == place {
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].order < self.heap[place].order {
                break;
            }
            self.heap.swap(parent, place);
            self.note(place);
            place = parent;
        }
        self.note(place);
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let first = ARITY * place + 1;
            let end = self.heap.len().min(first + ARITY);
            let Some(least) = (first..end).min_by_key(|&child| self.heap[child].order) else { break };
            if self.heap[place].order < self.heap[least].order {
                break;
            }
            self.heap.swap(place, least);
            self.note(place);
            place = least;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        self.slots[self.heap[place].slot as usize] = place as u32;
    }

    // Slots, and memory.

    fn take_slot(&mut self) -> u32 {
        let slot = self.free;
        if slot == NONE {
            assert!(self.slots.len() < NONE as usize, "more timers than there are slots for");
            self.slots.push(NONE);
            return self.slots.len() as u32 - 1;
        }
        self.free = self.slots[slot as usize] & !FREE;
        slot
    }

    fn free_slot(&mut self, slot: u32) {
        self.slots[slot as usize] = FREE | self.free;
        self.free = slot;
        self.freed += 1;
    }

    /// Gives back memory that is far more than is needed. Far more only, and far enough between, that it costs O(1) for
    /// each timer that was taken out.
    fn give_back(&mut self) {
        let live = self.heap.len();
        if self.heap.capacity() > KEPT && live < self.heap.capacity() / 4 {
            self.heap.shrink_to((2 * live).max(KEPT));
        }
        let much = live < self.slots.len() / 4 && self.freed > self.slots.len() / 8;
        if self.slots.len() > KEPT && (much || live == 0) {
            self.cut_slots();
        }
    }

    /// Gives back the free slots at the end. Those before it cannot move, since keys name them.
    fn cut_slots(&mut self) {
        let end = self.slots.iter().rposition(|slot| slot & FREE == 0).map_or(0, |last| last + 1);
        self.slots.truncate(end);
        self.slots.shrink_to(KEPT);
        self.free = NONE;
        // The lowest are taken first, so that the end becomes free with time.
        for (number, slot) in self.slots.iter_mut().enumerate().rev().filter(|(_, slot)| **slot & FREE != 0) {
            *slot = FREE | self.free;
            self.free = number as u32;
        }
        self.freed = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl Order {
    fn new(ns: i64, sequence: u64) -> Order {
        // With its sign turned over, a signed number has its order as an unsigned one.
        Order(u128::from(ns as u64 ^ 1 << 63) << 64 | u128::from(sequence))
    }

    fn ns(self) -> i64 {
        ((self.0 >> 64) as u64 ^ 1 << 63) as i64
    }

    fn sequence(self) -> u64 {
        self.0 as u64
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

    /// Numbers that are the same for the same seed.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// Timers, and beside them the plainest thing that does the same: a sorted list.
    struct Twins {
        timers: Timers<u64>,
        list: Vec<(Instant, u64, u64)>,
        /// All keys there ever were, by what they were for.
        keys: Vec<Key>,
        created: u64,
    }

    impl Twins {
        fn set(&mut self, deadline: Instant, what: u64) {
            let at = self.list.partition_point(|entry| (entry.0, entry.1) < (deadline, self.created));
            self.list.insert(at, (deadline, self.created, what));
            self.created += 1;
        }

        /// Takes what a key is for out of the list, if the key is not stale.
        fn unset(&mut self, key: Key) -> Option<u64> {
            let at = self.list.iter().position(|entry| entry.1 == key.sequence)?;
            Some(self.list.remove(at).2)
        }

        fn insert(&mut self, deadline: Instant) {
            let what = self.created;
            self.keys.push(self.timers.insert(deadline, what));
            self.set(deadline, what);
        }

        fn reset(&mut self, key: Key, deadline: Instant) {
            let new = self.timers.reset(key, deadline);
            let what = self.unset(key);
            assert_eq!(new.is_some(), what.is_some());
            if let (Some(new), Some(what)) = (new, what) {
                assert_eq!((new.deadline(), new.sequence), (deadline, self.created));
                self.keys.push(new);
                self.set(deadline, what);
            }
        }

        fn pop_due(&mut self, now: Instant, mark: u64) -> bool {
            let due = self.list.first().is_some_and(|first| first.0 <= now && first.1 < mark);
            let expected = due.then(|| self.list.remove(0).2);
            assert_eq!(self.timers.pop_due(now, mark), expected);
            due
        }

        fn check(&mut self) {
            assert_eq!(self.timers.len(), self.list.len());
            assert_eq!(self.timers.next_deadline(), self.list.first().map(|first| first.0));
            assert_eq!(self.timers.mark(), self.created);
        }
    }

    /// A sequence of all there is to do. `many` is how many timers there will be at most, about.
    fn compare_with_list(seed: u64, many: u64) {
        let mut numbers = Numbers(seed);
        let origin = Instant::now() + Duration::from_secs(3600);
        // Few different deadlines make many equal ones; some lie before the first that was set, some a century ahead.
        let unit = Duration::from_nanos([1, 1_000_003, 3_000_000_000][numbers.below(3) as usize]);
        let mut now = origin - 40 * unit;
        let mut twins = Twins { timers: Timers::new(), list: Vec::new(), keys: Vec::new(), created: 0 };
        let mut fills = true;
        for _ in 0..10 * many {
            let far = Duration::from_secs(u64::from(numbers.below(50) == 0) * 100 * 365 * 86_400);
            let deadline = now + unit * numbers.below(80) as u32 + far;
            let key = twins.keys.get(numbers.below(1 + twins.keys.len() as u64) as usize).copied();
            match (numbers.below(8), key) {
                (0..=3, _) if fills => twins.insert(deadline),
                (0..=4, Some(key)) => {
                    assert_eq!(
                        twins.timers.get_mut(key).copied(),
                        twins.list.iter().find(|e| e.1 == key.sequence).map(|e| e.2)
                    );
                    assert_eq!(twins.timers.remove(key), twins.unset(key));
                }
                (5, Some(key)) => twins.reset(key, deadline),
                (6, _) => {
                    now += unit * numbers.below(4) as u32;
                    let mark = twins.timers.mark();
                    while twins.pop_due(now, mark) {
                        // As callbacks do it: for now, or later.
                        match twins.keys.get(numbers.below(4 * twins.keys.len() as u64) as usize).copied() {
                            Some(key) => twins.reset(key, now),
                            None if numbers.below(2) == 0 && fills => {
                                twins.insert(now + unit * numbers.below(3) as u32);
                            }
                            None => {}
                        }
                    }
                }
                _ => twins.insert(deadline),
            }
            twins.check();
            // It grows and shrinks by turns.
            fills = if fills { (twins.list.len() as u64) < many } else { twins.list.len() < 3 };
        }
        let expected: Vec<_> = twins.list.iter().map(|entry| entry.2).collect();
        assert_eq!(twins.timers.take_all().collect::<Vec<_>>(), expected);
        twins.list.clear();
        twins.check();
        assert!(twins.keys.iter().all(|key| twins.timers.remove(*key).is_none()));
    }

    #[test]
    fn t1_t2_t3_the_same_as_a_sorted_list() {
        (0..300).for_each(|seed| compare_with_list(seed, 20));
        (0..20).for_each(|seed| compare_with_list(seed, 400));
    }

    /// Bytes of both arrays.
    fn memory<T>(timers: &Timers<T>) -> usize {
        timers.heap.capacity() * size_of::<Timer<T>>() + timers.slots.capacity() * size_of::<u32>()
    }

    #[test]
    fn t2_a_million_cancelled_timers_give_their_memory_back() {
        let start = Instant::now();
        let mut numbers = Numbers(7);
        let mut timers = Timers::new();
        let mut keys: Vec<_> = (0..1_000_000).map(|n| timers.insert(start + Duration::from_nanos(n), n)).collect();
        let peak = memory(&timers);
        for n in (1..keys.len()).rev() {
            keys.swap(n, numbers.below(n as u64 + 1) as usize);
        }
        for left in [100_000, 1_000, 10, 0] {
            for key in keys.drain(left..) {
                assert!(timers.remove(key).is_some());
            }
            assert!(timers.heap.capacity() <= (4 * left).max(KEPT), "{left} left");
            assert!(timers.slots.capacity() <= 1 << 20, "{left} left");
        }
        assert!(memory(&timers) <= KEPT * (size_of::<Timer<u64>>() + size_of::<u32>()), "of {peak} bytes");
    }

    #[test]
    fn t2_slots_that_a_survivor_pins_go_once_it_is_gone() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let mut keys: Vec<_> = (0..100_000).map(|n| timers.insert(now, n)).collect();
        let survivors = keys.split_off(99_990);
        for key in keys {
            timers.remove(key);
        }
        assert!(timers.heap.capacity() <= KEPT, "but the slots stay, as far as the last that is taken");
        let come_and_go = |timers: &mut Timers<u32>| {
            for n in 0..=100_000 / 8 {
                let key = timers.insert(now, n);
                timers.remove(key);
            }
        };
        come_and_go(&mut timers);
        // New ones take the lowest, so that nothing holds the end when the survivors go.
        let newer: Vec<_> = (0..10).map(|n| timers.insert(now, n)).collect();
        for key in survivors {
            timers.remove(key);
        }
        come_and_go(&mut timers);
        assert!(timers.slots.capacity() <= KEPT);
        assert!(newer.into_iter().all(|key| timers.remove(key).is_some()));
    }

    #[test]
    fn t2_few_timers_that_come_and_go_hold_little() {
        let mut now = Instant::now();
        let mut numbers = Numbers(3);
        let mut timers = Timers::new();
        let mut keys: Vec<_> = (0..100).map(|n| timers.insert(now, n)).collect();
        for n in 0..300_000 {
            now += Duration::from_micros(10);
            let which = numbers.below(100) as usize;
            let deadline = now + Duration::from_secs(60);
            keys[which] = match timers.reset(keys[which], deadline) {
                Some(key) if n % 3 == 0 => key,
                Some(key) => {
                    timers.remove(key);
                    timers.insert(deadline, n)
                }
                None => timers.insert(deadline, n),
            };
            let mark = timers.mark();
            while timers.pop_due(now, mark).is_some() {}
            assert!(timers.heap.capacity() <= 256 && timers.slots.capacity() <= 256);
        }
    }
}
