//! A listening socket.

use std::io;
use std::net::SocketAddr;

use mio::Interest;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::errors::AcceptError;
use super::habits::{HERE, Habits};
use super::options::{backlog_length, if_supported, is_tcp, set_tcp_options};
use super::{Poller, Stream, memory};
use crate::Address;
use crate::threads::backlog::{Room, Wake};

pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    /// A listener in TCP's type that was made elsewhere, or that uses another protocol.
    Adopted(Adopted),
    #[cfg(unix)]
    Unix(super::unix_listener::UnixListener),
    /// It has no socket: other threads feed it.
    Fed(super::FedListener),
    Memory(memory::Boxed<dyn memory::Listener>),
}

/// A listener in TCP's type that may accept something else than TCP streams with our options.
pub(crate) struct Adopted {
    listener: mio::net::TcpListener,
    gives: Gives,
}

/// What an adopted listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// TCP streams that have our options.
    Ours,
    /// The same, after those that were in the backlog already: these have the options that the listener had before.
    OldOnesFirst,
    /// Streams of another protocol, or of TCP: an MPTCP listener accepts TCP streams from peers without MPTCP.
    Unknown,
}

impl Adopted {
    fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self.listener.accept() {
            Ok((stream, peer)) => match self.gives {
                Gives::Ours => Ok((Stream::from_accepted(stream), peer)),
                Gives::OldOnesFirst | Gives::Unknown => Ok((Stream::from_unknown(stream), peer)),
            },
            Err(error) => {
                if error.kind() == io::ErrorKind::WouldBlock && self.gives == Gives::OldOnesFirst {
                    self.gives = Gives::Ours;
                }
                Err(error)
            }
        }
    }
}

impl Listener {
    /// Binds and listens. An IPv6 address serves only IPv6; on Unix an address is free again at once after a restart.
    /// If the listener shares its port, others that share it can listen on the same address.
    pub(crate) fn bind(poller: &Poller, address: SocketAddr, backlog: u32, shares_port: bool) -> io::Result<Listener> {
        match poller {
            Poller::Mio(_) => {}
            Poller::Memory(_) if shares_port => return Err(io::ErrorKind::Unsupported.into()),
            Poller::Memory(poller) => return poller.listen(address, backlog.max(1)).map(Listener::Memory),
        }
        let socket = Listener::bind_tcp(address, backlog, shares_port)?;
        let is_tcp = is_tcp(&SockRef::from(&socket));
        let listener = mio::net::TcpListener::from_std(socket);
        match is_tcp {
            true => Ok(Listener::Tcp(listener)),
            // The system is configured to make MPTCP sockets in place of TCP ones.
            false => Ok(Listener::Adopted(Adopted { listener, gives: Gives::Unknown })),
        }
    }

    /// Binds and listens, as [`bind`](Listener::bind) does.
    pub(crate) fn bind_tcp(address: SocketAddr, backlog: u32, shares_port: bool) -> io::Result<std::net::TcpListener> {
        if shares_port && !HERE.spreads_shared_ports {
            let why = "this system does not spread connections among sockets that share a port";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // A mapped address is IPv4, which an IPv6 socket serves only with the option off.
            socket.set_only_v6(Address::unmapped(address).is_ipv6())?;
        }
        // On other systems the option lets a second program take the address away.
        if HERE.reuse_is_safe {
            socket.set_reuse_address(true)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_reuse_port(shares_port)?;
        // Set before it listens, so that every stream inherits them.
        set_tcp_options(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(backlog_length(backlog))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Binds and listens on a Unix socket (rule N1).
    #[cfg(unix)]
    pub(crate) fn bind_unix(
        poller: &Poller,
        address: &crate::UnixAddress,
        mode: Option<u32>,
        backlog: u32,
    ) -> io::Result<Listener> {
        if let Poller::Memory(poller) = poller {
            super::unix_address::check(address, poller.habits())?;
            // It has no file, so it has no mode.
            return poller.listen_named(&address.clone().into(), backlog.max(1)).map(Listener::Memory);
        }
        super::unix_listener::UnixListener::bind(address, mode, backlog).map(Listener::Unix)
    }

    /// Takes a listener that was made elsewhere.
    pub(crate) fn from_std(poller: &Poller, listener: std::net::TcpListener) -> io::Result<Listener> {
        poller.registry()?;
        listener.set_nonblocking(true)?;
        let socket = SockRef::from(&listener);
        set_tcp_options(&socket)?;
        // A close that waits would block the loop.
        if_supported(socket.set_linger(None))?;
        let gives = if is_tcp(&socket) { Gives::OldOnesFirst } else { Gives::Unknown };
        Ok(Listener::Adopted(Adopted { listener: mio::net::TcpListener::from_std(listener), gives }))
    }

    /// The same for a Unix socket.
    #[cfg(unix)]
    pub(crate) fn from_std_unix(poller: &Poller, listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        poller.registry()?;
        super::unix_listener::UnixListener::from_std(listener).map(Listener::Unix)
    }

    /// Returns what to register with mio: nothing if the listener is fed, or in memory.
    fn source(&mut self) -> Option<&mut dyn mio::event::Source> {
        match self {
            Listener::Tcp(listener) | Listener::Adopted(Adopted { listener, .. }) => Some(listener),
            #[cfg(unix)]
            Listener::Unix(listener) => Some(listener.source()),
            Listener::Fed(_) | Listener::Memory(_) => None,
        }
    }

    pub(crate) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Listener::Memory(listener) => listener.register(poller.memory()?, token),
            _ => match self.source() {
                Some(source) => poller.register(source, token, Interest::READABLE),
                None => Ok(()),
            },
        }
    }

    /// Deregisters it from the poller. Closing it is not enough: if another process has the same socket, the poller
    /// would go on reporting its connections.
    pub(crate) fn deregister(&mut self, poller: &Poller) -> io::Result<()> {
        match self.source() {
            Some(source) => poller.deregister(source),
            None => Ok(()),
        }
    }

    /// Accepts one connection, with the address that `accept` returned: asking later fails if the peer has reset (C8).
    #[inline]
    pub(crate) fn accept(&mut self) -> Result<(Stream, Address), (AcceptError, io::Error)> {
        self.accept_one().map_err(|error| (AcceptError::of_accept(&error, self.habits()), error))
    }

    fn habits(&self) -> &'static Habits {
        match self {
            Listener::Memory(listener) => listener.habits(),
            _ => &HERE,
        }
    }

