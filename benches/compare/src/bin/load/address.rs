//! Where the server is, and connecting to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::result::{Doing, Result};
use crate::turn::Deadline;

/// Over loopback, clients use this many addresses in turn. A client that closes first leaves its pair of ports unusable
/// for a minute, and one address has only some 28,000.
const SOURCES: usize = 200;
/// A Unix listener whose backlog is full refuses at once, and nothing reports when it has room again.
const RETRY: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let found = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?.next();
        found.map(Self::Tcp).ok_or_else(|| format!("{text}: no such host"))
    }
}

impl Address {
    /// Makes the `nth` connection, which is non-blocking once it is established. Small messages are sent at once.
    pub fn connect(&self, nth: usize, deadline: Deadline) -> Result<OwnedFd> {
        match self {
            Self::Tcp(address) => {
                connect_tcp(*address, nth, deadline).doing(|| format!("connection {nth} to {address}"))
            }
            Self::Unix(path) => connect_unix(path, deadline).doing(|| format!("connection {nth} to {path}")),
        }
    }
}

fn connect_tcp(address: SocketAddr, nth: usize, deadline: Deadline) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream(family)?;
    if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let source = Ipv4Addr::new(127, 0, 1, 1 + (nth % SOURCES) as u8);
        bind(&socket, &SocketAddr::from((source, 0))).doing(|| format!("bind to {source}"))?;
    }
    sockopt::set_tcp_nodelay(&socket, true).doing(|| "TCP_NODELAY".into())?;
    match connect(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error).doing(|| "connect".into()),
    }
    loop {
        let left = deadline.left()?;
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error).doing(|| "poll".into()),
        }
    }
    sockopt::socket_error(&socket).doing(|| "SO_ERROR".into())?.doing(|| "connect".into())?;
    Ok(socket)
}

fn connect_unix(path: &str, deadline: Deadline) -> Result<OwnedFd> {
    let address = SocketAddrUnix::new(path).doing(|| "the path".into())?;
    let socket = stream(AddressFamily::UNIX)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error).doing(|| "connect".into()),
        }
        deadline.left()?;
        thread::sleep(RETRY);
    }
}

fn stream(family: AddressFamily) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None).doing(|| "socket".into())
}
