//! A Unix datagram socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::habits::HERE;
use super::options::{SEND_FLAGS, set_no_sigpipe};
use super::unix_address::{named, unix_address};
use super::unix_path::{Inode, bind_to_path};
use crate::{Address, UnixAddress};

pub(crate) struct UnixDatagram {
    socket: mio::net::UnixDatagram,
    /// What to unlink on close; `None` without a path.
    inode: Option<Inode>,
    is_connected: bool,
}

impl UnixDatagram {
    /// Binds to a path, to an abstract name, or to none. A socket that no process has open any more is replaced (rule
    /// N1).
    pub(super) fn bind(address: &UnixAddress) -> io::Result<UnixDatagram> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        set_no_sigpipe(&SockRef::from(&socket))?;
        let inode = match address {
            UnixAddress::Path(path) => {
                // Rejects what cannot be a path.
                unix_address(address)?;
                Some(bind_to_path(&socket, path, Type::DGRAM, &HERE)?)
            }
            UnixAddress::Abstract(_) => {
                socket.bind(&named(address)?)?;
                None
            }
            UnixAddress::Unnamed => None,
        };
        // From here on the path is removed again on an error.
        let socket = mio::net::UnixDatagram::from_std(std::os::fd::OwnedFd::from(socket).into());
        let datagram = UnixDatagram { socket, inode, is_connected: false };
        SockRef::from(&datagram.socket).set_nonblocking(true)?;
        Ok(datagram)
    }

    pub(super) fn source(&mut self) -> &mut dyn mio::event::Source {
        &mut self.socket
    }

    pub(super) fn connect(&mut self, address: &Address) -> io::Result<()> {
        SockRef::from(&self.socket).connect(&destination(address)?)?;
        self.is_connected = true;
        Ok(())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The standard library's call takes only paths.
    pub(super) fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        let to = destination(to)?;
        self.socket.try_io(|| SockRef::from(&self.socket).send_to_with_flags(bytes, &to, SEND_FLAGS))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_io(|| SockRef::from(&self.socket).send_with_flags(bytes, SEND_FLAGS))
    }

    pub(super) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        let (count, from) = self.socket.recv_from(buffer)?;
        Ok((count, from.into()))
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr().map(Address::from)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Unlinks its path, if that still belongs to it; before the socket is closed, as a listener does.
impl Drop for UnixDatagram {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.inode.as_ref().map(Inode::unlink) {
            log::warn!("cannot remove the path of a datagram socket: {error}");
        }
    }
}

fn destination(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Unix(address) => named(address),
        Address::Inet(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a Unix address")),
    }
}
