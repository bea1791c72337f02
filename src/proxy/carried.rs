//! The content of a header.

use std::fmt;
use std::iter::FusedIterator;

use switchboard::Address;

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The content of a header: whose connection the proxy passes on.
#[derive(Clone, PartialEq, Eq)]
pub struct Carried {
    pub(super) version: Version,
    /// Source and destination; `None` for a connection of the proxy's own, or of an unknown kind.
    pub(super) ends: Option<(Address, Address)>,
    pub(super) proxy: Address,
    pub(super) tlvs: Box<[u8]>,
}

impl Carried {
    /// Returns the peer: the client if the header names one, else the proxy itself.
    /// [`Transport::peer_addr`](crate::Transport::peer_addr) returns the same.
    pub fn peer(&self) -> &Address {
        self.source().unwrap_or(&self.proxy)
    }

    /// Returns the client's address. `None` if the connection is the proxy's own (LOCAL, as in health checks), or of a
    /// kind that the proxy or this crate does not know (UNKNOWN, UNSPEC).
    ///
    /// Clients of Unix sockets are mostly unnamed, which is an address too.
    pub fn source(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(source, _)| source)
    }

    /// Returns the address that the client connected to. `None` if there is no [`source`](Carried::source).
    pub fn destination(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(_, destination)| destination)
    }

    /// Returns the address of the proxy, as the socket reports it.
    pub fn proxy(&self) -> &Address {
        &self.proxy
    }

    /// Returns the version of the header.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the header's extensions (version 2): types and values, in the order in which they were sent. There are
    /// none for a connection of the proxy's own (LOCAL), or if only one of the address family and the transport is
    /// known: the rest of such a header has no meaning.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs { rest: &self.tlvs }
    }

    /// Returns the first value of a type, such as [`tlv::AUTHORITY`].
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|&(of, _)| of == kind).map(|(_, value)| value)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried")
            .field("version", &self.version)
            .field("source", &self.source())
            .field("destination", &self.destination())
            .field("proxy", &self.proxy)
            .field("tlvs", &self.tlvs())
            .finish()
    }
}

/// The types of the extensions that a header of version 2 can carry, as registered by the protocol.
pub mod tlv {
    /// The protocol that was negotiated with the client, as in TLS' ALPN.
    pub const ALPN: u8 = 0x01;
    /// The name that the client asked for, as in TLS' SNI; UTF-8, if the client adheres to that.
    pub const AUTHORITY: u8 = 0x02;
    /// A CRC32c of the header; it was verified.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// The proxy's id for this connection: up to 128 bytes of any kind.
    pub const UNIQUE_ID: u8 = 0x05;
    /// The client's TLS: flags, the result of verifying its certificate, and more types and values.
    pub const SSL: u8 = 0x20;
    /// The name of the network namespace.
    pub const NETNS: u8 = 0x30;
}

/// Types and values of a header, returned by [`Carried::tlvs`]: `(type, value)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Tlvs<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// Iterates over the types and values inside a value, as after the first five bytes of a [`tlv::SSL`]. Ends before
    /// a value that is cut short.
    pub fn of(bytes: &'a [u8]) -> Tlvs<'a> {
        Tlvs { rest: bytes }
    }

    /// Returns whether the last value is complete.
    pub(super) fn is_whole(&self) -> bool {
        let mut all = self.clone();
        all.by_ref().for_each(drop);
        all.rest.is_empty()
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let &[kind, high, low, ref rest @ ..] = self.rest else { return None };
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        self.rest = rest;
        Some((kind, value))
    }
}

impl FusedIterator for Tlvs<'_> {}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