    /// Inlined for TCP, which most are.
    #[inline]
    fn accept_one(&mut self) -> io::Result<(Stream, Address)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::from_accepted(stream), Address::of_socket(peer)))
            }
            other => other.accept_other(),
        }
    }

    #[inline(never)]
    fn accept_other(&mut self) -> io::Result<(Stream, Address)> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::from_accepted(stream), Address::of_socket(peer)))
            }
            Listener::Adopted(listener) => listener.accept().map(|(stream, peer)| (stream, Address::of_socket(peer))),
            #[cfg(unix)]
            Listener::Unix(listener) => listener.accept().map(|(stream, peer)| (Stream::Unix(stream), peer)),
            Listener::Fed(listener) => listener.accept(),
            Listener::Memory(listener) => listener.accept().map(|(stream, peer)| (Stream::Memory(stream), peer)),
        }
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Listener::Tcp(listener) | Listener::Adopted(Adopted { listener, .. }) => {
                Some(std::os::fd::AsFd::as_fd(listener))
            }
            Listener::Unix(listener) => Some(listener.as_fd()),
            Listener::Fed(_) | Listener::Memory(_) => None,
        }
    }

    #[cfg(windows)]
    pub(crate) fn as_socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        match self {
            Listener::Tcp(listener) | Listener::Adopted(Adopted { listener, .. }) => {
                Some(std::os::windows::io::AsSocket::as_socket(listener))
            }
            Listener::Fed(_) | Listener::Memory(_) => None,
        }
    }

    pub(crate) fn is_fed(&self) -> bool {
        matches!(self, Listener::Fed(_))
    }

    /// Starts to take connections from the backlog that feeds it.
    pub(crate) fn join(&self, wake: Wake) {
        if let Listener::Fed(listener) = self {
            listener.join(wake);
        }
    }

    /// From now on it is woken again when a connection is fed to it.
    pub(crate) fn look(&self) {
        if let Listener::Fed(listener) = self {
            listener.look();
        }
    }

    /// Takes what came with the connection that was accepted last, besides its socket.
    pub(crate) fn take_rest(&mut self) -> Option<super::Rest> {
        match self {
            Listener::Fed(listener) => listener.take_rest(),
            _ => None,
        }
    }

    /// Tells the backlog that feeds it how much room it has.
    pub(crate) fn set_room(&self, room: Room) {
        if let Listener::Fed(listener) = self {
            listener.set_room(room);
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) | Listener::Adopted(Adopted { listener, .. }) => {
                listener.local_addr().map(Address::of_socket)
            }
            #[cfg(unix)]
            Listener::Unix(listener) => listener.local_addr(),
            Listener::Fed(listener) => Ok(listener.local_addr()),
            Listener::Memory(listener) => listener.local_addr(),
        }
    }

    /// Sets whether the path of a Unix socket is removed on close; does nothing to others.
    pub(crate) fn set_unlinks(&mut self, unlinks: bool) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Listener::Unix(listener) => listener.set_unlinks(unlinks),
            Listener::Memory(listener) => {
                listener.set_unlinks(unlinks);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
