//! What most tests do with a network: listen, send a request, and wait for the answer.

use std::net::SocketAddr;

use super::Network;
use crate::testing::{Peer, PeerListener};
use crate::{Address, Context, IntoProtocol};

/// # Questions and answers
///
/// Each method runs the network until it has what it waits for, or until nothing more can come: the peer has seen the
/// end or an error, or [`run_until`](Network::run_until) gives up. It returns what has arrived by then, for an
/// `assert_eq!` to compare.
impl Network {
    /// Adds a host that listens on this port, and returns the address. Use [`host`](Network::host) and
    /// [`context`](Network::context) instead if a test needs more of the host.
    ///
    /// ```
    /// use switchboard::testing::{Faults, Network};
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    ///
    /// let mut network = Network::new(0, Faults::all());
    /// let address = network.serve(7, |_, _| Some(Echo));
    /// let mut peer = network.peer(address);
    /// assert_eq!(network.exchange(&mut peer, b"ping\npong\n", |answer| answer.len() == 10), b"ping\npong\n");
    /// ```
    ///
    /// # Panics
    ///
    /// Never; each port of a new host is free.
    pub fn serve<F, P>(&mut self, port: u16, factory: F) -> SocketAddr
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let host = self.host();
        let address = self.address(host, port);
        let listener = self.context(host).listen(address, factory).expect("a new host has nothing on this port");
        // For port 0 the network chooses one.
        let own = self.context(host).listener(listener).and_then(|listener| listener.local_addr().ok()?.as_inet());
        own.unwrap_or(address)
    }

    /// Sends `bytes` from the peer, and reads until `done` returns `true` for everything that this call has read. Bytes
    /// that arrive together with the last of it are read as well.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn exchange(&mut self, peer: &mut Peer, bytes: &[u8], done: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        peer.queue(bytes);
        self.read_until(peer, done)
    }

    /// Reads until `done` returns `true` for everything that this call has read. Bytes that arrive together with the
    /// last of it are read as well.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn read_until(&mut self, peer: &mut Peer, mut done: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        self.read_in_pieces(peer, |read| if done(read) { 0 } else { usize::MAX })
    }

    /// Reads `count` bytes, and leaves what follows for the next read.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn read_exactly(&mut self, peer: &mut Peer, count: usize) -> Vec<u8> {
        self.read_in_pieces(peer, |read| count - read.len())
    }

    /// Reads a line, up to and including its `\n`, and leaves what follows for the next read.
    ///
    /// ```
    /// # use switchboard::testing::{Faults, Network};
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    /// # let mut network = Network::new(0, Faults::all());
    /// # let address = network.serve(7, |_, _| Some(Echo));
    /// let mut peer = network.peer(address);
    /// peer.queue(b"one\ntwo\nrest");
    /// peer.end();
    /// assert_eq!(network.read_line(&mut peer), b"one\n");
    /// assert_eq!(network.read_line(&mut peer), b"two\n");
    /// assert_eq!(network.read_to_end(&mut peer), b"rest");
    /// ```
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn read_line(&mut self, peer: &mut Peer) -> Vec<u8> {
        self.read_in_pieces(peer, |read| usize::from(!read.ends_with(b"\n")))
    }

    /// Reads to the end of the stream, or to an error: [`saw_end`](Peer::saw_end) and [`error`](Peer::error) tell which.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn read_to_end(&mut self, peer: &mut Peer) -> Vec<u8> {
        self.read_in_pieces(peer, |_| usize::MAX)
    }

    /// Waits for the next connection to a listener without a loop; `None` if nobody connects.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn accept(&mut self, listener: &mut PeerListener) -> Option<Peer> {
        let mut peer = None;
        self.run_until(|_| {
            peer = listener.accept();
            peer.is_some()
        });
        peer
    }

    /// Reads as many bytes at a time as `most` returns for what has been read, until that is 0 or nothing more can
    /// come.
    fn read_in_pieces(&mut self, peer: &mut Peer, mut most: impl FnMut(&[u8]) -> usize) -> Vec<u8> {
        let mut read = Vec::new();
        self.run_until(|_| {
            loop {
                let wanted = most(&read);
                if wanted == 0 {
                    return true;
                }
                let piece = peer.read_up_to(wanted);
                if piece.is_empty() {
                    return peer.saw_end() || peer.error().is_some();
                }
                read.extend(piece);
            }
        });
        read
    }
}
