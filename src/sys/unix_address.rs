//! Addresses of Unix sockets, as the standard library has them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use socket2::SockAddr;

use crate::UnixAddress;

/// The longest path that the system takes, without the zero byte at its end.
const PATH_BYTES_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Converts an address to the standard library's type. Fails if a path or a name is too long for the system, and for an
/// abstract name on systems that have none.
pub(super) fn unix_address(address: &UnixAddress) -> io::Result<SocketAddr> {
    match address {
        // The system would choose a name of its own.
        UnixAddress::Path(path) if path.as_os_str().is_empty() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty path"))
        }
        UnixAddress::Path(path) => SocketAddr::from_pathname(path).map_err(|error| match path.as_os_str().len() {
            length if length > PATH_BYTES_MAX => {
                let what =
                    format!("the path of a Unix socket is too long: {length} bytes, of {PATH_BYTES_MAX} at most");
                io::Error::new(error.kind(), what)
            }
            _ => error,
        }),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        UnixAddress::Abstract(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        UnixAddress::Abstract(_) => Err(io::ErrorKind::Unsupported.into()),
        UnixAddress::Unnamed => Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a name")),
    }
}

/// Converts an abstract name to socket2's type, which has a zero byte before it.
pub(super) fn abstract_addr(name: &[u8]) -> io::Result<SockAddr> {
    let mut text = vec![0];
    text.extend_from_slice(name);
    SockAddr::unix(OsStr::from_bytes(&text))
}
