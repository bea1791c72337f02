//! A connected stream socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::Poller;
use super::poller::stream_interest;
use crate::Address;

pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    #[cfg(test)]
    Script(super::script::Stream),
}

/// Not to raise SIGPIPE, whatever the embedding program does with that signal (rule W7). Systems of Apple have a socket
/// option for it in place of a flag.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: i32 = 0;

impl Stream {
    /// Takes a stream that somebody else made.
    pub(crate) fn from_std(stream: std::net::TcpStream) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        set_options(&stream)?;
        Ok(Stream::Tcp(stream))
    }

    /// Takes a stream that `accept` gave.
    pub(super) fn from_accepted(stream: mio::net::TcpStream) -> Stream {
        // On Linux the listener's options are handed on. Elsewhere they are set again; an error here is one of the
        // connection's, which its first read or write shows.
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            let _ = set_options(&stream);
        }
        Stream::Tcp(stream)
    }

    pub(crate) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => poller.registry()?.register(stream, mio::Token(token), stream_interest()),
            #[cfg(test)]
            Stream::Script(stream) => stream.register(token),
        }
    }

    /// Whether a read that stops short, without a hint of anything special, has emptied the socket.
    ///
    /// It saves a system call a message. TCP on Linux only: elsewhere, and on Unix sockets, only would-block tells.
    pub(crate) fn short_read_empties(&self) -> bool {
        match self {
            Stream::Tcp(_) => cfg!(target_os = "linux"),
            #[cfg(test)]
            Stream::Script(stream) => stream.short_read_empties(),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            #[cfg(test)]
            Stream::Script(stream) => stream.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            #[cfg(test)]
            Stream::Script(stream) => stream.write(bytes),
        }
    }

    /// Writes several pieces in one call. Not std's, which can raise SIGPIPE (rule W7).
    pub(crate) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            // `try_io`, since on Windows a call that is not mio's own would leave the socket without its next event.
            Stream::Tcp(stream) => {
                let stream = &*stream;
                stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(pieces, SEND_FLAGS))
            }
            #[cfg(test)]
            Stream::Script(stream) => stream.write_vectored(pieces),
        }
    }

    /// Ends our half: the peer reads an end of stream behind all that was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(test)]
            Stream::Script(stream) => stream.shutdown_write(),
        }
    }

    /// Closes with a reset: what is unsent is dropped, and the peer gets an error in place of an end (rule X2).
    pub(crate) fn reset(self) {
        match self {
            Stream::Tcp(stream) => {
                // If the option cannot be set there is nothing left that a reset could be sent to.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            #[cfg(test)]
            Stream::Script(stream) => stream.reset(),
        }
    }

    /// The error that the socket has met and no call was told of yet.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            #[cfg(test)]
            Stream::Script(stream) => Ok(stream.take_error()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().map(Address::from),
            #[cfg(test)]
            Stream::Script(stream) => Ok(stream.address()),
        }
    }

    /// The peer's address, asked of the kernel; fails where the peer has reset already.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().map(Address::from),
            #[cfg(test)]
            Stream::Script(stream) => Ok(stream.address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => std::os::fd::AsFd::as_fd(stream),
            #[cfg(test)]
            Stream::Script(_) => unreachable!("a scripted stream has no descriptor"),
        }
    }

    #[cfg(windows)]
    pub(crate) fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        match self {
            Stream::Tcp(stream) => std::os::windows::io::AsSocket::as_socket(stream),
            #[cfg(test)]
            Stream::Script(_) => unreachable!("a scripted stream has no socket"),
        }
    }
}

/// What every stream of ours is: no delay for small writes, urgent data in line with the rest.
fn set_options(stream: &mio::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    Ok(())
}

/// Whether an error of a send means no more than that the kernel is full now, and of which kind (rule W6).
pub(crate) fn is_blocked(error: &io::Error) -> Option<Blocked> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Some(Blocked::UntilEvent),
        _ if is_out_of_buffers(error) => Some(Blocked::UntilLater),
        _ => None,
    }
}

/// What ends a blocked send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// A writable event.
    UntilEvent,
    /// Only time: the kernel is out of buffers and tells nobody when it has some again.
    UntilLater,
}

#[cfg(unix)]
fn is_out_of_buffers(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(not(unix))]
fn is_out_of_buffers(error: &io::Error) -> bool {
    error.raw_os_error() == Some(10055) // WSAENOBUFS
}
