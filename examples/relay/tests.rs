// Tests of the relay, on a simulated network in virtual time.

use std::io::ErrorKind;

use switchboard::testing::{Faults, HostId, Network, Peer, PeerListener, seeds};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A relay on a network, and the server that it connects to, which is played by the test.
struct Scene {
    network: Network,
    host: HostId,
    address: SocketAddr,
    target: PeerListener,
}

fn scene(seed: u64, faults: Faults, per_peer_max: Option<usize>, pairs_max: usize) -> Scene {
    let mut network = Network::new(seed, faults);
    let host = network.host_with_limits(limits(&Bounds { timeout: IDLE_TIMEOUT, per_peer_max }, pairs_max));
    let (target, address) = (network.peer_listener(1234, 8).unwrap(), network.address(host, 1235));
    network.set_name("target", [target.local_addr().ip()]);
    listen(&mut network.context(host), address, ("target".to_owned(), 1234), IDLE_TIMEOUT).unwrap();
    Scene { network, host, address, target }
}

fn quiet() -> Scene {
    scene(0, Faults::none(), None, 100)
}

impl Scene {
    /// Returns both sides of a new pair.
    fn pair(&mut self) -> (Peer, Peer) {
        let client = self.network.peer(self.address);
        let server = self.network.accept(&mut self.target).expect("it is connected on");
        (client, server)
    }

    fn count(&mut self) -> usize {
        self.network.context(self.host).connection_count()
    }

    /// Returns how many bytes the relay has queued, which no kernel has accepted yet.
    fn kept(&mut self) -> usize {
        let mut context = self.network.context(self.host);
        let ids = context.connection_ids();
        ids.into_iter().filter_map(|id| Some(context.connection(id)?.queued_bytes())).sum()
    }
}

