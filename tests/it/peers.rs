//! The test kit: peers that the test controls have the same effect on a loop as real ones.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, Network, Peer, seeds};
use switchboard::{Address, CloseReason, DatagramError, DatagramProtocol, DatagramTransport, Protocol, Transport};

use crate::support::{Echo, Ends, NotingEnd, pattern};

/// Notes its callbacks, and answers each input with its length.
struct Noting(Rc<RefCell<Vec<String>>>);

impl Noting {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }
}

impl Protocol for Noting {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.note(String::from_utf8_lossy(data));
        transport.write(data.len().to_string().as_bytes());
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.note("eof");
        transport.close();
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.note(reason.to_string());
    }
}

fn noted() -> (Network, Peer, Rc<RefCell<Vec<String>>>) {
    let mut network = Network::new(0, Faults::none());
    let server = network.host();
    let address = network.address(server, 7);
    let notes = Rc::<RefCell<Vec<String>>>::default();
    let of_protocol = notes.clone();
    let mut context = network.context(server);
    context.listen(address, move |_, _| Some(Noting(of_protocol.clone()))).unwrap();
    let peer = network.peer(address);
    network.run_until_rest();
    (network, peer, notes)
}

#[test]
fn a_peer_sends_ends_and_reads() {
    let (mut network, mut peer, notes) = noted();
    assert!(peer.is_connected());
    peer.send(b"hello");
    peer.end();
    network.run_until_rest();
    assert_eq!(notes.take(), ["hello", "eof", "closed by the peer"]);
    assert_eq!((peer.read(), peer.saw_end()), (b"5".to_vec(), true));
}

#[test]
fn a_peer_resets_behind_what_it_sent() {
    let (mut network, mut peer, notes) = noted();
    peer.send(b"hello");
    peer.reset();
    network.run_until_rest();
    assert_eq!(notes.take(), ["hello", "reset by the peer"]);
}

#[test]
fn a_peer_that_closes_on_unread_input_resets() {
    let (mut network, mut peer, notes) = noted();
    peer.send(b"hello");
    network.run_until_rest();
    peer.close();
    network.run_until_rest();
    assert_eq!(notes.take(), ["hello", "reset by the peer"]);
}

#[test]
fn a_peers_urgent_byte_is_read_in_line() {
    let (mut network, mut peer, notes) = noted();
    peer.send(b"be");
    peer.send_urgent(b'!');
    peer.send(b"hind");
    network.run_until_rest();
    assert_eq!(notes.take(), ["be", "!hind"]);
}

#[test]
fn r6_a_peers_urgent_byte_is_read_though_each_first_read_of_it_would_block() {
    let (mut network, mut peer, notes) = noted();
    network.set_faults(Faults::none().with_urgent_would_blocks_permille(1000));
    for byte in b"!?" {
        peer.send_urgent(*byte);
        network.run_until_rest();
    }
    assert_eq!(notes.take(), ["!", "?"]);
    assert_eq!(network.trace().matches("would block at an urgent byte").count(), 2);
    assert!(network.unread().is_empty());
    assert!(network.turns_without_progress_most() < 5);
}

#[test]
fn a_stalled_peer_takes_no_more_until_it_goes_on() {
    let mut network = Network::new(0, Faults::none());
    let server = network.host();
    let address = network.address(server, 7);
    network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    let mut peer = network.peer(address);
    network.run_until_rest();
    peer.stall();
    peer.send(&pattern(1000));
    network.run_until_rest();
    assert_eq!(peer.read(), b"");
    peer.unstall();
    network.run_until_rest();
    assert!(peer.read() == pattern(1000));
}

#[test]
fn a_stalled_peer_that_closes_leaves_nothing_behind() {
    let (mut network, mut peer, notes) = noted();
    peer.stall();
    peer.send(b"hello");
    network.run_until_rest();
    peer.close();
    network.run_until_rest();
    assert_eq!(notes.take(), ["hello", "eof", "closed by the peer"]);
    assert_eq!(network.sockets(), 1, "the listener; the answer was answered by a reset");
}

#[test]
fn a1_every_class_of_accept_errors_on_demand() {
    let fails = |error: io::Error| {
        let mut network = Network::new(0, Faults::none());
        let server = network.host();
        let address = network.address(server, 7);
        let listener = network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
        network.fail_accept(address, error).unwrap();
        let mut peer = network.peer(address);
        peer.send(b"x");
        network.run_for(Duration::from_secs(1));
        let lives = network.context(server).listener(listener).is_some();
        (network.context(server).counters().accept_errors, lives, peer.read() == b"x")
    };
    assert_eq!(fails(io::ErrorKind::ConnectionAborted.into()), (1, true, true));
    assert_eq!(fails(io::Error::other("who knows")), (1, true, true));
    #[cfg(unix)]
    {
        let raw = io::Error::from_raw_os_error;
        assert_eq!(fails(raw(24)), (1, true, true), "EMFILE");
        assert_eq!(fails(raw(22)), (1, false, false), "EINVAL");
    }
}

