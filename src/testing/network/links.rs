//! What is between hosts, and what goes wrong there.

use std::time::Duration;

use super::{HostId, Network};
use crate::testing::Faults;

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

    /// Changes what goes wrong from now on. Sockets keep the buffers they have.
    pub fn set_faults(&mut self, faults: Faults) {
        self.sim.set_faults(faults);
    }
}
