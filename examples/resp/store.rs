// What is stored, how long, and how much of it.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::number;

/// What a key costs beside its bytes and its value's, about.
const ENTRY_BYTES: usize = 128;

/// The same for when it expires.
const DEADLINE_BYTES: usize = 64;

/// A value that is replaced by a smaller one keeps its room up to this.
const KEPT_BYTES: usize = 64;

/// Values by keys. What is over its time is not there, though it may take room until [`Store::expire`].
pub(crate) struct Store {
    // With std's hasher: a peer that knew which keys collide could make each look-up a search.
    values: HashMap<Box<[u8]>, Entry>,
    deadlines: BTreeSet<(Instant, Box<[u8]>)>,
    bytes: usize,
    bytes_max: usize,
}

struct Entry {
    value: Vec<u8>,
    expires: Option<Instant>,
}

/// When a value that is set goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Never,
    /// When what was there before would have gone.
    Keep,
    At(Instant),
}

#[derive(Debug, PartialEq)]
pub(crate) enum NotAdded {
    NoInteger,
    Overflow,
}

impl Store {
    pub(crate) fn new(bytes_max: usize) -> Store {
        Store { values: HashMap::new(), deadlines: BTreeSet::new(), bytes: 0, bytes_max }
    }

    /// `now` is asked for only where the value has a time.
    pub(crate) fn get(&self, key: &[u8], now: &dyn Fn() -> Instant) -> Option<&[u8]> {
        self.values.get(key).filter(|entry| !entry.is_over(now)).map(|entry| &entry.value[..])
    }

    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry, now: &dyn Fn() -> Instant) {
        let Some(entry) = self.values.get_mut(key) else {
            let expires = if let Expiry::At(expires) = expiry { Some(expires) } else { None };
            self.bytes += key.len() + value.len() + ENTRY_BYTES;
            self.values.insert(key.into(), Entry { value: value.to_vec(), expires });
            return self.set_deadline(key, None, expires);
        };
        let before = entry.expires;
        entry.expires = match expiry {
            Expiry::Never => None,
            Expiry::Keep if entry.is_over(now) => None,
            Expiry::Keep => before,
            Expiry::At(expires) => Some(expires),
        };
        let expires = entry.expires;
        self.bytes = self.bytes - entry.value.len() + value.len();
        entry.replace(value);
        if before != expires {
            self.set_deadline(key, before, expires);
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: &dyn Fn() -> Instant) -> bool {
        let Some(entry) = self.values.remove(key) else { return false };
        self.bytes -= key.len() + entry.value.len() + ENTRY_BYTES;
        self.set_deadline(key, entry.expires, None);
        !entry.is_over(now)
    }

    /// Adds to a number, 0 where there is none, and answers what comes out.
    pub(crate) fn add(&mut self, key: &[u8], addend: i64, now: &dyn Fn() -> Instant) -> Result<i64, NotAdded> {
        let Some(entry) = self.values.get_mut(key).filter(|entry| !entry.is_over(now)) else {
            self.set(key, addend.to_string().as_bytes(), Expiry::Never, now);
            return Ok(addend);
        };
        let number = number::parse(&entry.value).ok_or(NotAdded::NoInteger)?;
        let sum = number.checked_add(addend).ok_or(NotAdded::Overflow)?;
        self.bytes -= entry.value.len();
        entry.value.clear();
        number::write(&mut entry.value, sum);
        self.bytes += entry.value.len();
        Ok(sum)
    }

    /// Removes what is over its time, at most so many at once, and answers when there is something to remove next.
    pub(crate) fn expire(&mut self, now: Instant, count_max: usize) -> Option<Instant> {
        for _ in 0..count_max {
            let Some((_, key)) = self.deadlines.first().filter(|(expires, _)| *expires <= now).cloned() else { break };
            self.remove(&key, &|| now);
        }
        self.next_deadline()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(expires, _)| *expires)
    }

    /// Whether there is more than may be: nothing may be added then.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// How many keys there are, and how many of them will go by themselves.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.values.len(), self.deadlines.len())
    }

    /// How many bytes there are, about, and how many there may be.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.bytes_max)
    }

    fn set_deadline(&mut self, key: &[u8], before: Option<Instant>, expires: Option<Instant>) {
        if let Some(before) = before {
            self.deadlines.remove(&(before, key.into()));
            self.bytes -= key.len() + DEADLINE_BYTES;
        }
        if let Some(expires) = expires {
            self.deadlines.insert((expires, key.into()));
            self.bytes += key.len() + DEADLINE_BYTES;
        }
    }
}

