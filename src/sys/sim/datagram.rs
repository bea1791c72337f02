//! Simulated UDP sockets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::listener::port_of;
use super::packet::Packet;
use super::world::{HostIndex, Kind, SocketId, World, address_of};
use super::{Call, Errno};
use crate::sys::Readiness;

pub(super) struct DatagramSocket {
    pub(super) local: SocketAddr,
    pub(super) remote: Option<SocketAddr>,
    received: VecDeque<(SocketAddr, Vec<u8>)>,
    received_bytes: usize,
    error: Option<Errno>,
    /// How the next receives fail, if a test has asked for that.
    pub(super) failures: VecDeque<io::Error>,
    /// What was sent and has not arrived: it occupies the sender's memory.
    sent_bytes: usize,
    /// Its loop has asked to be told when there is room again.
    awaits_writable: bool,
    /// Receiving a datagram that is longer than the buffer is an error, as on Windows.
    portable: bool,
}

/// The most that an IPv4 packet has room for.
const PAYLOAD_BYTES_MAX: usize = 65_507;

/// The most that is held for a socket; whatever exceeds it is dropped.
const RECEIVED_BYTES_MAX: usize = 212_992;

/// A datagram has to wait if more than this is in flight.
const SENT_BYTES_MAX: usize = 212_992;

impl DatagramSocket {
    pub(super) fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::default();
        if self.awaits_writable && self.sent_bytes <= SENT_BYTES_MAX {
            readiness = readiness.and(Readiness::WRITABLE);
        }
        if !self.received.is_empty() || !self.failures.is_empty() {
            readiness = readiness.and(Readiness::READABLE);
        }
        if self.error.is_some() {
            readiness = readiness.and(Readiness::ERROR).and(Readiness::WRITE_CLOSED);
        }
        readiness
    }

    pub(super) fn unread(&self) -> usize {
        self.received.len()
    }
}

impl World {
    pub(super) fn datagram(&mut self, id: SocketId) -> io::Result<&mut DatagramSocket> {
        match self.sockets.get_mut(&id).map(|socket| &mut socket.kind) {
            Some(Kind::Datagram(datagram)) => Ok(datagram),
            _ => Err(Errno::NotConnected.into()),
        }
    }

    pub(super) fn bind_datagram(&mut self, host: HostIndex, address: SocketAddr) -> io::Result<SocketId> {
        self.check_opening(host, Call::Bind)?;
        let local = self.bind(false, host, address)?;
        let socket = DatagramSocket {
            local,
            remote: None,
            received: VecDeque::new(),
            received_bytes: 0,
            error: None,
            failures: VecDeque::new(),
            sent_bytes: 0,
            awaits_writable: false,
            portable: self.random.hits(self.faults.portable_sockets_permille),
        };
        let id = self.insert(host, Kind::Datagram(socket));
        self.bound.insert(port_of(false, host, local), id);
        self.note(format_args!("s{id} of host {host} is bound to {local} for datagrams"));
        Ok(id)
    }

    pub(super) fn connect_datagram(&mut self, id: SocketId, remote: SocketAddr) -> io::Result<()> {
        let host = self.sockets.get(&id).map_or(0, |socket| socket.host);
        let datagram = self.datagram(id)?;
        datagram.remote = Some(remote);
        if datagram.local.ip().is_unspecified() {
            let own = if remote.ip().is_loopback() { remote.ip() } else { address_of(host, remote.is_ipv6()) };
            datagram.local.set_ip(own);
        }
        Ok(())
    }

    pub(super) fn close_datagram(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.remove(&id) {
            if let Kind::Datagram(datagram) = socket.kind {
                self.bound.remove(&port_of(false, socket.host, datagram.local));
            }
        }
    }

