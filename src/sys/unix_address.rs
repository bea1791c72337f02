//! Addresses of Unix sockets, as the standard library has them.

use std::io;
use std::os::unix::net::SocketAddr;

use crate::UnixAddress;

/// The longest path there can be, a byte at its end not counted.
const PATH_BYTES_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// The address as the standard library has it. A path or a name that is too long for the system fails, as an abstract
/// one does where there are none.
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
