//! The test kit: senders whose peer has no room or cannot be reached, what they send again, and when they give up.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Crash, Fate, Faults, HostId, Network, Packet, PacketKind, Peer};
use switchboard::{CloseReason, Protocol, Transport};

use crate::support::pattern;

const SECOND: Duration = Duration::from_secs(1);

/// Longer than any sender waits for an answer.
const FOR_EVER: Duration = Duration::from_secs(5_000);

type Losses = Rc<RefCell<Vec<String>>>;

/// Records why its connection was lost, and reads only if it is told to.
struct Server {
    losses: Losses,
    reads: bool,
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        if !self.reads {
            transport.pause_reading();
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.losses.borrow_mut().push(match reason {
            CloseReason::Reset => "reset".to_owned(),
            CloseReason::Io(error) => format!("{:?}", error.kind()),
            other => other.to_string(),
        });
    }
}

struct Served {
    network: Network,
    server: HostId,
    outside: HostId,
    address: SocketAddr,
    peer: Peer,
    losses: Losses,
}

fn served(reads: bool) -> Served {
    served_with(5, reads)
}

fn served_with(seed: u64, reads: bool) -> Served {
    let mut network = Network::new(seed, Faults::none());
    let server = network.host();
    let address = network.address(server, 7);
    let losses = Losses::default();
    let noted = losses.clone();
    network.context(server).listen(address, move |_, _| Some(Server { losses: noted.clone(), reads })).unwrap();
    let peer = network.peer(address);
    network.run_until_rest();
    let outside = network.outside();
    Served { network, server, outside, address, peer, losses }
}

impl Served {
    fn write(&mut self, bytes: &[u8]) {
        let id = self.network.context(self.server).connection_ids()[0];
        self.network.context(self.server).connection(id).unwrap().write(bytes);
        self.network.run_for(Duration::from_millis(1));
    }

    fn losses(&self) -> Vec<String> {
        self.losses.borrow().clone()
    }
}

#[test]
fn kit_a_sender_without_room_gives_up_on_a_link_that_is_cut() {
    for cut in [Network::cut, Network::cut_one_way, |network: &mut Network, one, other| network.cut_one_way(other, one)]
    {
        for is_cut_first in [false, true] {
            let mut served = served(true);
            served.peer.stall();
            if is_cut_first {
                cut(&mut served.network, served.server, served.outside);
            }
            served.write(b"hello");
            if !is_cut_first {
                // For the second time: it had an answer in between.
                cut(&mut served.network, served.server, served.outside);
                served.network.run_for(100 * SECOND);
                served.network.heal(served.server, served.outside);
                served.network.run_for(10 * SECOND);
                cut(&mut served.network, served.server, served.outside);
            }
            served.network.run_for(923 * SECOND);
            assert!(served.losses().is_empty(), "{}", served.network.trace());
            served.network.run_for(2 * SECOND);
            assert_eq!(served.losses(), ["TimedOut"], "{}", served.network.trace());
        }
    }
}

#[test]
fn kit_a_sender_without_room_goes_on_once_its_link_is_healed() {
    let mut served = served(true);
    let sent = pattern(100_000);
    served.peer.stall();
    served.write(&sent);
    for _ in 0..3 {
        served.network.cut(served.server, served.outside);
        served.network.run_for(500 * SECOND);
        served.network.heal(served.server, served.outside);
        served.network.run_for(500 * SECOND);
    }
    served.network.run_for(FOR_EVER);
    assert_eq!(served.peer.read(), b"", "its window is still closed");
    served.peer.unstall();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        served.network.run_for(SECOND);
        received.extend(served.peer.read());
    }
    assert!(received == sent && served.losses().is_empty());
}

