//! The simulated objects as the variants of `sys`' enums hold them: each is a name for something in the world.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{HostIndex, SocketId};
use super::{Errno, Network, Shared, SimulatedPipe, lock};
use crate::Address;
use crate::sys::datagram::inet;
use crate::sys::habits::Habits;
use crate::sys::memory::{self, Batch};
use crate::sys::names::Answer;

/// The clock of one host.
#[derive(Clone)]
pub(crate) struct Clock {
    pub(super) world: Shared,
    pub(super) host: HostIndex,
}

impl memory::Clock for Clock {
    fn now(&self) -> Instant {
        lock(&self.world).instant(self.host)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The poller of one host.
pub(crate) struct Poller {
    pub(super) world: Shared,
    pub(super) host: HostIndex,
}

impl Poller {
    pub(crate) fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<Listener> {
        let id = lock(&self.world).listen(self.host, address, backlog)?;
        Ok(Listener { world: self.world.clone(), id })
    }

    pub(crate) fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        let id = lock(&self.world).connect(self.host, address, local)?;
        Ok(Stream { world: self.world.clone(), id })
    }

    pub(crate) fn listen_named(&self, name: &Address, backlog: u32) -> io::Result<Listener> {
        let id = lock(&self.world).listen_named(self.host, name.clone(), backlog)?;
        Ok(Listener { world: self.world.clone(), id })
    }

    pub(crate) fn connect_named(&self, own: Address, name: &Address) -> io::Result<Stream> {
        let id = lock(&self.world).connect_named(self.host, (own, name.clone()))?;
        Ok(Stream { world: self.world.clone(), id })
    }

    pub(crate) fn bind_datagram(&self, address: SocketAddr) -> io::Result<Datagram> {
        let id = lock(&self.world).bind_datagram(self.host, address)?;
        Ok(Datagram { world: self.world.clone(), id })
    }
}

/// Registers a socket of a world with the poller of one of its hosts.
pub(super) fn register(poller: &dyn memory::Poller, world: &Shared, id: SocketId, token: usize) -> io::Result<()> {
    let poller: Option<&Poller> = poller.as_any().and_then(|poller| poller.downcast_ref());
    let poller = poller.filter(|poller| Arc::ptr_eq(world, &poller.world)).ok_or(io::ErrorKind::Unsupported)?;
    let world = &mut *lock(world);
    if world.sockets.get(&id).is_some_and(|socket| socket.host != poller.host) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket belongs to another host"));
    }
    world.register(id, poller.host, token);
    Ok(())
}

