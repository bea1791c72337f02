//! A datagram socket.

use std::io;
use std::net::SocketAddr;

use mio::Interest;
use socket2::{Domain, Protocol, Socket, Type};

use super::habits::HERE;
use super::{Poller, memory};
use crate::Address;

pub(crate) enum Datagram {
    Udp {
        socket: mio::net::UdpSocket,
        /// Whether the system uses IPv6 addresses for its peers, including IPv4 ones.
        is_ipv6: bool,
    },
    #[cfg(unix)]
    Unix(super::unix_datagram::UnixDatagram),
    Memory(memory::Boxed<dyn memory::Datagram>),
}

/// The result of a receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) count: usize,
    pub(crate) from: Address,
}

impl Datagram {
    /// Binds a socket. An IPv6 address serves only IPv6.
    pub(crate) fn bind(poller: &Poller, address: &Address) -> io::Result<Datagram> {
        match (poller, address) {
            (Poller::Mio(_), &Address::Inet(address)) => Datagram::bind_udp(address),
            #[cfg(unix)]
            (Poller::Mio(_), Address::Unix(address)) => {
                super::unix_datagram::UnixDatagram::bind(address).map(Datagram::Unix)
            }
            (Poller::Memory(poller), address) => poller.bind_datagram(address).map(Datagram::Memory),
        }
    }

    fn bind_udp(address: SocketAddr) -> io::Result<Datagram> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(Address::unmapped(address).is_ipv6())?;
        }
        socket.bind(&address.into())?;
        Datagram::of_udp(socket.into())
    }

    /// Takes a socket that was made elsewhere.
    pub(crate) fn from_std(poller: &Poller, socket: std::net::UdpSocket) -> io::Result<Datagram> {
        poller.registry()?;
        Datagram::of_udp(socket)
    }

    fn of_udp(socket: std::net::UdpSocket) -> io::Result<Datagram> {
        socket.set_nonblocking(true)?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Datagram::Udp { socket: mio::net::UdpSocket::from_std(socket), is_ipv6 })
    }

    /// Registers it for reading, and for writing only while a send is blocked: the kernel raises a writable edge for
    /// every datagram that was sent, and each would be a needless wake-up.
    pub(crate) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Datagram::Udp { socket, .. } => poller.register(socket, token, Interest::READABLE),
            #[cfg(unix)]
            Datagram::Unix(socket) => poller.register(socket.source(), token, Interest::READABLE),
            Datagram::Memory(socket) => socket.register(poller.memory()?, token),
        }
    }

    /// Asks for an event when a blocked send can continue, or stops asking if `awaits` is `false`.
    pub(crate) fn await_writable(&mut self, poller: &Poller, token: usize, awaits: bool) -> io::Result<()> {
        let interest = if awaits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match self {
            Datagram::Udp { socket, .. } => poller.reregister(socket, token, interest),
            #[cfg(unix)]
            Datagram::Unix(socket) => poller.reregister(socket.source(), token, interest),
            Datagram::Memory(socket) => {
                socket.await_writable(awaits);
                Ok(())
            }
        }
    }

    /// Returns whether an event tells when a blocked send can continue. On an unconnected Unix socket none does: one of
    /// many receivers blocks the send, and each failed try raises an event itself. Such a send is retried after some
    /// time.
    pub(crate) fn tells_when_writable(&self) -> bool {
        match self {
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.is_connected() && !HERE.full_receiver_lacks_buffers,
            Datagram::Memory(socket) => socket.tells_when_writable() && !socket.full_receiver_lacks_buffers(),
            Datagram::Udp { .. } => true,
        }
    }

    /// Returns whether a send fails for lack of kernel buffers when it is in fact the receiver that has no room, which
    /// no event reports.
    pub(crate) fn full_receiver_lacks_buffers(&self) -> bool {
        match self {
            Datagram::Memory(socket) => socket.full_receiver_lacks_buffers(),
            other => HERE.full_receiver_lacks_buffers && !matches!(other, Datagram::Udp { .. }),
        }
    }

    /// Connects it: from now on [`send`](Datagram::send) sends to this address, and the socket receives only what this
    /// address sends, and errors that concern it.
    pub(crate) fn connect(&mut self, address: &Address) -> io::Result<()> {
        match self {
            Datagram::Udp { socket, is_ipv6 } => socket.connect(inet(address, *is_ipv6)?),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.connect(address),
            Datagram::Memory(socket) => socket.connect(address),
        }
    }

    pub(crate) fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        match self {
            Datagram::Udp { socket, is_ipv6 } => socket.send_to(bytes, inet(to, *is_ipv6)?),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.send_to(bytes, to),
            Datagram::Memory(socket) => socket.send_to(bytes, to),
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Datagram::Udp { socket, .. } => socket.send(bytes),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.send(bytes),
            Datagram::Memory(socket) => socket.send(bytes),
        }
    }

    /// Returns the longest datagram that can arrive: UDP's limit, and for Unix sockets more than any system sends.
    /// (Linux 6.18 sends 4.2 MB; 8 MiB fail with ENOBUFS.)
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        match self {
            #[cfg(unix)]
            Datagram::Unix(_) => 8 << 20,
            Datagram::Memory(socket) => socket.bytes_max(),
            Datagram::Udp { .. } => 65_535,
        }
    }

    /// Receives one datagram; the part that does not fit into the buffer is lost.
    pub(crate) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (count, from) = match self {
            Datagram::Udp { socket, .. } => socket.recv_from(buffer)?,
            #[cfg(unix)]
            Datagram::Unix(socket) => {
                let (count, from) = socket.recv_from(buffer)?;
                return Ok(Received { count, from });
            }
            Datagram::Memory(socket) => {
                let (count, from) = socket.recv_from(buffer)?;
                return Ok(Received { count, from });
            }
        };
        Ok(Received { count, from: Address::of_socket(from) })
    }

    /// Takes the socket's pending error, which no call has reported yet.
    #[cfg(all(test, feature = "testing", target_os = "linux"))]
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Datagram::Udp { socket, .. } => socket.take_error(),
            Datagram::Memory(socket) => Ok(socket.take_error()),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket2::SockRef::from(&socket.as_fd()).take_error(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Datagram::Udp { socket, .. } => socket.local_addr().map(Address::of_socket),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.local_addr(),
            Datagram::Memory(socket) => socket.local_addr(),
        }
    }

    /// Returns the socket as mio's type, for UDP's options; `Unsupported` for any other socket.
    pub(crate) fn udp(&self) -> io::Result<&mio::net::UdpSocket> {
        match self {
            Datagram::Udp { socket, .. } => Ok(socket),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Datagram::Udp { socket, .. } => Some(std::os::fd::AsFd::as_fd(socket)),
            Datagram::Unix(socket) => Some(socket.as_fd()),
            Datagram::Memory(_) => None,
        }
    }

    #[cfg(windows)]
    pub(crate) fn as_socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        match self {
            Datagram::Udp { socket, .. } => Some(std::os::windows::io::AsSocket::as_socket(socket)),
            Datagram::Memory(_) => None,
        }
    }
}

/// Converts an address to the socket's family: IPv4 addresses are mapped for an IPv6 socket, and mapped ones unmapped
/// for an IPv4 one.
pub(super) fn inet(address: &Address, is_ipv6: bool) -> io::Result<SocketAddr> {
    match address.as_inet().map(Address::unmapped) {
        Some(SocketAddr::V4(v4)) if is_ipv6 => Ok(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())),
        Some(address) => Ok(address),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an Internet address")),
    }
}
