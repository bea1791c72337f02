//! Hosts that run systems other than Linux, with the behaviour that caused trouble there.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, HostId, Network, Platform};
use switchboard::{CloseReason, ConnectError, Protocol, Transport};
#[cfg(unix)]
use switchboard::{Listen, UnixAddress};

use crate::support::Echo;

const SECOND: Duration = Duration::from_secs(1);
const PLATFORMS: [Platform; 4] = [Platform::Linux, Platform::MacOs, Platform::Bsd, Platform::Windows];

type Notes = Rc<RefCell<Vec<String>>>;

/// Records its callbacks, and stays half-open after its peer's end.
#[derive(Clone, Default)]
struct Noted(Notes);

impl Noted {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

impl Protocol for Noted {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.note(format!("made with {}", transport.peer_addr().unwrap()));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.note(String::from_utf8_lossy(data));
        data.len()
    }

    fn eof_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
        self.note("end");
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.note(format!("lost: {reason}"));
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.note(format!("failed: {error}"));
    }
}

fn network_on(platform: Platform) -> (Network, HostId) {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    network.set_platform(host, platform);
    (network, host)
}

#[test]
fn a1_peers_that_reset_before_they_are_accepted_put_nothing_off_where_they_have_no_address_then() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let address = network.address(host, 7);
        let told = Noted::default();
        let noted = told.clone();
        let id = network.context(host).listen(address, |_, _| Some(Echo)).unwrap();
        network.context(host).listener(id).unwrap().on_error(move |_, _, error| noted.note(error.to_string()));
        // More than a turn accepts, so that there are batches of nothing else; one has another error among them.
        let gone: Vec<_> = (0..128).map(|_| network.peer(address)).collect();
        gone.into_iter().for_each(|peer| peer.reset());
        network.fail_accept(address, ErrorKind::ConnectionAborted.into()).unwrap();
        let mut peer = network.peer(address);
        assert_eq!(network.exchange(&mut peer, b"ping", |answer| answer.len() == 4), b"ping", "{platform:?}");
        assert_eq!((told.take(), network.now()), (vec![], Duration::ZERO), "{platform:?}");
        let counters = network.context(host).counters();
        let without_address = if platform == Platform::MacOs { 128 } else { 0 };
        assert_eq!((counters.accept_errors, counters.accepts), (1 + without_address, 129 - without_address));
    }
}

#[cfg(unix)]
#[test]
fn h3_a_half_open_protocol_hears_on_every_system_that_its_unix_peer_has_closed() {
    for platform in PLATFORMS {
        for (writes, is_apart) in [(&b""[..], false), (b"", true), (b"an answer", false)] {
            let (mut network, host) = network_on(platform);
            let (told, name) = (Noted::default(), UnixAddress::path("/run/half"));
            let noted = told.clone();
            network.context(host).listen(name.clone(), move |_, _| Some(noted.clone())).unwrap();
            let mut peer = network.unix_peer(host, &name).unwrap();
            peer.queue(b"question");
            if is_apart {
                network.run_until_rest();
            }
            peer.end();
            network.run_until_rest();
            assert_eq!(told.take(), ["made with unix:(unnamed)", "question", "end"], "{platform:?}");
            // What it sends meanwhile must not stop its events again.
            let ids = network.context(host).connection_ids();
            network.context(host).connection(ids[0]).unwrap().write(writes);
            network.run_until_rest();
            assert_eq!(peer.read(), writes);
            assert_eq!(told.take(), [""; 0], "{platform:?}");
            peer.close();
            network.run_until_rest();
            assert_eq!(told.take(), ["lost: closed by the peer"], "{platform:?}");
        }
    }
}

/// A server that greets and is gone before its client has looked.
#[cfg(unix)]
struct Greeter;

#[cfg(unix)]
impl Protocol for Greeter {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b"at once");
        transport.close();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[cfg(unix)]
#[test]
fn k1_the_greeting_of_a_unix_server_that_closes_at_once_is_not_lost() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let (told, name) = (Noted::default(), UnixAddress::path("/run/greeter"));
        network.context(host).listen(name.clone(), |_, _| Some(Greeter)).unwrap();
        network.context(host).connect(name.clone(), told.clone()).unwrap();
        // The listener's event comes first, so the server is done before the attempt is looked at.
        network.run_for(SECOND);
        let mut expected = vec![format!("made with {name}"), "at once".to_owned(), "end".to_owned()];
        expected.push("lost: closed by the peer".to_owned());
        assert_eq!(told.take(), expected, "{platform:?}\n{}", network.trace());
    }
}

