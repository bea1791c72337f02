//! Unix sockets that a test plays by hand, or leaves to a loop.

use std::io;

use super::{HostId, Network};
use crate::UnixAddress;
use crate::sys::memory::Listener as _;
use crate::sys::sim;
use crate::testing::{Peer, PeerListener, UnixDatagramPeer};

/// # Unix sockets
///
/// They are of one host, have no network between them, and make no files.
impl Network {
    /// Connects a [`Peer`] to a Unix listener of a host, by one of its own on the same host.
    ///
    /// ```
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use switchboard::UnixAddress;
    /// use switchboard::testing::{Faults, Network};
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let host = network.host();
    /// let name = UnixAddress::path("/run/echo.sock"); // nothing is made there: the simulation has no files
    /// network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
    /// let mut peer = network.unix_peer(host, &name).unwrap();
    /// peer.queue(b"hello");
    /// network.run_until_rest();
    /// assert_eq!(peer.read(), b"hello");
    /// ```
    ///
    /// # Errors
    ///
    /// `NotFound`, or `ConnectionRefused` for an abstract name, where nobody listens; `WouldBlock` where the backlog is full.
    pub fn unix_peer(&mut self, host: HostId, to: &UnixAddress) -> io::Result<Peer> {
        let own = UnixAddress::Unnamed.into();
        let stream = self.sim.poller(host.0).connect_named(own, &to.clone().into())?;
        Ok(Peer::new(stream))
    }

    /// A connected pair of Unix streams of a host, without names, as `UnixStream::pair` makes it. Either can be left to the
    /// host's loop, by [`attach`](crate::Context::attach).
    pub fn unix_pair(&mut self, host: HostId) -> (Peer, Peer) {
        let (one, other) = self.sim.unix_pair(host.0, &UnixAddress::Unnamed.into());
        (Peer::new(one), Peer::new(other))
    }

    /// Listens on a Unix socket of a host, without a loop: for tests of clients, or to be left to the host's loop, by
    /// [`listen`](crate::Context::listen).
    ///
    /// # Errors
    ///
    /// `AddrInUse` where the name is taken, `InvalidInput` where there is none.
    pub fn unix_listener(&mut self, host: HostId, name: &UnixAddress, backlog: u32) -> io::Result<PeerListener> {
        let mut listener = self.sim.poller(host.0).listen_named(&name.clone().into(), backlog)?;
        // As a program does that does not remove it.
        listener.set_unlinks(false);
        Ok(PeerListener { listener, host, address: sim::NO_ADDRESS })
    }

    /// Binds a Unix datagram socket of a host, which a test plays by hand: to a path, an abstract name, or none.
    ///
    /// ```
    /// use switchboard::testing::{Faults, Network};
    /// use switchboard::{Address, DatagramProtocol, DatagramTransport, UnixAddress};
    ///
    /// struct Echo;
    ///
    /// impl DatagramProtocol for Echo {
    ///     fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
    ///         transport.send_to(data, from);
    ///     }
    /// }
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let host = network.host();
    /// let name = UnixAddress::path("/run/echo.sock");
    /// network.context(host).bind_datagram(name.clone(), Echo).unwrap();
    /// let mut peer = network.unix_datagram_peer(host, &UnixAddress::path("/run/peer.sock")).unwrap();
    /// peer.send(b"hello", Some(&name)).unwrap();
    /// network.run_until_rest();
    /// assert_eq!(peer.receive().unwrap(), Some((b"hello".to_vec(), name)));
    /// ```
    ///
    /// # Errors
    ///
    /// `AddrInUse` where the name is taken.
    pub fn unix_datagram_peer(&mut self, host: HostId, name: &UnixAddress) -> io::Result<UnixDatagramPeer> {
        let address = name.clone().into();
        let socket = self.sim.poller(host.0).bind_named_datagram(&address, true)?;
        Ok(UnixDatagramPeer { socket, address })
    }
}
