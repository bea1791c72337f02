//! The orderly end of connections that stay.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::turn::Deadline;

/// Ends this side of each, and waits for the server to end the other; nothing else may arrive. The poller identifies
/// the sockets by their indices here.
pub fn end_all<'a>(poller: &mut Poller, sockets: impl Iterator<Item = &'a OwnedFd>, deadline: Deadline) -> Result<()> {
    let sockets: Vec<_> = sockets.collect();
    for (place, socket) in sockets.iter().enumerate() {
        shutdown(socket, Shutdown::Write).doing(|| format!("ending connection {place}"))?;
    }
    let mut open = sockets.len();
    // An end is reported once or twice.
    let mut ended = vec![false; open];
    let mut one_byte = [0; 1];
    while open > 0 {
        let ready = poller.wait(deadline).doing(|| format!("{open} connections are not closed by the server"))?;
        for nth in 0..ready {
            let place = poller.place(nth);
            match recv(sockets[place], &mut one_byte, RecvFlags::empty()) {
                Ok((_, 0)) => open -= usize::from(!std::mem::replace(&mut ended[place], true)),
                Ok(_) => return Err(Failure::new(format!("more came on connection {place} than was to come"))),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).doing(|| format!("the end of connection {place}")),
            }
        }
    }
    Ok(())
}
