//! The test kit: streams and listeners that were made elsewhere, passed to a loop.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, Network, seeds};
use switchboard::{EventLoop, Listen, Protocol, Transport};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn kit_a_stream_that_was_accepted_elsewhere_is_attached_whatever_the_faults() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let host = network.host();
        let mut listener = network.listener_on(host, 7, 8).unwrap();
        let mut peer = network.peer(listener.local_addr());
        let bytes = pattern(1 + seed as usize * 97 % 2000);
        // Some of the data arrives before the loop has the stream.
        peer.queue(&bytes);
        peer.end();
        let accepted = network.accept(&mut listener).unwrap();
        network.context(host).attach(accepted, Echo).unwrap();
        assert!(network.read_to_end(&mut peer) == bytes, "{}", network.trace());
        assert!(peer.saw_end() && peer.error().is_none());
    });
}

/// Sends something first, and records its input.
struct Client(Rc<RefCell<Vec<u8>>>);

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b", world");
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

#[test]
fn kit_a_stream_that_was_connected_elsewhere_is_attached_with_what_was_queued() {
    let mut network = Network::new(0, Faults::none().with_buffer_bytes_min(4).with_buffer_bytes_max(4));
    let (host, server) = (network.host(), network.host());
    let address = network.address(server, 7);
    network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    let mut peer = network.peer_on(host, address).unwrap();
    assert_eq!(peer.local_addr().ip(), network.address(host, 0).ip());
    network.run_until_rest();
    peer.queue(b"hello, hello, hello");
    assert!(peer.queued() > 0, "its kernel takes a few bytes");
    let got = Rc::new(RefCell::new(Vec::new()));
    network.context(host).attach(peer, Client(got.clone())).unwrap();
    network.run_until_rest();
    assert_eq!(String::from_utf8_lossy(&got.borrow()), "hello, hello, hello, world");
    assert_eq!(network.context(host).connection_count(), 0);
}

#[test]
fn kit_what_is_no_connection_of_this_host_is_not_attached() {
    let mut network = Network::new(0, Faults::none());
    let (host, other) = (network.host(), network.host());
    network.slow(host, other, SECOND, SECOND);
    let listener = network.listener_on(other, 7, 8).unwrap();
    let early = network.peer_on(host, listener.local_addr()).unwrap();
    let kind = |outcome: std::io::Result<switchboard::ConnectionId>| outcome.unwrap_err().kind();
    assert_eq!(kind(network.context(host).attach(early, Echo)), ErrorKind::NotConnected, "nothing has answered yet");
    let elsewhere = network.peer_on(other, listener.local_addr()).unwrap();
    assert_eq!(kind(network.context(host).attach(elsewhere, Echo)), ErrorKind::InvalidInput, "it is of another host");
    let outcome = network.context(host).listen(listener, |_, _| Some(Echo));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
    // Neither another network nor the system knows it.
    let mut real = EventLoop::new().unwrap();
    let mut another = Network::new(0, Faults::none());
    let its_host = another.host();
    let mut its_listener = another.listener_on(its_host, 7, 8).unwrap();
    let _peer = another.peer(its_listener.local_addr());
    let stranger = another.accept(&mut its_listener).unwrap();
    assert_eq!(kind(network.context(host).attach(stranger, Echo)), ErrorKind::Unsupported);
    let listener = network.listener_on(host, 7, 8).unwrap();
    assert_eq!(real.context().listen(listener, |_, _| Some(Echo)).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(network.context(host).connection_count(), 0);
    assert_eq!(network.sockets(), 0, "what is refused is closed");
}

#[test]
fn kit_a_listener_that_was_made_elsewhere_serves_who_waits_at_it() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let host = network.host();
        let listener = network.listener_on(host, 0, 8).unwrap();
        let address = listener.local_addr();
        let mut early = network.peer(address);
        early.queue(b"early");
        network.run_until(|_| early.queued() == 0);
        // Such as one by TCP and one by TLS: what it is made from can be combined.
        let listen = Listen::at(listener).and(network.address(host, 8));
        let id = network.context(host).listen(listen, |_, _| Some(Echo)).unwrap();
        assert_eq!(network.read_exactly(&mut early, 5), b"early");
        let mut late = network.peer(address);
        assert_eq!(network.exchange(&mut late, b"late", |answer| answer.len() == 4), b"late");
        assert_eq!(network.context(host).listener(id).unwrap().local_addr().unwrap(), address);
        network.context(host).listener(id).unwrap().close();
        let mut refused = network.peer(address);
        network.run_until(|_| refused.error().is_some());
        assert_eq!(refused.error().unwrap().kind(), ErrorKind::ConnectionRefused);
    });
}

#[cfg(unix)]
#[test]
fn kit_either_end_of_a_unix_pair_is_attached() {
    let mut network = Network::new(0, Faults::all().with_out_of_buffers_permille(0));
    let host = network.host();
    let (one, mut other) = network.unix_pair(host);
    network.context(host).attach(one, Echo).unwrap();
    assert_eq!(network.exchange(&mut other, b"hello", |answer| answer.len() == 5), b"hello");
    // Both, and something that was read before.
    let (one, other) = network.unix_pair(host);
    let got = Rc::new(RefCell::new(Vec::new()));
    network.context(host).attach(switchboard::Detached::with_unread(one, b"hello"), Echo).unwrap();
    network.context(host).attach(other, Client(got.clone())).unwrap();
    network.run_for(10 * SECOND);
    assert_eq!(String::from_utf8_lossy(&got.borrow()), "hello, world");
}

#[cfg(unix)]
#[test]
fn kit_a_unix_listener_that_was_made_elsewhere_keeps_its_path_unless_told_otherwise() {
    use switchboard::UnixAddress;

    let name = UnixAddress::path("/run/echo.sock");
    for unlinks in [false, true] {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        let listener = network.unix_listener(host, &name, 8).unwrap();
        let mut peer = network.unix_peer(host, &name).unwrap();
        assert_eq!(network.unix_listener(host, &name, 8).unwrap_err().kind(), ErrorKind::AddrInUse);
        let id = network.context(host).listen(listener, |_, _| Some(Echo)).unwrap();
        assert_eq!(network.exchange(&mut peer, b"hello", |answer| answer.len() == 5), b"hello");
        if unlinks {
            network.context(host).listener(id).unwrap().set_unlinks(true).unwrap();
        }
        network.context(host).listener(id).unwrap().close();
        let refused = network.unix_peer(host, &name).unwrap_err().kind();
        assert_eq!(refused, if unlinks { ErrorKind::NotFound } else { ErrorKind::ConnectionRefused });
        network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
        network.unix_peer(host, &name).unwrap();
    }
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let unnamed = network.unix_listener(host, &UnixAddress::Unnamed, 8).unwrap_err();
    assert_eq!(unnamed.kind(), ErrorKind::InvalidInput);
}

#[test]
fn kit_a_loop_says_whether_it_is_simulated() {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    assert!(network.event_loop(host).is_simulated() && network.context(host).is_simulated());
    let mut real = EventLoop::new().unwrap();
    assert!(!real.is_simulated() && !real.context().is_simulated());
    // It has no descriptor to lend.
    let mut listener = network.listener_on(host, 7, 8).unwrap();
    let _peer = network.peer(listener.local_addr());
    let accepted = network.accept(&mut listener).unwrap();
    let id = network.context(host).attach(accepted, Echo).unwrap();
    assert!(network.context(host).connection(id).unwrap().socket().is_none());
}
