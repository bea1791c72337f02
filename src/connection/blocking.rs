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

/// A connection that was taken out of the loop, as a blocking stream: `BufRead` and `Write`, as Python's `makefile` gives
/// it. Reading is buffered, writing is not.
///
/// Reading begins with what the protocol had left unconsumed. It belongs in a thread of its own: where it waits, whatever
/// else that thread does waits too. [`Detached::from`] makes it fit for a loop again, with what is still unread, what was
/// read ahead included. No write raises SIGPIPE.
///
/// The [filters](crate::filter) that the connection had come with it, and are called by the thread that reads and writes: what
/// they panic with is a panic there. Each call waits as one without them does, and the end of the stream is the one that the
/// peer has said in their way. Beside that
/// - reading fails with `UnexpectedEof` where the stream was cut off before that end, and with `InvalidData` where a filter has
///   found its rules broken: each behind all that came before, with the filter's own error as the cause. So does writing then.
///   What the filter had to say of it (an alert) goes out at once if the kernel takes it, else with a `flush`;
/// - what a write was taken for is the filters', and what they have made of it may have had no time to go out:
///   [`flush`](Write::flush) sees to that, as do the next write and [`shutdown_write`](BlockingStream::shutdown_write);
/// - only `shutdown_write` has them say our end. A peer whose filter must hear one (TLS) takes a stream that is dropped for one
///   that was cut off.
///
/// Dropping it closes the socket: by a reset if the last write failed or has not gone out, after an `UnexpectedEof`, or while
/// the thread panics, since no peer must take half an answer for the whole.
pub struct BlockingStream {
    stream: Held,
    peer: Option<Address>,
    unread: io::Cursor<Vec<u8>>,
    through: Option<Box<Through>>,
}

impl Detached {
    /// Makes a blocking stream of it, having sent what was still unsent. Reads and writes wait for at most `timeout`
    /// each, and then fail with `WouldBlock` or `TimedOut`; `None`: for ever.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the peer has reset; `Unsupported` for a simulated one. Either way it is reset.
    pub fn into_blocking(self, timeout: Option<Duration>) -> io::Result<BlockingStream> {
        let mut detached = self;
        // Until it is what was asked for, whatever fails closes it with a reset.
        detached.stream.set_short(true);
        detached.stream.get().set_blocking()?;
        let (mut blocking, unsent) = BlockingStream::of(detached);
        blocking.set_timeout(timeout)?;
        // Where a filter has failed, what it has not taken does not go out.
        if blocking.through.as_ref().is_none_or(|through| !through.has_failed()) {
            blocking.write_all(&unsent)?;
        }
        blocking.flush()?;
        blocking.stream.set_short(false);
        Ok(blocking)
    }
}

impl BlockingStream {
    /// As its socket is; and what was unsent.
    pub(crate) fn of(Detached { stream, peer, unread, unsent, chain }: Detached) -> (BlockingStream, Vec<u8>) {
        let through = chain.map(|chain| Box::new(Through::new(chain)));
        (BlockingStream { stream, peer, unread: io::Cursor::new(unread), through }, unsent)
    }

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
        self.stream.get().set_timeouts([timeout.map(|timeout| timeout.max(Duration::from_micros(1))); 2])
    }

    /// Returns the filter of this type that it has; the uppermost, if there are several.
    pub fn filter<F: Filter>(&self) -> Option<&F> {
        self.through.as_ref()?.find()
    }

    /// What was read from the socket and not consumed: as much can be read without waiting.
    pub fn unread(&self) -> &[u8] {
        &self.unread.get_ref()[self.unread.position() as usize..]
    }

    /// Ends our half: the peer reads an end of stream behind all that was written, and behind the end that filters have to
    /// say. Reading goes on.
    ///
    /// # Errors
    ///
    /// What the system says. With filters it can fail as a write does, and may be called again then.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        let result = self.by_filters(Through::finish);
        result.unwrap_or_else(|| self.stream.get().shutdown_write())
    }

    /// Does something by way of its filters, if it has any.
    fn by_filters<R>(&mut self, code: impl FnOnce(&mut Through, &mut Stream, &mut Vec<u8>) -> R) -> Option<R> {
        let through = self.through.as_mut()?;
        // A panic of theirs leaves it so.
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

/// What is unread first, then the socket.
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

    /// Of one that has no filters there is nothing to flush.
    fn flush(&mut self) -> io::Result<()> {
        self.by_filters(Through::flush).unwrap_or(Ok(()))
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
