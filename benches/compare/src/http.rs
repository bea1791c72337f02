//! Shared by the HTTP servers: what they answer, and their arguments.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::refuse;

/// What `/` is.
pub const FOUND: &str = "Hello, World!\n";

/// The answer to anything else.
pub const NOT_FOUND: &str = "404 Not Found\n";

/// The command line: `SERVER MODE ADDRESS`, and a socket that listens there.
pub fn arguments() -> io::Result<(String, TcpListener)> {
    let mut arguments = std::env::args().skip(1);
    let (Some(mode), Some(address), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        refuse("usage: SERVER MODE ADDRESS")
    };
    let Ok(address) = address.parse::<SocketAddr>() else { refuse(format_args!("no address to listen on: {address}")) };
    Ok((mode, TcpListener::bind(address)?))
}
