//! How many connections each peer has.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::Address;

/// How many connections of a listener each peer has, by its address.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    counts: HashMap<IpAddr, usize>,
}

impl Peers {
    pub(crate) fn count(&self, peer: &Address) -> usize {
        key(peer).and_then(|key| self.counts.get(&key)).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, peer: &Address) {
        if let Some(key) = key(peer) {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn is_same(one: &Address, other: &Address) -> bool {
        key(one).is_some() && key(one) == key(other)
    }

    /// Counts one connection less. A peer without connections takes no memory.
    pub(crate) fn remove(&mut self, peer: &Address) {
        let Some(key) = key(peer) else { return };
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }
}

/// Returns what counts as one peer: an IPv4 address, or the first half of an IPv6 address, since the owner of that
/// network is free to choose the other half. Unix sockets do not count.
fn key(peer: &Address) -> Option<IpAddr> {
    Some(match peer.as_inet()?.ip() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_peers_are_counted_by_address_whatever_their_ports() {
        let at = |text: &str| Address::of_socket(text.parse().unwrap());
        let mut peers = Peers::default();
        for peer in ["10.0.0.1:1", "10.0.0.1:2", "[fd00:1:2:3::1]:1", "[fd00:1:2:3:ffff::2]:1", "[::ffff:10.0.0.1]:9"] {
            peers.add(&at(peer));
        }
        let count = |peers: &Peers, text: &str| peers.count(&at(text));
        assert_eq!((count(&peers, "10.0.0.1:7"), count(&peers, "10.0.0.2:1")), (3, 0));
        assert_eq!((count(&peers, "[fd00:1:2:3::]:1"), count(&peers, "[fd00:1:2:4::1]:1")), (2, 0));
        for _ in 0..3 {
            peers.remove(&at("10.0.0.1:3"));
        }
        peers.remove(&at("10.0.0.1:3"));
        assert_eq!((peers.counts.len(), count(&peers, "10.0.0.1:1")), (1, 0), "what is not counted takes no memory");
    }
}
