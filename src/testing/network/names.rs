//! Simulated name resolution.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::{HostId, Network};

/// # Names
///
/// Connecting to a name asks the network for its addresses, unless the loop was given [a
/// resolver](crate::Context::set_resolver) of its own. A look-up and its answer are lines of the
/// [`trace`](Network::trace). They do not use links, so cut or slow links do not delay them.
impl Network {
    /// Sets the addresses of a name, in the order in which look-ups return them, in place of those it had. They need
    /// not be addresses of hosts. A name with an empty list exists, but has no address. Names are not case-sensitive.
    ///
    /// Answers are not cached: [`Reconnect`](crate::Reconnect) asks before each connect, and goes where the name leads
    /// at that time.
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
    /// assert!(network.trace().contains("host 0 resolves db.internal to [[fd00::2]:5432, 10.0.0.2:5432]"));
    /// ```
    pub fn set_name(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.sim.set_name(name, Some(addresses.into_iter().collect()));
    }

    /// Removes a name: looking it up fails with `NotFound`.
    pub fn remove_name(&mut self, name: &str) {
        self.sim.set_name(name, None);
    }

    /// Sets how long it takes to look up a name, from now on; look-ups take no time by default. The answer is what the
    /// name means at the end of that time.
    pub fn name_latency(&mut self, least: Duration, most: Duration) {
        self.sim.set_name_latency(least, most);
    }

    /// Makes the next `times` look-ups of a name fail with `error`, in place of failures requested before. 0 ends that.
    pub fn fail_name(&mut self, name: &str, error: io::ErrorKind, times: u32) {
        self.sim.fail_name(name, error, times);
    }

    /// Returns the IPv4 address of a host.
    pub fn ip(&self, host: HostId) -> IpAddr {
        self.sim.address(host.0, false)
    }

    /// Returns the IPv6 address of a host.
    pub fn ip_v6(&self, host: HostId) -> IpAddr {
        self.sim.address(host.0, true)
    }
}
