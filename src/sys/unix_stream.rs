//! A connected Unix stream socket.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::Interest;
use socket2::{Domain, SockRef, Socket, Type};

use super::habits::HERE;
use super::options::{SEND_FLAGS, set_unix_options, with_urgent_data};
use super::unix_address::{named, unix_address};
use super::{Poller, PutOff};
use crate::{Address, UnixAddress};

/// Registered for reading, and for writing only while a send is blocked: a Unix socket raises a writable edge whenever
/// its peer reads, which would be a needless wake-up for each message.
pub(crate) struct UnixStream {
    stream: mio::net::UnixStream,
    awaits_writable: bool,
    /// Whether the read that would tell whether a short one has emptied the socket is deferred.
    put_off: PutOff,
}

impl UnixStream {
    pub(super) fn from_std(stream: std::os::unix::net::UnixStream) -> UnixStream {
        UnixStream { stream: mio::net::UnixStream::from_std(stream), awaits_writable: false, put_off: PutOff::No }
    }

    pub(super) fn from_accepted(stream: mio::net::UnixStream) -> UnixStream {
        // An error here concerns only this connection, whose first read or write reports it.
        let _ = set_unix_options(&SockRef::from(&stream));
        UnixStream { stream, awaits_writable: false, put_off: PutOff::No }
    }

    pub(super) fn connect(address: &UnixAddress) -> io::Result<UnixStream> {
        // Rejects what cannot be an address: too long, no name at all.
        unix_address(address)?;
        let socket = unconnected()?;
        match socket.connect(&named(address)?) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result?,
        }
        Ok(UnixStream::from_std(OwnedFd::from(socket).into()))
    }

    pub(super) fn into_std(self) -> std::os::unix::net::UnixStream {
        OwnedFd::from(self.stream).into()
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        SockRef::from(&self.stream).set_nonblocking(true)?;
        set_unix_options(&SockRef::from(&self.stream))
    }

    pub(super) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        self.put_off = PutOff::No;
        poller.register(&mut self.stream, token, read_interest())
    }

    pub(super) fn deregister(&mut self, poller: &Poller) -> io::Result<()> {
        self.awaits_writable = false;
        poller.deregister(&mut self.stream)
    }

    pub(super) fn await_writable(&mut self, poller: &Poller, token: usize, awaits: bool) -> io::Result<()> {
        if self.awaits_writable == awaits {
            return Ok(());
        }
        let interest = if awaits { read_interest() | Interest::WRITABLE } else { read_interest() };
        poller.reregister(&mut self.stream, token, interest)?;
        self.awaits_writable = awaits;
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Defers the next read, after a short one. Returns the previous state, or `None` if the read must be done now.
    ///
    /// On Linux a short read leaves something behind if an urgent byte comes next, which a hint tells, or if a message
    /// carried descriptors or, where those are asked for, other credentials than the one before. No event reports the
    /// latter two.
    pub(super) fn put_off_reading(&mut self) -> Option<PutOff> {
        HERE.puts_off_unix_reads.then(|| self.put_off.renew())
    }

    /// The delay of a deferred read is over. Returns the previous state.
    pub(super) fn pass_put_off(&mut self) -> PutOff {
        self.put_off.pass()
    }

    /// The standard library's call can raise SIGPIPE (rule W7).
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = &self.stream;
        stream.try_io(|| SockRef::from(stream).send_with_flags(bytes, SEND_FLAGS))
    }

    /// The standard library's call can raise SIGPIPE (rule W7).
    pub(super) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = &self.stream;
        stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(pieces, SEND_FLAGS))
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.stream.take_error()
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        self.stream.local_addr().map(Address::from)
    }

    pub(super) fn peer_addr(&self) -> io::Result<Address> {
        self.stream.peer_addr().map(Address::from)
    }

    pub(super) fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.stream)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Returns a socket to connect with. Its options are set before: macOS takes none for a connection that ends at once.
pub(super) fn unconnected() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    set_unix_options(&SockRef::from(&socket))?;
    Ok(socket)
}

/// Returns what reading is registered for. A read stops short before an urgent byte, and only the hint at that byte
/// tells that it has not emptied the socket (rule R6). The hint costs no event: an urgent byte raises a readable edge
/// anyway.
fn read_interest() -> Interest {
    with_urgent_data(Interest::READABLE)
}
