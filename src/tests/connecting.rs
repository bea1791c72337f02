//! K: connecting, on scripted sockets.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::*;
use crate::sys::script::Call;
use crate::{Connect, Context, Timeout};

const WRITABLE: Readiness = Readiness::WRITABLE;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The address most tests connect to.
pub(super) fn server() -> SocketAddr {
    address("10.0.0.1:80")
}

impl Scene {
    /// Begins to connect; `act` is what the protocol does.
    pub(super) fn begin(
        &mut self,
        log: &Log,
        to: impl Into<Connect>,
        act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static,
    ) -> io::Result<ConnectionId> {
        self.event_loop.context().connect(to, protocol(log, act))
    }

    /// A connect that is under way.
    pub(super) fn connecting(&mut self, log: &Log) -> (ConnectionId, Peer) {
        let peer = self.world.connect_begins();
        let id = self.begin(log, server(), idle).unwrap();
        (id, peer)
    }

    fn event(&mut self, peer: &Peer, readiness: Readiness) {
        self.world.event(peer, readiness);
        self.settle();
    }

    /// The other end accepts the connection, and the poller reports it.
    pub(super) fn stands(&mut self, peer: &Peer) {
        peer.answers();
        self.event(peer, WRITABLE);
    }

    /// The connect is refused, and the poller reports it.
    fn is_refused(&mut self, peer: &Peer) {
        peer.meets(io::ErrorKind::ConnectionRefused.into());
        self.event(peer, WRITABLE | Readiness::ERROR | Readiness::WRITE_CLOSED);
    }
}

// K1

#[test]
fn k1_a_connection_is_made_at_the_first_writable_event_that_finds_a_peer() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.connecting(&log);
    assert_eq!(scene.world.take_connected_to(), [(server(), None)]);
    scene.settle();
    assert!(log.take().is_empty());
    assert!(scene.event_loop.context().connection(id).unwrap().peer_addr().is_none());
    scene.stands(&peer);
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| assert_eq!(transport.peer_addr().unwrap().as_inet(), Some(server())));
    scene.receive(&peer, "hello");
    scene.end(&peer);
    assert_eq!(log.take(), ["data hello", "eof", "lost: closed by the peer"]);
}

#[test]
fn k1_not_connected_is_still_pending_whatever_the_event_says() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    for readiness in [WRITABLE, Readiness::READABLE, WRITABLE | Readiness::ERROR, Readiness::READ_CLOSED] {
        scene.event(&peer, readiness);
        assert!(log.take().is_empty(), "{readiness:?}");
    }
    assert_eq!(peer.take_calls(), [], "nothing is read or written before it stands");
    scene.stands(&peer);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn k1_an_event_that_is_not_writable_proves_nothing() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    // As on platforms where a socket has a peer before it is connected.
    peer.answers();
    scene.event(&peer, Readiness::READABLE);
    assert!(log.take().is_empty());
    scene.event(&peer, WRITABLE);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn k1_the_error_of_the_socket_comes_before_its_peer() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.connecting(&log);
    peer.answers();
    scene.is_refused(&peer);
    assert_eq!(log.take(), ["failed: cannot connect: 10.0.0.1:80: connection refused"]);
    assert!(peer.is_closed());
    assert!(scene.event_loop.context().connection(id).is_none());
    let counters = scene.event_loop.context().counters();
    assert_eq!((counters.connects_failed, counters.connections_made, counters.connections_lost), (1, 0, 0));
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn k1_data_that_comes_with_the_answer_is_delivered_after_it() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    peer.answers();
    peer.sends("banner");
    peer.sends("");
    scene.event(&peer, WRITABLE | Readiness::READABLE | Readiness::READ_CLOSED);
    assert_eq!(log.take(), ["made", "data banner", "eof", "lost: closed by the peer"]);
}

