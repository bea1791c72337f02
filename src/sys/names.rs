//! Names of hosts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Looks a name up, as the system does it: in its order, and for as long as it takes.
pub(crate) fn look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for address in (name, port).to_socket_addrs()? {
        found.push(address);
    }
    Ok(found)
}
