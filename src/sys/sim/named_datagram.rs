//! Simulated Unix datagram sockets: sockets of one host that have names, and no network between them.
//!
//! A datagram that is sent has arrived, or the sender is told why not: none is lost, duplicated or overtaken. The rest
//! was taken from Linux, with which the differential tests compare it: who may send to whom, who waits for whom, and
//! what a closed peer does.

use std::collections::VecDeque;
use std::io;

use super::handles::{Poller, register};
use super::world::{HostIndex, Kind, SocketId, World};
use super::{Call, Errno, Shared, lock};
use crate::Address;
use crate::sys::{Readiness, memory};

pub(super) struct NamedDatagram {
    name: Address,
    /// The peer that it is connected to, whether that still exists or not.
    peer: Option<SocketId>,
    /// It was connected at least once.
    was_connected: bool,
    received: VecDeque<Message>,
    /// It is full with more datagrams than this.
    received_max: usize,
    /// What was sent and not received: it occupies the sender's memory.
    sent_bytes: usize,
    error: Option<Errno>,
    /// Its loop has asked to be told when there is room again.
    awaits_writable: bool,
    /// The socket whose room a send has waited for: a receiver, or the sender itself.
    waits_for: Option<SocketId>,
}

struct Message {
    sender: SocketId,
    from: Address,
    bytes: Vec<u8>,
}

/// A datagram has to wait if this much of its sender's memory is in use (Linux, `wmem_default`).
const SEND_BUFFER_BYTES: usize = 212_992;

/// The longest datagram: all of that, except for Linux's overhead.
const DATAGRAM_BYTES_MAX: usize = SEND_BUFFER_BYTES - 32;

/// Linux's overhead for a datagram: added to its bytes, and on top.
const KEPT_WITH_BYTES: usize = 320;
const KEPT_BESIDE_BYTES: usize = 256;

/// Returns how much of its sender's memory a datagram of this many bytes occupies.
fn memory_of(bytes: usize) -> usize {
    (bytes + KEPT_WITH_BYTES).next_power_of_two() + KEPT_BESIDE_BYTES
}

impl NamedDatagram {
    pub(super) fn unread(&self) -> usize {
        self.received.len()
    }

    fn is_full(&self) -> bool {
        self.received.len() > self.received_max
    }

    /// Returns whether little enough of its memory is in use for Linux to call it writable.
    fn has_memory(&self) -> bool {
        self.sent_bytes <= SEND_BUFFER_BYTES / 4
    }
}

impl World {
    pub(super) fn named_datagram(&mut self, id: SocketId) -> Result<&mut NamedDatagram, Errno> {
        match self.sockets.get_mut(&id).map(|socket| &mut socket.kind) {
            Some(Kind::NamedDatagram(datagram)) => Ok(datagram),
            _ => Err(Errno::NotConnected),
        }
    }

    fn bind_named_datagram(&mut self, host: HostIndex, name: Address) -> io::Result<SocketId> {
        self.check_opening(host, Call::Bind)?;
        if name.is_name() {
            self.take_name(host, &name, false)?;
        }
        let (low, high) = (self.faults.unix_datagrams_min, self.faults.unix_datagrams_max);
        let received_max = self.random.between(low as u64, high as u64) as usize;
        let socket = NamedDatagram {
            name: name.clone(),
            peer: None,
            was_connected: false,
            received: VecDeque::new(),
            received_max,
            sent_bytes: 0,
            error: None,
            awaits_writable: false,
            waits_for: None,
        };
        let id = self.insert(host, Kind::NamedDatagram(socket));
        self.note(format_args!("s{id} of host {host} is bound to {name} for datagrams"));
        if name.is_name() {
            self.named_datagrams.insert((host, name), id);
        }
        Ok(id)
    }

    fn connect_named_datagram(&mut self, id: SocketId, to: &Address) -> Result<(), Errno> {
        let host = self.sockets.get(&id).ok_or(Errno::NotConnected)?.host;
        let other = self.find_named(host, to, false)?;
        self.check_takes_from(other, id)?;
        let socket = self.named_datagram(id)?;
        socket.waits_for = None;
        socket.was_connected = true;
        let before = socket.peer.replace(other);
        if before.is_some() && socket.awaits_writable {
            // It may have waited for the previous peer.
            self.wake(id);
        }
        if let Some(before) = before.filter(|&before| before != other) {
            self.forget_peer(id, before);
        }
        Ok(())
    }

    /// A connected socket takes datagrams only from its peer.
    fn check_takes_from(&mut self, other: SocketId, id: SocketId) -> Result<(), Errno> {
        match self.named_datagram(other).map(|other| other.peer) {
            Ok(Some(peer)) if peer != id => Err(Errno::Permission),
            _ => Ok(()),
        }
    }

    /// It is no longer connected to this peer. What it holds is dropped, and the peer is told if it is connected to
    /// this socket.
    fn forget_peer(&mut self, id: SocketId, peer: SocketId) {
        let Ok(socket) = self.named_datagram(id) else { return };
        let held = std::mem::take(&mut socket.received);
        if held.is_empty() {
            return;
        }
        self.release(held);
        self.wake_who_waits_for(id, true);
        if let Some(before) = self.named_datagram(peer).ok().filter(|before| before.peer == Some(id)) {
            before.error = Some(Errno::ConnectionReset);
            self.wake(peer);
        }
    }

