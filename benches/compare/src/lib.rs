//! What the peers that are written in Rust share: their arguments, a listening socket, and bytes that wait to be sent.

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

/// How much is read at once. Less costs calls, more leaves the processor's cache.
pub const READ_BYTES: usize = 64 * 1024;

/// How many reads of a connection make a turn of it, before the others have theirs.
pub const READS_PER_TURN_MAX: usize = 4;

/// How many events one wait brings at most.
pub const EVENTS_MAX: usize = 1024;

/// A member of a fan-out that has more than this unsent is cut off.
pub const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One whose line is longer than this, too.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// How many connections the kernel holds ready.
const BACKLOG: i32 = 4096;

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it gets.
    Echo,
    /// Sends each line to everybody.
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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

/// Ends the process, as one that cannot do what it was asked for.
pub fn refuse(reason: impl Display) -> ! {
    eprintln!("{reason}");
    process::exit(2)
}

/// Listens, with a backlog that std has no argument for. Small messages leave at once: what is accepted inherits that.
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
            // One that was left behind.
            let _ = std::fs::remove_file(path);
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, BACKLOG)?;
            Listener::Unix(socket.into())
        }
    })
}

impl Listener {
    /// Tells whoever started the server where it listens.
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

/// Whether there is no descriptor for one more connection.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The lines that a read has ended, with what had come of the first before; `begun` is that, and then the beginning of the
/// next one.
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

    /// What is to be sent next.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many more bytes were sent. A buffer that was large is not kept.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(READ_BYTES * 4);
        } else if self.sent >= READ_BYTES * 4 {
            // Else one that never gets empty would never get shorter.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}