#[test]
fn k1_what_fails_at_once_is_returned_and_nothing_is_called() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.world.connect_fails(io::ErrorKind::NetworkUnreachable.into());
    let error = scene.begin(&log, server(), idle).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
    let peer = scene.world.connect_begins();
    peer.refuse_registration();
    let error = scene.begin(&log, server(), idle).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(peer.is_closed());
    assert_eq!(scene.begin(&log, vec![], idle).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    scene.settle();
    assert!(log.take().is_empty());
    assert_eq!(scene.event_loop.context().connection_count(), 0);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

// K2

#[test]
fn k2_a_connect_that_nobody_answers_fails_at_its_deadline() {
    let of_loop = |timeout| LoopLimits::default().with_connect_timeout(timeout);
    for (limits, to, timeout) in [
        (LoopLimits::default(), Connect::to(server()), 30 * SECOND),
        (LoopLimits::default(), Connect::to(server()).timeout(700 * MS), 700 * MS),
        (of_loop(2 * SECOND), Connect::to(server()), 2 * SECOND),
        (of_loop(2 * SECOND), Connect::to(server()).timeout(700 * MS), 700 * MS),
    ] {
        let (mut scene, log) = (Scene::with_limits(limits), Log::default());
        let peer = scene.world.connect_begins();
        scene.begin(&log, to, idle).unwrap();
        scene.pass(timeout - MS);
        assert!(log.take().is_empty());
        scene.pass(MS);
        assert_eq!(log.take(), ["failed: connecting took too long: 10.0.0.1:80: timed out"]);
        assert!(peer.is_closed());
        assert_eq!(scene.event_loop.time_to_next(), None);
    }
}

#[test]
fn k2_an_attempt_that_is_established_by_its_deadline_is_no_failure_though_no_event_has_told() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    scene.pass(29_999 * MS);
    peer.answers();
    scene.pass(MS);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn k2_the_deadline_is_over_once_it_stands() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    scene.stands(&peer);
    assert_eq!(scene.event_loop.time_to_next(), None);
    scene.pass(60 * SECOND);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn k2_closing_or_aborting_cancels_and_is_told_once() {
    for (end, reason) in [(close as fn(&mut Transport<'_>), "closed by us"), (abort, "aborted by us")] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = scene.connecting(&log);
        {
            let mut context = scene.event_loop.context();
            let mut transport = context.connection(id).unwrap();
            end(&mut transport);
            end(&mut transport);
            transport.write(b"late");
        }
        assert!(peer.is_closed());
        assert!(log.take().is_empty(), "no method calls a callback");
        scene.settle();
        assert_eq!(log.take(), [format!("failed: ended before it was connected: {reason}")]);
        assert!(scene.event_loop.context().connection(id).is_none());
        assert_eq!(scene.event_loop.time_to_next(), None);
    }
}

#[test]
fn k2_it_is_bound_to_the_local_address_that_was_given() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.world.connect_begins();
    let local = address("10.0.0.9:0");
    scene.begin(&log, Connect::to(server()).local_addr(local), idle).unwrap();
    assert_eq!(scene.world.take_connected_to(), [(server(), Some(local))]);
}

#[test]
fn k2_shutting_down_cancels_and_run_until_idle_waits() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    let (_, peer) = scene.connecting(&log);
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(log.take(), ["failed: connecting took too long: 10.0.0.1:80: timed out"]);
    assert!(peer.is_closed());
    let (_, peer) = scene.connecting(&log);
    scene.event_loop.shutdown(SECOND).unwrap();
    assert_eq!(log.take(), ["failed: ended before it was connected: the loop was shut down"]);
    assert!(peer.is_closed());
    let (_, peer) = scene.connecting(&log);
    drop(scene);
    assert_eq!(log.take(), ["failed: ended before it was connected: the loop was shut down"]);
    assert!(peer.is_closed());
}

#[test]
fn k2_an_attempt_among_several_that_is_background_keeps_nobody_waiting() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    let _peers = [scene.world.connect_begins(), scene.world.connect_begins()];
    let id = scene.begin(&log, vec![server(), address("10.0.0.2:80")], idle).unwrap();
    scene.pass(300 * MS);
    assert!(scene.event_loop.context().set_background(id, true));
    let before = scene.world.now();
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(scene.world.now(), before);
}

// K3

const FOUR: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80", "[fd00::2]:80"];

pub(super) fn four() -> Vec<SocketAddr> {
    FOUR.map(address).into()
}

