//! The address of one end of a connection.

use std::fmt;
use std::net::SocketAddr;

/// The address of one end of a connection, or of a listener.
///
/// Of its own, and `#[non_exhaustive]`, so that one factory and one protocol serve every kind of stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An Internet address and port. IPv4 addresses that came mapped into IPv6 are given as IPv4.
    Inet(SocketAddr),
}

impl Address {
    /// The Internet address and port, if it is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(address) => Some(*address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        match address {
            SocketAddr::V4(_) => Address::Inet(address),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => Address::Inet(SocketAddr::new(v4.into(), v6.port())),
                None => Address::Inet(address),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_given_as_ipv4_and_scopes_stay() {
        let shown = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap()).to_string();
        assert_eq!(shown("[::ffff:127.0.0.1]:80"), "127.0.0.1:80");
        assert_eq!(shown("[fe80::1%3]:80"), "[fe80::1%3]:80");
        assert_eq!(shown("10.0.0.1:80"), "10.0.0.1:80");
    }
}
