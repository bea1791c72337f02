//! Shared by the peers that are written in Rust: their arguments, a listening socket, and buffers of unsent bytes.

pub mod http;
#[cfg(feature = "uring")]
pub mod tasks;
#[cfg(feature = "tls")]
pub mod tls;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// The size of a read. Less costs more calls, more does not fit the processor's cache.
pub const READ_BYTES: usize = 64 * 1024;

/// How many reads a connection gets before the others have their turn.
pub const READS_PER_TURN_MAX: usize = 4;

/// How many events one wait returns at most.
pub const EVENTS_MAX: usize = 1024;

/// A member of a fan-out with more unsent bytes than this is disconnected.
pub const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// So is one whose line is longer than this.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The backlog of the listener.
const BACKLOG: i32 = 4096;

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it gets.
    Echo,
    /// Sends each line to all members.
    Fanout,
}

/// Where it listens.
pub enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

/// A socket that listens, non-blocking.
pub enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
}

/// The command line: `SERVER MODE ADDRESS`.
pub fn arguments() -> (Mode, Address) {
    parse(std::env::args().skip(1).collect())
}

/// The same with a flag before: `SERVER [FLAG] MODE ADDRESS`. Returns whether it is there.
pub fn arguments_with(flag: &str) -> (bool, Mode, Address) {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_there = arguments.first().is_some_and(|first| first == flag);
    let (mode, address) = parse(arguments.split_off(usize::from(is_there)));
    (is_there, mode, address)
}

fn parse(arguments: Vec<String>) -> (Mode, Address) {
    let [mode, address] = &arguments[..] else { refuse("usage: SERVER echo|fanout ADDRESS") };
    let mode = match mode.as_str() {
        "echo" => Mode::Echo,
        "fanout" => Mode::Fanout,
        _ => refuse(format_args!("no such mode: {mode}")),
    };
    let address = match address.parse() {
        Ok(address) => Address::Inet(address),
        Err(_) if address.contains('/') => Address::Unix(address.into()),
        Err(_) => refuse(format_args!("no address to listen on: {address}")),
    };
    (mode, address)
}

/// Ends the process with an error.
pub fn refuse(reason: impl Display) -> ! {
    eprintln!("{reason}");
    process::exit(2)
}

/// Listens with a given backlog, which std does not support. Small messages are sent at once: accepted sockets inherit
/// that.
pub fn listener(address: &Address) -> io::Result<Listener> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let open = |family| socket_with(family, SocketType::STREAM, flags, None);
    Ok(match address {
        Address::Inet(address) => {
            let socket = open(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            bind(&socket, address)?;
            listen(&socket, BACKLOG)?;
            Listener::Inet(socket.into())
        }
        Address::Unix(path) => {
            let socket = open(AddressFamily::UNIX)?;
            // A stale path.
            let _ = std::fs::remove_file(path);
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, BACKLOG)?;
            Listener::Unix(socket.into())
        }
    })
}

impl Listener {
    /// A ring needs a socket that blocks: it would be told at once that there is nobody to accept.
    pub fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        match self {
            Listener::Inet(listener) => listener.set_nonblocking(is_nonblocking),
            Listener::Unix(listener) => listener.set_nonblocking(is_nonblocking),
        }
    }

    /// Prints where the server listens.
    pub fn announce(&self) -> io::Result<()> {
        match self {
            Listener::Inet(listener) => announce(listener.local_addr()?),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                announce(address.as_pathname().unwrap_or("".as_ref()).display())
            }
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        match listener {
            Listener::Inet(listener) => listener.into(),
            Listener::Unix(listener) => listener.into(),
        }
    }
}

/// The line that tells where a server listens.
pub fn announce(address: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "listening on {address}")
}

/// Returns whether the error is a lack of descriptors.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns the lines that a read has completed, including the earlier part of the first; `begun` is that part, and
/// afterwards the beginning of the next line.
pub fn whole_lines<'a>(begun: &mut Vec<u8>, read: &'a [u8]) -> Cow<'a, [u8]> {
    let end = memchr::memrchr(b'\n', read).map_or(0, |at| at + 1);
    let (lines, rest) = read.split_at(end);
    let lines = if lines.is_empty() || begun.is_empty() {
        Cow::Borrowed(lines)
    } else {
        begun.extend_from_slice(lines);
        Cow::Owned(mem::take(begun))
    };
    begun.extend_from_slice(rest);
    lines
}

/// Bytes that the kernel has not taken yet.
#[derive(Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// Those before this are sent.
    sent: usize,
}

impl Unsent {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Returns what is to be sent next.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Records that this many more bytes were sent. A large buffer is not kept.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(READ_BYTES * 4);
        } else if self.sent >= READ_BYTES * 4 {
            // Otherwise a buffer that never becomes empty would never shrink.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}
