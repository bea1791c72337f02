//! Timers: what is due when, and in which order.
//!
//! Pure data: no clock, `now` is an argument.
//!
//! A heap in which every node has four children, and beside it an index of where in the heap each timer is. So the
//! order is exact to the nanosecond, a cancelled timer is gone at once and wakes nobody, and a timer that is reset
//! keeps its key and what it does. All operations except [`Timers::next_deadline`] are O(log n); setting a timer that
//! is due after most others is O(1).
//!
//! Chosen by measuring: `cargo bench --bench timer_structures`, of 2026-11-24, ns per operation with 100,000 timers
//! live and with 1,000,000; bytes are those of one live timer. Deadlines random within an hour:
//!
//! | structure                     | set      | set anew   | cancel   | fire         | cancel the first | bytes  |
//! | ----------------------------- | -------- | ---------- | -------- | ------------ | ---------------- | ------ |
//! | this one                      | 16, 25   | 59, 172    | 59, 179  | 177, 937     | 204, 960         | 64, 60 |
//! | heap of keys, the rest aside  | 25, 68   | 68, 189    | 88, 211  | 256, 1,204   | 333, 1,064       | 94, 75 |
//! | binary heap, cancelled lazily | 30, 57   | 68, 107    | 38, 50   | 1,039, 1,080 | 1,131, 1,283     | 83, 67 |
//! | ordered map                   | 176, 512 | 360, 1,091 | 215, 601 | 40, 70       | 65, 98           | 62, 62 |
//! | hierarchical wheel            | 65, 56   | 151, 210   | 93, 131  | 243, 249     | 63,373, 5,677    | 73, 58 |
//!
//! Deadlines a minute after an advancing now, like those of timeouts:
//!
//! | structure                     | set      | set anew   | cancel   | fire         | cancel the first | bytes  |
//! | ----------------------------- | -------- | ---------- | -------- | ------------ | ---------------- | ------ |
//! | this one                      | 14, 22   | 83, 175    | 86, 208  | 247, 116     | 308, 111         | 64, 60 |
//! | heap of keys, the rest aside  | 25, 48   | 99, 171    | 121, 227 | 756, 244     | 785, 233         | 94, 75 |
//! | binary heap, cancelled lazily | 19, 50   | 57, 109    | 36, 66   | 552, 224     | 447, 224         | 83, 67 |
//! | ordered map                   | 67, 91   | 298, 771   | 265, 753 | 41, 50       | 69, 66           | 78, 78 |
//! | hierarchical wheel            | 34, 71   | 125, 249   | 84, 177  | 587, 386     | 117, 51          | 73, 58 |
//!
//! Reading the next deadline takes 1 to 3 ns in all of them. With 100 live timers, every one of them takes 10 to 110 ns
//! for any operation, this one 11 to 52.
//!
//! Most timers of a network program are timeouts, which are set, reset and cancelled, and seldom fire: that speaks
//! against the map. The lazy heap holds up to as many dead entries as live ones, and keeps 31 MB after a million timers
//! were cancelled, since its slab never moves live entries. The wheel has to search a whole bucket for the exact next
//! deadline when the first one is cancelled.
//!
//! Memory: with the 16 bytes that say what it does, a timer takes 52, plus room for at most a quarter more timers while
//! their number grows. Room is kept for at most twice as many as are live, or for 64. Index entries, 4 bytes each, stay
//! as long as a later one is in use: a surviving timer may hold 4 bytes for each timer of the peak for as long as it
//! lives.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Names a timer from its creation until it is removed, however often it is reset. It never names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The number of the timer in order of creation, so that keys are in that order.
    pub(crate) created: NonZeroU64,
    /// Where its place in the heap is recorded.
    slot: u32,
}

/// A set of timers, each with something to do.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    /// No timer is due before its parent; the children of `n` are the [`ARITY`] from `ARITY * n + 1` on.
    heap: Vec<Timer<T>>,
    /// Where in the heap each timer is. A free slot has [`FREE`] set, and links to the next free one.
    slots: Vec<u32>,
    /// The first free slot, or [`NONE`].
    free: u32,
    /// How many slots were freed since `slots` was last truncated.
    freed: usize,
    /// How often a timer was set or reset. It never wraps in practice (2^64).
    sequence: u64,
    /// What the heap counts deadlines from: the first deadline that was set.
    origin: Option<Instant>,
}

#[derive(Debug)]
struct Timer<T> {
    order: Order,
    created: NonZeroU64,
    slot: u32,
    what: T,
}

/// A deadline and a sequence number in one integer, so that comparing two takes no branch, which saves a fifth to a
/// half when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order(u128);

/// How many children a node of the heap has.
const ARITY: usize = 4;

const FREE: u32 = 1 << 31;
const NONE: u32 = FREE - 1;

