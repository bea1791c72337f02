//! Gives connections to a listener that has no socket.

use std::fmt;
use std::io;
#[cfg(feature = "workers")]
use std::rc::Rc;
use std::sync::Arc;

#[cfg(feature = "workers")]
use crate::filter::AcceptFilter;
use crate::protocol::Factory;
use crate::sys::{Backlog, Fed, Rest, Stream};
use crate::threads::backlog::NotTaken;
use crate::threads::mailbox::PostError;
use crate::{Address, Context, Detached, Handle, ListenerId};
#[cfg(feature = "workers")]
use crate::{Limits, Listen};

/// Gives connections to a listener that has no socket, from any thread: `Clone + Send + Sync`. It does not keep the
/// listener open. Not part of the public interface.
///
/// The listener treats them like accepted connections: its factory is called, and its limits apply. Connections for
/// which it has no room wait in its backlog, in order, as they would in the kernel's.
#[derive(Clone)]
pub struct Feeder {
    backlog: Arc<Backlog>,
    handle: Handle,
    id: ListenerId,
}

impl Feeder {
    /// Creates a listener that takes from a backlog of its own, and the feeder for it.
    pub(crate) fn listen(
        context: &mut Context<'_>,
        address: Address,
        waiting_max: usize,
        factory: Factory,
    ) -> io::Result<Feeder> {
        let backlog = Arc::new(Backlog::new(1, waiting_max));
        let id = context.core.parts.add_fed_listener(backlog.clone(), 0, address, None, factory)?;
        Ok(Feeder { backlog, handle: context.handle(), id: ListenerId(id) })
    }

    /// Puts a connection into the listener's backlog, and wakes its loop. Costs five to seven system calls, which set
    /// the socket up like every other socket of a loop. A connection that was already reset by its peer is dropped.
    ///
    /// # Errors
    ///
    /// Returns the connection: as `Full` if the backlog is full, as `Gone` if the listener or its loop is closed. (Also
    /// as `Gone` if the connection is simulated, since it then belongs to its loop, or if it has
    /// [filters](crate::filter): those of the listener begin anew.)
    pub fn feed(&self, connection: impl Into<Detached>) -> Result<(), PostError<Detached>> {
        let mut connection = connection.into();
        if connection.has_filters() {
            return Err(PostError::Gone(connection));
        }
        let Ok(peer) = connection.prepare() else { return Ok(()) };
        let Detached { stream, unread, unsent, .. } = connection;
        push(&self.backlog, stream.take(), peer, (unread, unsent))
    }

    /// Returns how many connections wait in the backlog.
    pub fn waiting_count(&self) -> usize {
        self.backlog.waiting()
    }

    /// Returns how many established connections the listener has, as last reported by its loop. Those in the backlog
    /// are not included.
    pub fn connection_count(&self) -> usize {
        self.backlog.connections(0)
    }

    /// Returns the id of the listener in its loop.
    pub fn listener_id(&self) -> ListenerId {
        self.id
    }

    /// Returns a handle to the listener's loop.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A backlog that several listeners take from, each in a loop of its own, while one of those loops accepts for all. Not
/// part of the public interface.
#[cfg(feature = "workers")]
#[derive(Clone)]
pub struct SharedBacklog {
    backlog: Arc<Backlog>,
    limits: Option<Limits>,
    refusal: Vec<u8>,
    filters: Vec<AcceptFilter>,
}

#[cfg(feature = "workers")]
impl SharedBacklog {
    /// Creates a backlog for this many listeners, each with the limits of what they listen on together.
    pub fn new(listeners: usize, listen: &Listen) -> SharedBacklog {
        // What waits in it was accepted because one of them had room, so it needs no limit of its own.
        let backlog = Arc::new(Backlog::new(listeners, usize::MAX));
        SharedBacklog {
            backlog,
            limits: listen.own_limits().cloned(),
            refusal: listen.own_refusal().to_vec(),
            filters: listen.own_filters().to_vec(),
        }
    }

    /// Creates the listener with this number, which takes from the backlog.
    ///
    /// # Errors
    ///
    /// `NotConnected` while the loop drains or shuts down, `StorageFull` if no slot is left.
    pub fn listen(
        &self,
        context: &mut Context<'_>,
        number: usize,
        address: Address,
        factory: Factory,
    ) -> io::Result<ListenerId> {
        let (backlog, limits) = (self.backlog.clone(), self.limits.clone());
        let id = context.core.parts.add_fed_listener(backlog, number, address, limits, factory)?;
        if let Some(listener) = context.core.parts.slots.listener_mut(id) {
            listener.refusal = self.refusal.clone();
            listener.filters = Rc::new(self.filters.clone());
        }
        Ok(ListenerId(id))
    }

    /// Gives what a listener accepts from now on to the listeners that take from this backlog. It stops accepting while
    /// none of them has room, and is closed when none is left.
    pub fn accept_by(self, context: &mut Context<'_>, ListenerId(id): ListenerId) {
        let (backlog, wake) = (self.backlog, context.core.parts.threads.wake_of(id));
        let (feeds, wakes) = (backlog.clone(), wake.clone());
        if let Some(mut listening) = context.listener(ListenerId(id)) {
            listening.on_accept(move |context, connection| context.core.parts.feed(id, &feeds, &wakes, connection));
        }
        context.core.parts.stop_unless_room(id, &backlog, &wake);
    }
}

#[cfg(feature = "workers")]
impl fmt::Debug for SharedBacklog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBacklog").field("waiting", &self.backlog.waiting()).finish_non_exhaustive()
    }
}

/// Puts a connection into a backlog, or returns it.
pub(crate) fn push(backlog: &Backlog, stream: Stream, peer: Address, rest: Rest) -> Result<(), PostError<Detached>> {
    let detached = |(stream, peer, (unread, unsent))| Detached::new(stream, Some(peer), unread, unsent);
    let fed = Fed::new(stream, peer, rest).map_err(|parts| PostError::Gone(detached(parts)))?;
    backlog.push(fed).map_err(|error| match error {
        NotTaken::Full(fed) => PostError::Full(detached(fed.into_parts())),
        NotTaken::Gone(fed) => PostError::Gone(detached(fed.into_parts())),
    })
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("listener", &self.id)
            .field("waiting", &self.waiting_count())
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}
