//! What a header carries.

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

/// What a header has carried: whose connection the proxy passes on.
#[derive(Clone, PartialEq, Eq)]
pub struct Carried {
    pub(super) version: Version,
    /// From where to where; none of a connection of the proxy's own, or of an unknown kind.
    pub(super) ends: Option<(Address, Address)>,
    pub(super) proxy: Address,
    pub(super) tlvs: Box<[u8]>,
}

impl Carried {
    /// The peer: the client where the header names one, else the proxy itself.
    /// [`Transport::peer_addr`](crate::Transport::peer_addr) gives the same.
    pub fn peer(&self) -> &Address {
        self.source().unwrap_or(&self.proxy)
    }

    /// The client's address. `None` where the proxy speaks for itself (LOCAL, as in health checks), or for a connection
    /// whose kind it or we do not know (UNKNOWN, UNSPEC).
    ///
    /// Clients of Unix sockets mostly have no name: that is an address too.
    pub fn source(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(source, _)| source)
    }

    /// The address that the client connected to. `None` where there is no [`source`](Carried::source).
    pub fn destination(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(_, destination)| destination)
    }

    /// The address of the proxy, as the socket has it.
    pub fn proxy(&self) -> &Address {
        &self.proxy
    }

    /// The version of the header.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What else the proxy tells (version 2): types and values, in its order. None of a connection of the proxy's own
    /// (LOCAL), or where only one of the address family and the protocol is known: the rest of such a header says nothing.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs { rest: &self.tlvs }
    }

    /// The first value of a type, such as [`tlv::AUTHORITY`].
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

/// The types of what a header of version 2 can carry beside addresses, as the protocol has registered them.
pub mod tlv {
    /// The protocol that was negotiated with the client, as in TLS' ALPN.
    pub const ALPN: u8 = 0x01;
    /// The name that the client asked for, as in TLS' SNI; UTF-8, if the client kept to that.
    pub const AUTHORITY: u8 = 0x02;
    /// A CRC32c of the header; it is right where this is seen.
    pub const CRC32C: u8 = 0x03;
    /// Nothing, of some length.
    pub const NOOP: u8 = 0x04;
    /// What the proxy calls this connection: up to 128 bytes of any kind.
    pub const UNIQUE_ID: u8 = 0x05;
    /// The client's TLS: flags, the result of verifying its certificate, and more types and values.
    pub const SSL: u8 = 0x20;
    /// The network namespace, by its name.
    pub const NETNS: u8 = 0x30;
}

/// Types and values of a header, by [`Carried::tlvs`]: `(type, value)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Tlvs<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// What is inside of a value that has types and values itself, as behind the first five bytes of a
    /// [`tlv::SSL`]. Ends before what is cut short.
    pub fn of(bytes: &'a [u8]) -> Tlvs<'a> {
        Tlvs { rest: bytes }
    }

    /// Whether it is whole, up to its end.
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
