//! How many connections a loop has room for, which of them linger, and which listeners wait for room (rules A2 and A4).
//!
//! Knows no slab, no poller and no clock, and calls no user code: the loop above accepts, refuses and ends connections.

use std::time::Instant;

use super::Listener;
use super::lingering::Lingering;
use super::refused::Refused;
use crate::ids::Id;
use crate::limits::WhenFull;
use crate::sys::Rest;
use crate::threads::backlog::Room;
use crate::time::heap::Key;

pub(crate) struct Admission {
    connections_max: usize,
    /// How many connections have a socket.
    live: usize,
    lingering: Lingering,
    /// Refused peers that were sent a refusal.
    pub(crate) refused: Refused,
    /// Listeners that wait for a descriptor.
    backing_off: Vec<Id>,
    /// Listeners that wait until the loop has fewer connections.
    waiting: Vec<Id>,
    /// Data that came with a connection whose listener was closed by its own factory, until the connection is taken or
    /// refused.
    orphaned_rest: Option<Rest>,
}

impl Admission {
    pub(crate) fn new(connections_max: Option<usize>) -> Admission {
        Admission {
            connections_max: connections_max.unwrap_or(usize::MAX),
            live: 0,
            lingering: Lingering::default(),
            refused: Refused::default(),
            backing_off: Vec::new(),
            waiting: Vec::new(),
            orphaned_rest: None,
        }
    }

    // Connections.

    #[inline]
    pub(crate) fn one_more(&mut self) {
        self.live += 1;
    }

    /// Counts a connection that has closed its socket. Returns whether a listener is waiting for that.
    #[inline]
    pub(crate) fn one_less(&mut self) -> bool {
        self.live -= 1;
        !self.waiting.is_empty()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.live >= self.connections_max
    }

    /// Returns how many more connections a listener can have, including those for which a lingering one is given up.
    pub(crate) fn room(&self, listener: &Listener) -> Room {
        let limits = &listener.settings.limits;
        let connections = listener.live;
        if listener.paused {
            return Room { connections, ..Room::default() };
        }
        let of_listener = places(limits.connections_max, listener.live, listener.lingering);
        let of_loop = places(self.connections_max, self.live, self.lingering.len());
        Room {
            connections,
            free: of_listener.0.min(of_loop.0),
            with_lingering: of_listener.1.min(of_loop.1),
            refuses: limits.when_full == WhenFull::Refuse,
        }
    }

    // Lingering connections.

    pub(crate) fn begin_lingering(&mut self, deadline: Instant, timer: Key, id: Id) {
        self.lingering.insert(deadline, timer, id);
    }

    pub(crate) fn end_lingering(&mut self, deadline: Instant, timer: Key) {
        self.lingering.remove(deadline, timer);
    }

    /// Takes out the lingering connection that would be given up first.
    pub(crate) fn take_oldest_lingering(&mut self) -> Option<Id> {
        self.lingering.pop_first()
    }

    /// Returns the first lingering connection for which `is_meant` holds, starting with the one that would be given up
    /// first.
    pub(crate) fn find_lingering(&self, is_meant: &dyn Fn(Id) -> bool) -> Option<Id> {
        self.lingering.iter().find(|&id| is_meant(id))
    }

    /// Returns the lingering connection whose end would make room for one more connection of a full listener: the
    /// oldest of its own if the listener is at its cap, the oldest of all if the loop is. `None` if that would not be
    /// enough.
    pub(crate) fn lingering_in_the_way(&self, listener: &Listener, is_its_own: &dyn Fn(Id) -> bool) -> Option<Id> {
        let is_over = listener.live > listener.settings.limits.connections_max || self.live > self.connections_max;
        match (is_over, listener.is_full()) {
            (true, _) => None,
            (false, true) => self.find_lingering(is_its_own),
            (false, false) => self.lingering.iter().next(),
        }
    }

    // Listeners that wait.

    /// Makes a listener wait until the loop has fewer connections, if the loop is full.
    pub(crate) fn wait_if_full(&mut self, listener: Id) {
        if self.is_full() && !self.waiting.contains(&listener) {
            self.waiting.push(listener);
        }
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.waiting)
    }

    /// Makes a listener wait for a descriptor.
    pub(crate) fn back_off(&mut self, listener: Id) {
        self.backing_off.push(listener);
    }

    pub(crate) fn end_back_off(&mut self, listener: Id) {
        self.backing_off.retain(|&other| other != listener);
    }

    #[inline]
    pub(crate) fn has_backing_off(&self) -> bool {
        !self.backing_off.is_empty()
    }

    pub(crate) fn take_backing_off(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.backing_off)
    }

    // Data that came with a connection.

    /// A listener was closed by its own factory while that runs: the connection that it decides on still needs this
    /// data.
    pub(crate) fn keep_orphaned_rest(&mut self, rest: Option<Rest>) {
        self.orphaned_rest = rest;
    }

    pub(crate) fn take_orphaned_rest(&mut self) -> Option<Rest> {
        self.orphaned_rest.take()
    }
}

/// Read by the tests of the guarantees.
#[cfg(all(test, feature = "testing"))]
impl Admission {
    pub(crate) fn counts(&self) -> [(&'static str, usize); 3] {
        let refused = self.refused.len();
        [("lingering", self.lingering.len()), ("refused", refused), ("backing off", self.backing_off.len())]
    }
}

/// Returns how many places below a cap are free, and how many including those of lingering connections, which are given
/// up only at the cap and not over it.
fn places(max: usize, live: usize, lingering: usize) -> (usize, usize) {
    max.checked_sub(live).map_or((0, 0), |free| (free, free.saturating_add(lingering)))
}
