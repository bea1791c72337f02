//! A connection as a plain stream, for code that reads and writes and waits.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use crate::sys::Held;
use crate::{Address, Detached};

/// How much is read ahead at once.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// A connection that was taken out of the loop, as a blocking stream: `BufRead` and `Write`, as Python's `makefile` gives
/// it. Reading is buffered, writing is not.
///
/// Reading begins with what the protocol had left unconsumed. It belongs in a thread of its own: where it waits, whatever
/// else that thread does waits too. [`Detached::from`] makes it fit for a loop again, with what is still unread, what was
/// read ahead included. No write raises SIGPIPE.
///
/// Dropping it closes the socket: by a reset if the last write failed, or while the thread panics, since no peer must
/// take half an answer for the whole.
pub struct BlockingStream {
    stream: Held,
    peer: Option<Address>,
    unread: io::Cursor<Vec<u8>>,
}

impl Detached {
    /// Makes a blocking stream of it, having sent what was still unsent. Reads and writes wait for at most `timeout`
    /// each, and then fail with `WouldBlock` or `TimedOut`; `None`: for ever.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the peer has reset; `Unsupported` for a simulated one. Either way it is reset.
    pub fn into_blocking(self, timeout: Option<Duration>) -> io::Result<BlockingStream> {
        let Detached { mut stream, peer, unread, unsent } = self;
        // Until it is what was asked for, whatever fails closes it with a reset.
        stream.set_short(true);
        stream.get().set_blocking()?;
        let mut blocking = BlockingStream { stream, peer, unread: io::Cursor::new(unread) };
        blocking.set_timeout(timeout)?;
        blocking.write_all(&unsent)?;
        blocking.stream.set_short(false);
        Ok(blocking)
    }
}

impl BlockingStream {
    /// The peer's address, as the loop knew it.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// How long each read and write waits from here on, as Python's `settimeout` sets it; `None`: for ever. Zero counts as
    /// the shortest wait there is.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.get().set_timeout(timeout.map(|timeout| timeout.max(Duration::from_micros(1))))
    }

    /// What was read from the socket and not consumed: as much can be read without waiting.
    pub fn unread(&self) -> &[u8] {
        &self.unread.get_ref()[self.unread.position() as usize..]
    }

    /// Ends our half: the peer reads an end of stream behind all that was written. Reading goes on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.stream.get().shutdown_write()
    }
}

/// What is unread first, then the socket.
impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.len() >= READ_AHEAD_BYTES && self.unread().is_empty() {
            return self.stream.get_mut().read(buffer);
        }
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for BlockingStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread().is_empty() {
            let mut ahead = std::mem::take(&mut self.unread).into_inner();
            ahead.resize(READ_AHEAD_BYTES, 0);
            let result = self.stream.get_mut().read(&mut ahead);
            ahead.truncate(*result.as_ref().unwrap_or(&0));
            self.unread = io::Cursor::new(ahead);
            result?;
        }
        Ok(self.unread())
    }

    fn consume(&mut self, count: usize) {
        let read = self.unread.position() as usize + count;
        self.unread.set_position(read.min(self.unread.get_ref().len()) as u64);
    }
}

impl Write for BlockingStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.stream.get_mut().write(data);
        self.stream.set_short(result.is_err());
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For the options that have no method here: `socket2::SockRef::from(&stream)` has all of them.
#[cfg(unix)]
impl std::os::fd::AsFd for BlockingStream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.get().as_fd().expect("none in memory is made to block")
    }
}

/// For the options that have no method here: `socket2::SockRef::from(&stream)` has all of them.
#[cfg(windows)]
impl std::os::windows::io::AsSocket for BlockingStream {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.stream.get().as_socket().expect("none in memory is made to block")
    }
}

/// Back into a loop, by [`Context::attach`](crate::Context::attach), with what is still unread.
impl From<BlockingStream> for Detached {
    fn from(stream: BlockingStream) -> Detached {
        let read = stream.unread.position() as usize;
        let unread = stream.unread.into_inner().split_off(read);
        Detached { stream: stream.stream, peer: stream.peer, unread, unsent: Vec::new() }
    }
}

impl fmt::Debug for BlockingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
