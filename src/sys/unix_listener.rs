//! A listening Unix stream socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use socket2::{Domain, SockRef, Socket, Type};

use super::habits::HERE;
use super::options::{backlog_length, set_no_sigpipe};
use super::unix_address::{named, unix_address};
use super::unix_path::{Inode, bind_to_path, not_a_socket};
use super::unix_stream::UnixStream;
use crate::{Address, UnixAddress};

pub(crate) struct UnixListener {
    listener: mio::net::UnixListener,
    /// What to unlink on close; `None` for an abstract name, and if the path is removed elsewhere.
    inode: Option<Inode>,
}

impl UnixListener {
    /// Binds and listens (rule N1). A socket that nobody listens on any more is replaced, on systems that can tell;
    /// anything else is left alone.
    ///
    /// The mode is set before the socket listens. Until then every connect is refused, so no client connects under
    /// another mode.
    pub(super) fn bind(address: &UnixAddress, mode: Option<u32>, backlog: u32) -> io::Result<UnixListener> {
        let listener = UnixListener::prepare(address, mode)?;
        SockRef::from(&listener.listener).listen(backlog_length(backlog))?;
        Ok(listener)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Binds, without listening yet.
    fn prepare(address: &UnixAddress, mode: Option<u32>) -> io::Result<UnixListener> {
        // Rejects what cannot be an address: too long, no name at all.
        unix_address(address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // On macOS every stream inherits it, even one whose peer is gone by then.
        set_no_sigpipe(&SockRef::from(&socket))?;
        let inode = match address {
            UnixAddress::Path(path) => Some(bind_to_path(&socket, path, Type::STREAM, &HERE)?),
            UnixAddress::Abstract(_) => {
                socket.bind(&named(address)?)?;
                None
            }
            UnixAddress::Unnamed => return Err(io::ErrorKind::InvalidInput.into()),
        };
        // From here on the path is removed again on an error.
        let listener = mio::net::UnixListener::from_std(OwnedFd::from(socket).into());
        let listener = UnixListener { listener, inode };
        if let (Some(mode), Some(inode)) = (mode, &listener.inode) {
            fs::set_permissions(inode.path(), Permissions::from_mode(mode))?;
        }
        Ok(listener)
    }

    /// Takes a listener that was made elsewhere. Its path is not removed here.
    pub(super) fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener { listener: mio::net::UnixListener::from_std(listener), inode: None })
    }

    /// Sets whether its path is removed on close. If it was not to be removed so far, the socket that is at the path
    /// now is assumed to be its own.
    pub(super) fn set_unlinks(&mut self, unlinks: bool) -> io::Result<()> {
        match (&self.inode, self.local_addr()?) {
            (None, Address::Unix(UnixAddress::Path(path))) if unlinks => {
                let found = fs::symlink_metadata(&path)?;
                if !found.file_type().is_socket() {
                    return Err(not_a_socket(io::ErrorKind::AlreadyExists));
                }
                self.inode = Some(Inode::of(&path, &found)?);
            }
            (Some(_), _) if !unlinks => self.inode = None,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn source(&mut self) -> &mut dyn mio::event::Source {
        &mut self.listener
    }

    pub(super) fn accept(&self) -> io::Result<(UnixStream, Address)> {
        let (stream, peer) = self.listener.accept()?;
        Ok((UnixStream::from_accepted(stream), peer.into()))
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr().map(Address::from)
    }
}

/// Unlinks its path, if that still belongs to it. Done before the socket is closed: as long as it is open, no other
/// file can get the number of its inode.
impl Drop for UnixListener {
    fn drop(&mut self) {
        if let Some(inode) = &self.inode {
            if let Err(error) = inode.unlink() {
                log::warn!("cannot remove {}: {error}", crate::escape(inode.path().as_os_str().as_bytes()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n1_nobody_can_connect_before_the_mode_is_there() {
        let path = std::env::temp_dir().join(format!("switchboard-{}-window.sock", std::process::id()));
        let prepared = UnixListener::prepare(&UnixAddress::Path(path.clone()), Some(0o640)).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        let refused = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop(prepared);
        assert!(!path.exists());
    }
}