impl Entry {
    fn is_over(&self, now: &dyn Fn() -> Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now())
    }

    fn replace(&mut self, value: &[u8]) {
        self.value.clear();
        self.value.shrink_to(value.len().max(KEPT_BYTES));
        self.value.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn resp_what_is_over_its_time_is_gone() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut store = Store::new(1 << 20);
        store.set(b"a", b"1", Expiry::At(at(10)), &|| begin);
        store.set(b"b", b"2", Expiry::At(at(20)), &|| begin);
        store.set(b"c", b"3", Expiry::Never, &|| begin);
        assert_eq!(store.get(b"a", &|| at(9)), Some(&b"1"[..]));
        assert_eq!(store.get(b"a", &|| at(10)), None);
        // It counts from nothing, for ever, though it is not removed yet.
        assert_eq!((store.add(b"a", 5, &|| at(10)), store.get(b"a", &|| at(99))), (Ok(5), Some(&b"5"[..])));
        assert!(!store.remove(b"b", &|| at(20)));
        // Nor has what is over its time one that could be kept.
        store.set(b"d", b"4", Expiry::At(at(10)), &|| begin);
        store.set(b"d", b"5", Expiry::Keep, &|| at(10));
        assert_eq!(store.get(b"d", &|| at(99)), Some(&b"5"[..]));
        assert!(store.remove(b"d", &|| at(99)));
        // Setting anew takes the time away, unless it is to be kept.
        store.set(b"b", b"2", Expiry::At(at(20)), &|| begin);
        store.set(b"b", b"3", Expiry::Keep, &|| begin);
        assert_eq!((store.add(b"b", 1, &|| begin), store.next_deadline()), (Ok(4), Some(at(20))));
        store.set(b"b", b"3", Expiry::Never, &|| begin);
        assert_eq!(
            (store.get(b"b", &|| at(99)), store.next_deadline(), store.counts()),
            (Some(&b"3"[..]), None, (3, 0))
        );
    }

    #[test]
    fn resp_what_nobody_asks_for_is_removed_in_time_and_a_part_at_once() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut store = Store::new(1 << 20);
        for n in 0..10_u64 {
            store.set(n.to_string().as_bytes(), b"x", Expiry::At(at(n)), &|| begin);
        }
        assert_eq!((store.expire(at(4), 3), store.counts()), (Some(at(3)), (7, 7)));
        assert_eq!((store.expire(at(4), 3), store.counts()), (Some(at(5)), (5, 5)));
        assert_eq!((store.expire(at(99), 99), store.counts(), store.bytes().0), (None, (0, 0), 0));
    }

    #[test]
    fn resp_what_is_stored_is_counted_and_bounded() {
        let now = || Instant::now();
        let later = Expiry::At(Instant::now() + Duration::from_secs(99));
        let mut store = Store::new(1000);
        store.set(b"key", &[0; 900], Expiry::Never, &now);
        assert!(store.is_full());
        store.set(b"key", b"", later, &now);
        assert!(!store.is_full());
        let with_time = store.bytes().0;
        store.set(b"key", b"", Expiry::Never, &now);
        assert_eq!((store.bytes().0, with_time), (3 + ENTRY_BYTES, 6 + ENTRY_BYTES + DEADLINE_BYTES));
        store.set(b"key", b"12", later, &now);
        assert!(store.remove(b"key", &now) && !store.remove(b"key", &now));
        assert_eq!((store.bytes().0, store.counts()), (0, (0, 0)));
    }

    #[test]
    fn resp_only_numbers_are_added_to() {
        let now = || Instant::now();
        let mut store = Store::new(1 << 20);
        store.set(b"n", i64::MAX.to_string().as_bytes(), Expiry::Never, &now);
        assert_eq!(store.add(b"n", 1, &now), Err(NotAdded::Overflow));
        assert_eq!(store.add(b"n", -1, &now), Ok(i64::MAX - 1));
        store.set(b"n", b"1.0", Expiry::Never, &now);
        assert_eq!((store.add(b"n", 1, &now), store.get(b"n", &now)), (Err(NotAdded::NoInteger), Some(&b"1.0"[..])));
    }
}
