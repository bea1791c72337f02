//! A connection as a plain stream, for code that reads and writes and waits.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::{Address, Detached};

/// A connection that was taken out of the loop, as a blocking stream: `Read` and `Write`, as Python's `makefile` gives it.
///
/// Reading begins with what the protocol had left unconsumed. It belongs in a thread of its own: where it waits, whatever
/// else that thread does waits too. [`Detached::from`] makes it fit for a loop again, with what is still unread.
pub struct BlockingStream {
    socket: Socket,
    peer: Option<Address>,
    unread: io::Cursor<Vec<u8>>,
}

enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The same for either kind of socket.
macro_rules! on {
    ($socket:expr, $stream:ident => $what:expr) => {
        match $socket {
            Socket::Tcp($stream) => $what,
            #[cfg(unix)]
            Socket::Unix($stream) => $what,
        }
    };
}

impl Detached {
    /// Makes a blocking stream of it, having sent what was still unsent. Reads and writes wait for at most `timeout`
    /// each, and then fail with `WouldBlock` or `TimedOut`; `None`: for ever.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the peer has reset; `Unsupported` for a simulated connection. It is closed then.
    pub fn into_blocking(self, timeout: Option<Duration>) -> io::Result<BlockingStream> {
        let peer = self.peer.clone();
        let (socket, unread, unsent) = match self.into_tcp() {
            Ok((stream, unread, unsent)) => (Socket::Tcp(stream), unread, unsent),
            #[cfg(unix)]
            Err(other) => match other.into_unix() {
                Ok((stream, unread, unsent)) => (Socket::Unix(stream), unread, unsent),
                Err(_) => return Err(io::ErrorKind::Unsupported.into()),
            },
            #[cfg(not(unix))]
            Err(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        on!(&socket, stream => {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(timeout)?;
            stream.set_write_timeout(timeout)?;
        });
        let mut blocking = BlockingStream { socket, peer, unread: io::Cursor::new(unread) };
        blocking.write_all(&unsent)?;
        Ok(blocking)
    }
}

impl BlockingStream {
    /// The peer's address, as the loop knew it.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Ends our half: the peer reads an end of stream behind all that was written. Reading goes on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        on!(&self.socket, stream => stream.shutdown(std::net::Shutdown::Write))
    }
}

/// What is unread first, then the socket.
impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.unread.read(buffer)? {
            0 => on!(&mut self.socket, stream => stream.read(buffer)),
            count => Ok(count),
        }
    }
}

/// The standard library's write; on Unix sockets it may raise SIGPIPE where the program has not ignored that signal, as
/// Rust's programs do from the start.
impl Write for BlockingStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        on!(&mut self.socket, stream => stream.write(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Back into a loop, by [`Context::attach`](crate::Context::attach), with what is still unread.
impl From<BlockingStream> for Detached {
    fn from(stream: BlockingStream) -> Detached {
        let read = stream.unread.position() as usize;
        let unread = stream.unread.into_inner().split_off(read);
        let socket = on!(stream.socket, socket => Detached::from(socket));
        Detached { peer: stream.peer, unread, ..socket }
    }
}

impl fmt::Debug for BlockingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
