//! Unix datagram sockets that a test plays by hand.

use std::fmt;
use std::io;

use crate::sys::memory;
use crate::{Address, UnixAddress};

/// A Unix datagram socket without a loop, made by
/// [`Network::unix_datagram_peer`](crate::testing::Network::unix_datagram_peer).
///
/// Dropping it closes it and leaves its path behind, as a program does that does not remove it: sending there is
/// refused until another socket is bound to that path.
pub struct UnixDatagramPeer {
    pub(super) socket: Box<dyn memory::Datagram>,
    pub(super) address: Address,
}

impl UnixDatagramPeer {
    /// Returns the address it is bound to.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Connects it: from now on it receives from `to` alone.
    ///
    /// # Errors
    ///
    /// Those of a real socket: `NotFound` or `ConnectionRefused` if no socket is bound to that name, `PermissionDenied`
    /// if the socket there is connected to another one.
    pub fn connect(&mut self, to: &UnixAddress) -> io::Result<()> {
        self.socket.connect(&to.clone().into())
    }

    /// Sends a datagram to `to`, or to the connected address if `to` is `None`.
    ///
    /// # Errors
    ///
    /// Those of a real socket: those of [`connect`](UnixDatagramPeer::connect); `WouldBlock` if the receiver is full,
    /// which holds eleven datagrams, or if this socket's own memory is; too long, not connected, no buffers, or a
    /// pending error.
    pub fn send(&mut self, bytes: &[u8], to: Option<&UnixAddress>) -> io::Result<()> {
        loop {
            let sent = match to {
                Some(to) => self.socket.send_to(bytes, &to.clone().into()),
                None => self.socket.send(bytes),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(|_| ()),
            }
        }
    }

    /// Receives the next datagram whole, with its sender's name. Returns `None` if none has arrived.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the socket it was connected to has since been connected to another one.
    pub fn receive(&mut self) -> io::Result<Option<(Vec<u8>, UnixAddress)>> {
        let mut buffer = vec![0; self.socket.bytes_max()];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((count, Address::Unix(from))) => return Ok(Some((buffer[..count].to_vec(), from))),
                Ok((_, Address::Inet(_))) => return Err(io::ErrorKind::InvalidData.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for UnixDatagramPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagramPeer").field("address", &self.address).finish_non_exhaustive()
    }
}
