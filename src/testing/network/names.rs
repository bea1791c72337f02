//! The names that a network knows.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::{HostId, Network};

/// # Names
///
/// What connects to a name asks the network for it, unless its loop was given
/// [a resolver](crate::Context::set_resolver) of its own. A question and its answer are lines of the
/// [`trace`](Network::trace). They do not go over links, so that nothing which is cut or slow delays them.
impl Network {
    /// Gives a name its addresses, in the order in which those who look it up are told of them, in place of those that it
    /// had. They need not be addresses of hosts. A name with none is known, and has no address. Names are not
    /// case-sensitive.
    ///
    /// Nothing is kept of an answer: [`Reconnect`](crate::Reconnect) asks before each connect, and goes where a name then
    /// leads.
    ///
    /// ```
    /// # use switchboard::{Protocol, Transport};
    /// use switchboard::testing::{Faults, Network};
    /// # struct Client;
    /// # impl Protocol for Client {
    /// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         data.len()
    /// #     }
    /// # }
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let (client, database) = (network.host(), network.host());
    /// network.set_name("db.internal", [network.ip_v6(database), network.ip(database)]);
    /// network.context(client).connect(("db.internal", 5432), Client).unwrap();
    /// network.run_until_rest();
    /// assert!(network.trace().contains("host 0 is told that db.internal is [[fd00::2]:5432, 10.0.0.2:5432]"));
    /// ```
    pub fn set_name(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.sim.set_name(name, Some(addresses.into_iter().collect()));
    }

    /// Has nobody know a name any more: looking it up fails with `NotFound`.
    pub fn remove_name(&mut self, name: &str) {
        self.sim.set_name(name, None);
    }

    /// How long it takes to look a name up, from now on; no time unless told otherwise. The answer is what the name means at
    /// the end of that time.
    pub fn name_latency(&mut self, least: Duration, most: Duration) {
        self.sim.set_name_latency(least, most);
    }

    /// The next so many look-ups of a name fail by this, in place of what was to fail before. 0 ends it.
    pub fn fail_name(&mut self, name: &str, error: io::ErrorKind, times: u32) {
        self.sim.fail_name(name, error, times);
    }

    /// The IPv4 address of a host.
    pub fn ip(&self, host: HostId) -> IpAddr {
        self.sim.address(host.0, false)
    }

    /// The IPv6 address of a host.
    pub fn ip_v6(&self, host: HostId) -> IpAddr {
        self.sim.address(host.0, true)
    }
}
