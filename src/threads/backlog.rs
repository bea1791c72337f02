//! The backlog of listeners that have no socket: what waits in it, and which of them takes each.
//!
//! One or more listeners take from it, each on the thread of its loop. Each reports how much room it has; what waits is
//! promised to a listener that has some, which is woken for it. A promise is withdrawn if the room is gone meanwhile.
//! The listener that accepts for them stops when none of them has room, and is woken when one has.
//!
//! Everything is decided under one lock, so no wake-up is lost. Knows neither connections nor loops, so that a model
//! checker can run all interleavings of this very file (`tests/model`).

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, PoisonError};

use super::sync::{Mutex, MutexGuard};

/// Makes a listener's loop look at it again. Called without the lock.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Backlog<T> {
    state: Mutex<State<T>>,
    waiting_max: usize,
}

struct State<T> {
    /// In order of arrival.
    waiting: VecDeque<T>,
    /// How many of them are promised to a taker. The others wait for one to have room.
    promised: usize,
    /// Indexed by their numbers; one that has left keeps its own.
    takers: Vec<Taker>,
    /// The taker that the last one was promised to: among equals, the one after it is next.
    last: usize,
    /// Wakes the listener that accepts for the takers, and has stopped, once one of them has room.
    acceptor: Option<Wake>,
}

/// A listener that takes from the backlog.
#[derive(Clone, Default)]
struct Taker {
    /// `None` before it has joined, and once it has left.
    wake: Option<Wake>,
    room: Room,
    /// How many are promised to it.
    promised: usize,
    /// Whether it has taken one and not reported since how much room it has left.
    is_taking: bool,
    /// Whether it was woken, and has not looked since.
    is_woken: bool,
}

/// How many connections a listener can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many it has.
    pub(crate) connections: usize,
    /// How many more it can have.
    pub(crate) free: usize,
    /// How many more it can have if lingering connections are given up for them; includes `free`.
    pub(crate) with_lingering: usize,
    /// Whether it takes any number beyond that, to refuse them.
    pub(crate) refuses: bool,
}

/// Why something was not put into the backlog, with the thing itself.
pub(crate) enum NotTaken<T> {
    /// The backlog is full.
    Full(T),
    /// No taker is left.
    Gone(T),
}

impl<T> Backlog<T> {
    /// Creates a backlog for this many takers, numbered from 0, in which this many may wait; 0 counts as 1.
    pub(crate) fn new(takers: usize, waiting_max: usize) -> Backlog<T> {
        let takers = vec![Taker::default(); takers];
        // The first turn goes to the first taker.
        let last = takers.len().saturating_sub(1);
        let state = State { waiting: VecDeque::new(), promised: 0, takers, last, acceptor: None };
        Backlog { state: Mutex::new(state), waiting_max: waiting_max.max(1) }
    }

    /// Adds a taker. It has no room until it reports some.
    pub(crate) fn join(&self, taker: usize, wake: Wake) {
        self.lock().takers[taker].wake = Some(wake);
    }

    /// Removes a taker: what was promised to it goes to the others. Returns what is left if it was the last of them.
    pub(crate) fn leave(&self, taker: usize) -> VecDeque<T> {
        let mut state = self.lock();
        state.takers[taker].wake = None;
        state.set_room(taker, Room::default());
        let left = if state.has_takers() { VecDeque::new() } else { mem::take(&mut state.waiting) };
        self.wake(state);
        left
    }

    /// Puts something into the backlog, for the taker with the fewest connections among those with room for it.
    pub(crate) fn push(&self, value: T) -> Result<(), NotTaken<T>> {
        let mut state = self.lock();
        if !state.has_takers() {
            return Err(NotTaken::Gone(value));
        }
        if state.waiting.len() >= self.waiting_max {
            return Err(NotTaken::Full(value));
        }
        state.waiting.push_back(value);
        state.promise();
        self.wake(state);
        Ok(())
    }