/// Room for this many is kept, however few there are.
const KEPT: usize = 64;

impl<T> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { heap: Vec::new(), slots: Vec::new(), free: NONE, freed: 0, sequence: 0, origin: None }
    }

    /// Creates a set whose timers are numbered from `start` on.
    pub(crate) fn numbered_from(start: u64) -> Timers<T> {
        Timers { sequence: start, ..Timers::new() }
    }

    /// Adds a timer. Deadlines may lie 292 years apart; later ones count as that.
    pub(crate) fn insert(&mut self, deadline: Instant, what: T) -> Key {
        self.origin = self.origin.or(Some(deadline));
        let order = self.take_order(deadline);
        let created = NonZeroU64::new(self.sequence).expect("one was just taken");
        let slot = self.take_slot();
        make_room(&mut self.heap);
        self.heap.push(Timer { order, created, slot, what });
        self.rise(self.heap.len() - 1);
        Key { created, slot }
    }

    /// Moves a timer to another deadline; its key and what it does stay the same. It counts as created now, for T1 and
    /// for marks. Returns `false` if it was removed before.
    pub(crate) fn reset(&mut self, key: Key, deadline: Instant) -> bool {
        let Some(place) = self.place(key) else { return false };
        self.heap[place].order = self.take_order(deadline);
        self.settle(place);
        true
    }

    /// Removes a timer. Returns what it was to do, or `None` if it was removed before.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        Some(self.take(self.place(key)?))
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.place(key)?;
        Some(&mut self.heap[place].what)
    }

    /// Returns when a timer is due, or `None` if it was removed.
    pub(crate) fn deadline(&self, key: Key) -> Option<Instant> {
        self.time(self.heap[self.place(key)?].order)
    }

    /// Returns when the earliest timer is due: exactly, since no cancelled timer is in the way. O(1).
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.time(self.heap.first()?.order)
    }

    /// Returns a mark in the order of setting: what is set from here on is not due for a
    /// [`first_due`](Timers::first_due) that is given this mark.
    pub(crate) fn mark(&self) -> u64 {
        self.sequence
    }

    /// Returns the earliest timer, if it is due at `now` and was set before `mark` (T3). It stays: the caller removes
    /// or resets it before it does what the timer is for, which may then cancel and set it.
    ///
    /// In the meantime no timer may be set for before `now`; then the first one that is younger than the mark has only
    /// younger ones behind it.
    pub(crate) fn first_due(&self, now: Instant, mark: u64) -> Option<Key> {
        let Timer { order, created, slot, .. } = self.heap.first()?;
        (order.ns() <= self.ns(now) && order.sequence() <= mark).then_some(Key { created: *created, slot: *slot })
    }

    /// Takes out all remaining timers, in order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let mut left = std::mem::replace(self, Timers { sequence: self.sequence, ..Timers::new() });
        std::iter::from_fn(move || {
            let &Timer { created, slot, .. } = left.heap.first()?;
            left.remove(Key { created, slot })
        })
    }

    fn take_order(&mut self, deadline: Instant) -> Order {
        self.sequence += 1;
        Order::new(self.ns(deadline), self.sequence)
    }

    /// Returns how long after the origin a time is; negative if before.
    fn ns(&self, time: Instant) -> i64 {
        let origin = self.origin.unwrap_or(time);
        let ns = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
        // Compared, not subtracted: on Windows, subtracting a time from another one that is less than a clock tick
        // earlier gives zero, and a timer would be early.
        if time >= origin { ns(time - origin) } else { -ns(origin - time) }
    }

    fn time(&self, order: Order) -> Option<Instant> {
        let distance = Duration::from_nanos(order.ns().unsigned_abs());
        self.origin.map(|origin| if order.ns() < 0 { origin - distance } else { origin + distance })
    }

    // The heap.

    /// Returns where in the heap a timer is.
    fn place(&self, key: Key) -> Option<usize> {
        // A free slot leads out of the heap, a reused one to a timer with another number.
        let place = *self.slots.get(key.slot as usize)? as usize;
        (self.heap.get(place)?.created == key.created).then_some(place)
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

    /// Moves the timer at this place to where it belongs.
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
        while ARITY * place + 1 < self.heap.len() {
            let mut least = ARITY * place + 1;
            for child in least + 1..self.heap.len().min(least + ARITY) {
                if self.heap[child].order < self.heap[least].order {
                    least = child;
                }
            }
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
            make_room(&mut self.slots);
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

    /// Releases memory if there is far more than needed. Only then, and rarely enough that it costs O(1) for each timer
    /// that was removed.
    fn give_back(&mut self) {
        let live = self.heap.len();
        if self.heap.capacity() > KEPT && live < self.heap.capacity() / 2 {
            self.heap.shrink_to((live + live / 4).max(KEPT));
        }
        let much = live < self.slots.len() / 2 && self.freed > self.slots.len() / 8;
        if self.slots.len() > KEPT && (much || live == 0) {
            self.cut_slots();
        }
    }

    /// Releases the free slots at the end. Those before it cannot move, since keys name them.
    fn cut_slots(&mut self) {
        let mut end = self.slots.len();
        while end > 0 && self.slots[end - 1] & FREE != 0 {
            end -= 1;
        }
        self.slots.truncate(end);
        self.slots.shrink_to(KEPT);
        self.free = NONE;
        // The lowest slots are taken first, so that the end becomes free over time.
        for number in (0..end).rev() {
            if self.slots[number] & FREE != 0 {
                self.slots[number] = FREE | self.free;
                self.free = number as u32;
            }
        }
        self.freed = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

/// Grows a list by a quarter: if it doubled, up to half of it would be unused.
fn make_room<E>(list: &mut Vec<E>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(KEPT / 4));
    }
}

impl Order {
    fn new(ns: i64, sequence: u64) -> Order {
        // With the sign bit flipped, a signed number has its order as an unsigned one.
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

    fn pop_due<T>(timers: &mut Timers<T>, now: Instant, mark: u64) -> Option<T> {
        timers.first_due(now, mark).and_then(|key| timers.remove(key))
    }

    fn due(timers: &mut Timers<u32>, now: Instant) -> Vec<u32> {
        let mark = timers.mark();
        std::iter::from_fn(|| pop_due(timers, now, mark)).collect()
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
            assert!(timers.remove(*key).is_none(), "removing it again finds nothing");
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
        assert_eq!(pop_due(&mut timers, now, mark), Some(0));
        timers.insert(now, 1);
        assert_eq!(pop_due(&mut timers, now, mark), None);
        assert_eq!(due(&mut timers, now), [1]);
    }

    #[test]
    fn t3_what_is_set_anew_while_it_is_called_keeps_its_key_and_waits_for_the_next_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut timers = Timers::new();
        let key = timers.insert(now, 0);
        let mark = timers.mark();
        assert_eq!(timers.first_due(now, mark), Some(key));
        assert!(timers.reset(key, now));
        assert_eq!(timers.first_due(now, mark), None);
        assert_eq!(timers.first_due(now, timers.mark()), Some(key));
        assert!(timers.reset(key, later));
        assert_eq!((timers.deadline(key), timers.next_deadline()), (Some(later), Some(later)));
        assert_eq!(timers.remove(key), Some(0));
        assert!(!timers.reset(key, now));
        assert_eq!((timers.deadline(key), timers.next_deadline()), (None, None));
    }

    /// Pseudorandom numbers, which are the same for the same seed.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// Timers, and beside them the simplest thing that does the same: a sorted list.
    struct Twins {
        timers: Timers<usize>,
        /// Deadline, how many were set before it, and which it is.
        list: Vec<(Instant, u64, usize)>,
        /// All keys there ever were, indexed by timer.
        keys: Vec<Key>,
        sequence: u64,
    }

    impl Twins {
        fn set(&mut self, deadline: Instant, which: usize) {
            let at = self.list.partition_point(|entry| (entry.0, entry.1) < (deadline, self.sequence));
            self.list.insert(at, (deadline, self.sequence, which));
            self.sequence += 1;
        }

        /// Takes one out of the list, if it is there.
        fn unset(&mut self, which: usize) -> bool {
            let at = self.list.iter().position(|entry| entry.2 == which);
            at.map(|at| self.list.remove(at)).is_some()
        }

        fn insert(&mut self, deadline: Instant) {
            let which = self.keys.len();
            self.keys.push(self.timers.insert(deadline, which));
            self.set(deadline, which);
        }

        fn reset(&mut self, which: usize, deadline: Instant) {
            let there = self.unset(which);
            assert_eq!(self.timers.reset(self.keys[which], deadline), there);
            if there {
                self.set(deadline, which);
            }
        }

        fn remove(&mut self, which: usize) {
            let key = self.keys[which];
            let deadline = self.list.iter().find(|entry| entry.2 == which).map(|entry| entry.0);
            assert_eq!(self.timers.deadline(key), deadline);
            assert_eq!(self.timers.get_mut(key).copied(), deadline.map(|_| which));
            assert_eq!(self.timers.remove(key), self.unset(which).then_some(which));
        }

        /// Takes out the first timer that is due, or resets it.
        fn fire(&mut self, now: Instant, mark: u64, next: Option<Instant>) -> bool {
            let due = self.list.first().filter(|first| first.0 <= now && first.1 < mark).map(|first| first.2);
            assert_eq!(self.timers.first_due(now, mark), due.map(|which| self.keys[which]));
            match (due, next) {
                (Some(which), Some(next)) => self.reset(which, next),
                (Some(which), None) => self.remove(which),
                (None, _) => {}
            }
            due.is_some()
        }

        fn check(&mut self) {
            assert_eq!(self.timers.len(), self.list.len());
            assert_eq!(self.timers.next_deadline(), self.list.first().map(|first| first.0));
            assert_eq!(self.timers.mark(), self.sequence);
        }
    }

    /// Runs a sequence of all operations. `many` is about how many timers there are at most.
    fn compare_with_list(seed: u64, many: u64) {
        let mut numbers = Numbers(seed);
        let origin = Instant::now() + Duration::from_secs(3600);
        // Few different deadlines make many equal ones; some lie before the first that was set, some a century ahead.
        let unit = Duration::from_nanos([1, 1_000_003, 3_000_000_000][numbers.below(3) as usize]);
        let mut now = origin - 40 * unit;
        let mut twins = Twins { timers: Timers::new(), list: Vec::new(), keys: Vec::new(), sequence: 0 };
        let mut fills = true;
        for _ in 0..10 * many {
            let far = Duration::from_secs(u64::from(numbers.below(50) == 0) * 100 * 365 * 86_400);
            let deadline = now + unit * numbers.below(80) as u32 + far;
            let which = numbers.below(1 + twins.keys.len() as u64) as usize;
            let exists = which < twins.keys.len();
            match numbers.below(8) {
                0..=3 if fills => twins.insert(deadline),
                0..=4 if exists => twins.remove(which),
                5 if exists => twins.reset(which, deadline),
                6 => {
                    now += unit * numbers.below(4) as u32;
                    let mark = twins.timers.mark();
                    let again =
                        |numbers: &mut Numbers| (numbers.below(3) == 0).then(|| now + unit * numbers.below(3) as u32);
                    while twins.fire(now, mark, again(&mut numbers)) {
                        // Like callbacks: for now, or for later.
                        match numbers.below(4 * twins.keys.len() as u64) as usize {
                            which if which < twins.keys.len() => twins.reset(which, now),
                            _ if numbers.below(2) == 0 && fills => twins.insert(now + unit * numbers.below(3) as u32),
                            _ => {}
                        }
                    }
                }
                _ => twins.insert(deadline),
            }
            twins.check();
            // Alternates between growing and shrinking.
            fills = if fills { (twins.list.len() as u64) < many } else { twins.list.len() < 3 };
        }
        let expected: Vec<_> = twins.list.iter().map(|entry| entry.2).collect();
        assert_eq!(twins.timers.take_all().collect::<Vec<_>>(), expected);
        twins.list.clear();
        twins.check();
        (0..twins.keys.len()).for_each(|which| twins.remove(which));
    }

    #[test]
    fn t1_t2_t3_the_same_as_a_sorted_list() {
        (0..300).for_each(|seed| compare_with_list(seed, 20));
        (0..20).for_each(|seed| compare_with_list(seed, 400));
    }

    /// Returns the bytes of both arrays.
    fn memory<T>(timers: &Timers<T>) -> usize {
        timers.heap.capacity() * size_of::<Timer<T>>() + timers.slots.capacity() * size_of::<u32>()
    }

    #[test]
    fn t2_a_million_cancelled_timers_give_their_memory_back() {
        let start = Instant::now();
        let mut numbers = Numbers(7);
        let mut timers = Timers::new();
        let mut keys: Vec<_> = (0..1_100_000).map(|n| timers.insert(start + Duration::from_nanos(n), [n, n])).collect();
        let peak = memory(&timers);
        assert!(peak <= 65 * keys.len(), "a quarter more than it takes, at most: {peak} bytes");
        for n in (1..keys.len()).rev() {
            keys.swap(n, numbers.below(n as u64 + 1) as usize);
        }
        for left in [100_000, 1_000, 10, 0] {
            for key in keys.drain(left..) {
                assert!(timers.remove(key).is_some());
            }
            assert!(timers.heap.capacity() <= (2 * left + 1).max(KEPT), "{left} left");
            assert!(timers.slots.capacity() <= 1_375_000 + KEPT, "{left} left");
        }
        assert!(memory(&timers) <= KEPT * (size_of::<Timer<[u64; 2]>>() + size_of::<u32>()), "of {peak} bytes");
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
        // New ones take the lowest slots, so that nothing holds the end when the survivors go.
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
            if n % 3 == 0 || !timers.reset(keys[which], deadline) {
                timers.remove(keys[which]);
                keys[which] = timers.insert(deadline, n);
            }
            while !due(&mut timers, now).is_empty() {}
            assert!(timers.heap.capacity() <= 200 && timers.slots.capacity() <= 200);
        }
    }
}
