//! How data gets from one socket to the other: copied, or spliced.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use switchboard_compare::{READ_BYTES, Unsent};

/// The size of a pipe, which is the most that one splice moves. A page of it may hold less than a page, so this is more
/// than what is read at a time.
const PIPE_BYTES: usize = 4 * READ_BYTES;

const AT_ONCE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// What came of moving something.
pub enum Moved {
    /// There was nothing.
    Nothing,
    /// The other socket does not take all of it. The rest is pending.
    Blocked,
    /// All that there was.
    Short,
    /// As much as one read takes.
    Full,
    /// The stream has ended.
    End,
}

pub enum Way {
    Copied(Unsent),
    Spliced { pipe: (OwnedFd, OwnedFd), bytes: usize },
}

impl Way {
    pub fn new(is_spliced: bool) -> Result<Self, Errno> {
        if !is_spliced {
            return Ok(Self::Copied(Unsent::default()));
        }
        let pipe = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Refused to users with many pipes: then it has the usual size.
        let _ = fcntl_setpipe_size(&pipe.1, PIPE_BYTES);
        Ok(Self::Spliced { pipe, bytes: 0 })
    }

    /// Returns whether there is pending data.
    pub fn is_blocked(&self) -> bool {
        match self {
            Self::Copied(unsent) => !unsent.is_empty(),
            Self::Spliced { bytes, .. } => *bytes > 0,
        }
    }

    /// Sends the pending data. Returns whether the socket took all of it.
    pub fn flush(&mut self, to: &OwnedFd) -> Result<bool, Errno> {
        if !self.is_blocked() {
            return Ok(true);
        }
        let sent = match self {
            Self::Copied(unsent) => send(to, unsent.bytes(), SendFlags::NOSIGNAL),
            Self::Spliced { pipe, bytes } => splice(&pipe.0, None, to, None, *bytes, AT_ONCE),
        };
        match (sent, &mut *self) {
            (Ok(count), Self::Copied(unsent)) => unsent.advance(count),
            (Ok(count), Self::Spliced { bytes, .. }) => *bytes -= count,
            (Err(Errno::AGAIN), _) => {}
            (Err(error), _) => return Err(error),
        }
        Ok(!self.is_blocked())
    }

    /// Reads once, and sends what was read. There must be no pending data.
    pub fn pass_on(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<Moved, Errno> {
        let read = match self {
            Self::Copied(_) => recv(from, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count),
            Self::Spliced { pipe, .. } => splice(from, None, &pipe.1, None, PIPE_BYTES, AT_ONCE),
        };
        let count = match read {
            Ok(0) => return Ok(Moved::End),
            Ok(count) => count,
            Err(Errno::AGAIN) => return Ok(Moved::Nothing),
            Err(error) => return Err(error),
        };
        match self {
            Self::Copied(unsent) => {
                let sent = match send(to, &buffer[..count], SendFlags::NOSIGNAL) {
                    Ok(sent) => sent,
                    Err(Errno::AGAIN) => 0,
                    Err(error) => return Err(error),
                };
                unsent.push(&buffer[sent..count]);
            }
            Self::Spliced { bytes, .. } => {
                *bytes = count;
                self.flush(to)?;
            }
        }
        Ok(match self {
            _ if self.is_blocked() => Moved::Blocked,
            // A pipe may be full with less than its size: a short splice proves nothing.
            Self::Spliced { .. } => Moved::Full,
            Self::Copied(_) if count < buffer.len() => Moved::Short,
            Self::Copied(_) => Moved::Full,
        })
    }
}
