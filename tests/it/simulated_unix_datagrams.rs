//! The test kit: Unix datagrams, by paths and by abstract names.

use std::cell::RefCell;
use std::io::{Error, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Call, Crash, Faults, HostId, Network, Platform, UnixDatagramPeer, seeds};
use switchboard::{
    Address, CloseReason, Context, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, UnixAddress,
};

use crate::support::pattern;

const SECOND: Duration = Duration::from_secs(1);

fn names() -> [UnixAddress; 2] {
    [UnixAddress::path("/run/server.sock"), UnixAddress::abstract_name("server")]
}

fn path(name: &str) -> UnixAddress {
    UnixAddress::path(format!("/run/{name}.sock"))
}

/// Datagrams and their senders, in order.
type Received = Rc<RefCell<Vec<(Vec<u8>, Address)>>>;

/// What a protocol is told.
#[derive(Clone, Default)]
struct Notes {
    received: Received,
    told: Rc<RefCell<Vec<String>>>,
}

/// Records its callbacks, and answers if it is told to.
struct Noting {
    notes: Notes,
    answers: bool,
}

impl DatagramProtocol for Noting {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.notes.received.borrow_mut().push((data.to_vec(), from.clone()));
        if self.answers {
            transport.send_to(data, from);
        }
    }

    fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        self.notes.told.borrow_mut().push(format!("cut to {} bytes", data.len()));
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        let told = match error {
            DatagramError::Send { error, .. } => format!("cannot send: {:?}", error.kind()),
            DatagramError::Socket(error) => format!("{:?}", error.kind()),
            other => other.to_string(),
        };
        self.notes.told.borrow_mut().push(told);
    }

    fn pause_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.notes.told.borrow_mut().push("pause".into());
    }

    fn resume_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.notes.told.borrow_mut().push("resume".into());
    }

    fn connection_lost(&mut self, _: &mut DatagramTransport<'_>, reason: CloseReason) {
        self.notes.told.borrow_mut().push(reason.to_string());
    }
}

fn bind(network: &mut Network, host: HostId, at: UnixAddress, answers: bool) -> (DatagramId, Notes) {
    let notes = Notes::default();
    let protocol = Noting { notes: notes.clone(), answers };
    (network.context(host).bind_datagram(at, protocol).unwrap(), notes)
}

fn connect(network: &mut Network, host: HostId, to: &UnixAddress) -> (DatagramId, Notes) {
    let notes = Notes::default();
    let protocol = Noting { notes: notes.clone(), answers: false };
    (network.context(host).connect_datagram(to.clone(), protocol).unwrap(), notes)
}

fn send(context: &mut Context<'_>, id: DatagramId, data: &[u8], to: Option<&UnixAddress>) {
    let mut transport = context.datagram(id).unwrap();
    match to {
        Some(to) => transport.send_to(data, &to.clone().into()),
        None => transport.send(data),
    }
}

/// The n-th of a row; lengths vary, and some are empty.
fn numbered(number: usize) -> Vec<u8> {
    let mut data = number.to_string().into_bytes();
    data.extend(pattern(number * 7 % 400));
    if number % 10 == 9 { Vec::new() } else { data }
}

fn receive_all(peer: &mut UnixDatagramPeer) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| peer.receive().unwrap()).map(|(data, _)| data).collect()
}

