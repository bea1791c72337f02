//! The links between hosts, and what goes wrong on them.

use std::time::Duration;

use super::{HostId, Network};
use crate::testing::{Fate, Faults, Packet};

/// Names a rule of a [`Network`], as returned by [`add_rule`](Network::add_rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// # Links and faults
impl Network {
    /// Cuts the link between two hosts until [`heal`](Network::heal). Packets that are under way still arrive. TCP goes
    /// on once the link is healed; senders give up after 924 seconds, also those that wait for room.
    pub fn cut(&mut self, one: HostId, other: HostId) {
        self.sim.cut(one.0, other.0);
    }

    /// Undoes [`cut`](Network::cut).
    pub fn heal(&mut self, one: HostId, other: HostId) {
        self.sim.heal(one.0, other.0);
    }

    /// Makes packets between two hosts take from `least` to `most`, whatever the faults say.
    pub fn slow(&mut self, one: HostId, other: HostId, least: Duration, most: Duration) {
        self.sim.set_latency(one.0, other.0, least, most);
    }

    /// Cuts the link in one direction until [`heal`](Network::heal); packets in the other direction still arrive. Since
    /// no acknowledgement comes back, senders give up after 924 seconds here, too.
    pub fn cut_one_way(&mut self, from: HostId, to: HostId) {
        self.sim.cut_one_way(from.0, to.0);
    }

    /// Loses this many packets in a thousand between two hosts, each way, whatever the faults say; see [`Fate::Drop`]
    /// for what follows.
    pub fn lose(&mut self, one: HostId, other: HostId, permille: u32) {
        self.sim.set_loss(one.0, other.0, permille);
        self.sim.set_loss(other.0, one.0, permille);
    }

    /// Limits the bandwidth between two hosts to this many bytes a second, each way: packets follow one another, each
    /// with 40 bytes of headers. `None` removes the limit.
    pub fn set_bandwidth(&mut self, one: HostId, other: HostId, bytes_per_second: Option<u64>) {
        self.sim.set_bandwidth(one.0, other.0, bytes_per_second);
        self.sim.set_bandwidth(other.0, one.0, bytes_per_second);
    }

    // Rules.

    /// Calls `rule` for each packet that is sent from now on: it decides what happens to the packet, or returns `None`
    /// to leave that to the next rule. What it does is recorded in the [`trace`](Network::trace), under its name.
    ///
    /// A segment is as large as what is sent at once (64 KiB at most). Packets over a cut link are held back without
    /// asking the rules; those that a rule lets pass may still be lost or slow, as faults and links decide.
    ///
    /// ```
    /// use switchboard::testing::{Fate, Faults, Network, PacketKind};
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let server = network.host();
    /// let address = network.address(server, 7);
    /// network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    /// let mut left = 2;
    /// let rule = network.add_rule("the first two answers are lost", move |packet| {
    ///     let drops = packet.kind == PacketKind::Data && packet.from == address && left > 0;
    ///     left -= i32::from(drops);
    ///     drops.then_some(Fate::Drop)
    /// });
    /// let mut peer = network.peer(address);
    /// peer.queue(b"hello");
    /// assert!(network.run_until(|_| peer.read() == b"hello"));
    /// assert_eq!(network.now().as_millis(), 600); // 200 ms, then 400 ms: retransmitted twice
    /// assert_eq!(network.rule_hits(rule), 2);
    /// ```
    ///
    /// # Panics
    ///
    /// Sending a packet panics if the rule panics, or if it calls into the network, such as through a
    /// [`Peer`](crate::testing::Peer).
    pub fn add_rule(&mut self, name: &str, rule: impl FnMut(&Packet<'_>) -> Option<Fate> + Send + 'static) -> RuleId {
        RuleId(self.sim.add_rule(name, Box::new(rule)))
    }

    /// Ends a rule. Does nothing if it has ended already.
    pub fn remove_rule(&mut self, rule: RuleId) {
        self.sim.remove_rule(rule.0);
    }

    /// Returns for how many packets a rule has decided; 0 if it has ended.
    pub fn rule_hits(&self, rule: RuleId) -> u64 {
        self.sim.rule_hits(rule.0)
    }

    // Faults.

    /// Changes the faults from now on. Sockets keep the buffers they have.
    pub fn set_faults(&mut self, faults: Faults) {
        self.sim.set_faults(faults);
    }
}