fn is_reset(peer: &mut Peer) -> bool {
    peer.read();
    // After end of file, a reset is reported as a broken pipe.
    matches!(peer.error().map(io::Error::kind), Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

#[test]
fn relay_what_either_side_sends_comes_to_the_other_and_so_does_its_end() {
    seeds(|seed| {
        let mut scene = scene(seed, Faults::all(), None, 100);
        let mut client = scene.network.peer(scene.address);
        // The relay is not connected to the server yet.
        client.queue(b"question");
        client.end();
        let mut server = scene.network.accept(&mut scene.target).unwrap();
        assert_eq!(scene.network.read_to_end(&mut server), b"question");
        assert!(server.saw_end());
        // The other direction stays open.
        server.queue(&[7; 1000]);
        server.end();
        assert!(scene.network.read_to_end(&mut client) == [7; 1000] && client.saw_end());
        scene.network.run_until_rest();
        assert_eq!(scene.count(), 0);
    });
}

#[test]
fn relay_a_reset_of_one_side_is_one_of_the_other() {
    let mut scene = quiet();
    let (client, mut server) = scene.pair();
    scene.network.run_until_rest();
    client.reset();
    scene.network.run_until_rest();
    assert!(is_reset(&mut server));
    let (mut client, server) = scene.pair();
    scene.network.run_until_rest();
    server.reset();
    scene.network.run_until_rest();
    assert!(is_reset(&mut client));
    assert_eq!(scene.count(), 0);
}

#[test]
fn relay_a_client_is_reset_where_there_is_no_other_side() {
    let mut scene = quiet();
    scene.network.remove_name("target");
    let mut client = scene.network.peer(scene.address);
    scene.network.run_until_rest();
    assert!(is_reset(&mut client));
    // The name is looked up again for each client: at first nothing listens there, later something does.
    let nobody = scene.network.host();
    scene.network.set_name("target", [scene.network.ip(nobody)]);
    let mut client = scene.network.peer(scene.address);
    scene.network.run_until_rest();
    assert!(is_reset(&mut client));
    scene.network.set_name("target", [scene.target.local_addr().ip()]);
    let (mut client, mut server) = scene.pair();
    server.queue(b"hello");
    assert_eq!(scene.network.read_exactly(&mut client, 5), b"hello");
}

#[test]
fn relay_a_side_that_does_not_read_holds_up_the_other_one_and_nobody_else() {
    let mut scene = quiet();
    let (mut client, mut server) = scene.pair();
    let (mut other, mut its_server) = scene.pair();
    server.stall();
    client.queue(&[7; 2_000_000]);
    scene.network.run_for(MINUTE);
    assert!(client.queued() > 500_000, "{} are not taken", client.queued());
    let kept = scene.kept();
    assert!((1..=2 * 64 * 1024).contains(&kept), "{kept} bytes");
    other.queue(b"ping");
    assert_eq!(scene.network.read_exactly(&mut its_server, 4), b"ping");
    server.queue(b"the other direction");
    assert_eq!(scene.network.read_exactly(&mut client, 19), b"the other direction");
    server.unstall();
    assert!(scene.network.read_exactly(&mut server, 2_000_000) == [7; 2_000_000]);
}

#[test]
fn relay_a_pair_in_which_nothing_moves_for_ten_minutes_is_reset() {
    for half_ended in [false, true] {
        let mut scene = quiet();
        let (mut client, mut server) = scene.pair();
        scene.network.run_for(5 * MINUTE);
        client.queue(b"still here");
        if half_ended {
            client.end();
        }
        assert_eq!(scene.network.read_exactly(&mut server, 10), b"still here");
        scene.network.run_for(IDLE_TIMEOUT - MOMENT);
        assert!(!is_reset(&mut client) && !is_reset(&mut server));
        scene.network.run_for(MOMENT);
        assert!(is_reset(&mut client) && is_reset(&mut server));
        assert_eq!(scene.count(), 0);
    }
}

#[test]
fn relay_a_side_that_takes_nothing_for_ten_minutes_is_found_out_though_the_other_one_goes_on() {
    let small = Faults::none().with_buffer_bytes_min(4096).with_buffer_bytes_max(4096);
    for of_client in [true, false] {
        let mut scene = scene(0, small.clone(), None, 100);
        let (client, server) = scene.pair();
        scene.network.run_until_rest();
        let (mut stalled, mut other) = if of_client { (client, server) } else { (server, client) };
        stalled.stall();
        // More than the kernels buffer, and less than the relay queues before it stops reading.
        other.queue(&[7; 20_000]);
        for minute in 0..10 {
            scene.network.run_for(MINUTE - MOMENT);
            assert!(!is_reset(&mut other), "after {minute} minutes");
            other.queue(b"x");
            scene.network.run_for(MOMENT);
        }
        scene.network.run_until_rest();
        assert!(is_reset(&mut other), "of the client: {of_client}");
    }
}

#[test]
fn relay_a_side_that_takes_what_the_other_sends_is_not_idle() {
    let mut scene = quiet();
    let (mut client, mut server) = scene.pair();
    for _ in 0..3 {
        scene.network.run_for(IDLE_TIMEOUT - MOMENT);
        server.queue(b".");
        assert_eq!(scene.network.read_exactly(&mut client, 1), b".");
    }
    assert_eq!(scene.count(), 2);
}

#[test]
fn relay_clients_over_the_bounds_are_refused_or_wait_their_turn() {
    let mut scene = scene(0, Faults::none(), Some(1), 100);
    let (_client, _server) = scene.pair();
    let mut second = scene.network.peer(scene.address);
    assert_eq!(scene.network.read_to_end(&mut second), b"");
    assert_eq!(scene.count(), 2);

    let mut scene = self::scene(0, Faults::none(), None, 2);
    let pairs = [scene.pair(), scene.pair()];
    let third = scene.network.peer(scene.address);
    scene.network.run_for(MINUTE);
    assert!(scene.target.accept().is_none(), "there are as many pairs as there may be");
    assert!(third.is_connected(), "it waits in the backlog");
    drop(pairs);
    assert!(scene.network.accept(&mut scene.target).is_some());
}

#[test]
#[cfg(unix)]
fn relay_a_pair_takes_two_descriptors_and_some_are_left_for_the_rest() {
    assert_eq!((pairs_of(1024), pairs_of(0)), (500, 1));
    assert_eq!(pairs_of(usize::MAX), Limits::default().connections_max);
}