#[test]
fn k3_the_next_is_tried_after_250_ms_and_the_first_that_stands_wins() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers: Vec<_> = (0..4).map(|_| scene.world.connect_begins()).collect();
    let id = scene.begin(&log, four(), idle).unwrap();
    let tried =
        |scene: &Scene| scene.world.take_connected_to().iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>();
    assert_eq!(tried(&scene), [FOUR[0]]);
    scene.pass(249 * MS);
    assert!(tried(&scene).is_empty());
    scene.pass(MS);
    assert_eq!(tried(&scene), [FOUR[2]], "of the other family");
    scene.pass(250 * MS);
    assert_eq!(tried(&scene), [FOUR[1]]);
    scene.tell(id, |transport| transport.write(b"early"));
    scene.stands(&peers[1]);
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().connection(id).unwrap().peer_addr().unwrap().to_string(), FOUR[2]);
    assert_eq!(peers[1].take_sent(), b"early");
    assert_eq!([0, 1, 2].map(|n| peers[n].is_closed()), [true, false, true], "the others are closed");
    scene.pass(60 * SECOND);
    assert!(tried(&scene).is_empty());
    scene.receive(&peers[1], "hello");
    scene.end(&peers[1]);
    assert_eq!(log.take(), ["data hello", "eof", "lost: closed by the peer"]);
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn k3_the_next_is_tried_at_once_when_one_has_failed() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let first = scene.world.connect_begins();
    scene.world.connect_fails(io::ErrorKind::NetworkUnreachable.into());
    let third = scene.world.connect_begins();
    scene.begin(&log, four(), idle).unwrap();
    scene.is_refused(&first);
    assert_eq!(scene.world.take_connected_to().len(), 3, "the second one failed at once, too");
    // The 250 ms start over with each attempt.
    scene.pass(249 * MS);
    assert_eq!(scene.world.take_connected_to(), []);
    scene.stands(&third);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn k3_when_all_have_failed_one_error_lists_each() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers = [scene.world.connect_begins(), scene.world.connect_begins()];
    scene.world.connect_fails(io::ErrorKind::HostUnreachable.into());
    scene.begin(&log, four()[..3].to_vec(), idle).unwrap();
    scene.pass(250 * MS);
    // The second attempt fails first, and the third one at once.
    scene.is_refused(&peers[1]);
    assert!(log.take().is_empty());
    scene.is_refused(&peers[0]);
    assert_eq!(
        log.take(),
        ["failed: cannot connect: [fd00::1]:80: connection refused; 10.0.0.2:80: host unreachable; \
          10.0.0.1:80: connection refused"]
    );
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn k3_a_deadline_that_passes_is_one_error_that_lists_each_that_was_tried() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers = [scene.world.connect_begins(), scene.world.connect_begins()];
    scene.begin(&log, Connect::to(four()).timeout(300 * MS), idle).unwrap();
    scene.is_refused(&peers[0]);
    scene.pass(100 * MS);
    assert!(log.take().is_empty());
    scene.world.connect_fails(io::ErrorKind::HostUnreachable.into());
    let _third = scene.world.connect_begins();
    scene.pass(200 * MS);
    assert_eq!(
        log.take(),
        ["failed: connecting took too long: 10.0.0.1:80: connection refused; 10.0.0.2:80: host unreachable; \
          [fd00::1]:80: timed out; [fd00::2]:80: timed out"]
    );
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn k3_an_event_of_a_loser_means_nobody() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peers = [scene.world.connect_begins(), scene.world.connect_begins()];
    scene.begin(&log, four()[..2].to_vec(), idle).unwrap();
    scene.pass(250 * MS);
    peers[0].answers();
    peers[1].answers();
    scene.world.event(&peers[1], WRITABLE);
    scene.event(&peers[0], WRITABLE);
    assert_eq!(log.take(), ["made"]);
    assert_eq!(peers.map(|peer| peer.is_closed()), [true, false]);
}

// K4

#[test]
fn x5_an_attempt_that_stands_and_cannot_be_registered_is_reset_and_the_next_one_is_tried() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (first, second, third) =
        (scene.world.connect_begins(), scene.world.connect_begins(), scene.world.connect_begins());
    let addresses = vec![server(), address("10.0.0.2:80"), address("10.0.0.3:80")];
    let id = scene.begin(&log, addresses, idle).unwrap();
    scene.tell(id, |transport| transport.write(b"question"));
    scene.pass(250 * MS);
    second.refuse_registration();
    scene.stands(&second);
    assert_eq!(second.take_calls(), [Call::Reset]);
    scene.stands(&third);
    assert_eq!((log.take(), third.take_sent()), (vec!["made".to_owned()], b"question".to_vec()));
    assert!(first.is_closed());
}

