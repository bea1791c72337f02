//! What gives connections to a listener that has no socket.

use std::fmt;

use crate::mailbox::PostError;
use crate::sys::{NotFed, Queue};
use crate::{Detached, Handle, ListenerId};

/// Gives connections to a listener that has no socket ([`Context::listen_fed`](crate::Context::listen_fed)), from any
/// thread: `Clone + Send + Sync`. It does not keep the listener open.
///
/// To the listener they are as accepted: its factory is asked, and its limits hold. Those for which it has no room wait in
/// its backlog, in order, as they would in the kernel's.
#[derive(Clone)]
pub struct Feeder {
    queue: Queue,
    handle: Handle,
    id: ListenerId,
}

impl Feeder {
    pub(crate) fn new(queue: Queue, handle: Handle, id: ListenerId) -> Feeder {
        Feeder { queue, handle, id }
    }

    /// Puts a connection into the listener's backlog, and wakes its loop. Costs five to seven system calls, which make
    /// the socket what every socket of a loop is. One that its peer has reset already is dropped.
    ///
    /// # Errors
    ///
    /// With the connection given back: `Full` where [`backlog`](crate::Limits::backlog) connections wait already, `Gone`
    /// where the listener is closed, or its loop. (Also for a simulated connection, which belongs to its loop.)
    pub fn feed(&self, connection: impl Into<Detached>) -> Result<(), PostError<Detached>> {
        let mut connection = connection.into();
        let Ok(peer) = connection.prepare() else { return Ok(()) };
        let Detached { stream, unread, unsent, .. } = connection;
        let back = |stream, peer, (unread, unsent)| Detached::new(stream, Some(peer), unread, unsent);
        match self.queue.push(stream.take(), peer, (unread, unsent)) {
            Ok(to_be_told) => {
                if to_be_told {
                    self.handle.fed(self.id);
                }
                Ok(())
            }
            Err(NotFed::Full(stream, peer, rest)) => Err(PostError::Full(back(stream, peer, rest))),
            Err(NotFed::Gone(stream, peer, rest)) => Err(PostError::Gone(back(stream, peer, rest))),
        }
    }

    /// How many wait in the backlog.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How many connections of the listener stand, as its loop last told; those that wait are not among them.
    pub fn connections(&self) -> usize {
        self.queue.connections()
    }

    /// The name of the listener in its loop.
    pub fn listener(&self) -> ListenerId {
        self.id
    }

    /// A handle to the listener's loop.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("listener", &self.id)
            .field("waiting", &self.waiting())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
