//! An ordered map from (deadline, order of creation).

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Payload, Structure};

#[derive(Default)]
pub(crate) struct OrderedMap {
    pending: BTreeMap<(Instant, u64), Payload>,
    next_sequence: u64,
}

impl Structure for OrderedMap {
    type Key = (Instant, u64);

    fn insert(&mut self, deadline: Instant, what: Payload) -> Self::Key {
        let key = (deadline, self.next_sequence);
        self.next_sequence += 1;
        self.pending.insert(key, what);
        key
    }

    fn remove(&mut self, key: Self::Key) -> Option<Payload> {
        self.pending.remove(&key)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(key, _)| key.0)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Payload> {
        let first = self.pending.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
