//! The errors of simulated calls, with the numbers of the platform: what is above asks for those.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    AddressInUse,
    AddressNotAvailable,
    BrokenPipe,
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    DestinationRequired,
    FilesPerProcess,
    FilesPerSystem,
    Interrupted,
    Invalid,
    Io,
    MessageSize,
    NoBuffers,
    NoMemory,
    NotConnected,
    NotFound,
    Permission,
    Protocol,
    Prototype,
    TimedOut,
    WouldBlock,
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(number(errno))
    }
}

#[cfg(unix)]
fn number(errno: Errno) -> i32 {
    match errno {
        Errno::AddressInUse => libc::EADDRINUSE,
        Errno::AddressNotAvailable => libc::EADDRNOTAVAIL,
        Errno::BrokenPipe => libc::EPIPE,
        Errno::ConnectionAborted => libc::ECONNABORTED,
        Errno::ConnectionRefused => libc::ECONNREFUSED,
        Errno::ConnectionReset => libc::ECONNRESET,
        Errno::DestinationRequired => libc::EDESTADDRREQ,
        Errno::FilesPerProcess => libc::EMFILE,
        Errno::FilesPerSystem => libc::ENFILE,
        Errno::Interrupted => libc::EINTR,
        Errno::Invalid => libc::EINVAL,
        Errno::Io => libc::EIO,
        Errno::MessageSize => libc::EMSGSIZE,
        Errno::NoBuffers => libc::ENOBUFS,
        Errno::NoMemory => libc::ENOMEM,
        Errno::NotConnected => libc::ENOTCONN,
        Errno::NotFound => libc::ENOENT,
        Errno::Permission => libc::EPERM,
        Errno::Protocol => libc::EPROTO,
        Errno::Prototype => libc::EPROTOTYPE,
        Errno::TimedOut => libc::ETIMEDOUT,
        Errno::WouldBlock => libc::EAGAIN,
    }
}

/// Those of Winsock, the nearest one where it has none of that name.
#[cfg(not(unix))]
fn number(errno: Errno) -> i32 {
    match errno {
        Errno::NotFound => 2,
        Errno::Interrupted => 10004,
        Errno::Permission => 10013,
        Errno::Invalid => 10022,
        Errno::FilesPerProcess | Errno::FilesPerSystem => 10024,
        Errno::WouldBlock => 10035,
        Errno::DestinationRequired => 10039,
        Errno::MessageSize => 10040,
        Errno::Prototype => 10041,
        Errno::AddressInUse => 10048,
        Errno::AddressNotAvailable => 10049,
        Errno::ConnectionAborted => 10053,
        Errno::ConnectionReset | Errno::BrokenPipe => 10054,
        Errno::NoBuffers | Errno::NoMemory => 10055,
        Errno::NotConnected => 10057,
        Errno::TimedOut => 10060,
        Errno::ConnectionRefused => 10061,
        Errno::Io | Errno::Protocol => 10050,
    }
}
