//! Connections through the relay: the client's socket, and the one that the relay has connected to the target.

use std::net::TcpListener;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use crate::address::Address;
use crate::result::{Doing, Result};
use crate::turn::Deadline;

/// Connects the `nth` client, and accepts what the relay makes of it: one after the other, so it is known which socket
/// belongs to which.
pub fn connect(relay: &Address, target: &TcpListener, nth: usize, deadline: Deadline) -> Result<[OwnedFd; 2]> {
    let client = relay.connect(nth, deadline)?;
    loop {
        let left = deadline.left().doing(|| format!("client {nth} is not connected on"))?;
        match poll(&mut [PollFd::new(target, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error).doing(|| "poll".into()),
        }
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let onward = accept_with(target, flags).doing(|| format!("accepting client {nth} from the relay"))?;
    sockopt::set_tcp_nodelay(&onward, true).doing(|| "TCP_NODELAY".into())?;
    Ok([client, onward])
}
