//! What a test looks at.

use super::{HostId, Network, Unread};
use crate::sys::sim;

/// # What a test looks at
impl Network {
    /// What the sockets of loops hold and their loops have not taken. At rest, only what its reader has paused may stand
    /// here: anything else is a wake-up that got lost.
    pub fn unread(&self) -> Vec<Unread> {
        let unread = self.sim.unread().into_iter();
        unread
            .map(|sim::Unread { host, local, remote, count }| Unread { host: HostId(host), local, remote, count })
            .collect()
    }

    /// How many turns all loops have had.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The most turns in a row that brought about nothing, of any one host: no event, no byte, no timer, no end. More
    /// than a few are a loop that spins.
    pub fn turns_without_progress_most(&self) -> u64 {
        self.idle_turns_most
    }

    /// How many sockets there are in the whole network, peers' included, and those that are closed but wait for their
    /// last acknowledgement.
    pub fn sockets(&self) -> usize {
        self.sim.sockets()
    }

    /// What has happened, a line each, with its time. The same for the same seed and the same program, to the byte.
    pub fn trace(&self) -> String {
        self.sim.trace()
    }

    /// From now on all packets are kept, for [`captured`](Network::captured).
    pub fn begin_capture(&mut self) {
        self.sim.begin_capture();
    }

    /// Returns what was captured, as a file that tcpdump and Wireshark open (pcap): each packet when it went out, lost or
    /// not. Its clock is the network's; its headers are made up, as are the numbers of its streams, which begin at 0. Empty
    /// where nothing was asked for.
    ///
    /// A network whose test fails writes such a file by itself where the environment has `SWITCHBOARD_PCAP=FILE`.
    pub fn captured(&self) -> Vec<u8> {
        self.sim.captured()
    }

    /// Puts a line of the test's own into the trace.
    pub fn note(&mut self, line: &str) {
        self.sim.note(format_args!("{line}"));
    }

    /// Whether a trace is kept; it is, unless told otherwise. Without it a run takes less time and memory.
    pub fn set_tracing(&mut self, tracing: bool) {
        self.sim.set_tracing(tracing);
    }

    /// What the tests of the guarantees look at: the sockets that loops hold.
    #[cfg(test)]
    pub(crate) fn inspected(&self) -> Vec<sim::Inspected> {
        self.sim.inspected()
    }

    /// Input that loops have closed a socket over, since the last call: host, token, bytes.
    #[cfg(test)]
    pub(crate) fn take_abandoned(&mut self) -> Vec<(usize, usize, usize)> {
        self.sim.take_abandoned()
    }

    /// How many datagrams a host's kernel has taken from the sockets of a port.
    #[cfg(test)]
    pub(crate) fn datagrams_taken(&self, host: HostId, port: u16) -> u64 {
        self.sim.datagrams_taken(host.0, port)
    }

    /// Why connections of loops have ended since the last call: host, token, reason.
    pub(crate) fn take_losses(&mut self) -> Vec<(usize, usize, crate::CloseReason)> {
        self.sim.take_losses()
    }
}
