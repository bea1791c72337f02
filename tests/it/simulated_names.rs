//! The test kit: names on a simulated network.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, HostId, Network};
use switchboard::{Backoff, CloseReason, Connect, ConnectError, Context, Protocol, Reconnect, Transport};

use crate::support::Echo;

const SECOND: Duration = Duration::from_secs(1);

type Notes = Rc<RefCell<Vec<String>>>;

/// Records its callbacks.
struct Client(Notes);

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.borrow_mut().push(format!("made to {}", transport.peer_addr().unwrap()));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.0.borrow_mut().push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(format!("lost: {reason}"));
    }
}

/// A client, and two hosts that echo at port 7 of both their addresses.
fn network(seed: u64) -> (Network, HostId, HostId, HostId) {
    let mut network = Network::new(seed, Faults::none());
    let (client, one, other) = (network.host(), network.host(), network.host());
    for host in [one, other] {
        for address in [network.address(host, 7), network.address_v6(host, 7)] {
            network.context(host).listen(address, |_, _| Some(Echo)).unwrap();
        }
    }
    (network, client, one, other)
}

fn connect(network: &mut Network, host: HostId, to: impl Into<Connect>) -> Notes {
    let notes = Notes::default();
    network.context(host).connect(to, Client(notes.clone())).unwrap();
    notes
}

#[test]
fn kit_a_name_is_answered_when_its_latency_has_passed_with_what_it_means_then() {
    let (mut network, client, one, other) = network(0);
    network.set_name("echo.example", [network.ip(one)]);
    network.name_latency(SECOND, SECOND);
    let notes = connect(&mut network, client, ("Echo.Example", 7));
    network.run_for(SECOND - Duration::from_nanos(1));
    assert!(notes.borrow().is_empty());
    network.set_name("echo.example", [network.ip(other)]);
    network.run_for(Duration::from_nanos(1));
    assert_eq!(*notes.borrow(), [format!("made to {}", network.address(other, 7))]);
    let trace = network.trace();
    let lines = trace.lines().filter(|line| line.to_lowercase().contains("echo.example")).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "0.000000000 the name echo.example now resolves to [10.0.0.2]",
            "0.000000000 host 0 looks Echo.Example up",
            "0.999999999 the name echo.example now resolves to [10.0.0.3]",
            "1.000000000 host 0 resolves echo.example to [10.0.0.3:7]",
        ]
    );
}

#[test]
fn kit_a_name_fails_as_often_as_it_is_told_to_and_when_nobody_knows_it() {
    let (mut network, client, one, _) = network(0);
    network.set_name("echo.example", [network.ip(one)]);
    network.fail_name("ECHO.example", ErrorKind::TimedOut, 2);
    let mut told = Vec::new();
    for _ in 0..3 {
        let notes = connect(&mut network, client, ("echo.example", 7));
        network.run_until_rest();
        told.extend(notes.take());
    }
    network.remove_name("echo.example");
    told.extend({
        let notes = connect(&mut network, client, ("echo.example", 7));
        network.run_until_rest();
        notes.take()
    });
    let failed = "failed: cannot look up the name: timed out".to_owned();
    let made = format!("made to {}", network.address(one, 7));
    let unknown = "failed: cannot look up the name: the simulated network has no such name".to_owned();
    assert_eq!(told, [failed.clone(), failed, made, unknown]);
}

#[test]
fn kit_happy_eyeballs_find_the_family_that_answers_under_a_name() {
    let (mut network, client, hole, server) = network(0);
    network.set_name("dual.example", [network.ip_v6(hole), network.ip_v6(server), network.ip(server)]);
    network.name_latency(SECOND, SECOND);
    network.cut(client, hole);
    let notes = connect(&mut network, client, ("dual.example", 7));
    // The families take turns (rule K3): the second try is that of IPv4, a quarter of a second after the first.
    network.run_for(SECOND + Duration::from_millis(250) - Duration::from_nanos(1));
    assert!(notes.borrow().is_empty());
    network.run_for(Duration::from_nanos(1));
    assert_eq!(*notes.borrow(), [format!("made to {}", network.address(server, 7))]);
    network.run_for(300 * SECOND);
    assert_eq!(network.sockets(), 4 + 2, "the listeners are left, and the connection");
}

#[test]
fn kit_what_reconnects_goes_where_its_name_leads_by_then() {
    let (mut network, client, one, other) = network(0);
    network.set_name("echo.example", [network.ip(one)]);
    let notes = Notes::default();
    let noted = notes.clone();
    let factory = move |_: &mut Context<'_>| Some(Client(noted.clone()));
    Reconnect::new(("echo.example", 7), Backoff::new(SECOND).seed(1), factory).start(&mut network.context(client));
    network.run_for(SECOND);
    network.set_name("echo.example", [network.ip(other)]);
    network.fail_name("echo.example", ErrorKind::TimedOut, 1);
    network.run_for(SECOND);
    network.drop_loop(one);
    network.run_for(10 * SECOND);
    let (old, new) = (network.address(one, 7), network.address(other, 7));
    let failed = "failed: cannot look up the name: timed out".to_owned();
    let expected = [format!("made to {old}"), "lost: closed by the peer".to_owned(), failed, format!("made to {new}")];
    assert_eq!(*notes.borrow(), expected);
}

#[test]
fn kit_a_seed_says_how_long_names_take() {
    let trace = |seed| {
        let (mut network, client, one, _) = network(seed);
        network.set_name("echo.example", [network.ip(one)]);
        network.name_latency(Duration::ZERO, SECOND);
        let notes = connect(&mut network, client, ("echo.example", 7));
        network.run_until(|_| !notes.borrow().is_empty());
        assert!(network.now() <= SECOND);
        network.trace()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
