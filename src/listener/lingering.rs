//! The lingering connections, in the order in which they will be given up.

use std::collections::VecDeque;
use std::time::Instant;

use crate::ids::Id;
use crate::time::heap::Key;

/// Sorted by deadline. Deadlines mostly arrive in order, so one is mostly added at the end and removed near the front:
/// a queue suffices for that, and needs a third of a map's code.
#[derive(Default)]
pub(crate) struct Lingering(VecDeque<((Instant, Key), Id)>);

impl Lingering {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Iterates over them, starting with the one that will be given up first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Id> + '_ {
        self.0.iter().map(|&(_, id)| id)
    }

    pub(crate) fn insert(&mut self, deadline: Instant, timer: Key, id: Id) {
        let place = self.place(deadline, timer);
        self.0.insert(place, ((deadline, timer), id));
    }

    pub(crate) fn remove(&mut self, deadline: Instant, timer: Key) {
        let place = self.place(deadline, timer);
        if self.0.get(place).is_some_and(|(of, _)| *of == (deadline, timer)) {
            self.0.remove(place);
        }
    }

    fn place(&self, deadline: Instant, timer: Key) -> usize {
        self.0.partition_point(|(of, _)| *of < (deadline, timer))
    }

    pub(crate) fn pop_first(&mut self) -> Option<Id> {
        Some(self.0.pop_front()?.1)
    }
}
