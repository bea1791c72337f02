//! The test kit: what most tests do, in a line each.

use std::io::ErrorKind;
use std::time::Duration;

use switchboard::testing::{Faults, Network, seeds};
use switchboard::{Protocol, Transport};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);

/// Answers each byte with a line, and says good-bye when the peer ends its half.
struct Lines;

impl Protocol for Lines {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        data.iter().for_each(|byte| transport.write(&[*byte, b'\n']));
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        transport.write(b"bye");
        transport.close();
    }
}

#[test]
fn kit_an_exchange_has_the_whole_answer_whatever_the_faults() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let address = network.serve(0, |_, _| Some(Echo));
        assert_ne!(address.port(), 0, "the network has chosen one");
        let mut peer = network.peer(address);
        for length in [1, 3000] {
            let bytes = pattern(length);
            assert!(network.exchange(&mut peer, &bytes, |answer| answer.len() == length) == bytes);
        }
    });
}

#[test]
fn kit_what_is_read_is_what_was_asked_for_and_the_rest_is_left() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let address = network.serve(7, |_, _| Some(Lines));
        let mut peer = network.peer(address);
        peer.queue(b"abcde");
        peer.end();
        // So that a read could take all of it.
        network.run_for(SECOND);
        assert_eq!(network.read_line(&mut peer), b"a\n");
        assert_eq!(network.read_exactly(&mut peer, 0), b"");
        assert_eq!(network.read_exactly(&mut peer, 3), b"b\nc");
        assert_eq!(network.read_line(&mut peer), b"\n");
        assert!(network.read_until(&mut peer, |read| read.contains(&b'd')).starts_with(b"d"));
        network.read_to_end(&mut peer);
        assert!(peer.saw_end());
        // Nothing more arrives, and nothing waits for it.
        assert_eq!(network.read_line(&mut peer), b"");
    });
}

#[test]
fn kit_a_read_that_is_not_content_returns_what_came_once_nothing_more_can() {
    let mut network = Network::new(0, Faults::none());
    let address = network.serve(7, |_, _| Some(Lines));
    let mut peer = network.peer(address);
    assert_eq!(network.exchange(&mut peer, b"a", |_| false), b"a\n", "the connection is idle");
    peer.end();
    assert_eq!(network.read_exactly(&mut peer, 100), b"bye");
    // Nobody listens there.
    let mut refused = network.peer((address.ip(), 8).into());
    let begun = network.now();
    assert_eq!(network.read_to_end(&mut refused), b"");
    assert_eq!(refused.error().map(std::io::Error::kind), Some(ErrorKind::ConnectionRefused));
    assert_eq!(network.now(), begun, "an error ends it at once");
}

#[test]
fn kit_a_listener_without_a_loop_waits_for_who_connects() {
    let mut network = Network::new(0, Faults::none().with_latency_min(SECOND).with_latency_max(SECOND));
    let mut listener = network.peer_listener(0, 8).unwrap();
    assert!(network.accept(&mut listener).is_none(), "nobody connects");
    let mut one = network.peer(listener.local_addr());
    let mut other = network.accept(&mut listener).unwrap();
    one.queue(b"hello\n");
    assert_eq!(network.read_line(&mut other), b"hello\n");
}

#[test]
#[cfg(target_os = "linux")]
#[should_panic = "a simulated loop has no descriptor to wait for: its network or harness runs it"]
fn kit_a_simulated_loop_says_that_it_has_no_descriptor_and_what_runs_it() {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let _ = std::os::fd::AsFd::as_fd(network.event_loop(host));
}
