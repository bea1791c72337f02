// The store: values, when they expire, and how much memory they take.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::hash::Keyed;
use super::number;

/// The approximate overhead of a key and its value.
const ENTRY_BYTES: usize = 128;

/// The approximate overhead of an expiry time.
const DEADLINE_BYTES: usize = 64;

/// When a smaller value replaces a larger one, up to this much capacity is kept.
const KEPT_BYTES: usize = 64;

/// Values by key. An expired value counts as missing, though it may take memory until [`Store::expire`].
pub(crate) struct Store {
    values: HashMap<Box<[u8]>, Entry, Keyed>,
    deadlines: BTreeSet<(Instant, Box<[u8]>)>,
    bytes: usize,
    bytes_max: usize,
}

struct Entry {
    value: Vec<u8>,
    expires: Option<Instant>,
}

/// When a new value expires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Never,
    /// When the previous value would have expired.
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
        Store { values: HashMap::default(), deadlines: BTreeSet::new(), bytes: 0, bytes_max }
    }

    /// Returns the value. `now` is called only if the value has an expiry time.
    #[inline(always)]
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

    /// Removes a key, and returns whether it existed.
    pub(crate) fn remove(&mut self, key: &[u8], now: &dyn Fn() -> Instant) -> bool {
        let Some(entry) = self.values.remove(key) else { return false };
        self.bytes -= key.len() + entry.value.len() + ENTRY_BYTES;
        self.set_deadline(key, entry.expires, None);
        !entry.is_over(now)
    }

    /// Adds to a number, which is 0 if the key does not exist, and returns the sum.
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

    /// Removes at most `count_max` expired keys, and returns when the next one expires.
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

    /// Returns whether more is stored than allowed; nothing may be added then.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Returns how many keys there are, and how many of them have an expiry time.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.values.len(), self.deadlines.len())
    }

    /// Returns approximately how many bytes are stored, and the limit.
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
        // Adding to an expired key that is not removed yet starts at 0, and the new value does not expire.
        assert_eq!((store.add(b"a", 5, &|| at(10)), store.get(b"a", &|| at(99))), (Ok(5), Some(&b"5"[..])));
        assert!(!store.remove(b"b", &|| at(20)));
        // An expired key has no expiry time that could be kept.
        store.set(b"d", b"4", Expiry::At(at(10)), &|| begin);
        store.set(b"d", b"5", Expiry::Keep, &|| at(10));
        assert_eq!(store.get(b"d", &|| at(99)), Some(&b"5"[..]));
        assert!(store.remove(b"d", &|| at(99)));
        // Setting a key again removes its expiry time, unless that is to be kept.
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