#[test]
fn kit_a_sender_without_room_is_reset_once_it_reaches_a_peer_that_gave_up() {
    // On a link that is healed only then, and on one that has lost what the peer sent, but nothing else.
    for is_cut in [true, false] {
        let mut served = served(true);
        served.peer.stall();
        let from = served.peer.local_addr();
        let rule =
            move |packet: &Packet<'_>| (packet.from == from && packet.kind == PacketKind::Data).then_some(Fate::Drop);
        match is_cut {
            true => served.network.cut(served.server, served.outside),
            false => drop(served.network.add_rule("the peer's data is lost", rule)),
        }
        served.peer.queue(b"anybody?");
        served.network.run_for(10 * SECOND);
        served.write(b"hello");
        while served.peer.error().is_none() {
            served.network.run_for(SECOND);
        }
        assert!(served.losses().is_empty() || !is_cut);
        if is_cut {
            served.network.heal(served.server, served.outside);
        }
        served.network.run_for(5 * SECOND);
        assert_eq!(served.losses(), ["reset"], "{}", served.network.trace());
    }
}

#[test]
fn kit_a_sender_without_room_gives_up_on_a_host_that_is_dark() {
    for is_restarted in [false, true] {
        let mut served = served(false);
        served.peer.queue(&pattern(30_000_000));
        served.network.run_for(SECOND);
        assert!(served.peer.queued() > 0, "there is no room for that");
        served.network.crash(served.server, Crash::Silent);
        served.network.run_for(60 * SECOND);
        if is_restarted {
            served.network.restart(served.server);
            served.network.run_for(3 * SECOND);
            assert_eq!(served.peer.error().map(io::Error::kind), Some(ErrorKind::ConnectionReset));
            continue;
        }
        served.network.run_for(863 * SECOND);
        assert!(served.peer.error().is_none());
        served.network.run_for(2 * SECOND);
        assert_eq!(served.peer.error().map(io::Error::kind), Some(ErrorKind::TimedOut));
    }
}

#[test]
fn kit_a_sender_waits_its_whole_time_each_time_that_its_link_is_cut() {
    let mut served = served(true);
    served.network.cut(served.server, served.outside);
    served.peer.queue(b"held for 900 s");
    served.network.run_for(900 * SECOND);
    served.network.heal(served.server, served.outside);
    served.network.run_for(10 * SECOND);
    served.network.cut(served.server, served.outside);
    served.peer.queue(b"held for ever");
    served.network.run_for(923 * SECOND);
    assert!(served.peer.error().is_none(), "{}", served.network.trace());
    served.network.run_for(2 * SECOND);
    assert_eq!(served.peer.error().map(io::Error::kind), Some(ErrorKind::TimedOut));
}

#[test]
fn kit_a_listener_whose_answers_are_lost_has_room_again_for_others() {
    for is_cut in [true, false] {
        let Served { mut network, server, outside, address, peer: _peer, .. } = served(true);
        let mut lost = Vec::new();
        let rule = network.add_rule("answers are lost", move |packet| {
            (!is_cut && packet.from == address && packet.kind == PacketKind::Accept).then_some(Fate::Drop)
        });
        if is_cut {
            network.cut_one_way(server, outside);
        }
        let quiet = network.sockets();
        lost.extend((0..5).map(|_| network.peer(address)));
        network.run_for(SECOND);
        assert_eq!(network.sockets(), quiet + 10, "each has one at both ends");
        // Each first packet that is sent again is answered once more.
        network.run_for(300 * SECOND);
        assert!(lost.iter_mut().all(|peer| peer.error().map(io::Error::kind) == Some(ErrorKind::TimedOut)));
        drop(lost);
        assert_eq!(network.sockets(), quiet, "{}", network.trace());
        network.remove_rule(rule);
        network.heal(server, outside);
        network.run_for(10 * SECOND);
        let connected = network.peer(address);
        network.run_for(10 * SECOND);
        assert!(connected.is_connected());
    }
}

/// Five clients that have the listener's answer, of whom the listener hears nothing more: on a link that is cut one way,
/// or since that packet is lost each time. Returns how to end that.
fn half_connected(served: &mut Served, is_cut: bool) -> (Vec<Peer>, impl FnOnce(&mut Network) + use<>) {
    let (server, outside, address) = (served.server, served.outside, served.address);
    let network = &mut served.network;
    let rule = network.add_rule("the end of each connect is lost", move |packet| {
        let is_meant = matches!(packet.kind, PacketKind::Connected | PacketKind::Reset);
        (!is_cut && packet.to == address && is_meant).then_some(Fate::Drop)
    });
    network.slow(server, outside, SECOND, SECOND);
    let peers = (0..5).map(|_| network.peer(address)).collect();
    network.run_for(SECOND + SECOND / 2);
    if is_cut {
        network.cut_one_way(outside, server);
    }
    network.run_for(SECOND);
    let end = move |network: &mut Network| {
        network.remove_rule(rule);
        network.heal(server, outside);
    };
    (peers, end)
}

