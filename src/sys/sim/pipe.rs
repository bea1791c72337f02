//! Simulated pipes, which stand for standard input, a pipe or a device in a simulated loop.

use std::fmt;
use std::io::{self, Read, Write};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::handles::{Poller, Stream};
use super::world::{HostIndex, SocketId, World};
use super::{Network, lock};
use crate::Address;
use crate::sys::memory::Stream as _;

/// Something that a simulated loop can wait for with [`register`](crate::Context::register), in place of standard
/// input, a pipe or a device; its other end is a [`Peer`](crate::testing::Peer).
/// [`Network::pipe`](crate::testing::Network::pipe) makes both.
///
/// It reads and writes like a non-blocking descriptor.
pub struct SimulatedPipe(pub(super) Stream);

impl SimulatedPipe {
    pub(super) fn register_at(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        self.0.register(poller, token)
    }

    pub(super) fn register_again(&mut self) {
        self.0.tell_again();
    }

    pub(super) fn deregister_at(&mut self) -> io::Result<()> {
        self.0.deregister()
    }
}

impl Read for SimulatedPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for SimulatedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A real poller cannot wait for it.
impl Source for SimulatedPipe {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl fmt::Debug for SimulatedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedPipe")
    }
}

impl World {
    /// A loop that waits for a pipe waits for room, too.
    pub(super) fn pair_of_pipe(&mut self, host: HostIndex, nameless: &Address) -> [SocketId; 2] {
        self.pair(host, (nameless.clone(), nameless.clone()), true)
    }
}

impl Network {
    /// Returns a pipe of a host: the end that its loop waits for, and the one that is operated by hand.
    pub(crate) fn pipe(&self, host: HostIndex, nameless: &Address) -> (SimulatedPipe, Stream) {
        let [one, other] = lock(&self.0).pair_of_pipe(host, nameless);
        (SimulatedPipe(Stream::of(&self.0, one)), Stream::of(&self.0, other))
    }

    /// Returns a pair of connected Unix streams of a host.
    pub(crate) fn unix_pair(&self, host: HostIndex, nameless: &Address) -> (Stream, Stream) {
        let [one, other] = lock(&self.0).pair(host, (nameless.clone(), nameless.clone()), false);
        (Stream::of(&self.0, one), Stream::of(&self.0, other))
    }
}