#[test]
fn k1_a_connect_that_is_refused_says_so_on_every_system() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let (told, other) = (Noted::default(), network.host());
        let nobody = network.address(other, 9);
        network.context(host).connect(nobody, told.clone()).unwrap();
        network.run_for(SECOND);
        let told = told.take();
        assert!(told.len() == 1 && told[0].contains("refused"), "{platform:?}: {told:?}");
    }
}

/// Writes to its peer, and again with each event.
struct Talker(Noted);

impl Protocol for Talker {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.pause_reading();
        transport.write(b"an answer");
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.note(match reason {
            CloseReason::Reset => "reset".to_owned(),
            other => format!("{other:?}"),
        });
    }
}

#[test]
fn w1_a_send_to_a_connection_that_is_going_down_is_told_as_a_reset() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let (told, address) = (Noted::default(), network.address(host, 7));
        let noted = told.clone();
        network.context(host).listen(address, move |_, _| Some(Talker(noted.clone()))).unwrap();
        let mut peer = network.peer(address);
        peer.send(b"question");
        network.run_until_rest();
        assert_eq!(peer.read(), b"an answer");
        let ids = network.context(host).connection_ids();
        peer.reset();
        network.context(host).connection(ids[0]).unwrap().write(b"too late");
        network.run_until_rest();
        assert_eq!(told.take(), ["reset"], "{platform:?}");
    }
}

#[cfg(unix)]
#[test]
fn n1_an_abstract_name_is_an_error_that_says_so_where_there_are_none() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let name = UnixAddress::abstract_name("echo");
        let listens = network.context(host).listen(name.clone(), |_, _| Some(Echo)).map(|_| ());
        let connects = network.context(host).connect(name, Noted::default()).map(|_| ());
        for result in [listens, connects] {
            match platform {
                Platform::Linux => result.unwrap(),
                _ => {
                    let error = result.unwrap_err();
                    assert!(
                        error.kind() == ErrorKind::Unsupported && error.to_string().contains("abstract"),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn n1_a_full_backlog_of_a_unix_socket_refuses_on_bsd_and_would_block_on_linux() {
    for platform in PLATFORMS {
        let (mut network, host) = network_on(platform);
        let name = UnixAddress::path("/run/busy");
        network.context(host).listen(Listen::at(name.clone()).backlog(1), |_, _| Some(Echo)).unwrap();
        let _waiting: Vec<_> = (0..2).map(|_| network.unix_peer(host, &name).unwrap()).collect();
        let expected = match platform {
            Platform::MacOs | Platform::Bsd => ErrorKind::ConnectionRefused,
            _ => ErrorKind::WouldBlock,
        };
        assert_eq!(network.unix_peer(host, &name).unwrap_err().kind(), expected, "{platform:?}");
    }
}

/// Sends something when it is made, and shuts down its half; keeps its input.
#[cfg(unix)]
struct Client {
    sends: Vec<u8>,
    got: Rc<RefCell<Vec<u8>>>,
    told: Noted,
}

#[cfg(unix)]
impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&self.sends);
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.got.borrow_mut().extend_from_slice(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.told.note(format!("lost: {reason}"));
    }
}

#[cfg(unix)]
#[test]
fn kit_an_echo_over_a_unix_stream_loses_nothing_on_any_system() {
    switchboard::testing::seeds(|seed| {
        let mut network = Network::new(seed, Faults::fatal());
        let (host, name) = (network.host(), UnixAddress::path("/run/echo"));
        network.set_platform(host, PLATFORMS[seed as usize % PLATFORMS.len()]);
        network.context(host).listen(name.clone(), |_, _| Some(Echo)).unwrap();
        let bytes = crate::support::pattern((seed as usize * 97) % 20_000);
        let (got, told) = (Rc::default(), Noted::default());
        let client = Client { sends: bytes.clone(), got: Rc::clone(&got), told: told.clone() };
        network.context(host).connect(name, client).unwrap();
        network.run_for(600 * SECOND);
        assert_eq!(told.take(), ["lost: closed by the peer"], "{}", network.trace());
        assert!(*got.borrow() == bytes, "{} of {} bytes came back", got.borrow().len(), bytes.len());
        assert_eq!((network.sockets(), network.unread().is_empty()), (1, true), "only the listener is left");
        assert!(network.turns_without_progress_most() < 10, "{}", network.turns_without_progress_most());
    });
}