#[test]
fn kit_unix_datagrams_are_neither_lost_nor_doubled_nor_overtaken_whatever_the_faults() {
    const COUNT: usize = 60;
    for server in names() {
        seeds(|seed| {
            // A kernel that is out of buffers reports each datagram that it does not take to the sender.
            let mut network = Network::new(seed, Faults::fatal().with_out_of_buffers_permille(0));
            let host = network.host();
            let (_, served) = bind(&mut network, host, server.clone(), true);
            let client = path("client");
            let (id, noted) = bind(&mut network, host, client.clone(), false);
            let is_connected = seed % 2 == 0;
            let mut context = network.context(host);
            if is_connected {
                context.datagram(id).unwrap().connect(server.clone()).unwrap();
            }
            for number in 0..COUNT {
                send(&mut context, id, &numbered(number), (!is_connected).then_some(&server));
            }
            network.run_for(60 * SECOND);
            let all = |from: &UnixAddress| -> Vec<_> {
                (0..COUNT).map(|number| (numbered(number), Address::from(from.clone()))).collect()
            };
            assert!(*served.received.borrow() == all(&client), "{}", network.trace());
            assert!(*noted.received.borrow() == all(&server), "{}", network.trace());
            assert_eq!((served.told.take(), noted.told.take()), (vec![], vec![]), "{}", network.trace());
            assert!(network.turns_without_progress_most() < 10, "{}", network.turns_without_progress_most());
        });
    }
}

#[test]
fn kit_a_unix_datagram_that_finds_no_buffers_is_told_of() {
    const COUNT: usize = 500;
    let [server, _] = names();
    let mut network = Network::new(0, Faults::none().with_out_of_buffers_permille(100));
    let host = network.host();
    let (_, served) = bind(&mut network, host, server.clone(), false);
    let (id, noted) = connect(&mut network, host, &server);
    for _ in 0..COUNT {
        send(&mut network.context(host), id, b"x", None);
        network.run_until_rest();
    }
    let (received, told) = (served.received.borrow().len(), noted.told.borrow().len());
    assert!(received > COUNT / 2 && told > COUNT / 50, "{received} of {COUNT}, {told} told");
    assert_eq!(received + told, COUNT, "{:?}", noted.told.borrow());
}

#[test]
fn kit_a_full_unix_receiver_has_its_senders_wait_and_then_takes_all() {
    const COUNT: usize = 1000;
    for (is_connected, platform) in
        [false, true].into_iter().flat_map(|is| [Platform::Linux, Platform::MacOs].map(|on| (is, on)))
    {
        let [server, _] = names();
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        network.set_platform(host, platform);
        let mut peer = network.unix_datagram_peer(host, &server).unwrap();
        let (id, noted) = match is_connected {
            true => connect(&mut network, host, &server),
            false => bind(&mut network, host, UnixAddress::Unnamed, false),
        };
        for number in 0..COUNT as u64 {
            let data = [&number.to_be_bytes()[..], &[7; 96]].concat();
            send(&mut network.context(host), id, &data, (!is_connected).then_some(&server));
        }
        assert!(network.context(host).datagram(id).unwrap().queued_bytes() > 64 * 1024);
        network.run_for(SECOND);
        assert_eq!(*noted.told.borrow(), ["pause"]);
        let mut other = network.unix_datagram_peer(host, &UnixAddress::Unnamed).unwrap();
        let full = other.send(b"too many", Some(&server)).unwrap_err();
        assert_eq!(full.kind() == ErrorKind::WouldBlock, platform == Platform::Linux, "{full}");
        let mut received = receive_all(&mut peer);
        assert_eq!(received.len(), 11, "as many as Linux holds");
        let began = network.now();
        network.run_until(|_| {
            received.extend(receive_all(&mut peer));
            received.len() == COUNT
        });
        let numbers = received.iter().map(|data| u64::from_be_bytes(data[..8].try_into().unwrap()));
        assert!(numbers.eq(0..COUNT as u64));
        // On Linux, an event tells a connected sender of room. Others try again by time.
        let is_told = is_connected && platform == Platform::Linux;
        assert_eq!(network.now() == began, is_told, "it took {:?}", network.now() - began);
        network.run_until_rest();
        assert_eq!(*noted.told.borrow(), ["pause", "resume"]);
    }
}

