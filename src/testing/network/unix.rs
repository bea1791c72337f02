//! Unix sockets that a test plays by hand, or hands to a loop.

use std::io;

use super::{HostId, Network};
use crate::UnixAddress;
use crate::sys::memory::Listener as _;
use crate::sys::sim;
use crate::testing::{Peer, PeerListener, UnixDatagramPeer};

/// # Unix sockets
///
/// They are local to one host, use no network, and make no files.
impl Network {
    /// Connects a [`Peer`] on a host to a Unix listener on the same host.
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
    /// let name = UnixAddress::path("/run/echo.sock"); // no file is made there: the simulation has no files
    /// network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
    /// let mut peer = network.unix_peer(host, &name).unwrap();
    /// peer.queue(b"hello");
    /// network.run_until_rest();
    /// assert_eq!(peer.read(), b"hello");
    /// ```
    ///
    /// # Errors
    ///
    /// `NotFound` if nobody listens there, or `ConnectionRefused` for an abstract name; `WouldBlock` if the backlog is
    /// full.
    pub fn unix_peer(&mut self, host: HostId, to: &UnixAddress) -> io::Result<Peer> {
        let own = UnixAddress::Unnamed.into();
        let stream = self.sim.poller(host.0).connect_named(own, &to.clone().into())?;
        Ok(Peer::new(stream))
    }

    /// Makes a connected pair of Unix streams on a host, without names, as `UnixStream::pair` does. Either can be
    /// handed to the host's loop with [`attach`](crate::Context::attach).
    pub fn unix_pair(&mut self, host: HostId) -> (Peer, Peer) {
        let (one, other) = self.sim.unix_pair(host.0, &UnixAddress::Unnamed.into());
        (Peer::new(one), Peer::new(other))
    }

    /// Listens on a Unix socket of a host, without a loop: for tests of clients, or to be handed to the host's loop
    /// with [`listen`](crate::Context::listen).
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the name is taken, `InvalidInput` if there is no name.
    pub fn unix_listener(&mut self, host: HostId, name: &UnixAddress, backlog: u32) -> io::Result<PeerListener> {
        let mut listener = self.sim.poller(host.0).listen_named(&name.clone().into(), backlog)?;
        // As a program does that leaves its path behind.
        listener.set_unlinks(false);
        Ok(PeerListener { listener, host, address: sim::NO_ADDRESS })
    }

    /// Binds a Unix datagram socket on a host, which a test plays by hand: to a path, an abstract name, or none.
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
    /// `AddrInUse` if the name is taken.
    pub fn unix_datagram_peer(&mut self, host: HostId, name: &UnixAddress) -> io::Result<UnixDatagramPeer> {
        let address = name.clone().into();
        let socket = self.sim.poller(host.0).bind_named_datagram(&address, true)?;
        Ok(UnixDatagramPeer { socket, address })
    }
}
