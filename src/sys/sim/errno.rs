//! The errors of simulated calls, with the platform's numbers: the layers above check these.

use std::io;

use crate::sys::errno;

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
        match errno {
            // The standard library does not map Winsock's number to this kind; no call of ours is interrupted there.
            Errno::Interrupted => io::ErrorKind::Interrupted.into(),
            _ => io::Error::from_raw_os_error(number(errno)),
        }
    }
}

fn number(errno: Errno) -> i32 {
    match errno {
        Errno::AddressInUse => errno::EADDRINUSE,
        Errno::AddressNotAvailable => errno::EADDRNOTAVAIL,
        Errno::BrokenPipe => errno::EPIPE,
        Errno::ConnectionAborted => errno::ECONNABORTED,
        Errno::ConnectionRefused => errno::ECONNREFUSED,
        Errno::ConnectionReset => errno::ECONNRESET,
        Errno::DestinationRequired => errno::EDESTADDRREQ,
        Errno::FilesPerProcess => errno::EMFILE,
        Errno::FilesPerSystem => errno::ENFILE,
        Errno::Interrupted => errno::EINTR,
        Errno::Invalid => errno::EINVAL,
        Errno::Io => errno::EIO,
        Errno::MessageSize => errno::EMSGSIZE,
        Errno::NoBuffers => errno::ENOBUFS,
        Errno::NoMemory => errno::ENOMEM,
        Errno::NotConnected => errno::ENOTCONN,
        Errno::NotFound => errno::ENOENT,
        Errno::Permission => errno::EPERM,
        Errno::Protocol => errno::EPROTO,
        Errno::Prototype => errno::EPROTOTYPE,
        Errno::TimedOut => errno::ETIMEDOUT,
        Errno::WouldBlock => errno::EAGAIN,
    }
}
