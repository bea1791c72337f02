//! Ends that take their time, as the peer sees them: on the simulator, where waiting costs nothing.

use std::io::ErrorKind;
use std::time::Duration;

use switchboard::testing::{Faults, HostId, Network, Peer};
use switchboard::{Limits, Protocol, Transport};

use crate::support::{Echo, Ends, NotingEnd, pattern};

const SECOND: Duration = Duration::from_secs(1);

/// Answers each piece of data with this many bytes, and closes if it is told to.
struct Answer {
    bytes: usize,
    closes: bool,
}

impl Protocol for Answer {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write_owned(pattern(self.bytes));
        if self.closes {
            transport.close();
        }
        data.len()
    }
}

/// A server of such answers, and peers that have asked.
fn asked(limits: Limits, bytes: usize, closes: bool, count: usize) -> (Network, HostId, Vec<Peer>, Ends) {
    let mut network = Network::new(0, Faults::none());
    network.set_tracing(false);
    let host = network.host_with_limits(limits);
    let address = network.address(host, 7);
    let ends = Ends::default();
    let noted = ends.clone();
    let factory = move |_: &mut switchboard::Context<'_>, _: &switchboard::Address| {
        Some(NotingEnd { inner: Answer { bytes, closes }, ends: noted.clone() })
    };
    network.context(host).listen(address, factory).unwrap();
    let mut peers: Vec<_> = (0..count).map(|_| network.peer(address)).collect();
    network.run_until_rest();
    for peer in &mut peers {
        assert_eq!(peer.send(b"?"), 1);
    }
    network.run_until_rest();
    (network, host, peers, ends)
}

#[test]
fn x1_a_peer_that_takes_nothing_is_aborted_at_the_deadline() {
    let (mut network, _, mut peers, ends) = asked(Limits::default(), 4 << 20, true, 1);
    network.run_for(5 * SECOND - Duration::from_millis(1));
    assert!(ends.borrow().is_empty());
    network.run_for(Duration::from_millis(1));
    assert_eq!(*ends.borrow(), ["the peer did not take the remaining output in time"]);
    // No half answer can be taken for the whole: it ends by an error, not by an end (X5).
    assert!(network.read_to_end(&mut peers[0]).len() < 4 << 20);
    assert_eq!(peers[0].error().map(std::io::Error::kind), Some(ErrorKind::ConnectionReset));
}

#[test]
fn x3_shutdown_lets_a_long_answer_finish_aborts_who_never_reads_and_can_be_followed_by_another_run() {
    let (mut network, host, mut peers, ends) = asked(Limits::default(), 4 << 20, false, 2);
    let mut never_reads = peers.pop().unwrap();
    network.context(host).shutdown(2 * SECOND);
    assert!(network.read_to_end(&mut peers[0]) == pattern(4 << 20));
    assert!(peers[0].saw_end() && peers[0].error().is_none());
    assert_eq!(*ends.borrow(), ["the loop was shut down"; 1]);
    network.run_for(2 * SECOND);
    assert_eq!((ends.borrow().len(), network.context(host).connection_count()), (2, 0));
    network.read_to_end(&mut never_reads);
    assert_eq!(never_reads.error().map(std::io::Error::kind), Some(ErrorKind::ConnectionReset));
    // Nobody listens any more, until somebody does again.
    let address = network.address(host, 7);
    let mut refused = network.peer(address);
    network.run_until_rest();
    assert_eq!(refused.error().map(std::io::Error::kind), Some(ErrorKind::ConnectionRefused));
    let factory = |_: &mut switchboard::Context<'_>, _: &switchboard::Address| Some(Echo);
    network.context(host).listen(address, factory).unwrap();
    let mut peer = network.peer(address);
    network.run_until_rest();
    assert_eq!(peer.send(b"x"), 1);
    network.run_until_rest();
    assert_eq!(peer.read(), b"x");
}
