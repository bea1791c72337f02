//! What a test can look at.

use super::{HostId, Network, Unread};
use crate::sys::sim;

/// # What a test looks at
impl Network {
    /// Returns what the loops' sockets hold and their loops have not taken. At rest this should list only sockets whose
    /// reading is paused: anything else is a lost wake-up.
    pub fn unread(&self) -> Vec<Unread> {
        let unread = self.sim.unread().into_iter();
        unread
            .map(|sim::Unread { host, local, remote, count }| Unread { host: HostId(host), local, remote, count })
            .collect()
    }

    /// Returns how many turns all loops have had.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Returns the most turns in a row that made no progress, of any one host: no event, no byte, no timer, no end.
    /// More than a few mean that a loop spins.
    pub fn turns_without_progress_most(&self) -> u64 {
        self.idle_turns_most
    }

    /// Returns how many sockets there are in the whole network, including peers' sockets and closed ones that still
    /// wait for their last acknowledgement.
    pub fn sockets(&self) -> usize {
        self.sim.sockets()
    }

    /// Returns what has happened, one line each, with its time: byte for byte the same for the same seed and the same
    /// program.
    pub fn trace(&self) -> String {
        self.sim.trace()
    }

    /// Begins to keep all packets, for [`captured`](Network::captured).
    pub fn begin_capture(&mut self) {
        self.sim.begin_capture();
    }

    /// Returns the captured packets as a file that tcpdump and Wireshark open (pcap): each packet when it was sent,
    /// lost or not. Its clock is the network's; its headers are made up, as are the sequence numbers, which begin at 0.
    /// Empty if no capture was begun.
    ///
    /// A network whose test fails writes such a file by itself if `SWITCHBOARD_PCAP=FILE` is set in the environment.
    pub fn captured(&self) -> Vec<u8> {
        self.sim.captured()
    }

    /// Adds a line of the test's own to the trace.
    pub fn note(&mut self, line: &str) {
        self.sim.note(format_args!("{line}"));
    }

    /// Sets whether a trace is kept; it is by default. Without it a run takes less time and memory.
    pub fn set_tracing(&mut self, tracing: bool) {
        self.sim.set_tracing(tracing);
    }

    /// Returns the sockets that loops hold, for the tests of the guarantees.
    #[cfg(test)]
    pub(crate) fn inspected(&self) -> Vec<sim::Inspected> {
        self.sim.inspected()
    }

    /// Returns the input that loops left unread when they closed a socket, since the last call: host, token, bytes.
    #[cfg(test)]
    pub(crate) fn take_abandoned(&mut self) -> Vec<(usize, usize, usize)> {
        self.sim.take_abandoned()
    }

    /// Returns how many datagrams a host's kernel has taken from the sockets of a port.
    #[cfg(test)]
    pub(crate) fn datagrams_taken(&self, host: HostId, port: u16) -> u64 {
        self.sim.datagrams_taken(host.0, port)
    }

    /// Returns why connections of loops have ended since the last call: host, token, reason.
    pub(crate) fn take_losses(&mut self) -> Vec<(usize, usize, crate::CloseReason)> {
        self.sim.take_losses()
    }
}