#[test]
fn kit_a_listener_that_hears_nothing_of_its_answers_has_room_again_for_others() {
    for is_cut in [true, false] {
        let mut served = served(true);
        let quiet = served.network.sockets();
        let (mut peers, end) = half_connected(&mut served, is_cut);
        assert!(peers.iter().all(Peer::is_connected));
        served.network.run_for(40 * SECOND);
        assert_eq!(served.network.sockets(), quiet + 10, "each has one at both ends");
        served.network.run_for(25 * SECOND);
        assert_eq!(served.network.sockets(), quiet + 5, "{}", served.network.trace());
        // They find out if they send something.
        peers[0].queue(b"anybody?");
        end(&mut served.network);
        served.network.run_for(10 * SECOND);
        let errors = peers.iter_mut().map(|peer| peer.error().map(io::Error::kind));
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors, [Some(ErrorKind::ConnectionReset), None, None, None, None], "{}", served.network.trace());
    }
}

#[test]
fn kit_what_was_sent_behind_the_end_of_a_connect_is_sent_once_the_listener_has_given_up() {
    for is_cut in [true, false] {
        let mut served = served(true);
        let (mut peers, end) = half_connected(&mut served, is_cut);
        peers[0].queue(b"hello");
        served.network.run_for(200 * SECOND);
        end(&mut served.network);
        served.network.run_for(10 * SECOND);
        let error = peers[0].error().map(io::Error::kind);
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "{}", served.network.trace());
    }
}

#[test]
fn kit_a_connect_whose_end_was_lost_is_over_for_the_listener_once_its_client_is_gone() {
    for is_cut in [true, false] {
        let mut served = served(true);
        let quiet = served.network.sockets();
        let (peers, end) = half_connected(&mut served, is_cut);
        peers.into_iter().for_each(Peer::reset);
        assert_eq!(served.network.sockets(), quiet + 5);
        end(&mut served.network);
        served.network.run_for(20 * SECOND);
        assert_eq!(served.network.sockets(), quiet, "{}", served.network.trace());
    }
}

#[test]
fn kit_a_connection_that_was_reset_sends_nothing_again() {
    for seed in 0..20 {
        let mut served = served_with(seed, true);
        served.network.cut(served.server, served.outside);
        served.write(b"one");
        served.network.heal(served.server, served.outside);
        served.write(b"two");
        served.network.cut(served.server, served.outside);
        served.write(b"six");
        let id = served.network.context(served.server).connection_ids()[0];
        served.network.context(served.server).connection(id).unwrap().abort();
        served.network.run_for(Duration::from_millis(1));
        served.network.heal(served.server, served.outside);
        served.network.run_for(FOR_EVER);
        // What was under way when the link was cut arrives, and what its sender has forgotten does not.
        assert_eq!(served.peer.read(), b"onetwo", "seed {seed}: {}", served.network.trace());
    }
}

#[test]
fn kit_what_was_sent_behind_a_lost_packet_is_not_sent_once_its_sender_has_given_up() {
    let mut served = served(true);
    let rule = |packet: &Packet<'_>| (packet.bytes == b"one").then_some(Fate::Drop);
    served.network.add_rule("one piece is lost", rule);
    served.write(b"one");
    served.write(b"two");
    served.network.run_for(FOR_EVER);
    assert_eq!(served.losses(), ["TimedOut"]);
    assert_eq!(served.peer.read(), b"", "{}", served.network.trace());
}

#[test]
fn kit_a_connection_that_gave_up_sends_nothing_again() {
    let mut served = served(true);
    served.network.cut(served.server, served.outside);
    served.peer.queue(b"forgotten");
    served.network.run_for(925 * SECOND);
    assert_eq!(served.peer.error().map(io::Error::kind), Some(ErrorKind::TimedOut));
    served.network.heal(served.server, served.outside);
    served.network.run_for(FOR_EVER);
    assert!(!served.network.trace().contains("9 bytes arrive"), "{}", served.network.trace());
}
