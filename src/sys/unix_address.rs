//! Addresses of Unix sockets, as the standard library has them.

use std::io;
use std::os::unix::net::SocketAddr;

use crate::UnixAddress;

/// The address as the standard library has it. A path or a name that is too long for the system fails, as an abstract
/// one does where there are none.
pub(super) fn unix_address(address: &UnixAddress) -> io::Result<SocketAddr> {
    match address {
        UnixAddress::Path(path) => SocketAddr::from_pathname(path),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        UnixAddress::Abstract(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        UnixAddress::Abstract(_) => Err(io::ErrorKind::Unsupported.into()),
        UnixAddress::Unnamed => Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a name")),
    }
}
