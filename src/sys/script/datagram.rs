//! A scripted datagram socket.

use std::collections::VecDeque;
use std::io;

use crate::Address;
use crate::sys::memory::{self, Shared, lock, shared};

/// What a test sets, and observes.
#[derive(Debug, Default)]
struct State {
    awaits_writable: bool,
    full_receiver_lacks_buffers: bool,
    /// The errors of the next sends.
    failures: VecDeque<io::Error>,
    sent: Vec<Vec<u8>>,
    tries: usize,
}

/// The loop's end of a scripted datagram socket.
#[derive(Debug)]
pub(crate) struct Datagram(Shared<State>);

/// The test's end of it.
#[derive(Clone, Debug)]
pub(crate) struct Receiver(Shared<State>);

impl Datagram {
    pub(crate) fn pair() -> (Datagram, Receiver) {
        let state = shared(State::default());
        (Datagram(state.clone()), Receiver(state))
    }
}

impl memory::Datagram for Datagram {
    fn full_receiver_lacks_buffers(&self) -> bool {
        lock(&self.0).full_receiver_lacks_buffers
    }

    fn register(&mut self, _: &dyn memory::Poller, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn await_writable(&mut self, awaits: bool) {
        lock(&self.0).awaits_writable = awaits;
    }

    fn connect(&self, _: &Address) -> io::Result<()> {
        Ok(())
    }

    fn send_to(&self, bytes: &[u8], _: &Address) -> io::Result<usize> {
        self.send(bytes)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = lock(&self.0);
        state.tries += 1;
        match state.failures.pop_front() {
            Some(error) => Err(error),
            None => {
                state.sent.push(bytes.to_vec());
                Ok(bytes.len())
            }
        }
    }

    fn recv_from(&self, _: &mut [u8]) -> io::Result<(usize, Address)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Inet(([127, 0, 0, 1], 2).into()))
    }
}

impl Receiver {
    /// Makes it a Unix socket on a system where sends to a receiver without room fail for lack of buffers.
    pub(crate) fn set_full_receiver_lacks_buffers(&self) {
        lock(&self.0).full_receiver_lacks_buffers = true;
    }

    /// Makes the next sends fail, this many times.
    pub(crate) fn refuses(&self, times: usize, error: impl Fn() -> io::Error) {
        lock(&self.0).failures.extend((0..times).map(|_| error()));
    }

    /// Takes what has arrived since the last call.
    pub(crate) fn take_sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.0).sent)
    }

    /// Returns how often a send was tried since the last call.
    pub(crate) fn take_tries(&self) -> usize {
        std::mem::take(&mut lock(&self.0).tries)
    }

    /// Returns whether the loop has asked for an event when it can send.
    pub(crate) fn awaits_writable(&self) -> bool {
        lock(&self.0).awaits_writable
    }
}