#[test]
fn a_listener_of_peers_serves_the_clients_of_loops() {
    let mut network = Network::new(0, Faults::none());
    let client = network.host();
    let mut listener = network.peer_listener(0, 8).unwrap();
    let ends = Ends::default();
    network.connect(client, listener.local_addr(), NotingEnd { inner: Echo, ends: ends.clone() });
    network.run_until_rest();
    let mut peer = listener.accept().unwrap();
    assert!(listener.accept().is_none());
    peer.send(b"hello");
    network.run_until_rest();
    assert_eq!(peer.read(), b"hello");
    drop(peer);
    network.run_until_rest();
    assert_eq!(ends.take(), ["closed by the peer"]);
}

#[test]
fn dropping_a_loop_ends_its_connections_for_the_other_side_too() {
    let (mut network, mut peer, notes) = noted();
    let server = network.unread().first().map(|unread| unread.host);
    assert_eq!(server, None);
    let first = network.host();
    assert_eq!(network.address(first, 1).to_string(), "10.0.0.3:1", "behind the server and where peers are");
    drop(network);
    assert_eq!(notes.take(), ["the loop was shut down"]);
    assert!(peer.read().is_empty() && peer.saw_end());
}

#[test]
fn datagrams_are_lost_doubled_and_come_out_of_order() {
    let (mut lost, mut doubled, mut reordered) = (false, false, false);
    seeds(|seed| {
        let faults = Faults::none().with_lost_datagrams_permille(200).with_doubled_datagrams_permille(200);
        let mut network = Network::new(seed, faults.with_latency_max(Duration::from_secs(1)));
        let mut from = network.datagram_peer(0).unwrap();
        let mut to = network.datagram_peer(0).unwrap();
        for number in 0..10 {
            from.send(&[number], Some(to.local_addr())).unwrap();
        }
        from.send(b"", Some(to.local_addr())).unwrap();
        network.run_for(Duration::from_secs(2));
        let mut got = Vec::new();
        while let Some((bytes, sender)) = to.receive().unwrap() {
            assert_eq!(sender, from.local_addr());
            got.push(bytes);
        }
        lost |= (0..10).any(|number| !got.contains(&vec![number]));
        doubled |= got.iter().filter(|&bytes| *bytes == [3]).count() == 2;
        reordered |= !got.is_sorted();
    });
    assert!(lost && doubled && reordered);
}

#[test]
fn a_kernel_out_of_buffers_takes_nothing_and_is_no_end() {
    let faults = Faults::none();
    let mut network = Network::new(0, faults.clone());
    let server = network.host();
    let address = network.address(server, 7);
    network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    let mut peer = network.peer(address);
    network.run_until_rest();
    network.set_faults(faults.clone().with_out_of_buffers_permille(1000));
    assert_eq!(peer.send(b"later"), 0);
    assert!(peer.error().is_none());
    network.set_faults(faults);
    assert_eq!(peer.send(b"later"), 5);
    network.run_until_rest();
    assert_eq!((peer.read(), peer.error().is_none()), (b"later".to_vec(), true));
}

#[test]
fn u1_a_receive_that_fails_on_demand_is_told_and_the_datagram_behind_it_comes() {
    struct Notes(Rc<RefCell<Vec<String>>>);

    impl DatagramProtocol for Notes {
        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
            self.0.borrow_mut().push(String::from_utf8_lossy(data).into());
        }

        fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
            self.0.borrow_mut().push(error.to_string());
        }
    }

    let mut network = Network::new(0, Faults::none());
    let server = network.host();
    let (notes, address) = (Rc::<RefCell<Vec<String>>>::default(), network.address(server, 7));
    network.context(server).bind_datagram(address, Notes(notes.clone())).unwrap();
    let mut peer = network.datagram_peer(0).unwrap();
    network.fail_receive(address, io::ErrorKind::ConnectionRefused.into()).unwrap();
    network.run_until_rest();
    assert_eq!(notes.take(), ["socket error: connection refused"]);
    network.fail_receive(address, io::ErrorKind::ConnectionRefused.into()).unwrap();
    peer.send(b"behind it", Some(address)).unwrap();
    network.run_until_rest();
    assert_eq!(notes.borrow().len(), 2);
    assert!(notes.borrow().contains(&"behind it".into()));
    let nobody = network.address(server, 8);
    let error = network.fail_receive(nobody, io::ErrorKind::ConnectionRefused.into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}

/// A sink of a host's, and how much has come to it.
fn sink(network: &mut Network) -> (SocketAddr, Rc<Cell<usize>>) {
    struct Sink(Rc<Cell<usize>>);

    impl Protocol for Sink {
        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            self.0.set(self.0.get() + data.len());
            data.len()
        }
    }

    let server = network.host();
    let (address, count) = (network.address(server, 7), Rc::new(Cell::new(0)));
    let of_protocol = count.clone();
    let mut context = network.context(server);
    context.listen(address, move |_, _| Some(Sink(of_protocol.clone()))).unwrap();
    // Nothing has to be waited for here.
    context.call_later(Duration::from_secs(3000), |_| {});
    (address, count)
}

