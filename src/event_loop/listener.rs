//! A listener as its users see it.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::connection::Settings;
use crate::event_loop::Core;
use crate::event_loop::work::Discarded;
use crate::ids::Id;
use crate::{Address, Context, Detached, Limits, ListenerError, ListenerId};

/// A listener as callbacks see it, see [`Context::listener`].
pub struct Listener<'a> {
    pub(super) core: &'a mut Core,
    pub(super) id: Id,
}

impl Listener<'_> {
    /// Returns the listener's id in its loop.
    pub fn id(&self) -> ListenerId {
        ListenerId(self.id)
    }

    /// Returns the address it listens on, with the port that the system chose; if there are several, the first.
    ///
    /// # Errors
    ///
    /// `NotConnected` once it is closed, and any error of the system.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.listener()?.sockets.first().local_addr()
    }

    /// Returns the addresses it listens on, in the order in which they were given, with the ports that the system
    /// chose.
    ///
    /// # Errors
    ///
    /// See [`local_addr`](Listener::local_addr).
    pub fn local_addrs(&self) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        let sockets = &self.listener()?.sockets;
        for index in 0..sockets.len() {
            addresses.push(sockets.get(index).local_addr()?);
        }
        Ok(addresses)
    }

    fn listener(&self) -> io::Result<&crate::listener::Listener> {
        self.core.parts.slots.listener(self.id).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns the sockets, in the order of [`local_addrs`](Listener::local_addrs), for options that have no method
    /// here (`socket2::SockRef::from(&fd)` has all of them); many options are inherited by accepted sockets. Empty once
    /// it is closed, and if it is simulated. Options that must be set before a socket is bound need a socket that
    /// listens already, see [`Listen`](crate::Listen).
    ///
    /// Accepting through one goes behind the loop's back. With `SO_LINGER` set, closing an accepted
    /// connection blocks the loop.
    #[cfg(unix)]
    pub fn sockets(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.listener().into_iter().flat_map(|listener| listener.sockets.each()).filter_map(|socket| socket.as_fd())
    }

    /// Returns the sockets, for options that have no method here (`socket2::SockRef::from(&socket)` has all of them).
    #[cfg(windows)]
    pub fn sockets(&self) -> impl Iterator<Item = std::os::windows::io::BorrowedSocket<'_>> {
        self.listener().into_iter().flat_map(|listener| listener.sockets.each()).filter_map(|socket| socket.as_socket())
    }

    /// Sets whether the paths of Unix sockets are removed when the listener is closed, if they still belong to it. By
    /// default they are if the loop made the sockets. A process that passes the socket to another one turns this off,
    /// and the other may turn it on: the socket at the path is then taken to be this one. Has no effect on addresses
    /// that are not paths.
    ///
    /// # Errors
    ///
    /// If it is turned on and there is no socket at the path.
    pub fn set_unlinks(&mut self, unlinks: bool) -> io::Result<()> {
        let listener = self.core.parts.slots.listener_mut(self.id).ok_or(io::ErrorKind::NotConnected)?;
        for index in 0..listener.sockets.len() {
            listener.sockets.get_mut(index).set_unlinks(unlinks)?;
        }
        Ok(())
    }

    /// Accepts nothing until [`resume`](Listener::resume); meanwhile new connections wait in the backlog.
    pub fn pause(&mut self) {
        self.core.parts.pause_listener(self.id);
    }

    /// Undoes [`pause`](Listener::pause), beginning with the loop's next turn.
    pub fn resume(&mut self) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            listener.paused = false;
            self.core.parts.look_again(self.id);
        }
    }

    /// Returns whether it was [paused](Listener::pause) and not resumed since. A listener that is full, or that waits
    /// after a failed accept, is not paused.
    pub fn is_paused(&self) -> bool {
        self.core.parts.slots.listener(self.id).is_some_and(|listener| listener.paused)
    }

    /// Closes all its sockets; connections in the backlog are reset by the kernel. Its established connections stay.
    pub fn close(&mut self) {
        self.core.parts.close_listener(self.id);
    }

    /// Sets the limits of the listener and of the connections that it accepts from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            listener.settings = Rc::new(Settings::new(limits, Some(self.id)));
            self.core.parts.look_again(self.id);
        }
    }

    /// Returns the limits of the listener and of the connections that it accepts; those of the loop once it is closed.
    pub fn limits(&self) -> &Limits {
        let settings = self.core.parts.slots.listener(self.id).map(|listener| &listener.settings);
        &settings.unwrap_or(&self.core.parts.settings).limits
    }

    /// Returns how many established connections it has.
    pub fn connection_count(&self) -> usize {
        self.core.parts.slots.listener(self.id).map_or(0, |listener| listener.live)
    }

    /// Passes the connections that it accepts from now on to `receiver`, as connections that belong to no loop, instead
    /// of calling the factory: for a loop on another thread ([`Feeder::feed`](crate::Feeder::feed)), or for a thread
    /// that does blocking reads. They are not counted, so the listener's caps do not apply; pausing does, also from
    /// within `receiver`. Not part of the public interface.
    #[doc(hidden)]
    pub fn on_accept(&mut self, receiver: impl FnMut(&mut Context<'_>, Detached) + 'static) {
        if let Some(listener) = self.core.parts.slots.listener_mut(self.id) {
            let replaced = listener.receiver.replace(Box::new(receiver));
            self.core.parts.work.discard_any(replaced.map(Discarded::AcceptHook));
            self.core.parts.look_again(self.id);
        }
    }

    /// Sets a function to call when accepting fails (rules [A1](crate::guide::rules#a1) and
    /// [A2](crate::guide::rules#a2)). The failure is logged in any case, at most once a second.
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