#[test]
fn k4_a_socket_that_has_met_itself_counts_as_refused() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connecting(&log);
    peer.set_local_address(server());
    scene.stands(&peer);
    assert_eq!(log.take(), ["failed: cannot connect: 10.0.0.1:80: connected to itself: nobody listens there"]);
    assert_eq!(peer.take_calls(), [Call::Reset], "else its port would be taken for a minute");
}

// K6

#[test]
fn k6_what_is_written_before_it_stands_goes_out_before_what_comes_later() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    let large = Rc::new(vec![b'x'; 100 * KIB]);
    let greet = |event: Event<'_>, transport: &mut Transport<'_>| {
        if matches!(event, Event::Made) {
            transport.write(b"made");
        }
        by_default(&event, transport)
    };
    let id = scene.begin(&log, server(), greet).unwrap();
    scene.tell(id, |transport| transport.write(b"one "));
    let written = large.clone();
    scene.tell(id, move |transport| transport.write_owned(written.to_vec()));
    scene.tell(id, |transport| assert_eq!(transport.queued_bytes(), 4 + 100 * KIB));
    assert_eq!(peer.take_calls(), []);
    scene.stands(&peer);
    let sent = peer.take_sent();
    assert!(sent.starts_with(b"one x") && sent.ends_with(b"xmade"));
    assert_eq!(sent.len(), 4 + 100 * KIB + 4);
    assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
    assert_eq!(log.take(), ["made"], "the marks count once it stands");
}

#[test]
fn k6_a_write_half_that_was_shut_before_it_stands_is_shut_behind_what_was_written() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.connecting(&log);
    scene.tell(id, |transport| {
        transport.write(b"all");
        transport.shutdown_write();
        transport.write(b"late");
    });
    assert_eq!(peer.take_calls(), []);
    scene.stands(&peer);
    assert_eq!(peer.take_sent(), b"all");
    assert!(peer.take_calls().contains(&Call::ShutdownWrite));
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
}

#[test]
fn k6_what_was_written_is_lost_with_a_connect_that_fails() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.connecting(&log);
    scene.tell(id, |transport| transport.write_owned(vec![0; 100 * KIB]));
    assert!(scene.event_loop.core.parts.outbox.queued() > 0);
    scene.is_refused(&peer);
    assert_eq!(log.take().len(), 1);
    assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
    assert_eq!(peer.take_sent(), b"");
}

#[test]
fn k6_a_write_over_the_cap_ends_it_before_it_stands() {
    let (mut scene, log) = (Scene::with_limits(Limits::default().with_queue_bytes_max(KIB)), Log::default());
    let (id, peer) = scene.connecting(&log);
    scene.tell(id, |transport| {
        transport.write_owned(vec![0; 2 * KIB]);
        transport.write(b"one too many");
    });
    assert_eq!(log.take(), ["failed: ended before it was connected: too much output queued"]);
    assert!(peer.is_closed());
}

#[test]
fn k6_what_is_set_before_it_stands_holds_then() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.connecting(&log);
    scene.tell(id, |transport| {
        transport.pause_reading();
        transport.set_timeout(Timeout::Total, Some(SECOND));
        transport.set_timeout(Timeout::Handshake, Some(SECOND));
        transport.set_timeout(Timeout::Handshake, Some(2 * SECOND));
        assert!(!transport.detach(|_, _| panic!("there is nothing to detach")));
    });
    scene.pass(2 * SECOND);
    assert!(log.take().is_empty(), "the timeout begins when it is made");
    scene.stands(&peer);
    scene.receive(&peer, "hello");
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data hello"]);
    scene.pass(SECOND);
    assert_eq!(log.take().len(), 2, "timed out and lost");
    let (id, _peer) = scene.connecting(&log);
    let other = log.clone();
    scene.tell(id, |transport| {
        transport.pause_reading();
        transport.resume_reading();
        transport.set_protocol(protocol(&other, idle));
    });
    scene.tell(id, abort);
    assert_eq!(log.take().len(), 1);
}

