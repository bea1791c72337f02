//! The sockets of a listener: one, or several that take turns.

use std::io;
use std::iter;

use crate::Address;
use crate::ids::Id;
use crate::sys::{self, AcceptError, Stream};

pub(crate) struct Sockets {
    // Apart from the others, since nearly all listeners have no more.
    first: One,
    others: Vec<One>,
    /// The index of the one whose turn is next.
    next: usize,
}

struct One {
    socket: sys::Listener,
    /// The slot that its token names: the listener's own, or a further one.
    slot: Option<Id>,
    /// Somebody may be waiting. Cleared by would-block only.
    readable: bool,
}

impl Sockets {
    pub(crate) fn new(first: sys::Listener, others: Vec<sys::Listener>) -> Sockets {
        let one = |socket| One { socket, slot: None, readable: false };
        Sockets { first: one(first), others: others.into_iter().map(one).collect(), next: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.others.len()
    }

    fn get_mut(&mut self, index: usize) -> &mut One {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.others[index],
        }
    }

    /// Gives one of them the slot that its token names.
    pub(crate) fn set_slot(&mut self, index: usize, slot: Id) -> &mut sys::Listener {
        let one = self.get_mut(index);
        one.slot = Some(slot);
        &mut one.socket
    }

    /// Forgets the slot of one that could not be registered, and returns it.
    pub(crate) fn take_slot(&mut self, index: usize) -> Option<Id> {
        self.get_mut(index).slot.take()
    }

    /// Returns each of them that has a slot, with that.
    pub(crate) fn registered_mut(&mut self) -> impl Iterator<Item = (Id, &mut sys::Listener)> {
        self.iter_mut().filter_map(|one| Some((one.slot?, &mut one.socket)))
    }

    /// An event came under the token of this slot.
    #[inline]
    pub(crate) fn note_readable(&mut self, slot: Id) {
        // The only one is asked whatever it has.
        if !self.others.is_empty() {
            self.iter_mut().filter(|one| one.slot == Some(slot)).for_each(|one| one.readable = true);
        }
    }

    /// Accepts one connection from the next socket that has one; would-block where none of them has.
    #[inline]
    pub(crate) fn accept(&mut self) -> io::Result<(Stream, Address)> {
        if self.others.is_empty() { self.first.socket.accept() } else { self.accept_in_turn() }
    }

    #[cold]
    fn accept_in_turn(&mut self) -> io::Result<(Stream, Address)> {
        for _ in 0..self.len() {
            let index = self.next;
            self.next = (index + 1) % self.len();
            let one = self.get_mut(index);
            if !one.readable {
                continue;
            }
            match one.socket.accept() {
                Err(error) if AcceptError::of(&error) == AcceptError::Drained => one.readable = false,
                accepted => return accepted,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The only one that there is but for listeners on several addresses; of those, the first.
    #[inline]
    pub(crate) fn first(&self) -> &sys::Listener {
        &self.first.socket
    }

    #[inline]
    pub(crate) fn first_mut(&mut self) -> &mut sys::Listener {
        &mut self.first.socket
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &sys::Listener> {
        iter::once(&self.first).chain(&self.others).map(|one| &one.socket)
    }

    #[cfg(unix)]
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut sys::Listener> {
        self.iter_mut().map(|one| &mut one.socket)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut One> {
        iter::once(&mut self.first).chain(&mut self.others)
    }
}