    /// Sends to an address, or to the one it is connected to.
    pub(super) fn send_datagram(&mut self, id: SocketId, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        self.begin_call();
        self.check_call(id, Call::Send)?;
        let no_buffers = self.random.hits(self.faults.out_of_buffers_permille);
        let datagram = self.datagram(id)?;
        let Some(to) = to.or(datagram.remote) else { return Err(Errno::DestinationRequired.into()) };
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(Errno::MessageSize.into());
        }
        if let Some(error) = datagram.error.take() {
            return Err(error.into());
        }
        if datagram.sent_bytes > SENT_BYTES_MAX {
            return Err(Errno::WouldBlock.into());
        }
        if no_buffers {
            self.has_no_buffers(id);
            return Err(Errno::NoBuffers.into());
        }
        let mut from = datagram.local;
        let host = self.sockets[&id].host;
        if from.ip().is_unspecified() {
            from.set_ip(if to.ip().is_loopback() { to.ip() } else { address_of(host, to.is_ipv6()) });
        }
        self.progress += 1;
        #[cfg(test)]
        self.datagrams_taken.entry((host, from.port())).and_modify(|count| *count += 1).or_insert(1);
        self.note(format_args!("s{id} sends {} bytes to {to}", bytes.len()));
        let Some(to_host) = self.host_of(host, to.ip()) else { return Ok(bytes.len()) };
        let copies = match () {
            () if self.random.hits(self.faults.lost_datagrams_permille) => 0,
            () if self.random.hits(self.faults.doubled_datagrams_permille) => 2,
            () => 1,
        };
        let copies = if self.is_cut(host, to_host) { 0 } else { copies };
        for copy in 0..copies {
            // A copy was made by the network, and occupies no socket's memory.
            let held = if copy == 0 { bytes.len() } else { 0 };
            self.datagram(id)?.sent_bytes += held;
            let packet = Packet::Datagram { to, host: to_host, from, sender: (id, held), bytes: bytes.to_vec() };
            self.transmit(id, (host, to_host), Duration::ZERO, packet);
        }
        self.settle();
        Ok(bytes.len())
    }

    pub(super) fn deliver_datagram(
        &mut self,
        to: SocketAddr,
        host: HostIndex,
        ((sender, held), from): ((SocketId, usize), SocketAddr),
        bytes: Vec<u8>,
    ) {
        let sender_host = self.sockets.get(&sender).map(|socket| socket.host);
        self.datagram_has_left(sender, held);
        let receiver = self.find_bound(false, host, to, sender_host.unwrap_or(host));
        let Some((id, datagram)) = receiver.and_then(|id| Some((id, self.datagram(id).ok()?))) else {
            if let Some(sender_host) = sender_host {
                self.transmit(0, (host, sender_host), Duration::ZERO, Packet::Unreachable { to: sender });
            }
            return;
        };
        let is_stranger = datagram.remote.is_some_and(|remote| remote != from);
        if is_stranger || datagram.received_bytes + bytes.len() > RECEIVED_BYTES_MAX {
            return;
        }
        datagram.received_bytes += bytes.len();
        datagram.received.push_back((from, bytes));
        self.note(format_args!("a datagram arrives at s{id}"));
        self.wake(id);
    }

    /// A datagram no longer occupies its sender's memory.
    pub(super) fn datagram_has_left(&mut self, sender: SocketId, count: usize) {
        if let Ok(datagram) = self.datagram(sender) {
            datagram.sent_bytes -= count;
            if datagram.awaits_writable {
                self.wake(sender);
            }
        }
    }

    /// Sets whether the loop is told when there is room for a datagram, at once if there is.
    pub(super) fn await_datagram_room(&mut self, id: SocketId, awaits: bool) {
        if let Ok(datagram) = self.datagram(id) {
            datagram.awaits_writable = awaits;
            self.wake(id);
        }
    }

    /// Only a connected socket is told that no socket was there.
    pub(super) fn deliver_unreachable(&mut self, to: SocketId) {
        let Ok(datagram) = self.datagram(to) else { return };
        if datagram.remote.is_some() {
            datagram.error = Some(Errno::ConnectionRefused);
            self.wake(to);
        }
    }

    /// Receives a datagram, as far as the buffer has room for it.
    pub(super) fn receive_datagram(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.begin_call();
        self.check_call(id, Call::Receive)?;
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        let fails = self.is_registered(id) && self.random.hits(self.faults.failing_receives_permille);
        let datagram = self.datagram(id)?;
        if let Some(error) = datagram.failures.pop_front() {
            return Err(error);
        }
        if let Some(error) = datagram.error.take() {
            self.progress += 1;
            return Err(error.into());
        }
        if fails {
            return Err(Errno::NoMemory.into());
        }
        let Some((from, bytes)) = datagram.received.pop_front() else { return Err(Errno::WouldBlock.into()) };
        datagram.received_bytes -= bytes.len();
        if datagram.portable && bytes.len() > buffer.len() {
            return Err(Errno::MessageSize.into());
        }
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.progress += 1;
        self.note(format_args!("s{id} receives {count} of {} bytes", bytes.len()));
        Ok((count, from))
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn take_datagram_error(&mut self, id: SocketId) -> Option<Errno> {
        self.datagram(id).ok()?.error.take()
    }

    pub(super) fn datagram_local(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        self.datagram(id).map(|datagram| datagram.local)
    }
}