// W2, for clients

#[test]
fn w2_outgoing_connections_go_on_reading_over_the_high_mark_unless_told_otherwise() {
    let limits = Limits::default();
    for (to, holds_back) in [(Connect::to(server()), false), (Connect::to(server()).limits(limits), true)] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let peer = scene.world.connect_begins();
        let id = scene.begin(&log, to, idle).unwrap();
        scene.stands(&peer);
        peer.set_room(0);
        scene.tell(id, |transport| transport.write_owned(vec![0; 100 * KIB]));
        scene.receive(&peer, "hello");
        let expected: &[&str] = if holds_back { &["made", "pause"] } else { &["made", "pause", "data hello"] };
        assert_eq!(log.take(), expected);
    }
}

// E1

#[test]
fn e1_a_panic_of_connect_failed_ends_nobody_else() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let panics = |_: Event<'_>, _: &mut Transport<'_>| panic!("in connect_failed");
    let first = scene.world.connect_begins();
    scene.begin(&Log::default(), server(), panics).unwrap();
    let (_, second) = scene.connecting(&log);
    scene.is_refused(&first);
    assert_eq!(scene.event_loop.context().counters().panics, 1);
    scene.stands(&second);
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().connection_count(), 1);
}

#[test]
fn e1_connect_failed_can_do_what_any_callback_can() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (first, second) = (scene.world.connect_begins(), scene.world.connect_begins());
    let other = log.clone();
    let again = move |event: Event<'_>, transport: &mut Transport<'_>| {
        if let Event::Failed(_) = event {
            transport.write(b"into the void");
            transport.close();
            transport.context().connect(server(), protocol(&other, idle)).unwrap();
        }
        0
    };
    scene.begin(&log, server(), again).unwrap();
    scene.is_refused(&first);
    scene.stands(&second);
    assert_eq!(log.take(), ["failed: cannot connect: 10.0.0.1:80: connection refused", "made"]);
}

// Descriptors

#[test]
fn a2_a_lingering_connection_gives_its_descriptor_up_for_a_connect() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, lingering) = scene.accept(&Log::default(), idle);
    lingering.sends("still sending");
    scene.tell(id, close);
    assert!(!lingering.is_closed());
    scene.world.connect_fails(os_error(errno::EMFILE));
    let peer = scene.world.connect_begins();
    scene.begin(&log, server(), idle).unwrap();
    assert!(lingering.is_closed());
    scene.stands(&peer);
    assert_eq!(log.take(), ["made"]);
    // With no connection to give up, the error is reported.
    scene.world.connect_fails(os_error(errno::EMFILE));
    assert_eq!(scene.begin(&log, server(), idle).unwrap_err().raw_os_error(), Some(errno::EMFILE));
}

// Growth

#[test]
fn k5_connecting_again_from_connect_failed_and_connection_lost_grows_nothing() {
    fn again(context: &mut Context<'_>, log: &Log, count: &Rc<Cell<u32>>, peers: &Rc<RefCell<Vec<Peer>>>) {
        let (next, more, keep) = (log.clone(), count.clone(), peers.clone());
        let act = move |event: Event<'_>, transport: &mut Transport<'_>| {
            if matches!(event, Event::Failed(_) | Event::Lost(_)) {
                more.set(more.get() + 1);
                again(&mut transport.context(), &next, &more, &keep);
            }
            by_default(&event, transport)
        };
        context.connect(server(), protocol(log, act)).unwrap();
    }
    let (mut scene, log, count) = (Scene::new(), Log::default(), Rc::new(Cell::new(0)));
    let mut next = scene.world.connect_begins();
    again(&mut scene.event_loop.context(), &log, &count, &Rc::default());
    for n in 0..1000 {
        let peer = std::mem::replace(&mut next, scene.world.connect_begins());
        if n % 2 == 0 {
            scene.is_refused(&peer);
        } else {
            scene.stands(&peer);
            scene.end(&peer);
        }
        assert_eq!(count.get(), n + 1);
    }
    assert_eq!(scene.event_loop.context().connection_count(), 1);
    let slots = scene.event_loop.core.parts.slots.ids(&|_| true);
    assert!(slots.iter().all(|id| id.slot < 4), "{slots:?}", slots = slots.len());
}
