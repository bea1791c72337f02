//! Addresses of Unix sockets, as the types of the standard library and `socket2`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use socket2::SockAddr;

use super::habits::{HERE, Habits};
use crate::UnixAddress;

/// Converts an address to the standard library's type. Fails if a path or a name is too long for the system, and for an
/// abstract name on systems that have none.
pub(super) fn unix_address(address: &UnixAddress) -> io::Result<SocketAddr> {
    match address {
        // The system would choose a name itself.
        UnixAddress::Path(path) if path.as_os_str().is_empty() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty path"))
        }
        UnixAddress::Path(path) => SocketAddr::from_pathname(path).map_err(|error| match path.as_os_str().len() {
            length if length > HERE.unix_path_bytes_max => {
                let most = HERE.unix_path_bytes_max;
                let what = format!("the path of a Unix socket is too long: {length} bytes, of {most} at most");
                io::Error::new(error.kind(), what)
            }
            _ => error,
        }),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        UnixAddress::Abstract(name) => <SocketAddr as crate::address::SocketAddrExt>::from_abstract_name(name),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        UnixAddress::Abstract(_) => Err(without_abstract_names()),
        UnixAddress::Unnamed => Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a name")),
    }
}

/// Refuses an abstract name on a system that has none.
pub(super) fn check(address: &UnixAddress, habits: &Habits) -> io::Result<()> {
    match address {
        UnixAddress::Abstract(_) if !habits.abstract_names => Err(without_abstract_names()),
        _ => Ok(()),
    }
}

fn without_abstract_names() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "Unix sockets have no abstract names on this system, only paths")
}

/// Converts an address to what `socket2` binds and sends to.
pub(super) fn named(address: &UnixAddress) -> io::Result<SockAddr> {
    check(address, &HERE)?;
    match address {
        UnixAddress::Path(path) => SockAddr::unix(path),
        UnixAddress::Abstract(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", &name[..]].concat())),
        UnixAddress::Unnamed => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "an unnamed Unix socket cannot be reached"))
        }
    }
}
