//! The address of one end of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(target_os = "android")]
pub(crate) use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
pub(crate) use std::os::linux::net::SocketAddrExt;

/// The address of one end of a connection, or of a listener.
///
/// A type of its own, and `#[non_exhaustive]`, so that one factory and one protocol serve every kind of stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An Internet address and port. When the loop reads the address of a socket, an IPv4-mapped IPv6 address becomes
    /// an IPv4 one.
    Inet(SocketAddr),
    /// A Unix socket, named by what it is bound to.
    #[cfg(unix)]
    Unix(UnixAddress),
}

/// What a Unix socket is bound to.
#[cfg(unix)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UnixAddress {
    /// Nothing, like most clients.
    Unnamed,
    /// A path.
    Path(std::path::PathBuf),
    /// An abstract name, which may be any bytes (Linux).
    Abstract(Box<[u8]>),
}

impl Address {
    /// Returns the Internet address and port, if it is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(address) => Some(*address),
            #[cfg(unix)]
            Address::Unix(_) => None,
        }
    }

    /// Returns what the Unix socket is bound to, if it is one.
    #[cfg(unix)]
    pub fn as_unix(&self) -> Option<&UnixAddress> {
        match self {
            Address::Inet(_) => None,
            Address::Unix(address) => Some(address),
        }
    }

    /// Returns the address of a socket as users see it: an IPv4-mapped IPv6 address becomes an IPv4 one, so that a peer
    /// has one address, whichever socket it connects to.
    pub(crate) fn of_socket(address: SocketAddr) -> Address {
        Address::Inet(Address::unmapped(address))
    }

    /// Converts addresses as they are, without unmapping them.
    pub(crate) fn all_inet(addresses: &[SocketAddr]) -> Vec<Address> {
        addresses.iter().copied().map(Address::Inet).collect()
    }

    /// Returns an IPv4-mapped IPv6 address as IPv4, and any other address unchanged.
    pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
        match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
            // Keeps its scope.
            IpAddr::V6(_) => address,
        }
    }

    /// Returns whether it is the path of a Unix socket.
    #[cfg(feature = "testing")]
    pub(crate) fn is_path(&self) -> bool {
        match self {
            Address::Inet(_) => false,
            #[cfg(unix)]
            Address::Unix(address) => address.as_path().is_some(),
        }
    }

    /// Returns whether it is a name by which a Unix socket can be reached.
    #[cfg(feature = "testing")]
    pub(crate) fn is_name(&self) -> bool {
        match self {
            Address::Inet(_) => false,
            #[cfg(unix)]
            Address::Unix(address) => *address != UnixAddress::Unnamed,
        }
    }

    /// Returns the wildcard address of the same kind, to bind a socket to that only communicates with this address.
    pub(crate) fn any_of_its_kind(&self) -> Address {
        match self {
            Address::Inet(address) if Address::unmapped(*address).is_ipv4() => {
                Address::Inet((Ipv4Addr::UNSPECIFIED, 0).into())
            }
            Address::Inet(_) => Address::Inet((Ipv6Addr::UNSPECIFIED, 0).into()),
            #[cfg(unix)]
            Address::Unix(_) => Address::Unix(UnixAddress::Unnamed),
        }
    }
}

#[cfg(unix)]
impl UnixAddress {
    /// Returns the address for a path.
    pub fn path(path: impl Into<std::path::PathBuf>) -> UnixAddress {
        UnixAddress::Path(path.into())
    }

    /// Returns the address for an abstract name (Linux).
    pub fn abstract_name(name: impl AsRef<[u8]>) -> UnixAddress {
        UnixAddress::Abstract(name.as_ref().into())
    }

    /// Returns the path, if it is bound to one.
    pub fn as_path(&self) -> Option<&std::path::Path> {
        match self {
            UnixAddress::Path(path) => Some(path),
            _ => None,
        }
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::SocketAddr> for Address {
    fn from(address: std::os::unix::net::SocketAddr) -> Address {
        if let Some(path) = address.as_pathname() {
            return Address::Unix(UnixAddress::Path(path.to_owned()));
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = SocketAddrExt::as_abstract_name(&address) {
            return Address::Unix(UnixAddress::Abstract(name.into()));
        }
        Address::Unix(UnixAddress::Unnamed)
    }
}

#[cfg(unix)]
impl From<UnixAddress> for Address {
    fn from(address: UnixAddress) -> Address {
        Address::Unix(address)
    }
}

/// Keeps the address as it is: an IPv4-mapped one remains an IPv6 address.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Inet(address)
    }
}

/// Returns the address as the error if it is not an Internet address.
impl TryFrom<Address> for SocketAddr {
    type Error = Address;

    fn try_from(address: Address) -> Result<SocketAddr, Address> {
        address.as_inet().ok_or(address)
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.as_inet() == Some(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            #[cfg(unix)]
            Address::Unix(address) => address.fmt(f),
        }
    }
}

/// `unix:` and the path, `unix:@` and the abstract name, or `unix:(unnamed)`; escaped by [`escape`](crate::escape),
/// since a peer chooses its name.
#[cfg(unix)]
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixAddress::Unnamed => f.write_str("unix:(unnamed)"),
            UnixAddress::Path(path) => fmt::write(
                f,
                format_args!("unix:{}", crate::escape(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))),
            ),
            UnixAddress::Abstract(name) => fmt::write(f, format_args!("unix:@{}", crate::escape(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_given_as_ipv4_and_scopes_stay() {
        let shown = |text: &str| Address::of_socket(text.parse().unwrap()).to_string();
        assert_eq!(shown("[::ffff:127.0.0.1]:80"), "127.0.0.1:80");
        let asked: SocketAddr = "[::ffff:127.0.0.1]:80".parse().unwrap();
        assert_eq!(Address::from(asked), Address::Inet(asked));
        assert_eq!(shown("[fe80::1%3]:80"), "[fe80::1%3]:80");
        assert_eq!(shown("10.0.0.1:80"), "10.0.0.1:80");
    }

    #[test]
    fn an_address_equals_a_socket_address_only_if_it_is_that() {
        let [here, there]: [SocketAddr; 2] = ["10.0.0.1:80", "10.0.0.1:81"].map(|text| text.parse().unwrap());
        let address = Address::from(here);
        assert!(address == here && address != there);
        #[cfg(unix)]
        assert!(Address::Unix(UnixAddress::Unnamed) != here);
    }

    #[cfg(unix)]
    #[test]
    fn o1_a_unix_name_is_shown_escaped_whatever_it_is() {
        let shown = |address: UnixAddress| Address::Unix(address).to_string();
        assert_eq!(shown(UnixAddress::Unnamed), "unix:(unnamed)");
        assert_eq!(shown(UnixAddress::Path("/run/a b".into())), "unix:/run/a b");
        assert_eq!(shown(UnixAddress::Abstract((*b"\0\x1b[2J\xff").into())), r"unix:@\x00\x1b[2J\xff");
    }
}
