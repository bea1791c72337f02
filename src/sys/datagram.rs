//! A datagram socket.
#![cfg_attr(not(all(test, feature = "testing")), allow(dead_code))] // The state machine above it is still to come.

use std::io;
use std::net::SocketAddr;

use mio::Interest;

use super::Poller;

pub(crate) enum Datagram {
    Udp(mio::net::UdpSocket),
    #[cfg(feature = "testing")]
    Sim(super::sim::Datagram),
}

/// What came out of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) count: usize,
    pub(crate) from: SocketAddr,
}

impl Received {
    /// Whether the datagram may have been longer than the buffer: it filled it. So a buffer has one byte more than the
    /// longest datagram that is to come through whole; the system's own flag is out of reach of safe code.
    pub(crate) fn may_be_truncated(self, buffer: &[u8]) -> bool {
        self.count == buffer.len()
    }
}

impl Datagram {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Datagram> {
        mio::net::UdpSocket::bind(address).map(Datagram::Udp)
    }

    pub(crate) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Datagram::Udp(socket) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                poller.registry()?.register(socket, mio::Token(token), interest)
            }
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.register(poller.simulated()?, token),
        }
    }

    /// From here on it sends to this address by [`send`](Datagram::send), hears only that, and of its errors too.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        match self {
            Datagram::Udp(socket) => socket.connect(address),
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.connect(address),
        }
    }

    pub(crate) fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.send_to(bytes, to),
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.send_to(bytes, to),
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.send(bytes),
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.send(bytes),
        }
    }

    /// Receives one datagram; what the buffer has no room for is lost.
    pub(crate) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (count, from) = match self {
            Datagram::Udp(socket) => socket.recv_from(buffer)?,
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.recv_from(buffer)?,
        };
        Ok(Received { count, from })
    }

    /// The error that the socket has met and no call was told of yet.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Datagram::Udp(socket) => socket.take_error(),
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => Ok(socket.take_error()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Datagram::Udp(socket) => socket.local_addr(),
            #[cfg(feature = "testing")]
            Datagram::Sim(socket) => socket.local_addr(),
        }
    }
}
