//! Descriptors that are held back for a restart, which must be possible when clients hold all others.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

/// What a start takes beside the copies of the sockets: both ends of the stream to the new process, a copy of one of
/// them, the pipe that tells why the program cannot be executed, and one to spare.
const FOR_A_START: usize = 6;

/// Descriptors that are open and do nothing, to be closed where others are to be opened.
pub(super) struct Reserve {
    size: usize,
    held: Cell<Vec<OwnedFd>>,
}

impl Reserve {
    /// Holds what a restart with so many listening sockets needs: each is copied once here, and once more between fork and exec,
    /// where the number that it is to have may be in use.
    pub(super) fn for_sockets(sockets: usize) -> Reserve {
        let reserve = Reserve { size: 2 * sockets + FOR_A_START, held: Cell::default() };
        if let Err(error) = reserve.fill() {
            // All of them here would leave none for clients.
            reserve.release();
            log::warn!("no descriptors are held back for a restart: {error}");
        }
        reserve
    }

    /// Closes what is held.
    pub(super) fn release(&self) {
        self.held.take();
    }

    /// Holds as many as before again, or as many as there are.
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
