//! The test kit: Unix streams, by paths and by abstract names.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Crash, Fate, Faults, HostId, Network, seeds};
use switchboard::{Address, Backoff, CloseReason, Listen, Protocol, Reconnect, Timeout, Transport, UnixAddress};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);

fn names() -> [UnixAddress; 2] {
    [UnixAddress::path("/run/echo.sock"), UnixAddress::abstract_name("echo")]
}

fn served(seed: u64, faults: Faults, name: &UnixAddress) -> (Network, HostId) {
    let mut network = Network::new(seed, faults);
    let host = network.host();
    network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
    (network, host)
}

/// Sends something when it is made, and shuts down its half; records its callbacks.
struct Client {
    sends: Vec<u8>,
    noted: Rc<RefCell<Vec<String>>>,
    got: Rc<RefCell<Vec<u8>>>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.noted.borrow_mut().push(format!("made with {}", transport.peer_addr().unwrap()));
        transport.write(&self.sends);
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.got.borrow_mut().extend_from_slice(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.noted.borrow_mut().push(format!("lost: {reason}"));
    }
}

fn client(length: usize) -> Client {
    Client { sends: pattern(length), noted: Rc::default(), got: Rc::default() }
}

#[test]
fn kit_an_echo_over_a_unix_stream_loses_nothing_whatever_the_faults() {
    for name in names() {
        seeds(|seed| {
            let length = (seed as usize * 97) % 20_000;
            let (mut network, host) = served(seed, Faults::fatal(), &name);
            let client = client(length);
            let (noted, got) = (client.noted.clone(), client.got.clone());
            network.context(host).connect(name.clone(), client).unwrap();
            network.run_for(600 * SECOND);
            // Nothing is between the two, so no reset comes from there.
            let expected = [format!("made with {name}"), "lost: closed by the peer".to_owned()];
            assert_eq!(*noted.borrow(), expected, "{}", network.trace());
            assert!(*got.borrow() == pattern(length), "{} of {length} bytes came back", got.borrow().len());
            assert!(network.unread().is_empty());
            assert_eq!(network.sockets(), 1, "only the listener is left");
            assert!(network.turns_without_progress_most() < 10, "{}", network.turns_without_progress_most());
        });
    }
}

#[test]
fn kit_a_unix_peer_is_played_by_hand() {
    let [name, _] = names();
    let (mut network, host) = served(0, Faults::none(), &name);
    let mut peer = network.unix_peer(host, &name).unwrap();
    let bytes = pattern(1_000_000);
    peer.queue(&bytes);
    let mut got = Vec::new();
    network.run_until(|_| {
        got.extend(peer.read());
        got.len() == bytes.len()
    });
    assert!(got == bytes);
    peer.end();
    network.run_until_rest();
    peer.read();
    assert!(peer.saw_end() && peer.error().is_none());
}

#[test]
fn kit_names_are_a_host_s_own_and_are_free_again_when_their_listener_is_closed() {
    for (name, error) in names().into_iter().zip([ErrorKind::NotFound, ErrorKind::ConnectionRefused]) {
        let mut network = Network::new(0, Faults::none());
        let (host, other) = (network.host(), network.host());
        let id = network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
        assert_eq!(network.unix_peer(other, &name).unwrap_err().kind(), error);
        let taken = network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        network.context(other).listen(name.clone(), |_, _| Some(Echo)).unwrap();
        let address = network.context(host).listener(id).unwrap().local_addr().unwrap();
        assert_eq!(address, Address::Unix(name.clone()));
        network.context(host).listener(id).unwrap().close();
        assert_eq!(network.unix_peer(host, &name).unwrap_err().kind(), error);
        network.context(host).listen(Listen::at(name.clone()), |_, _| Some(Echo)).unwrap();
        network.unix_peer(host, &name).unwrap();
    }
}

/// Consumes nothing, and is ended by a timeout.
struct Deaf;

impl Protocol for Deaf {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.pause_reading();
        transport.set_timeout(Timeout::Total, Some(SECOND));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, _: Timeout) {
        transport.abort();
    }
}

#[test]
fn kit_a_unix_stream_that_is_closed_with_input_unread_tells_of_a_reset_and_a_full_backlog_refuses() {
    let [name, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let listen = Listen::at(name.clone()).backlog(1);
    network.context(host).listen(listen, |_, _| Some(Deaf)).unwrap();
    // One more than the backlog says; the loop has not accepted yet.
    let mut peers: Vec<_> = (0..2).map(|_| network.unix_peer(host, &name).unwrap()).collect();
    assert_eq!(network.unix_peer(host, &name).unwrap_err().kind(), ErrorKind::WouldBlock);
    network.run_until_rest();
    peers.push(network.unix_peer(host, &name).unwrap());
    peers[0].queue(b"hello");
    network.run_for(2 * SECOND);
    for peer in &mut peers {
        peer.read();
    }
    assert_eq!(peers[0].error().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
    assert!(peers[1].error().is_none() && peers[1].saw_end());
}

#[test]
fn kit_a_connect_to_a_name_that_nobody_has_fails_and_is_tried_again() {
    let [name, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let failed = network.context(host).connect(name.clone(), Echo).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    let made = Rc::new(RefCell::new(0));
    let count = made.clone();
    let reconnect = Reconnect::new(name.clone(), Backoff::new(SECOND), move |_| {
        *count.borrow_mut() += 1;
        Some(Echo)
    });
    reconnect.start(&mut network.context(host));
    network.run_for(5 * SECOND);
    assert_eq!(network.context(host).connection_count(), 0);
    network.context(host).listen(name, |_, _| Some(Echo)).unwrap();
    network.run_for(60 * SECOND);
    assert_eq!(network.context(host).connection_count(), 2);
    assert!(*made.borrow() > 1);
}

#[test]
fn kit_a_crash_leaves_paths_behind_and_rules_and_captures_see_nothing_of_unix_streams() {
    let [name, _] = names();
    for crash in [Crash::Killed, Crash::Reset, Crash::Silent] {
        let (mut network, host) = served(0, Faults::none(), &name);
        network.begin_capture();
        network.add_rule("drops all", |_| Some(Fate::Drop));
        let mut peer = network.unix_peer(host, &name).unwrap();
        peer.queue(b"hello");
        network.run_until_rest();
        assert_eq!(peer.read(), b"hello");
        assert_eq!(network.captured().len(), 24, "the header of the file alone");
        drop(peer);
        network.crash(host, crash);
        network.restart(host);
        // As on a real system: its path remains, and nobody listens there.
        assert_eq!(network.unix_peer(host, &name).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
        let mut peer = network.unix_peer(host, &name).unwrap();
        peer.queue(b"again");
        network.run_until_rest();
        assert_eq!(peer.read(), b"again");
    }
}