impl memory::Poller for Poller {
    fn habits(&self) -> &'static Habits {
        lock(&self.world).hosts[self.host].habits
    }

    fn loop_number(&self) -> u64 {
        lock(&self.world).loop_number(self.host)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn waker(&self) -> Arc<dyn memory::Waker> {
        lock(&self.world).hosts[self.host].woken.clone()
    }

    fn events(&self) -> Batch {
        Batch::new()
    }

    fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<Box<dyn memory::Listener>> {
        Ok(Box::new(Poller::listen(self, address, backlog)?))
    }

    fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Box<dyn memory::Stream>> {
        Ok(Box::new(Poller::connect(self, address, local)?))
    }

    fn pick_work_time(&self) -> Duration {
        lock(&self.world).pick_work_time(self.host)
    }

    fn register_source(&self, source: &mut dyn Any, token: usize) -> io::Result<()> {
        let pipe = source.downcast_mut::<SimulatedPipe>().ok_or(io::ErrorKind::Unsupported)?;
        pipe.register_at(self, token)
    }

    fn reregister_source(&self, source: &mut dyn Any) -> io::Result<()> {
        let pipe = source.downcast_mut::<SimulatedPipe>().ok_or(io::ErrorKind::Unsupported)?;
        pipe.register_again();
        Ok(())
    }

    fn deregister_source(&self, source: &mut dyn Any) -> io::Result<()> {
        source.downcast_mut::<SimulatedPipe>().ok_or(io::ErrorKind::Unsupported)?.deregister_at()
    }

    fn signals(&self, signals: &[i32], nameless: &Address) -> io::Result<Box<dyn Any>> {
        Ok(Box::new(self.pipe_of_signals(signals, nameless)?))
    }

    fn listen_named(&self, name: &Address, backlog: u32) -> io::Result<Box<dyn memory::Listener>> {
        Ok(Box::new(Poller::listen_named(self, name, backlog)?))
    }

    fn connect_named(&self, own: Address, name: &Address) -> io::Result<Box<dyn memory::Stream>> {
        Ok(Box::new(Poller::connect_named(self, own, name)?))
    }

    fn bind_datagram(&self, address: &Address) -> io::Result<Box<dyn memory::Datagram>> {
        match address.as_inet() {
            Some(address) => Ok(Box::new(Poller::bind_datagram(self, address)?)),
            None => self.bind_named_datagram(address, false),
        }
    }

    /// If nothing is ready, time advances until something is, or to the end of the wait. It never does for a wait of
    /// zero length.
    fn poll(&mut self, events: &mut Batch, timeout: Option<Duration>) -> io::Result<()> {
        let world = &mut *lock(&self.world);
        let end = timeout.map(|timeout| world.time_after(self.host, timeout));
        events.clear();
        world.settle();
        loop {
            let woken = world.hosts[self.host].woken.swap(false, Ordering::Relaxed);
            world.take_events(self.host, events);
            if woken || !events.is_empty() || end.is_some_and(|end| end <= world.now) {
                return Ok(());
            }
            match (world.next_at(), end) {
                (Some(next), Some(end)) => world.advance_to(next.min(end)),
                (Some(next), None) => world.advance_to(next),
                (None, Some(end)) => world.advance_to(end),
                (None, None) => {
                    let what = "a loop would wait forever: nothing is in transit in its network";
                    return Err(io::Error::new(io::ErrorKind::Deadlock, what));
                }
            }
        }
    }

    fn look_up(&self, name: &str, port: u16, answer: Answer) {
        lock(&self.world).look_up(self.host, name, port, answer);
    }

    /// For tests of the connection's protocol.
    fn note_loss(&self, token: usize, reason: crate::CloseReason) {
        // Not under the lock: formatting runs a user's error, which may panic.
        let text = reason.to_string();
        let mut world = lock(&self.world);
        world.note(format_args!("host {}: a connection is lost: {text}", self.host));
        world.losses.push((self.host, token, reason));
    }
}

/// A host's mark that its loop was woken, which other threads may set too; the world itself belongs to one thread.
impl memory::Waker for AtomicBool {
    fn wake(&self) -> io::Result<()> {
        self.store(true, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) struct Listener {
    world: Shared,
    id: SocketId,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Listener {
    pub(crate) fn accept(&mut self) -> io::Result<(Stream, Address)> {
        let (id, peer) = lock(&self.world).accept(self.id)?;
        Ok((Stream { world: self.world.clone(), id }, peer))
    }
}

impl memory::Listener for Listener {
    fn habits(&self) -> &'static Habits {
        lock(&self.world).habits(self.id)
    }

    fn register(&mut self, poller: &dyn memory::Poller, token: usize) -> io::Result<()> {
        register(poller, &self.world, self.id, token)
    }

    fn set_unlinks(&mut self, unlinks: bool) {
        if let Some(listener) = lock(&self.world).listener(self.id) {
            listener.leaves_path = !unlinks;
        }
    }

    fn accept(&mut self) -> io::Result<(Box<dyn memory::Stream>, Address)> {
        let (stream, peer) = Listener::accept(self)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<Address> {
        let mut world = lock(&self.world);
        let listener = world.listener(self.id).ok_or(io::ErrorKind::NotConnected)?;
        Ok(listener.name.clone().unwrap_or(Address::of_socket(listener.local)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.world).close_listener(self.id);
    }
}

pub(crate) struct Stream {
    world: Shared,
    id: SocketId,
}

impl Stream {
    pub(super) fn of(world: &Shared, id: SocketId) -> Stream {
        Stream { world: world.clone(), id }
    }

    /// Writes these bytes as the kernel takes them, without further calls.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        lock(&self.world).queue(self.id, bytes);
    }

    /// Takes back the bytes that the kernel has not taken, unless the half ends after them.
    pub(crate) fn take_queued(&mut self) -> Vec<u8> {
        lock(&self.world).take_queued(self.id)
    }

    /// Returns how many of these bytes the kernel has not taken.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.world).queued(self.id)
    }

    pub(crate) fn set_stalled(&mut self, stalled: bool) {
        lock(&self.world).set_stalled(self.id, stalled);
    }
}

impl memory::Stream for Stream {
    fn habits(&self) -> &'static Habits {
        lock(&self.world).habits(self.id)
    }

    fn is_unix(&self) -> bool {
        lock(&self.world).is_named(self.id)
    }

    fn register(&mut self, poller: &dyn memory::Poller, token: usize) -> io::Result<()> {
        register(poller, &self.world, self.id, token)
    }

    fn deregister(&mut self) -> io::Result<()> {
        lock(&self.world).deregister(self.id);
        Ok(())
    }

    fn await_writable(&mut self, awaits: bool) {
        lock(&self.world).await_room(self.id, awaits);
    }

    fn tell_again(&mut self) {
        lock(&self.world).wake(self.id);
    }

    fn short_read_empties(&self) -> bool {
        let world = lock(&self.world);
        world.habits(self.id).short_read_empties_tcp && world.is_tcp(self.id, |tcp| !tcp.portable)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.world).read(self.id, buffer)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        lock(&self.world).write(self.id, pieces)
    }

