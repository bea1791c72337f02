//! The sockets of a listener: one, or several that take turns.

use std::io;

use crate::Address;
use crate::ids::Id;
use crate::sys::{self, AcceptError, Stream};

pub(crate) struct Sockets {
    // Apart from the others, since nearly all listeners have just one.
    first: One,
    others: Vec<One>,
    /// The index of the socket whose turn is next.
    next: usize,
}

struct One {
    socket: sys::Listener,
    /// The slot that its token names: the listener's own, or an additional one.
    slot: Option<Id>,
    /// Whether connections may be waiting. Cleared only when accepting would block.
    readable: bool,
}

impl Sockets {
    pub(crate) fn new(first: sys::Listener) -> Sockets {
        Sockets { first: One::new(first), others: Vec::new(), next: 0 }
    }

    /// Adds a socket after the others.
    pub(crate) fn push(&mut self, socket: sys::Listener) {
        self.others.push(One::new(socket));
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.others.len()
    }

    pub(crate) fn get(&self, index: usize) -> &sys::Listener {
        match index.checked_sub(1) {
            None => &self.first.socket,
            Some(index) => &self.others[index].socket,
        }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut sys::Listener {
        &mut self.one_mut(index).socket
    }

    fn one_mut(&mut self, index: usize) -> &mut One {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.others[index],
        }
    }

    /// Sets the slot that the token of a socket names.
    pub(crate) fn set_slot(&mut self, index: usize, slot: Id) -> &mut sys::Listener {
        let one = self.one_mut(index);
        one.slot = Some(slot);
        &mut one.socket
    }

    /// Forgets the slot of a socket, and returns it. `None` if it has none, because it could not be registered.
    pub(crate) fn take_slot(&mut self, index: usize) -> Option<Id> {
        self.one_mut(index).slot.take()
    }

    /// Notes an event for the token of this slot.
    #[inline]
    pub(crate) fn note_readable(&mut self, slot: Id) {
        // A single socket is always tried, whatever its flag says.
        if !self.others.is_empty() {
            self.note_one_readable(slot);
        }
    }

    #[cold]
    fn note_one_readable(&mut self, slot: Id) {
        for index in 0..self.len() {
            let one = self.one_mut(index);
            if one.slot == Some(slot) {
                one.readable = true;
            }
        }
    }

    /// Accepts one connection from the next socket that has one; fails with would-block if none has.
    #[inline]
    pub(crate) fn accept(&mut self) -> Result<(Stream, Address), (AcceptError, io::Error)> {
        if self.others.is_empty() { self.first.socket.accept() } else { self.accept_in_turn() }
    }

    #[cold]
    fn accept_in_turn(&mut self) -> Result<(Stream, Address), (AcceptError, io::Error)> {
        for _ in 0..self.len() {
            let index = self.next;
            self.next = (index + 1) % self.len();
            let one = self.one_mut(index);
            if !one.readable {
                continue;
            }
            match one.socket.accept() {
                Err((AcceptError::Drained, _)) => one.readable = false,
                accepted => return accepted,
            }
        }
        Err((AcceptError::Drained, io::ErrorKind::WouldBlock.into()))
    }

    /// Returns the first socket: the only one, except for listeners on several addresses.
    #[inline]
    pub(crate) fn first(&self) -> &sys::Listener {
        &self.first.socket
    }

    #[inline]
    pub(crate) fn first_mut(&mut self) -> &mut sys::Listener {
        &mut self.first.socket
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &sys::Listener> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl One {
    fn new(socket: sys::Listener) -> One {
        One { socket, slot: None, readable: false }
    }
}
