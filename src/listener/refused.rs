//! The sockets of peers that a cap has refused, held until the peers have had time to read the refusal (rule A4).
//!
//! A socket that is closed with unread input, or that later input arrives for, sends a reset, which destroys what its
//! peer has not read yet. So it stays open for a while, kept apart: it has no slot, waits for no event, and there are
//! never many.

use std::io;
use std::time::Instant;

use crate::Limits;
use crate::sys::{Stream, deadline_after};
use crate::time::heap::Key;

/// How many sockets are held at a time; the oldest is closed to make room for one more.
pub(crate) const REFUSED_MAX: usize = 64;

/// The longest refusal: as much as the kernel takes for a new connection at once.
pub(crate) const REFUSAL_BYTES_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Refused {
    /// Sorted by when they are closed, the next one last.
    held: Vec<Told>,
    /// Set while any are held.
    pub(crate) timer: Option<Key>,
}

/// A refused peer that was sent a refusal. Its socket is closed when this is dropped.
struct Told {
    socket: Stream,
    until: Instant,
    /// How much of its input is still to be discarded.
    discards: usize,
}

impl Refused {
    /// Read by the tests of the guarantees.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Sends a refused peer this message and then the end of the stream. If the message cannot be sent whole, the peer
    /// is reset, so that it does not take a part for the whole. Returns until when the socket is held, if it is.
    pub(crate) fn tell(&mut self, mut socket: Stream, words: &[u8], limits: &Limits, now: Instant) -> Option<Instant> {
        match socket.write(words) {
            Ok(count) if count == words.len() => {}
            Ok(_) => return drop_by_reset(socket),
            // The peer has already gone.
            Err(_) => return None,
        }
        // An error here means that the peer has gone meanwhile.
        socket.shutdown_write().ok()?;
        if self.held.len() == REFUSED_MAX {
            self.held.pop();
        }
        let until = deadline_after(now, limits.linger_timeout);
        let mut place = self.held.len();
        self.held.push(Told { socket, until, discards: limits.linger_bytes_max });
        while place > 0 && self.held[place - 1].until <= until {
            self.held.swap(place - 1, place);
            place -= 1;
        }
        Some(until)
    }

    /// Closes the sockets that were held for long enough. Returns when the next one is due.
    #[inline(never)]
    pub(crate) fn release(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let next = self.held.last()?.until;
            if next > now {
                return Some(next);
            }
            self.held.pop();
        }
    }

    /// Closes the oldest, to free its descriptor. Returns `false` if there is none.
    #[inline(never)]
    pub(crate) fn give_up(&mut self) -> bool {
        self.held.pop().is_some()
    }
}

/// Checks that the refusal of a listener is not too long.
pub(crate) fn check_refusal(words: &[u8]) -> io::Result<()> {
    if words.len() > REFUSAL_BYTES_MAX {
        let why = format!("a refusal has at most {REFUSAL_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(())
}

fn drop_by_reset(socket: Stream) -> Option<Instant> {
    socket.reset();
    None
}

/// Discards what the peer has sent meanwhile: closing with unread input makes the kernel send a reset.
impl Drop for Told {
    #[inline(never)]
    fn drop(&mut self) {
        let mut buffer = [0; 4096];
        while self.discards > 0 {
            let most = self.discards.min(buffer.len());
            match self.socket.read(&mut buffer[..most]) {
                Ok(count @ 1..) => self.discards -= count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
    }
}
