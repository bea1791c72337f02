//! Pending work: lists that methods add to, and that the phases of a turn take from.
//!
//! They hold full ids: what an id names may be gone by then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::vec::Drain;

use super::completions::Waiting;
use super::source::AnySource;
use super::timers::Due;
use crate::connection::detached::Receiver;
use crate::connection::{Extras, Handover};
use crate::filter::{AcceptFilter, ConnectFilter, Filter};
use crate::ids::Id;
use crate::listener::{AcceptHook, Hook};
use crate::protocol::Factory;
use crate::{CloseReason, DatagramProtocol, Protocol};

/// The list of discarded values keeps room for this many: cancelling a million timers must not leave a million-entry
/// buffer.
const KEPT_DISCARDED: usize = 1024;

/// The list of postponed reads keeps room for this many.
const KEPT_UNCONFIRMED: usize = 1024;

/// Ids by rank: the lowest rank is taken out first, and among equal ranks the lowest id.
pub(super) type Ranked = BinaryHeap<Reverse<(u64, Id)>>;

#[derive(Default)]
pub(super) struct Work {
    /// Served in the next turn even if no event arrives. Each id is in it once.
    ready: VecDeque<Id>,
    /// Connections that are to be told that the loop drains, by age.
    untold_of_drain: Ranked,
    /// Connections with a postponed read. Each is in it once.
    unconfirmed: Vec<Id>,
    /// Connections of which a read has failed for lack of memory. One that receives events may be in it several times.
    read_later: Vec<Id>,
    /// A connection that is not read again in this turn, as its protocol wants it.
    read_enough: Option<Id>,
    /// Connections whose `connection_lost` is due.
    lost: Vec<Loss>,
    /// Connections whose slots are to be freed.
    gone: Vec<Id>,
    /// User values that are not needed any more.
    discarded: Vec<Discarded>,
}

/// User values that are not needed any more. They are dropped at the end of the turn, separately and guarded, and never
/// within a call from user code, which may hold a borrow of something that a destructor wants to borrow (C3).
#[allow(dead_code)] // It is held only to be dropped.
pub(super) enum Discarded {
    Protocol(Box<dyn Protocol>),
    DatagramProtocol(Box<dyn DatagramProtocol>),
    Factory(Factory),
    Hook(Hook),
    AcceptHook(AcceptHook),
    Filters(Rc<Vec<AcceptFilter>>),
    ConnectFilters(Vec<ConnectFilter>),
    Filter(Box<dyn Filter>),
    Source(Box<dyn AnySource>),
    Timer(Due),
    Extras(Box<Extras>),
    Receiver(Receiver),
    Completion(Waiting),
}

/// A connection that has ended, and what is to be reported of it.
pub(super) struct Loss {
    pub(super) id: Id,
    pub(super) reason: CloseReason,
    /// The receiver of the connection, if it was detached.
    pub(super) handover: Option<Box<Handover>>,
}

impl Work {
    /// Returns whether nothing is left for this turn's end or the next turn.
    pub(super) fn is_done(&self) -> bool {
        self.ready.is_empty() && self.lost.is_empty() && self.discarded.is_empty() && self.untold_of_drain.is_empty()
    }

    // What is carried over to the next turn.

    pub(super) fn carry_over(&mut self, id: Id) {
        self.ready.push_back(id);
    }

    pub(super) fn carried_over(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn next_carried_over(&mut self) -> Option<Id> {
        self.ready.pop_front()
    }

    // Connections to be told of a drain.

    /// The loop begins to drain; connections that have not been told of an earlier drain are told of this one.
    pub(super) fn tell_of_drain(&mut self, connections: Vec<Id>) {
        self.untold_of_drain = Ranked::new();
        for id in connections {
            self.untold_of_drain.push(Reverse((id.generation.get(), id)));
        }
    }

    pub(super) fn untold_of_drain(&self) -> usize {
        self.untold_of_drain.len()
    }

    /// Takes the oldest of them.
    pub(super) fn next_untold_of_drain(&mut self) -> Option<Id> {
        let Reverse((_, id)) = self.untold_of_drain.pop()?;
        Some(id)
    }

    // Postponed reads.

    /// Notes that a read of a connection is postponed. Returns whether it is the only one.
    pub(super) fn put_off(&mut self, id: Id) -> bool {
        self.unconfirmed.push(id);
        self.unconfirmed.len() == 1
    }

    pub(super) fn take_unconfirmed(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.unconfirmed)
    }

    /// Puts back those that are to be postponed again. Returns whether there are any.
    pub(super) fn put_off_again(&mut self, mut unconfirmed: Vec<Id>) -> bool {
        unconfirmed.shrink_to(KEPT_UNCONFIRMED);
        self.unconfirmed = unconfirmed;
        !self.unconfirmed.is_empty()
    }

    /// Notes that a connection is to be read once there may be memory for it. Returns whether it is the only one.
    pub(super) fn read_later(&mut self, id: Id) -> bool {
        self.read_later.push(id);
        self.read_later.len() == 1
    }

    pub(super) fn take_read_later(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.read_later)
    }

    // A connection that has read enough for this turn.

    /// Sets it, or that there is none. If there is more to read, the loop checks it right after the callback.
    pub(super) fn set_read_enough(&mut self, id: Option<Id>) {
        self.read_enough = id;
    }

    /// Returns whether it is this one, and clears it.
    pub(super) fn take_read_enough(&mut self, id: Id) -> bool {
        self.read_enough.take() == Some(id)
    }

    // Ended connections.

    #[inline]
    pub(super) fn add_loss(&mut self, loss: Loss) {
        self.lost.push(loss);
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn take_lost(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.lost)
    }

    /// Puts the emptied list back, to reuse its memory in the next turn.
    pub(super) fn reuse_lost(&mut self, emptied: Vec<Loss>) {
        if self.lost.is_empty() {
            self.lost = emptied;
        }
    }

    /// Frees a slot once the turn is over.
    #[inline]
    pub(super) fn free(&mut self, id: Id) {
        self.gone.push(id);
    }

    pub(super) fn free_any(&mut self, id: Option<Id>) {
        if let Some(id) = id {
            self.free(id);
        }
    }

    /// Takes the slots that are to be freed.
    pub(super) fn gone(&mut self) -> Drain<'_, Id> {
        self.gone.drain(..)
    }

    // Discarded values.

    pub(super) fn discard(&mut self, value: Discarded) {
        self.discarded.push(value);
    }

    pub(super) fn discard_any(&mut self, value: Option<Discarded>) {
        if let Some(value) = value {
            self.discard(value);
        }
    }

    pub(super) fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    pub(super) fn take_discarded(&mut self) -> Vec<Discarded> {
        std::mem::take(&mut self.discarded)
    }

    /// Puts the emptied list back, to reuse its memory in the next turn.
    pub(super) fn reuse_discarded(&mut self, mut emptied: Vec<Discarded>) {
        emptied.shrink_to(KEPT_DISCARDED);
        if self.discarded.is_empty() {
            self.discarded = emptied;
        }
    }
}

/// For the tests of the guarantees.
#[cfg(all(test, feature = "testing"))]
impl Work {
    pub(super) fn waits_to_be_read(&self, id: Id) -> bool {
        self.read_later.contains(&id)
    }

    pub(super) fn counts(&self) -> [(&'static str, usize); 6] {
        [
            ("to be told of a drain", self.untold_of_drain.len()),
            ("carried over", self.ready.len()),
            ("to be read later", self.read_later.len()),
            ("lost", self.lost.len()),
            ("gone", self.gone.len()),
            ("discarded", self.discarded.len()),
        ]
    }
}
