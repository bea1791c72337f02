//! A connection as a plain stream, for code that reads and writes and waits.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::through::Through;
use crate::filter::Filter;
use crate::sys::{Held, Stream};
use crate::{Address, Detached};

/// How much is read ahead at once.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// A connection that was taken out of the loop, as a blocking stream. It implements `BufRead` and `Write`, like the
/// object that Python's `makefile` returns. Reading is buffered, writing is not.
///
/// Reads first return the input that the protocol had left unconsumed. Use it in a thread of its own: a call that waits
/// blocks everything else in that thread. [`Detached::from`] makes it fit for a loop again, along with all unread
/// input, including what was read ahead. No write raises SIGPIPE.
///
/// The [filters](crate::filter) of the connection move with it, and are called by the thread that reads and writes: if
/// one of them panics, that thread panics. Each call waits as long as it would without filters, and the stream ends
/// where the peer's filters have said that it does. In addition
/// - a read fails with `UnexpectedEof` if the stream was cut off before that end, and with `InvalidData` if a filter
///   found its rules broken. Either error comes after all data that arrived before it, and has the filter's own error
///   as its cause. Writes fail from then on too. What the filter has to say about it (an alert) is sent at once if the
///   kernel takes it, otherwise by a `flush`;
/// - a successful write means that the filters have taken the data. Their output may not be sent yet:
///   [`flush`](Write::flush) sends it, as do the next write and [`shutdown_write`](BlockingStream::shutdown_write);
/// - only `shutdown_write` makes the filters announce the end of our half. If the stream is dropped without it, a peer
///   whose filter expects such an announcement (TLS) sees a stream that was cut off.
///
/// Dropping it closes the socket, with a reset if the last write failed or is not sent yet, after an `UnexpectedEof`,
/// or while the thread panics, so that no peer takes half an answer for the whole.
pub struct BlockingStream {
    stream: Held,
    peer: Option<Address>,
    unread: io::Cursor<Vec<u8>>,
    through: Option<Box<Through>>,
}

impl Detached {
    /// Converts it to a blocking stream, after sending the unsent output. Each read and write waits for at most
    /// `timeout`, and then fails with `WouldBlock` or `TimedOut`; `None` waits forever.
    ///
    /// # Errors
    ///
    /// Returns the system's error, such as a reset by the peer, or `Unsupported` for a simulated connection. In either
    /// case the connection is reset.
    pub fn into_blocking(self, timeout: Option<Duration>) -> io::Result<BlockingStream> {
        let mut detached = self;
        // Until it has become a blocking stream, any failure closes it with a reset.
        detached.stream.set_short(true);
        detached.stream.get().set_blocking()?;
        let (mut blocking, unsent) = BlockingStream::of(detached);
        blocking.set_timeout(timeout)?;
        // If a filter has failed, the output that it has not taken is not sent.
        if blocking.through.as_ref().is_none_or(|through| !through.has_failed()) {
            blocking.write_all(&unsent)?;
        }
        blocking.flush()?;
        blocking.stream.set_short(false);
        Ok(blocking)
    }
}

impl BlockingStream {
    /// Returns the stream with its socket as it is, and the unsent output.
    pub(crate) fn of(Detached { stream, peer, unread, unsent, chain }: Detached) -> (BlockingStream, Vec<u8>) {
        let through = chain.map(|chain| Box::new(Through::new(chain)));
        (BlockingStream { stream, peer, unread: io::Cursor::new(unread), through }, unsent)
    }

    /// Returns the peer's address, as the loop knew it.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Sets how long each subsequent read and write waits, like Python's `settimeout`; `None` waits forever. Zero counts
    /// as the shortest possible wait.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.get().set_timeouts([timeout.map(|timeout| timeout.max(Duration::from_micros(1))); 2])
    }

    /// Returns the stream's filter of this type; the uppermost one if there are several.
    pub fn filter<F: Filter>(&self) -> Option<&F> {
        self.through.as_ref()?.find()
    }

    /// Returns the input that was read from the socket and not consumed: this much can be read without waiting.
    pub fn unread(&self) -> &[u8] {
        &self.unread.get_ref()[self.unread.position() as usize..]
    }

    /// Closes our half of the connection: the peer reads an end of stream after all written data and after the filters'
    /// own announcement of the end. Reading continues.
    ///
    /// # Errors
    ///
    /// Returns the system's error. With filters it can fail as a write does, and can then be called again.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        let result = self.by_filters(Through::finish);
        result.unwrap_or_else(|| self.stream.get().shutdown_write())
    }

    /// Calls `code` with the filters, if there are any.
    fn by_filters<R>(&mut self, code: impl FnOnce(&mut Through, &mut Stream, &mut Vec<u8>) -> R) -> Option<R> {
        let through = self.through.as_mut()?;
        // If a filter panics, this stays set.
        self.stream.set_short(true);
        let answer = code(through, self.stream.get_mut(), self.unread.get_mut());
        self.stream.set_short(through.is_short());
        if let Some(peer) = through.take_peer() {
            self.peer = Some(peer);
        }
        if through.is_dissolved() {
            self.through = None;
        }
        Some(answer)
    }

    fn read_ahead(&mut self) -> io::Result<()> {
        let mut ahead = std::mem::take(&mut self.unread).into_inner();
        if self.through.is_some() {
            ahead.clear();
            self.unread = io::Cursor::new(ahead);
            return self.by_filters(Through::fill).unwrap_or(Ok(()));
        }
        ahead.resize(READ_AHEAD_BYTES, 0);
        let result = self.stream.get_mut().read(&mut ahead);
        ahead.truncate(*result.as_ref().unwrap_or(&0));
        self.unread = io::Cursor::new(ahead);
        result.map(|_| ())
    }
}

/// Reads the unread input first, then the socket.
impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.len() >= READ_AHEAD_BYTES && self.unread().is_empty() && self.through.is_none() {
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
            self.read_ahead()?;
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
        if self.through.is_some() {
            let taken = self.by_filters(|through, stream, unread| through.write(stream, unread, data));
            return taken.unwrap_or(Ok(0));
        }
        let result = self.stream.get_mut().write(data);
        self.stream.set_short(result.is_err());
        result
    }

    /// Without filters there is nothing to flush.
    fn flush(&mut self) -> io::Result<()> {
        self.by_filters(Through::flush).unwrap_or(Ok(()))
    }
}

/// For options that have no method here: `socket2::SockRef::from(&stream)` has them all.
#[cfg(unix)]
impl std::os::fd::AsFd for BlockingStream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.get().as_fd().expect("none in memory is made to block")
    }
}

/// For options that have no method here: `socket2::SockRef::from(&stream)` has them all.
#[cfg(windows)]
impl std::os::windows::io::AsSocket for BlockingStream {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.stream.get().as_socket().expect("none in memory is made to block")
    }
}

/// Makes it fit for a loop again, to be attached by [`Context::attach`](crate::Context::attach), with its unread input.
impl From<BlockingStream> for Detached {
    fn from(stream: BlockingStream) -> Detached {
        let BlockingStream { stream, peer, unread, through } = stream;
        let read = unread.position() as usize;
        let unread = unread.into_inner().split_off(read);
        let chain = through.map(|through| through.into_chain());
        Detached { stream, peer, unread, unsent: Vec::new(), chain }
    }
}

impl fmt::Debug for BlockingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
