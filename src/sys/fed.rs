//! A listener without a socket: it takes its connections from a backlog that other threads fill.

use std::io;
use std::sync::Arc;

use super::{Held, Stream};
use crate::Address;
use crate::threads::backlog::{self, Room, Wake};

/// The backlog of one such listener, or of several.
pub(crate) type Backlog = backlog::Backlog<Fed>;

pub(crate) struct FedListener {
    backlog: Arc<Backlog>,
    /// The listener's number in the backlog.
    taker: usize,
    address: Address,
    /// What came with the connection that was accepted last.
    rest: Option<Rest>,
}

/// Input that was read and not consumed, and output that was not sent.
pub(crate) type Rest = (Vec<u8>, Vec<u8>);

/// A connection on its way to a listener. Its stream is never one in memory.
pub(crate) struct Fed {
    stream: Held,
    peer: Address,
    rest: Rest,
}

impl FedListener {
    pub(crate) fn new(address: Address, backlog: Arc<Backlog>, taker: usize) -> FedListener {
        FedListener { backlog, taker, address, rest: None }
    }

    /// From now on it is given connections, once it has reported how many it has room for.
    pub(super) fn join(&self, wake: Wake) {
        self.backlog.join(self.taker, wake);
    }

    pub(super) fn look(&self) {
        self.backlog.look(self.taker);
    }

    pub(super) fn set_room(&self, room: Room) {
        self.backlog.set_room(self.taker, room);
    }

    pub(super) fn accept(&mut self) -> io::Result<(Stream, Address)> {
        let Some(Fed { stream, peer, rest }) = self.backlog.take(self.taker) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let has_rest = !rest.0.is_empty() || !rest.1.is_empty();
        self.rest = has_rest.then_some(rest);
        Ok((stream.take(), peer))
    }

    pub(super) fn take_rest(&mut self) -> Option<Rest> {
        self.rest.take()
    }

    pub(super) fn local_addr(&self) -> Address {
        self.address.clone()
    }
}

/// Resets connections that are still waiting when the last listener of their backlog ends, as the kernel does with its
/// own.
impl Drop for FedListener {
    fn drop(&mut self) {
        for Fed { stream, .. } in self.backlog.leave(self.taker) {
            stream.reset();
        }
    }
}

impl Fed {
    /// Returns everything unchanged if the stream is one in memory: that belongs to the loop that made it.
    pub(crate) fn new(stream: Stream, peer: Address, rest: Rest) -> Result<Fed, (Stream, Address, Rest)> {
        if stream.is_in_memory() {
            return Err((stream, peer, rest));
        }
        Ok(Fed { stream: Held::new(stream, !rest.1.is_empty()), peer, rest })
    }

    pub(crate) fn into_parts(self) -> (Stream, Address, Rest) {
        (self.stream.take(), self.peer, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Returns what the peer reads if a connection on its way is dropped with `unsent` output.
    fn read_behind(unsent: &[u8]) -> io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = Stream::Tcp(mio::net::TcpStream::from_std(stream));
        drop(Fed::new(stream, peer.into(), (Vec::new(), unsent.to_vec())));
        client.read(&mut [0; 8])
    }

    #[test]
    fn x5_a_connection_on_its_way_that_is_dropped_is_reset_if_output_is_unsent() {
        assert_eq!(read_behind(b"the rest").unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(read_behind(b"").unwrap(), 0);
    }
}
