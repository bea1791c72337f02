//! Peers that a cap has refused and that were told so: their sockets, until they have had the time to read it (rule A4).
//!
//! A socket that is closed while input is unread, or to which some comes later, answers with a reset, which destroys what
//! its peer has not read yet. So it stays open for a while, in a place of its own: it has no slot, no event is waited for,
//! and there are never many.

use std::io;
use std::time::Instant;

use crate::Limits;
use crate::sys::{Stream, deadline_after};
use crate::time::heap::Key;

/// How many sockets are held at a time; the oldest is closed for one more.
pub(crate) const REFUSED_MAX: usize = 64;

/// How long what a refused peer is sent may be: as much as the kernel takes of a new connection at once.
pub(crate) const REFUSAL_BYTES_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Refused {
    /// Sorted by when they are closed, the next one last.
    held: Vec<Told>,
    /// Set while any are held.
    pub(crate) timer: Option<Key>,
}

/// A refused peer that was told so. Its socket is closed when this is dropped.
struct Told {
    socket: Stream,
    until: Instant,
    /// How much of what it sends is still discarded.
    discards: usize,
}

impl Refused {
    /// What the tests of the guarantees look at.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Sends a refused peer these words and then the end of the stream. Where they do not go out whole it is reset, so that
    /// nobody takes a part of them for the whole. Returns until when it is held, if it is.
    pub(crate) fn tell(&mut self, mut socket: Stream, words: &[u8], limits: &Limits, now: Instant) -> Option<Instant> {
        match socket.write(words) {
            Ok(count) if count == words.len() => {}
            Ok(_) => return drop_by_reset(socket),
            // It has gone already.
            Err(_) => return None,
        }
        // An error here means that it has gone meanwhile.
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

    /// Closes those that were held for long enough. Returns when the next one is.
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

    /// Closes the oldest, for its descriptor. Returns `false` if there is none.
    #[inline(never)]
    pub(crate) fn give_up(&mut self) -> bool {
        self.held.pop().is_some()
    }
}

/// Whether a listener may have such words for those that it refuses.
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

/// What it has sent meanwhile is discarded first: closing over that makes the kernel send a reset.
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