    // Sending.

    /// Sends to a name, or to the one it is connected to.
    fn send_named(&mut self, id: SocketId, bytes: &[u8], to: Option<&Address>) -> io::Result<usize> {
        self.begin_call();
        self.check_call(id, Call::Send)?;
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        let no_buffers = self.random.hits(self.faults.out_of_buffers_permille);
        let socket = self.named_datagram(id)?;
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Errno::MessageSize.into());
        }
        if let Some(error) = socket.error.take() {
            self.progress += 1;
            return Err(error.into());
        }
        if socket.sent_bytes >= SEND_BUFFER_BYTES {
            socket.waits_for = Some(id);
            return Err(Errno::WouldBlock.into());
        }
        if no_buffers {
            self.has_no_buffers(id);
            return Err(Errno::NoBuffers.into());
        }
        let sent = self.hand_to(id, bytes, to);
        if sent.is_err() && self.named_datagram(id).is_ok_and(|of| of.awaits_writable && of.has_memory()) {
            // It had taken memory for the datagram, and gives that back.
            self.wake(id);
        }
        self.settle();
        Ok(sent.map(|()| bytes.len())?)
    }

    /// Hands a datagram to its receiver.
    fn hand_to(&mut self, id: SocketId, bytes: &[u8], to: Option<&Address>) -> Result<(), Errno> {
        let host = self.sockets.get(&id).ok_or(Errno::NotConnected)?.host;
        let peer = self.named_datagram(id)?.peer;
        let other = match (to, peer) {
            (Some(name), _) => self.find_named(host, name, false)?,
            (None, Some(peer)) if self.sockets.contains_key(&peer) => peer,
            (None, Some(gone)) => {
                self.named_datagram(id)?.peer = None;
                self.forget_peer(id, gone);
                self.progress += 1;
                return Err(Errno::ConnectionRefused);
            }
            (None, None) => return Err(Errno::NotConnected),
        };
        self.check_takes_from(other, id)?;
        let lacks_buffers = self.habits(id).full_receiver_lacks_buffers;
        let receiver = self.named_datagram(other)?;
        if lacks_buffers && receiver.is_full() && other != id {
            return Err(Errno::NoBuffers);
        }
        // Two sockets that are connected with each other do not wait for each other.
        if receiver.is_full() && other != id && receiver.peer != Some(id) {
            self.named_datagram(id)?.waits_for = Some(other);
            return Err(Errno::WouldBlock);
        }
        let sender = self.named_datagram(id)?;
        sender.sent_bytes += memory_of(bytes.len());
        let message = Message { sender: id, from: sender.name.clone(), bytes: bytes.to_vec() };
        self.named_datagram(other)?.received.push_back(message);
        self.progress += 1;
        self.note(format_args!("s{id} sends {} bytes to s{other}", bytes.len()));
        self.wake(other);
        Ok(())
    }

    /// Gives the senders of these messages their memory back.
    fn release(&mut self, messages: impl IntoIterator<Item = Message>) {
        for Message { sender, bytes, .. } in messages {
            let by_hand = !self.is_registered(sender);
            let Ok(socket) = self.named_datagram(sender) else { continue };
            socket.sent_bytes -= memory_of(bytes.len());
            let waits = match by_hand {
                true => socket.waits_for == Some(sender),
                false => socket.awaits_writable && socket.has_memory(),
            };
            if waits {
                socket.waits_for = None;
                self.wake(sender);
            }
        }
    }

    /// A receiver has room again, or is gone, so that its room cannot be waited for: then Linux wakes all its waiters.
    /// A sender by name is not told, unless it is operated by hand.
    fn wake_who_waits_for(&mut self, id: SocketId, wakes_all: bool) {
        let waits = |kind: &Kind| matches!(kind, Kind::NamedDatagram(of) if of.waits_for == Some(id));
        let waiting = self.sockets.iter().filter(|&(&of, socket)| of != id && waits(&socket.kind));
        let waiting: Vec<_> = waiting.map(|(&of, _)| of).collect();
        for sender in waiting {
            let Ok(socket) = self.named_datagram(sender) else { continue };
            socket.waits_for = None;
            let is_told = (wakes_all || socket.awaits_writable) && socket.peer == Some(id);
            if is_told || !self.is_registered(sender) {
                self.wake(sender);
            }
        }
    }

    fn await_room_for_named(&mut self, id: SocketId, awaits: bool) {
        if let Ok(socket) = self.named_datagram(id) {
            socket.awaits_writable = awaits;
            self.wake(id);
        }
    }

    pub(super) fn readiness_of_named(&mut self, id: SocketId) -> Readiness {
        let Ok(socket) = self.named_datagram(id) else { return Readiness::default() };
        let peer = socket.peer.filter(|_| socket.awaits_writable && socket.has_memory());
        let peer_is_full = |of: &NamedDatagram| of.is_full() && of.peer != Some(id);
        let full = peer.filter(|&peer| peer != id && self.named_datagram(peer).is_ok_and(|peer| peer_is_full(peer)));
        let Ok(socket) = self.named_datagram(id) else { return Readiness::default() };
        // The poller is told when that one has room.
        socket.waits_for = full.or(socket.waits_for);
        let mut readiness = Readiness::default();
        if socket.awaits_writable && socket.has_memory() && full.is_none() {
            readiness = readiness.and(Readiness::WRITABLE);
        }
        if !socket.received.is_empty() {
            readiness = readiness.and(Readiness::READABLE);
        }
        if socket.error.is_some() {
            // An error alone, or with room, counts as a closed writing half, as mio reports it.
            let closed = readiness == Readiness::default() || readiness.is_writable();
            readiness = readiness.and(Readiness::ERROR);
            readiness = if closed { readiness.and(Readiness::WRITE_CLOSED) } else { readiness };
        }
        readiness
    }

    // Receiving.

    /// Receives a datagram, as far as the buffer has room for it, with its sender's name.
    fn receive_named(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        self.begin_call();
        self.check_call(id, Call::Receive)?;
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        let fails = self.is_registered(id) && self.random.hits(self.faults.failing_receives_permille);
        let socket = self.named_datagram(id)?;
        if let Some(error) = socket.error.take() {
            self.progress += 1;
            return Err(error.into());
        }
        if fails {
            return Err(Errno::NoMemory.into());
        }
        let Some(message) = socket.received.pop_front() else { return Err(Errno::WouldBlock.into()) };
        let (count, from) = (message.bytes.len().min(buffer.len()), message.from.clone());
        buffer[..count].copy_from_slice(&message.bytes[..count]);
        self.progress += 1;
        self.note(format_args!("s{id} receives {count} of {} bytes", message.bytes.len()));
        self.release([message]);
        self.wake_who_waits_for(id, false);
        self.settle();
        Ok((count, from))
    }

    // Ending.

    /// Closes a socket; its path is removed, unless it is left behind.
    pub(super) fn close_named_datagram(&mut self, id: SocketId, leaves_path: bool) {
        if self.named_datagram(id).is_err() {
            return;
        }
        self.deregister(id);
        let Some(socket) = self.sockets.remove(&id) else { return };
        let Kind::NamedDatagram(datagram) = socket.kind else { return };
        let key = (socket.host, datagram.name);
        if self.named_datagrams.remove(&key).is_some() && leaves_path && key.1.is_path() {
            self.left_paths.insert(key);
        }
        self.progress += 1;
        self.note(format_args!("s{id} is closed"));
        self.wake_who_waits_for(id, true);
        self.release(datagram.received);
        self.settle();
    }
}