#[test]
fn kit_a_player_is_told_when_there_is_room_for_a_unix_datagram_again() {
    let [server, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let mut peer = network.unix_datagram_peer(host, &UnixAddress::Unnamed).unwrap();
    let (_, served) = bind(&mut network, host, server.clone(), false);
    let mut sent = 0;
    network.run_until(|_| {
        while sent < 100 {
            match peer.send(b"x", Some(&server)) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return false;
                }
            }
        }
        true
    });
    network.run_until_rest();
    assert_eq!((sent, served.received.borrow().len()), (100, 100));
    assert_eq!(served.received.borrow()[0].1, Address::Unix(UnixAddress::Unnamed), "it has no name");
}

#[test]
fn kit_a_unix_datagram_that_cannot_be_sent_is_told_with_the_error_that_linux_has() {
    let [server, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let (id, noted) = bind(&mut network, host, path("sender"), false);
    let other = network.host();
    let _elsewhere = network.unix_datagram_peer(other, &server).unwrap();
    let told = |network: &mut Network, data: &[u8], to: &UnixAddress| {
        send(&mut network.context(host), id, data, Some(to));
        network.run_until_rest();
        noted.told.take()
    };
    assert_eq!(told(&mut network, b"x", &server), ["cannot send: NotFound"], "names are of one host");
    assert_eq!(told(&mut network, b"x", &UnixAddress::abstract_name("none")), ["cannot send: ConnectionRefused"]);
    assert_eq!(told(&mut network, b"x", &UnixAddress::Unnamed), ["cannot send: InvalidInput"]);
    let mut peer = network.unix_datagram_peer(host, &server).unwrap();
    assert_eq!(told(&mut network, b"heard", &server), [""; 0]);
    assert_eq!(told(&mut network, &[7; 212_961], &server).len(), 1, "longer than the buffer");
    peer.connect(&path("sender")).unwrap();
    let mut third = network.unix_datagram_peer(host, &path("third")).unwrap();
    assert_eq!(third.send(b"x", Some(&server)).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(third.connect(&server).unwrap_err().kind(), ErrorKind::PermissionDenied);
    peer.send(b"to its peer", None).unwrap();
    assert_eq!(told(&mut network, b"from its peer", &server), [""; 0]);
    assert_eq!(receive_all(&mut peer), [&b"heard"[..], b"from its peer"]);
    assert_eq!(noted.received.take(), [(b"to its peer".to_vec(), server.clone().into())]);
    drop(peer);
    assert_eq!(told(&mut network, b"x", &server), ["cannot send: ConnectionRefused"], "its path is left behind");
    let taken = network.unix_datagram_peer(host, &path("sender")).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let (_, served) = bind(&mut network, host, server.clone(), false);
    assert_eq!(told(&mut network, b"x", &server), [""; 0]);
    assert_eq!(served.received.borrow().len(), 1);
}

#[test]
fn kit_a_connected_unix_datagram_socket_is_told_when_its_peer_is_gone() {
    for server in names() {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        let (served, _) = bind(&mut network, host, server.clone(), false);
        let (id, noted) = connect(&mut network, host, &server);
        network.context(host).datagram(served).unwrap().close();
        network.run_until_rest();
        for _ in 0..2 {
            send(&mut network.context(host), id, b"x", None);
            network.run_until_rest();
        }
        assert_eq!(noted.told.take(), ["ConnectionRefused", "cannot send: NotConnected", "cannot send: NotConnected"]);
        // A loop removes its path.
        let kind = network.unix_datagram_peer(host, &path("other")).unwrap().connect(&server).unwrap_err().kind();
        assert_eq!(kind, if server.as_path().is_some() { ErrorKind::NotFound } else { ErrorKind::ConnectionRefused });
        bind(&mut network, host, server.clone(), false);
        network.context(host).datagram(id).unwrap().connect(server.clone()).unwrap();
        send(&mut network.context(host), id, b"x", None);
        network.run_until_rest();
        assert_eq!(noted.told.take(), [""; 0]);
    }
}

#[test]
fn kit_a_unix_datagram_comes_whole_up_to_its_receiver_s_limit_and_is_told_as_cut_beyond() {
    let [server, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let (id, served) = bind(&mut network, host, server.clone(), false);
    let mut peer = network.unix_datagram_peer(host, &path("peer")).unwrap();
    peer.connect(&server).unwrap();
    let longest = pattern(212_960);
    for length in [65_535, 65_536] {
        peer.send(&longest[..length], None).unwrap();
        network.run_until_rest();
    }
    network.context(host).datagram(id).unwrap().set_datagram_bytes_max(300_000);
    peer.send(&longest, None).unwrap();
    network.run_until_rest();
    assert_eq!(served.told.take(), ["cut to 65535 bytes"]);
    let received: Vec<_> = served.received.take().into_iter().map(|(data, _)| data).collect();
    assert!(received == [&longest[..65_535], &longest[..]]);
    assert!(peer.send(&pattern(212_961), None).is_err(), "longer than its buffer");
}

#[test]
fn kit_a_crash_leaves_the_paths_of_unix_datagram_sockets_behind_and_takes_abstract_names_along() {
    for crash in [Crash::Killed, Crash::Reset, Crash::Silent] {
        for server in names() {
            let mut network = Network::new(0, Faults::none());
            let host = network.host();
            bind(&mut network, host, server.clone(), true);
            network.crash(host, crash);
            network.restart(host);
            let mut peer = network.unix_datagram_peer(host, &path("peer")).unwrap();
            assert_eq!(peer.send(b"x", Some(&server)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let (_, served) = bind(&mut network, host, server.clone(), true);
            peer.send(b"again", Some(&server)).unwrap();
            network.run_until_rest();
            assert_eq!(served.received.borrow().len(), 1);
            assert_eq!(peer.receive().unwrap(), Some((b"again".to_vec(), server.clone())));
            drop(peer);
            network.drop_loop(host);
            assert_eq!(network.sockets(), 0);
        }
    }
}

#[test]
fn kit_calls_for_unix_datagrams_fail_on_demand() {
    let [server, _] = names();
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    network.fail_call(host, Call::Bind, 1, ErrorKind::OutOfMemory.into());
    let failed = network.unix_datagram_peer(host, &server).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutOfMemory);
    let (id, served) = bind(&mut network, host, server.clone(), false);
    network.run_until_rest();
    network.fail_call(host, Call::Send, 1, ErrorKind::HostUnreachable.into());
    network.fail_call(host, Call::Receive, 2, Error::other("it is broken"));
    for text in [b"1", b"2"] {
        send(&mut network.context(host), id, text, Some(&server));
    }
    network.run_until_rest();
    // The first send is tried again: its error may be that of an earlier one.
    let received: Vec<_> = served.received.take().into_iter().map(|(data, _)| data).collect();
    assert_eq!(received, [b"1", b"2"]);
    assert_eq!(served.told.take(), ["HostUnreachable", "Other"]);
    network.set_descriptors_max(host, Some(1));
    assert!(network.unix_datagram_peer(host, &path("other")).is_err());
}

#[test]
fn kit_a_seed_tells_the_same_of_unix_datagrams_to_the_byte() {
    let trace = |seed| {
        let [server, _] = names();
        let mut network = Network::new(seed, Faults::all());
        let host = network.host();
        bind(&mut network, host, server.clone(), true);
        let (id, _) = bind(&mut network, host, path("client"), false);
        for number in 0..30 {
            send(&mut network.context(host), id, &numbered(number), Some(&server));
        }
        network.run_for(10 * SECOND);
        network.trace()
    };
    let traces: Vec<_> = (0..4).map(trace).collect();
    assert!(traces == (0..4).map(trace).collect::<Vec<_>>());
    assert!(traces.iter().all(|one| traces.iter().filter(|other| one == *other).count() == 1));
}