    /// Returns whether a taker has room for one more. If none has, `wake` is called once, as soon as one does.
    #[allow(dead_code)] // Only groups ask.
    pub(crate) fn has_room_or_wakes(&self, wake: &Wake) -> bool {
        let mut state = self.lock();
        if state.next_taker().is_some() || !state.has_takers() {
            return true;
        }
        state.acceptor = Some(wake.clone());
        false
    }

    /// Notes that a woken taker looks now, and has to be woken again for later arrivals.
    pub(crate) fn look(&self, taker: usize) {
        self.lock().takers[taker].is_woken = false;
    }

    /// Takes the oldest in the backlog, if one is promised to this taker.
    pub(crate) fn take(&self, taker: usize) -> Option<T> {
        let mut state = self.lock();
        if mem::replace(&mut state.takers[taker].is_taking, false) {
            // The one that it took before has not become a connection.
            state.promise();
        }
        let taken = if state.takers[taker].promised > 0 { state.waiting.pop_front() } else { None };
        if taken.is_some() {
            state.takers[taker].promised -= 1;
            state.takers[taker].is_taking = true;
            state.promised -= 1;
        }
        self.wake(state);
        taken
    }

    /// Notes how much room a taker has now.
    pub(crate) fn set_room(&self, taker: usize, room: Room) {
        let mut state = self.lock();
        state.set_room(taker, room);
        self.wake(state);
    }

    /// Returns how many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Returns how many connections a taker has, as it last reported.
    pub(crate) fn connections(&self, taker: usize) -> usize {
        self.lock().takers[taker].room.connections
    }

    /// Wakes those that have something to do after the last change, without holding the lock.
    fn wake<'a>(&'a self, mut state: MutexGuard<'a, State<T>>) {
        while let Some(wake) = state.next_to_wake() {
            drop(state);
            wake();
            state = self.lock();
        }
    }

    /// Nothing that can panic runs under the lock, so no panic can have left the state half changed.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn has_takers(&self) -> bool {
        self.takers.iter().any(|taker| taker.wake.is_some())
    }

    fn set_room(&mut self, taker: usize, room: Room) {
        let taker = &mut self.takers[taker];
        taker.is_taking = false;
        taker.room = room;
        if !room.refuses && taker.promised > room.with_lingering {
            // Others may have room for the rest.
            self.promised -= taker.promised - room.with_lingering;
            taker.promised = room.with_lingering;
        }
        self.promise();
    }

    /// Promises what waits to takers with room for it.
    fn promise(&mut self) {
        while self.promised < self.waiting.len() {
            let Some(taker) = self.next_taker() else { return };
            self.takers[taker].promised += 1;
            self.promised += 1;
            self.last = taker;
        }
    }

    /// Returns the taker for the next one: that with the fewest connections among those with room. Takers that have to
    /// give up a lingering connection for it come after those that do not, and takers that would refuse it come last.
    fn next_taker(&self) -> Option<usize> {
        let count = self.takers.len();
        let mut first = None;
        for ahead in 1..=count {
            let taker = (self.last + ahead) % count;
            let Some(rank) = self.takers[taker].rank() else { continue };
            match first {
                Some((least, _)) if least <= rank => {}
                _ => first = Some((rank, taker)),
            }
        }
        Some(first?.1)
    }

    fn next_to_wake(&mut self) -> Option<Wake> {
        if self.acceptor.is_some() && (self.next_taker().is_some() || !self.has_takers()) {
            return self.acceptor.take();
        }
        let taker = self.takers.iter_mut().find(|taker| taker.promised > 0 && !taker.is_woken)?;
        taker.is_woken = true;
        taker.wake.clone()
    }
}

impl Taker {
    /// Returns its rank among those with room for one more, the lowest first; `None` if it has no room.
    fn rank(&self) -> Option<(u8, usize)> {
        let coming = self.promised + usize::from(self.is_taking);
        let class = match self.room {
            Room { free, .. } if coming < free => 0,
            Room { with_lingering, .. } if coming < with_lingering => 1,
            Room { refuses: true, .. } => 2,
            _ => return None,
        };
        Some((class, self.room.connections.saturating_add(coming)))
    }
}
