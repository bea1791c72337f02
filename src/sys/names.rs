//! Names of hosts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

pub(crate) type Found = io::Result<Vec<SocketAddr>>;

/// Receives the addresses of a name that is looked up in memory. It calls no user code.
pub(crate) type Answer = Box<dyn FnOnce(Found) + Send>;

/// Looks up a name as the system does: with the addresses in its order, and for as long as it takes.
pub(crate) fn look_up(name: &str, port: u16) -> Found {
    let mut found = Vec::new();
    for address in (name, port).to_socket_addrs()? {
        found.push(address);
    }
    Ok(found)
}
