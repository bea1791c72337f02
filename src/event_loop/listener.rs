//! A listener as its users see it.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::connection::Settings;
use crate::event_loop::Core;
use crate::event_loop::work::Discarded;
use crate::ids::Id;
use crate::{Address, Context, Detached, Limits, ListenerError, ListenerId};

/// A listener as callbacks see it, by [`Context::listener`].
pub struct Listener<'a> {
    pub(super) core: &'a mut Core,
    pub(super) id: Id,
}

impl Listener<'_> {
    /// The listener's name in its loop.
    pub fn id(&self) -> ListenerId {
        ListenerId(self.id)
    }

    /// The address it listens on, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// What the system says; `NotConnected` once it is closed.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.core.parts.slots.listener(self.id).ok_or(io::ErrorKind::NotConnected)?.socket.local_addr()
    }

    /// The socket, for options that have no method here (`socket2::SockRef::from(&fd)` has all of them); many are
    /// handed on to what is accepted. `None` once it is closed, and where it is simulated. What has to be set before
    /// the socket is bound is for [`listen_on`](Context::listen_on).
    ///
    /// Accepting through it goes behind the loop's back. With `SO_LINGER` set, closing what it accepts blocks the loop.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.core.parts.slots.listener(self.id)?.socket.as_fd()
    }

    /// The socket, for options that have no method here; `socket2::SockRef::from(&socket)` has all of them.
    #[cfg(windows)]
    pub fn socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        self.core.parts.slots.listener(self.id)?.socket.as_socket()
    }

    /// Whether the path of a Unix socket is removed when the listener is closed, if it is still its own. It is by default
    /// where [`Context::listen_unix`] has made the socket. Who hands the socket to another process turns it off, and that one
    /// may turn it on: the socket that stands at the path then is taken for this one. For others than paths it means
    /// nothing.
    ///
    /// # Errors
    ///
    /// Where it is turned on and no socket stands at the path.
    #[cfg(unix)]
    pub fn set_unlinks(&mut self, unlinks: bool) -> io::Result<()> {
        let listener = self.core.parts.slots.listener_mut(self.id).ok_or(io::ErrorKind::NotConnected)?;
        listener.socket.set_unlinks(unlinks)
    }

    /// Accepts nothing until [`resume`](Listener::resume); who comes meanwhile waits in the backlog.
    pub fn pause(&mut self) {
        self.core.parts.pause_listener(self.id);
    }

    /// Takes [`pause`](Listener::pause) back, beginning with the loop's next turn.
    pub fn resume(&mut self) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            listener.paused = false;
            self.core.parts.look_again(self.id);
        }
    }

    /// Closes it; who waits in the backlog is reset by the system. Its connections stay.
    pub fn close(&mut self) {
        self.core.parts.close_listener(self.id);
    }

    /// Sets the limits of the listener and of what it accepts from now on. `backlog` has no effect here.
    pub fn set_limits(&mut self, limits: Limits) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            listener.settings = Rc::new(Settings::new(limits, Some(self.id)));
            self.core.parts.look_again(self.id);
        }
    }

    /// Returns how many connections it has that are established.
    pub fn connection_count(&self) -> usize {
        self.core.parts.slots.listener(self.id).map_or(0, |listener| listener.live)
    }

    /// Has what it accepts from now on given to `receiver`, as connections that no loop has, in place of asking the
    /// factory: for a loop in another thread ([`Feeder::feed`](crate::Feeder::feed)), or for a thread that reads and waits.
    /// It counts none of them, so its caps do not hold; pausing does, from within `receiver` too.
    pub fn on_accept(&mut self, receiver: impl FnMut(&mut Context<'_>, Detached) + 'static) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            let replaced = listener.receiver.replace(Box::new(receiver));
            self.core.parts.work.discard_any(replaced.map(Discarded::AcceptHook));
            self.core.parts.look_again(self.id);
        }
    }

    /// Sets what is called when accepting fails (rules [A1](crate::guide::rules#a1) and [A2](crate::guide::rules#a2)).
    /// It is logged in any case, at most once a second.
    pub fn on_error(&mut self, hook: impl FnMut(&mut Context<'_>, ListenerId, &ListenerError) + 'static) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            let replaced = listener.hook.replace(Box::new(hook));
            self.core.parts.work.discard_any(replaced.map(Discarded::Hook));
        }
    }
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("id", &self.id())
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}