#[test]
fn kit_what_a_peers_kernel_holds_back_comes_back_and_is_a_step() {
    let at_once = Faults::all().with_latency_max(Duration::ZERO);
    let small = Faults::none().with_buffer_bytes_min(7).with_buffer_bytes_max(7);
    seeds(|seed| {
        for faults in [Faults::all(), at_once.clone(), small.clone()] {
            let mut network = Network::new(seed, faults.clone());
            let (address, count) = sink(&mut network);
            let mut peer = network.peer(address);
            let data = pattern(1000);
            let mut unsent = &data[..];
            let done = network.run_until(|_| {
                unsent = &unsent[peer.send(unsent)..];
                count.get() == 1000
            });
            assert!(done, "{} of 1000 bytes have come, {} are unsent: {faults:?}", count.get(), unsent.len());
            let now = network.now();
            assert!(now < Duration::from_secs(60), "it was waited for until {now:?}: {faults:?}");
        }
    });
}

#[test]
fn kit_what_is_queued_at_a_peer_goes_out_as_its_kernel_takes_it() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let (address, count) = sink(&mut network);
        let mut peer = network.peer(address);
        // Before it is connected, too.
        peer.queue(&pattern(1000));
        peer.queue(b"behind");
        // With some seeds it is connected by now, within these calls.
        assert!(peer.queued() == 1006 || peer.is_connected());
        if peer.queued() > 0 {
            assert_eq!(peer.send(b"not in front of it"), 0);
            assert!(!peer.send_urgent(b'!'));
        }
        assert!(network.run_until(|_| count.get() == 1006), "{} bytes have come", count.get());
        assert!(network.now() < Duration::from_secs(60), "it was waited for until {:?}", network.now());
        assert_eq!((peer.queued(), peer.error().is_none()), (0, true));
    });
}

#[test]
fn kit_a_peers_end_comes_behind_what_is_queued() {
    let (mut network, mut peer, notes) = noted();
    network.set_faults(Faults::none().with_out_of_buffers_permille(1000));
    peer.queue(b"all");
    peer.end();
    peer.queue(b"nothing more");
    network.run_for(Duration::from_millis(100));
    assert_eq!((notes.take(), peer.queued()), (vec![], 3));
    network.set_faults(Faults::none());
    // There is room by now.
    assert_eq!((peer.send(b"not in front of it"), peer.send_urgent(b'!')), (0, false));
    assert!(network.run_until(|_| peer.saw_end() || !peer.read().is_empty() && peer.queued() == 0));
    network.run_until_rest();
    assert_eq!(notes.take(), ["all", "eof", "closed by the peer"]);
}

#[test]
fn kit_what_is_queued_at_a_peer_is_dropped_by_its_close_and_by_a_reset() {
    let (mut network, mut peer, notes) = noted();
    network.set_faults(Faults::none().with_out_of_buffers_permille(1000));
    peer.queue(b"never");
    peer.close();
    network.set_faults(Faults::none());
    network.run_for(Duration::from_secs(1));
    assert_eq!(notes.take(), ["eof", "closed by the peer"]);
    let (mut network, mut peer, _) = noted();
    let server = network.host();
    let nobody = network.address(server, 8);
    let mut refused = network.peer(nobody);
    refused.queue(b"to nobody");
    peer.stall();
    network.run_until_rest();
    assert_eq!((refused.queued(), refused.error().map(io::Error::kind)), (0, Some(io::ErrorKind::ConnectionRefused)));
}

#[test]
fn kit_what_comes_to_a_peer_within_a_look_at_it_is_looked_at() {
    struct Aborts;

    impl Protocol for Aborts {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.abort();
            data.len()
        }
    }

    let mut network = Network::new(0, Faults::none());
    let server = network.host();
    let address = network.address(server, 7);
    network.context(server).listen(address, |_, _| Some(Aborts)).unwrap();
    let mut peer = network.peer(address);
    network.run_until_rest();
    network.set_faults(Faults::none().with_latency_max(Duration::from_secs(1)).with_early_packets_permille(1000));
    peer.queue(b"hello");
    // The reset is the last packet in flight, and arrives with this very call.
    let mut failed = false;
    assert!(network.run_until(|_| std::mem::replace(&mut failed, peer.error().is_some())));
}

#[test]
fn kit_a_peer_that_reads_little_at_a_time_reads_on() {
    let (mut network, mut peer, _) = noted();
    for _ in 0..20 {
        peer.send(b"x");
        network.run_until_rest();
    }
    let mut count = 0;
    assert!(network.run_until(|_| {
        count += peer.read_up_to(3).len();
        count == 20
    }));
    assert_eq!(network.now(), Duration::ZERO);
}