/// A Unix datagram socket of a host.
struct NamedDatagramHandle {
    world: Shared,
    id: SocketId,
    leaves_path: bool,
}

impl Poller {
    /// Binds one to a name, or to none. `leaves_path` says whether dropping it leaves its path, as in a program that
    /// does not remove it.
    pub(crate) fn bind_named_datagram(
        &self,
        name: &Address,
        leaves_path: bool,
    ) -> io::Result<Box<dyn memory::Datagram>> {
        let id = lock(&self.world).bind_named_datagram(self.host, name.clone())?;
        Ok(Box::new(NamedDatagramHandle { world: self.world.clone(), id, leaves_path }))
    }
}

impl memory::Datagram for NamedDatagramHandle {
    fn full_receiver_lacks_buffers(&self) -> bool {
        lock(&self.world).habits(self.id).full_receiver_lacks_buffers
    }

    fn register(&mut self, poller: &dyn memory::Poller, token: usize) -> io::Result<()> {
        register(poller, &self.world, self.id, token)
    }

    fn await_writable(&mut self, awaits: bool) {
        lock(&self.world).await_room_for_named(self.id, awaits);
    }

    fn tells_when_writable(&self) -> bool {
        lock(&self.world).named_datagram(self.id).is_ok_and(|socket| socket.was_connected)
    }

    fn bytes_max(&self) -> usize {
        DATAGRAM_BYTES_MAX
    }

    fn connect(&self, address: &Address) -> io::Result<()> {
        Ok(lock(&self.world).connect_named_datagram(self.id, destination(address)?)?)
    }

    fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        lock(&self.world).send_named(self.id, bytes, Some(destination(to)?))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.world).send_named(self.id, bytes, None)
    }

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        lock(&self.world).receive_named(self.id, buffer)
    }

    #[cfg(all(test, target_os = "linux"))]
    fn take_error(&self) -> Option<io::Error> {
        lock(&self.world).named_datagram(self.id).ok()?.error.take().map(io::Error::from)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(lock(&self.world).named_datagram(self.id)?.name.clone())
    }
}

impl Drop for NamedDatagramHandle {
    fn drop(&mut self) {
        lock(&self.world).close_named_datagram(self.id, self.leaves_path);
    }
}

fn destination(address: &Address) -> io::Result<&Address> {
    match address.is_name() {
        true => Ok(address),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not the address of a Unix socket")),
    }
}
