//! What is between hosts, and what goes wrong there.

use std::time::Duration;

use super::{HostId, Network};
use crate::testing::{Fate, Faults, Packet};

/// Names a rule of a [`Network`]: what [`add_rule`](Network::add_rule) returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// # Links and faults
impl Network {
    /// Nothing passes between two hosts until [`heal`](Network::heal): what was under way arrives still. TCP goes on
    /// then; after 924 seconds senders give up.
    pub fn cut(&mut self, one: HostId, other: HostId) {
        self.sim.cut(one.0, other.0);
    }

    /// Takes [`cut`](Network::cut) back.
    pub fn heal(&mut self, one: HostId, other: HostId) {
        self.sim.heal(one.0, other.0);
    }

    /// Packets between two hosts take from `least` to `most`, whatever the faults say.
    pub fn slow(&mut self, one: HostId, other: HostId, least: Duration, most: Duration) {
        self.sim.set_latency(one.0, other.0, least, most);
    }

    /// Nothing passes from the one to the other, until [`heal`](Network::heal); what goes the other way still arrives. An
    /// answer that cannot come back is as good as none: senders give up after 924 seconds as well.
    pub fn cut_one_way(&mut self, from: HostId, to: HostId) {
        self.sim.cut_one_way(from.0, to.0);
    }

    /// So many packets in a thousand are lost between two hosts, each way, whatever the faults say; see [`Fate::Drop`] for
    /// what follows.
    pub fn lose(&mut self, one: HostId, other: HostId, permille: u32) {
        self.sim.set_loss(one.0, other.0, permille);
        self.sim.set_loss(other.0, one.0, permille);
    }

    /// No more than so many bytes a second pass between two hosts, each way: packets are one behind the other, each with 40
    /// bytes of headers. `None` is no bound.
    pub fn set_bandwidth(&mut self, one: HostId, other: HostId, bytes_per_second: Option<u64>) {
        self.sim.set_bandwidth(one.0, other.0, bytes_per_second);
        self.sim.set_bandwidth(other.0, one.0, bytes_per_second);
    }

    // Rules.

    /// Has `rule` see each packet that goes out, from now on: it says what becomes of it, or `None` to leave that to the
    /// next rule. What it does is in the [`trace`](Network::trace), by its name.
    ///
    /// A segment is as large as what is sent at once (64 KiB at most). A packet over a link that is cut is held, and no rule
    /// sees it; of those that a rule lets pass, some may still be lost or be slow, as faults and links have it.
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
    /// assert_eq!(network.now().as_millis(), 600); // 200 ms, then 400 ms: sent twice again
    /// assert_eq!(network.rule_hits(rule), 2);
    /// ```
    ///
    /// # Panics
    ///
    /// When a packet goes out, where the rule panics or calls into the network, as by a [`Peer`](crate::testing::Peer).
    pub fn add_rule(&mut self, name: &str, rule: impl FnMut(&Packet<'_>) -> Option<Fate> + Send + 'static) -> RuleId {
        RuleId(self.sim.add_rule(name, Box::new(rule)))
    }

    /// Ends a rule. Nothing where it has ended.
    pub fn remove_rule(&mut self, rule: RuleId) {
        self.sim.remove_rule(rule.0);
    }

    /// Returns for how many packets a rule has said what becomes of them; 0 for one that has ended.
    pub fn rule_hits(&self, rule: RuleId) -> u64 {
        self.sim.rule_hits(rule.0)
    }

    // Faults.

    /// Changes what goes wrong from now on. Sockets keep the buffers they have.
    pub fn set_faults(&mut self, faults: Faults) {
        self.sim.set_faults(faults);
    }
}