    fn write_urgent(&mut self, byte: u8) -> io::Result<()> {
        lock(&self.world).write_urgent(self.id, byte)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        lock(&self.world).shutdown_write(self.id)
    }

    fn reset(&self) {
        lock(&self.world).reset(self.id);
    }

    fn take_error(&self) -> Option<io::Error> {
        lock(&self.world).take_error(self.id)
    }

    fn local_addr(&self) -> io::Result<Address> {
        lock(&self.world).own_address(self.id)
    }

    fn peer_addr(&self) -> io::Result<Address> {
        lock(&self.world).address_of_peer(self.id)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.world).close(self.id);
    }
}

pub(crate) struct Datagram {
    world: Shared,
    id: SocketId,
}

impl memory::Datagram for Datagram {
    fn register(&mut self, poller: &dyn memory::Poller, token: usize) -> io::Result<()> {
        register(poller, &self.world, self.id, token)
    }

    fn connect(&self, address: &Address) -> io::Result<()> {
        let address = inet(address, false)?;
        lock(&self.world).connect_datagram(self.id, address)
    }

    fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        let to = inet(to, false)?;
        lock(&self.world).send_datagram(self.id, bytes, Some(to))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.world).send_datagram(self.id, bytes, None)
    }

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        let (count, from) = lock(&self.world).receive_datagram(self.id, buffer)?;
        Ok((count, Address::of_socket(from)))
    }

    #[cfg(all(test, target_os = "linux"))]
    fn take_error(&self) -> Option<io::Error> {
        lock(&self.world).take_datagram_error(self.id).map(io::Error::from)
    }

    fn await_writable(&mut self, awaits: bool) {
        lock(&self.world).await_datagram_room(self.id, awaits);
    }

    fn local_addr(&self) -> io::Result<Address> {
        lock(&self.world).datagram_local(self.id).map(Address::of_socket)
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        lock(&self.world).close_datagram(self.id);
    }
}

impl Network {
    /// Makes the next accept of the listener that is bound to `address` fail with this error.
    pub(crate) fn fail_accept(&self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        let world = &mut *lock(&self.0);
        let host = world.host_of(0, address.ip()).ok_or(Errno::AddressNotAvailable)?;
        let id = world.find_bound(true, host, address, host).ok_or(Errno::AddressNotAvailable)?;
        if let Some(listener) = world.listener(id) {
            listener.failures.push_back(error);
        }
        world.wake(id);
        Ok(())
    }

    /// Makes the next receive of the datagram socket that is bound to `address` fail with this error.
    pub(crate) fn fail_receive(&self, address: SocketAddr, error: io::Error) -> io::Result<()> {
        let world = &mut *lock(&self.0);
        let host = world.host_of(0, address.ip()).ok_or(Errno::AddressNotAvailable)?;
        let id = world.find_bound(false, host, address, host).ok_or(Errno::AddressNotAvailable)?;
        world.datagram(id)?.failures.push_back(error);
        world.wake(id);
        Ok(())
    }
}
