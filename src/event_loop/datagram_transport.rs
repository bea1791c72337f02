//! What a datagram protocol sends with.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::datagram::DatagramSocket;
use crate::event_loop::Core;
use crate::ids::Id;
use crate::{Address, CloseReason, Context, DatagramId, Limits, sys};

/// A datagram socket as callbacks see it: their own, or any other one by its id ([`Context::datagram`]).
///
/// None of its methods blocks or calls a callback. Once the socket has ended, sending does nothing.
///
/// Unless a method says otherwise, it costs a table lookup; one that sends, connects or sets an option of the socket
/// costs a system call.
///
/// ```
/// use std::net::SocketAddr;
/// use switchboard::{Address, DatagramProtocol, DatagramTransport, EventLoop};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
///         transport.send_to(data, from);
///     }
/// }
///
/// let mut event_loop = EventLoop::new()?;
/// let mut context = event_loop.context();
/// let id = context.bind_datagram(SocketAddr::from(([127, 0, 0, 1], 0)), Echo)?;
/// if let Some(socket) = context.datagram(id) {
///     println!("listening on {}", socket.local_addr()?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramTransport<'a> {
    core: &'a mut Core,
    id: Id,
}

impl<'a> DatagramTransport<'a> {
    pub(crate) fn new(core: &'a mut Core, id: Id) -> DatagramTransport<'a> {
        DatagramTransport { core, id }
    }

    /// Returns the socket's id in its loop.
    pub fn id(&self) -> DatagramId {
        DatagramId(self.id)
    }

    /// Returns the rest of the loop, for use within a callback.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(self.core)
    }

    // Sending.

    /// Sends `data`, which may be empty, as one datagram: at once, or after those that are queued already. Costs a
    /// system call, and a copy if it has to be queued.
    ///
    /// Errors are reported later, through [`error_received`](crate::DatagramProtocol::error_received). A datagram is
    /// dropped if more than [`queue_bytes_max`](crate::Limits::queue_bytes_max) is queued; see there. After
    /// [`close`](DatagramTransport::close) or the end nothing is sent, and that is counted
    /// ([`Counters::late_writes`](crate::Counters::late_writes)).
    ///
    /// On Unix sockets a receiver that takes nothing holds up what is queued for others.
    pub fn send_to(&mut self, data: &[u8], to: &Address) {
        self.core.parts.send_datagram(self.id, data, Some(to));
    }

    /// Like [`send_to`](DatagramTransport::send_to), to the peer that the socket is connected to.
    pub fn send(&mut self, data: &[u8]) {
        self.core.parts.send_datagram(self.id, data, None);
    }

    /// Returns how many bytes are queued.
    pub fn queued_bytes(&self) -> usize {
        self.core.parts.slots.datagram(self.id).map_or(0, DatagramSocket::queued_bytes)
    }

    /// Returns the write marks of this socket, in bytes, in the order in which
    /// [`set_write_marks`](DatagramTransport::set_write_marks) takes them: the high one, and the low one in effect.
    pub fn write_marks(&self) -> (usize, usize) {
        self.limits().marks()
    }

    /// Sets the write marks of this socket, in bytes, and checks the queue against both (rule
    /// [W2](crate::guide::rules#w2)). A low mark above the high one is lowered to that.
    pub fn set_write_marks(&mut self, high_bytes: usize, low_bytes: usize) {
        if let Some(datagram) = self.core.parts.slots.datagram_mut(self.id) {
            datagram.limits.queue_bytes_high = high_bytes;
            datagram.limits.queue_bytes_low = low_bytes;
            self.core.parts.carry_over(self.id);
        }
    }

    // Receiving.

    /// Sets the length, in bytes, of the longest datagram that is received whole; see
    /// [`datagram_bytes_max`](crate::Limits::datagram_bytes_max). Applies from the next datagram on.
    pub fn set_datagram_bytes_max(&mut self, bytes: usize) {
        if let Some(datagram) = self.core.parts.slots.datagram_mut(self.id) {
            datagram.limits.datagram_bytes_max = bytes;
        }
    }

    /// Receives nothing until [`resume_reading`](DatagramTransport::resume_reading). What arrives meanwhile waits in
    /// the system's receive buffer, which drops what does not fit.
    pub fn pause_reading(&mut self) {
        if let Some(datagram) = self.core.parts.slots.datagram_mut(self.id) {
            datagram.reading_paused = true;
        }
    }

    /// Undoes [`pause_reading`](DatagramTransport::pause_reading), beginning with the loop's next turn.
    pub fn resume_reading(&mut self) {
        if let Some(datagram) = self.core.parts.slots.datagram_mut(self.id) {
            datagram.reading_paused = false;
            self.core.parts.carry_over(self.id);
        }
    }

    /// Returns whether datagrams are delivered: `false` while reading is paused, and once the socket is closing.
    pub fn is_reading(&self) -> bool {
        self.core.parts.slots.datagram(self.id).is_some_and(|datagram| datagram.is_open() && !datagram.reading_paused)
    }

