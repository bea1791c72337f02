//! Connecting, on the simulated network.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, HostId, Network, seeds};
use switchboard::{Backoff, CloseReason, Connect, ConnectError, Context, Protocol, Reconnect, Transport};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);

/// What came, with when.
type Notes = Rc<RefCell<Vec<String>>>;

/// Sends something before and after it is established, and shuts down its half; counts what comes back.
struct Client {
    notes: Notes,
    got: Vec<u8>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.notes.borrow_mut().push(format!("made to {}", transport.peer_addr().unwrap()));
        transport.write(&pattern(3000)[1000..]);
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.got.extend_from_slice(data);
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.notes.borrow_mut().push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.notes.borrow_mut().push(format!("lost: {reason}, {} back", self.got.len()));
        // All of it, except for a client that has sent nothing before it was established.
        assert!(pattern(3000).starts_with(&self.got) || pattern(3000).ends_with(&self.got));
    }
}

fn connect(network: &mut Network, host: HostId, to: impl Into<Connect>) -> Notes {
    let notes = Notes::default();
    let client = Client { notes: notes.clone(), got: Vec::new() };
    let mut context = network.context(host);
    let id = context.connect(to, client).unwrap();
    context.connection(id).unwrap().write(&pattern(1000));
    notes
}

/// A network with a server that echoes, and another host.
fn network(seed: u64, faults: Faults) -> (Network, SocketAddr, SocketAddr, HostId) {
    let mut network = Network::new(seed, faults);
    let (server, client) = (network.host(), network.host());
    let (v4, v6) = (network.address(server, 7), network.address_v6(server, 7));
    for address in [v4, v6] {
        network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    }
    (network, v4, v6, client)
}

#[test]
fn k1_and_k6_every_connect_stands_and_loses_no_byte_whatever_the_faults() {
    seeds(|seed| {
        let (mut network, v4, _, client) = network(seed, Faults::all());
        let notes = connect(&mut network, client, v4);
        network.run_until(|_| notes.borrow().len() == 2);
        assert_eq!(*notes.borrow(), [format!("made to {v4}"), "lost: closed by the peer, 3000 back".into()]);
        network.run_until_rest();
        assert_eq!((network.sockets(), network.context(client).connection_count()), (2, 0), "the listeners are left");
        assert!(network.turns_without_progress_most() < 10);
    });
}

#[test]
fn k3_of_several_addresses_one_wins_and_nothing_is_left_of_the_others() {
    seeds(|seed| {
        let faults = Faults::all().with_refused_connects_permille(300);
        let (mut network, v4, v6, client) = network(seed, faults);
        let away = network.host();
        let (hole, nobody) = (network.address(away, 7), network.address(client, 9));
        network.cut(client, away);
        let notes = connect(&mut network, client, vec![hole, v6, nobody, v4]);
        network.run_until(|network| network.context(client).connection_count() == 0);
        let notes = notes.borrow();
        assert!(notes[0].starts_with("made to ") || notes[0].starts_with("failed: connecting took too long: "));
        assert_eq!(notes.len(), if notes[0].starts_with("made") { 2 } else { 1 }, "{notes:?}");
        network.run_for(200 * SECOND);
        assert_eq!(network.sockets(), 2, "the listeners are left: {notes:?}");
        assert_eq!(network.event_loop(client).time_to_next(), None, "no timer is left");
    });
}

#[test]
fn k2_a_cut_link_fails_at_the_deadline_to_the_nanosecond() {
    let (mut network, v4, _, client) = network(0, Faults::none());
    let server = network.host();
    network.cut(client, server);
    let hole = network.address(server, 7);
    let notes = connect(&mut network, client, hole);
    network.run_for(30 * SECOND - Duration::from_nanos(1));
    assert!(notes.borrow().is_empty());
    network.run_for(Duration::from_nanos(1));
    assert_eq!(*notes.borrow(), [format!("failed: connecting took too long: {hole}: timed out")]);
    let notes = connect(&mut network, client, v4);
    network.run_for(SECOND);
    assert_eq!(notes.borrow().len(), 2);
}

#[test]
fn k4_a_simulated_socket_meets_itself_too() {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let itself = network.address(host, 4711);
    let notes = connect(&mut network, host, Connect::to(itself).local_addr(itself));
    network.run_until_rest();
    assert_eq!(
        *notes.borrow(),
        [format!("failed: cannot connect: {itself}: connected to itself: nobody listens there")]
    );
    assert_eq!(network.sockets(), 0);
}

#[test]
fn k7_a_resolver_takes_the_place_of_the_names_of_a_simulated_network() {
    let (mut network, v4, _, client) = network(0, Faults::none());
    let notes = connect(&mut network, client, ("echo.example", 7));
    network.run_until_rest();
    assert_eq!(*notes.borrow(), ["failed: cannot look up the name: the simulated network has no such name"]);
    network.context(client).set_resolver(move |_, _| Ok(vec![v4]));
    let notes = connect(&mut network, client, ("echo.example", 7));
    network.run_until_rest();
    assert_eq!(notes.borrow()[0], format!("made to {v4}"));
}

#[test]
fn k5_reconnecting_to_nobody_for_an_hour_is_no_storm() {
    let mut network = Network::new(0, Faults::none());
    let (host, away) = (network.host(), network.host());
    let address = network.address(away, 7);
    let notes = Notes::default();
    let noted = notes.clone();
    let factory = move |_: &mut Context<'_>| Some(Client { notes: noted.clone(), got: Vec::new() });
    Reconnect::new(address, Backoff::new(SECOND).seed(1), factory).start(&mut network.context(host));
    network.run_for(3600 * SECOND);
    let tries = notes.borrow().len();
    assert!((60..90).contains(&tries), "{tries}");
    network.context(away).listen(address, |_, _| Some(Echo)).unwrap();
    network.run_for(60 * SECOND);
    assert!(notes.borrow()[tries..].iter().any(|note| note.starts_with("made to ")), "within the longest delay");
}
