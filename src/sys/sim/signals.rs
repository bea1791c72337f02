//! Signals of a simulated process: they arrive through a pipe, as real ones do.

use std::io;

use super::tcp::Tcp;
use super::world::{HostIndex, SocketId, World};
use super::{Errno, Network, Poller, SimulatedPipe, Stream, lock};
use crate::Address;

/// One that waits for signals, and the end where they are written.
pub(super) struct Wanted {
    signals: Vec<i32>,
    at: SocketId,
}

impl Network {
    /// Sends a signal to everything that waits for it on a host, once for each kind that is not read yet. Returns
    /// whether anything does.
    pub(crate) fn raise(&self, host: HostIndex, signal: i32) -> bool {
        let world = &mut *lock(&self.0);
        world.note(format_args!("host {host} gets signal {signal}"));
        let wanted = std::mem::take(&mut world.hosts[host].signals);
        let (alive, mut any) = (|world: &World, of: &Wanted| world.is_tcp(of.at, Tcp::can_send), false);
        let wanted: Vec<_> = wanted.into_iter().filter(|of| alive(world, of)).collect();
        for of in wanted.iter().filter(|of| of.signals.contains(&signal)) {
            any = true;
            let reader = world.tcp(of.at).and_then(|tcp| tcp.peer);
            let is_unread =
                reader.is_some_and(|reader| world.is_tcp(reader, |tcp| tcp.received.contains(&(signal as u8))));
            if !is_unread && !world.is_queued(of.at, signal as u8) {
                world.queue(of.at, &[signal as u8]);
            }
        }
        world.hosts[host].signals = wanted;
        any
    }
}

impl Poller {
    /// Returns what signals of these kinds arrive by.
    pub(super) fn pipe_of_signals(&self, signals: &[i32], nameless: &Address) -> io::Result<SimulatedPipe> {
        let world = &mut *lock(&self.world);
        if signals.iter().any(|&signal| u8::try_from(signal).is_err()) {
            return Err(Errno::NotFound.into());
        }
        let [one, other] = world.pair_of_pipe(self.host, nameless);
        world.hosts[self.host].signals.push(Wanted { signals: signals.to_vec(), at: other });
        Ok(SimulatedPipe(Stream::of(&self.world, one)))
    }
}