    // The socket.

    /// Connects it to a peer: from here on it receives only from that peer, [`send`](DatagramTransport::send) sends to
    /// it, and an error is reported if nobody listens there. Can be called again, with another peer. Datagrams that
    /// arrived before may still be delivered.
    ///
    /// There is no way to disconnect here, since no safe call of the standard library, mio or socket2 can pass "no
    /// address". On Unix, `rustix::net::connect_unspec(transport.socket()?)` does it: the socket then receives from
    /// everybody again, and [`send_to`](DatagramTransport::send_to) reaches anybody; a port that the system has chosen
    /// may change, and [`peer_addr`](DatagramTransport::peer_addr) still returns the last peer. Closing it and binding
    /// another one works everywhere.
    ///
    /// # Errors
    ///
    /// `NotConnected` once the socket is closed, and any error of the system.
    pub fn connect(&mut self, to: impl Into<Address>) -> io::Result<()> {
        self.core.parts.slots.datagram_mut(self.id).ok_or(io::ErrorKind::NotConnected)?.connect(&to.into())
    }

    /// Sets whether it may send to broadcast addresses. By default it may not.
    ///
    /// # Errors
    ///
    /// `Unsupported` if it is not a UDP socket or is simulated, `NotConnected` once it is closed, and any error of the
    /// system.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.sys_socket()?.udp()?.set_broadcast(broadcast)
    }

    /// Joins a multicast group, on the interface with this address, or, with 0.0.0.0, on one that the system chooses.
    ///
    /// # Errors
    ///
    /// See [`set_broadcast`](DatagramTransport::set_broadcast).
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.sys_socket()?.udp()?.join_multicast_v4(&group, &interface)
    }

    /// Leaves a group joined by [`join_multicast_v4`](DatagramTransport::join_multicast_v4).
    ///
    /// # Errors
    ///
    /// See [`set_broadcast`](DatagramTransport::set_broadcast).
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.sys_socket()?.udp()?.leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group, on the interface with this index, or, with 0, on one that the system chooses.
    ///
    /// # Errors
    ///
    /// See [`set_broadcast`](DatagramTransport::set_broadcast).
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.sys_socket()?.udp()?.join_multicast_v6(&group, interface)
    }

    /// Leaves a group joined by [`join_multicast_v6`](DatagramTransport::join_multicast_v6).
    ///
    /// # Errors
    ///
    /// See [`set_broadcast`](DatagramTransport::set_broadcast).
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.sys_socket()?.udp()?.leave_multicast_v6(&group, interface)
    }

    fn sys_socket(&self) -> io::Result<&sys::Datagram> {
        let socket = self.core.parts.slots.datagram(self.id).and_then(DatagramSocket::socket);
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    // Ending.

    /// Closes it: nothing more is delivered, and queued datagrams are sent for at most
    /// [`close_timeout`](crate::Limits::close_timeout). The number of those that could not be sent by then is reported
    /// as [`DatagramError::Dropped`](crate::DatagramError::Dropped), before `connection_lost`.
    pub fn close(&mut self) {
        self.core.parts.close_datagram(self.id, CloseReason::Closed);
    }

    /// Closes it at once: queued datagrams are dropped, and their number is reported as
    /// [`DatagramError::Dropped`](crate::DatagramError::Dropped).
    pub fn abort(&mut self) {
        self.core.parts.finish_datagram(self.id, Some(CloseReason::Aborted));
    }

    // Looking.

    /// Returns whether the socket has begun to end: it was closed or aborted, or it has ended.
    pub fn is_closing(&self) -> bool {
        !self.core.parts.slots.datagram(self.id).is_some_and(DatagramSocket::is_open)
    }

    /// Returns the limits of this socket: those of the loop, with any changes made since for this socket.
    pub fn limits(&self) -> &Limits {
        self.core.parts.slots.datagram(self.id).map_or(&self.core.parts.settings.limits, |datagram| &datagram.limits)
    }

    /// Returns the peer that it is connected to.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.core.parts.slots.datagram(self.id)?.peer()
    }

    /// Returns our own address, with the port that the system chose; makes a system call.
    ///
    /// # Errors
    ///
    /// `NotConnected` once the socket is closed, and any error of the system.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.sys_socket()?.local_addr()
    }

    /// Returns the socket, for options that have no method here (`socket2::SockRef::from(&fd)` has all of them). `None`
    /// once it is closed, and if it is simulated.
    ///
    /// Sending, receiving or connecting through it goes behind the loop's back.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.core.parts.slots.datagram(self.id)?.socket()?.as_fd()
    }

    /// Returns the socket, for options that have no method here (`socket2::SockRef::from(&socket)` has all of them).
    /// `None` once it is closed, and if it is simulated.
    ///
    /// Sending, receiving or connecting through it goes behind the loop's back.
    #[cfg(windows)]
    pub fn socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        self.core.parts.slots.datagram(self.id)?.socket()?.as_socket()
    }
}

impl fmt::Debug for DatagramTransport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramTransport")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
