//! Descriptors that are reserved for a restart, which must work even if clients hold all others.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

/// What a start takes besides the copies of the sockets: both ends of the stream to the new process, a copy of one of
/// them, the pipe that reports why the program cannot be executed, and one to spare.
const FOR_A_START: usize = 6;

/// Open descriptors that serve no other purpose than to be closed when others must be opened.
pub(super) struct Reserve {
    size: usize,
    held: Cell<Vec<OwnedFd>>,
}

impl Reserve {
    /// Reserves what a restart with so many listening sockets needs: each is duplicated once here, and once more
    /// between fork and exec if the descriptor number that it is to have is in use.
    pub(super) fn for_sockets(sockets: usize) -> Reserve {
        let reserve = Reserve { size: 2 * sockets + FOR_A_START, held: Cell::default() };
        if let Err(error) = reserve.fill() {
            // Keeping all that could be opened would leave none for clients.
            reserve.release();
            log::warn!("cannot reserve descriptors for a restart: {error}");
        }
        reserve
    }

    /// Closes the reserved descriptors.
    pub(super) fn release(&self) {
        self.held.take();
    }

    /// Reopens as many as before, or as many as are available.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut held = self.held.take();
        let mut outcome = Ok(());
        while held.len() < self.size && outcome.is_ok() {
            let next = match held.first() {
                Some(first) => first.try_clone(),
                None => UnixDatagram::unbound().map(OwnedFd::from),
            };
            outcome = next.map(|next| held.push(next));
        }
        self.held.set(held);
        outcome
    }
}
