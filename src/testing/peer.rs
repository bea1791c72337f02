//! Ends of connections that a test plays by hand.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::HostId;
use crate::listener::listen::Target;
use crate::sys::memory::{Datagram as _, Stream as _};
use crate::sys::{self, sim};
use crate::{Detached, Listen};

/// One end of a simulated connection without a loop: the other end belongs to a loop, or to another peer.
///
/// Each method but [`queue`](Peer::queue) is one thing that a program does to its socket. Nothing happens at the other
/// end before the network is run, unless there is no latency in between. Dropping a peer closes it, as dropping a
/// socket does.
pub struct Peer {
    stream: sim::Stream,
    ended: bool,
    error: Option<io::Error>,
}

impl Peer {
    pub(super) fn new(stream: sim::Stream) -> Peer {
        Peer { stream, ended: false, error: None }
    }

    /// Returns whether the connection is established: `false` before the other end has answered, and after a reset.
    pub fn is_connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Returns the address of this end: `0.0.0.0:0` for a Unix stream, which has none.
    pub fn local_addr(&self) -> SocketAddr {
        let address = self.stream.local_addr().ok().and_then(|address| address.as_inet());
        address.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Sends as its kernel takes the bytes: at once those that find room, and the rest when there is room again, with
    /// no further call. They are sent after anything queued before. Nothing is queued after [`end`](Peer::end) or an
    /// error.
    ///
    /// ```
    /// use switchboard::testing::{Faults, Network};
    ///
    /// let mut network = Network::new(0, Faults::all());
    /// let mut listener = network.peer_listener(0, 8).unwrap();
    /// let mut one = network.peer(listener.local_addr());
    /// one.queue(&[7; 100_000]);
    /// one.end();
    /// let (mut other, mut count) = (None, 0);
    /// network.run_until(|_| {
    ///     other = other.take().or_else(|| listener.accept());
    ///     count += other.as_mut().map_or(0, |other| other.read().len());
    ///     other.as_ref().is_some_and(|other| other.saw_end())
    /// });
    /// assert_eq!(count, 100_000);
    /// ```
    pub fn queue(&mut self, bytes: &[u8]) {
        self.stream.queue(bytes);
    }

    /// Returns how many of the queued bytes its kernel has not taken.
    pub fn queued(&self) -> usize {
        self.stream.queued()
    }

    /// Sends what its kernel takes now, and returns the number of bytes: 0 if the kernel is full, if something is
    /// queued, or if the connection is over.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        if self.queued() > 0 {
            return 0;
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(error);
                    break;
                }
            }
        }
        sent
    }

    /// Sends one urgent byte. Returns `false` if its kernel is full, if something is queued, or if the connection is
    /// over.
    pub fn send_urgent(&mut self, byte: u8) -> bool {
        if self.queued() > 0 {
            return false;
        }
        loop {
            match self.stream.write_urgent(byte) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(error);
                    return false;
                }
            }
        }
    }

    /// Reads everything that has arrived.
    pub fn read(&mut self) -> Vec<u8> {
        self.read_up_to(usize::MAX)
    }

    /// Reads up to `most` bytes of what has arrived.
    pub fn read_up_to(&mut self, most: usize) -> Vec<u8> {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while read.len() < most {
            let room = buffer.len().min(most - read.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(error);
                    break;
                }
            }
        }
        read
    }

    fn note(&mut self, error: io::Error) {
        // A kernel that is out of buffers does not end the connection either.
        if sys::is_blocked(&error).is_none() && self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// Returns whether a read has reached the end of what the other end sent.
    pub fn saw_end(&self) -> bool {
        self.ended
    }

    /// Returns the first error on its socket, such as a reset; includes a pending error that no call has returned yet.
    pub fn error(&mut self) -> Option<&io::Error> {
        if self.error.is_none() {
            self.error = self.stream.take_error();
        }
        self.error.as_ref()
    }

    /// Ends its half, as `shutdown` does: the other end reads the end of the stream after what was sent and what is
    /// queued.
    pub fn end(&mut self) {
        if let Err(error) = self.stream.shutdown_write() {
            self.note(error);
        }
    }

    /// Closes the connection: with a reset if unread data has arrived, as a real kernel does. Queued bytes are dropped.
    pub fn close(self) {}

    /// Closes the connection with a reset.
    pub fn reset(self) {
        self.stream.reset();
    }

    /// Makes its kernel take no more data, as on a host that hangs: its window is closed until
    /// [`unstall`](Peer::unstall). A stalled peer that closes still answers later data with a reset, as any other does.
    pub fn stall(&mut self) {
        self.stream.set_stalled(true);
    }

    /// Undoes [`stall`](Peer::stall).
    pub fn unstall(&mut self) {
        self.stream.set_stalled(false);
    }
}

/// For [`Context::attach`](crate::Context::attach): hands a stream that was connected or accepted elsewhere to the loop
/// of its host. Queued bytes that its kernel has not taken move along, and are sent by the loop; after an
/// [`end`](Peer::end) its kernel goes on sending them.
///
/// ```
/// # use switchboard::{Protocol, Transport};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         transport.write(data);
/// #         data.len()
/// #     }
/// # }
/// use switchboard::testing::{Faults, Network};
///
/// let mut network = Network::new(0, Faults::none());
/// let host = network.host();
/// let mut listener = network.listener_on(host, 7, 8).unwrap();
/// let mut peer = network.peer(listener.local_addr());
/// let accepted = network.accept(&mut listener).unwrap();
/// network.context(host).attach(accepted, Echo).unwrap();
/// assert_eq!(network.exchange(&mut peer, b"hello", |answer| answer.len() == 5), b"hello");
/// ```
impl From<Peer> for Detached {
    fn from(mut peer: Peer) -> Detached {
        let unsent = peer.stream.take_queued();
        Detached::new(sys::Stream::Memory(Box::new(peer.stream)), None, Vec::new(), unsent)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("ended", &self.ended).field("error", &self.error).finish_non_exhaustive()
    }
}

/// A listener without a loop: for tests of clients, or to be handed to a loop.
pub struct PeerListener {
    pub(super) listener: sim::Listener,
    pub(super) host: HostId,
    pub(super) address: SocketAddr,
}

impl PeerListener {
    /// Returns the host it is on, for cutting links to it.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Returns the address it listens on: `0.0.0.0:0` for a Unix listener, which has none.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a waiting connection, if there is one.
    pub fn accept(&mut self) -> Option<Peer> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(Peer::new(stream)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                _ => return None,
            }
        }
    }
}

/// For [`Context::listen`](crate::Context::listen): hands a listener that was made elsewhere, such as by a service
/// manager, to the loop of its host, along with the connections waiting in its backlog.
///
/// ```
/// # use switchboard::{Protocol, Transport};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         transport.write(data);
/// #         data.len()
/// #     }
/// # }
/// use switchboard::testing::{Faults, Network};
///
/// let mut network = Network::new(0, Faults::none());
/// let host = network.host();
/// let listener = network.listener_on(host, 7, 8).unwrap();
/// let mut early = network.peer(listener.local_addr());
/// network.context(host).listen(listener, |_, _| Some(Echo)).unwrap();
/// assert_eq!(network.exchange(&mut early, b"hello", |answer| answer.len() == 5), b"hello");
/// ```
impl From<PeerListener> for Listen {
    fn from(listener: PeerListener) -> Listen {
        Listen::of(Target::Simulated(listener.listener))
    }
}

/// A datagram socket without a loop.
pub struct DatagramPeer {
    pub(super) socket: sim::Datagram,
    pub(super) address: SocketAddr,
}

impl DatagramPeer {
    /// Returns the address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Connects it: from now on it receives from `to` alone, and gets an error if nobody is bound there.
    ///
    /// # Errors
    ///
    /// None in the simulation.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<()> {
        self.socket.connect(&to.into())
    }

    /// Sends a datagram to `to`, or to the connected address if `to` is `None`.
    ///
    /// # Errors
    ///
    /// Those of a real socket: too long, no destination, no buffers, or a pending error from an earlier datagram.
    pub fn send(&mut self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        match to {
            Some(to) => self.socket.send_to(bytes, &to.into()),
            None => self.socket.send(bytes),
        }
        .map(|_| ())
    }

    /// Receives the next datagram whole, with its sender's address. Returns `None` if none has arrived.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if it is connected and nobody was bound there.
    pub fn receive(&mut self) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((count, from)) => {
                    let from = from.as_inet().ok_or(io::ErrorKind::InvalidData)?;
                    return Ok(Some((buffer[..count].to_vec(), from)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for DatagramPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramPeer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerListener").field("address", &self.address).finish_non_exhaustive()
    }
}
