//! Rules J1 to J3: joined connections.

use super::*;
use crate::sys::script::Call;
use crate::{Inner, NotJoined, Relay};

/// Two connections of one loop, and what reached their protocols before they were joined.
struct Pair {
    scene: Scene,
    log: Log,
    a: (ConnectionId, Peer),
    b: (ConnectionId, Peer),
}

/// Consumes nothing, and does not close at the peer's end.
fn leaves(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Data(_) | Event::Eof(_) => 0,
        event => by_default(&event, transport),
    }
}

impl Pair {
    fn new(limits: impl Into<LoopLimits>) -> Pair {
        let mut scene = Scene::with_limits(limits);
        let log = Log::default();
        let (a, b) = (scene.accept(&log, leaves), scene.accept(&log, leaves));
        log.take();
        Pair { scene, log, a, b }
    }

    fn joined(limits: impl Into<LoopLimits>) -> Pair {
        let mut pair = Pair::new(limits);
        pair.join();
        pair
    }

    fn join(&mut self) {
        self.scene.event_loop.context().join(self.a.0, self.b.0).unwrap();
        self.scene.settle();
        assert_eq!(self.log.take(), [""; 0], "the old ones get no callback any more");
    }

    /// Returns what was sent to each of the two peers.
    fn sent(&self) -> (Vec<u8>, Vec<u8>) {
        (self.a.1.take_sent(), self.b.1.take_sent())
    }

    fn are_gone(&mut self) -> bool {
        self.scene.event_loop.context().connection_count() == 0
    }
}

/// Takes the calls that send FIN or close the socket.
fn ends(peer: &Peer) -> Vec<Call> {
    let ends = [Call::ShutdownWrite, Call::Reset, Call::Close];
    peer.take_calls().into_iter().filter(|call| ends.contains(call)).collect()
}

fn marks(high: usize, low: usize) -> Limits {
    Limits::default().with_queue_bytes_high(high).with_queue_bytes_low(low)
}

#[test]
fn j1_what_comes_on_either_goes_out_on_the_other() {
    let mut pair = Pair::joined(Limits::default());
    pair.scene.receive(&pair.a.1, "question");
    pair.scene.receive(&pair.b.1, "answer");
    assert_eq!(pair.sent(), (b"answer".to_vec(), b"question".to_vec()));
    let much = vec![b'm'; 100 * KIB];
    pair.scene.receive(&pair.a.1, &much);
    assert_eq!(pair.sent(), (vec![], much));
}

#[test]
fn j1_what_was_not_consumed_is_passed_on_and_what_was_is_not() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (b, b_peer) = scene.accept(&log, leaves);
    scene.receive(&b_peer, "kept by b");
    log.take();
    let (_, a_peer) = scene.accept(&log, move |event, transport| match event {
        Event::Data(data) if data.len() >= 10 => {
            let id = transport.id();
            transport.context().join(id, b).unwrap();
            // The rest of it is in the buffer of the read that is under way.
            5
        }
        event => leaves(event, transport),
    });
    scene.receive(&a_peer, "left ");
    scene.receive(&a_peer, "and new");
    assert_eq!(log.take(), ["made", "data left ", "data left and new"]);
    assert_eq!((a_peer.take_sent(), b_peer.take_sent()), (b"kept by b".to_vec(), b"and new".to_vec()));
    scene.receive(&a_peer, "!");
    assert_eq!(b_peer.take_sent(), b"!");
}

#[test]
fn j1_what_was_written_before_goes_out_before() {
    let mut pair = Pair::new(Limits::default());
    let (a, b) = (pair.a.0, pair.b.0);
    pair.scene.receive(&pair.a.1, "passed on");
    pair.log.take();
    pair.scene.event_loop.context().connection(b).unwrap().write(b"written, ");
    pair.join();
    pair.scene.tell(b, |transport| transport.write(b", later"));
    assert_eq!(pair.sent(), (vec![], b"written, passed on, later".to_vec()));
    assert!(pair.scene.event_loop.context().connection(a).is_some());
}

#[test]
fn j1_ends_are_passed_on_one_by_one() {
    for first in [0, 1] {
        let mut pair = Pair::joined(Limits::default());
        let (near, far) = if first == 0 { (&pair.a.1, &pair.b.1) } else { (&pair.b.1, &pair.a.1) };
        pair.scene.receive(near, "last");
        pair.scene.end(near);
        assert_eq!((far.take_sent(), ends(far)), (b"last".to_vec(), vec![Call::ShutdownWrite]));
        assert_eq!(ends(near), [], "its own direction goes on");
        pair.scene.receive(far, "an answer");
        assert_eq!(near.take_sent(), b"an answer");
        pair.scene.end(far);
        assert_eq!((ends(near), ends(far)), (vec![Call::Close], vec![Call::Close]));
        assert!(pair.are_gone());
    }
}

#[test]
fn j1_an_end_that_was_read_before_is_passed_on() {
    for both in [false, true] {
        let mut pair = Pair::new(Limits::default());
        pair.scene.end(&pair.a.1);
        if both {
            pair.scene.end(&pair.b.1);
        }
        pair.log.take();
        pair.join();
        if both {
            assert!(pair.are_gone());
            assert_eq!((ends(&pair.a.1), ends(&pair.b.1)), (vec![Call::Close], vec![Call::Close]));
            continue;
        }
        assert_eq!((ends(&pair.a.1), ends(&pair.b.1)), (vec![], vec![Call::ShutdownWrite]));
        pair.scene.receive(&pair.b.1, "still");
        assert_eq!(pair.sent(), (b"still".to_vec(), vec![]));
    }
}

#[test]
fn j1_an_end_goes_out_behind_what_is_queued() {
    let mut pair = Pair::joined(Limits::default());
    pair.b.1.set_room(0);
    pair.scene.receive(&pair.a.1, "waits");
    pair.scene.end(&pair.a.1);
    assert_eq!(ends(&pair.b.1), []);
    pair.scene.make_room(&pair.b.1, 100);
    assert_eq!((pair.sent().1, ends(&pair.b.1)), (b"waits".to_vec(), vec![Call::ShutdownWrite]));
}

#[test]
fn j3_a_reset_is_passed_on() {
    for writes in [false, true] {
        let mut pair = Pair::joined(Limits::default());
        pair.scene.receive(&pair.a.1, "unanswered");
        if writes {
            // A send runs into it.
            pair.b.1.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
            pair.scene.receive(&pair.a.1, "more");
        } else {
            pair.b.1.read_fails(io::ErrorKind::ConnectionReset.into());
            pair.scene.world.event(&pair.b.1, Readiness::READABLE | Readiness::ERROR);
            pair.scene.settle();
        }
        assert_eq!(ends(&pair.a.1), [Call::Reset]);
        assert!(pair.are_gone());
    }
}

#[test]
fn j2_while_a_peer_does_not_read_the_other_one_is_not_read_from() {
    let mut pair = Pair::joined(marks(1000, 100).with_read_bytes_per_turn_max(500));
    pair.b.1.set_room(0);
    pair.scene.receive(&pair.a.1, vec![b'x'; 10_000]);
    let queued = pair.scene.event_loop.context().connection(pair.b.0).unwrap().queued_bytes();
    assert!((1000..=1500).contains(&queued), "{queued}");
    assert_eq!(pair.a.1.unread(), 10_000 - queued);
    // The other direction goes on.
    pair.scene.receive(&pair.b.1, "answer");
    assert_eq!(pair.sent().0, b"answer");
    pair.scene.make_room(&pair.b.1, 500);
    assert_eq!(pair.a.1.unread(), 10_000 - queued, "not before the low mark");
    for _ in 0..100 {
        pair.scene.make_room(&pair.b.1, 800);
    }
    assert_eq!(pair.sent().1.len(), 10_000);
}

#[test]
fn j2_the_mark_holds_within_a_turn_too() {
    // By default a turn has room for four reads.
    const READ: usize = 64 * KIB;
    for (high, readable) in [(READ, READ), (READ, 4 * READ), (READ, 40 * READ), (1000, 4 * READ)] {
        let mut pair = Pair::joined(marks(high, 100));
        pair.b.1.set_room(0);
        pair.scene.receive(&pair.a.1, vec![b'x'; readable]);
        let queued = pair.scene.event_loop.context().connection(pair.b.0).unwrap().queued_bytes();
        assert_eq!(queued, readable.min((high / READ + 1) * READ), "the read that exceeds it is the last");
        for _ in 0..100 {
            pair.scene.make_room(&pair.b.1, READ);
        }
        assert_eq!((pair.sent().1.len(), pair.a.1.unread()), (readable, 0));
    }
}

#[test]
fn j2_a_turn_reads_on_while_the_other_end_takes_it() {
    let high = Limits::default().queue_bytes_high;
    let mut pair = Pair::joined(Limits::default());
    pair.a.1.sends(vec![b'x'; 3 * high]);
    pair.scene.world.event(&pair.a.1, Readiness::READABLE);
    pair.scene.turn();
    assert_eq!((pair.sent().1.len(), pair.a.1.unread()), (3 * high, 0));
}

#[test]
fn j2_what_was_queued_before_counts() {
    let mut pair = Pair::new(marks(1000, 100).with_queue_bytes_max(5000));
    pair.b.1.set_room(0);
    pair.scene.tell(pair.b.0, |transport| transport.write(&[b'q'; 2000]));
    assert_eq!(pair.log.take(), ["pause"]);
    pair.a.1.sends(vec![b'x'; 9000]);
    pair.scene.world.event(&pair.a.1, Readiness::READABLE);
    pair.join();
    assert_eq!(pair.a.1.unread(), 9000, "it would run into its cap otherwise");
    for _ in 0..100 {
        pair.scene.make_room(&pair.b.1, 700);
    }
    assert_eq!(pair.sent().1.len(), 11_000);
}

#[test]
fn j2_between_the_two_marks_the_one_that_was_told_last_holds() {
    let mut pair = Pair::new(marks(1000, 100));
    pair.b.1.set_room(0);
    pair.scene.tell(pair.b.0, |transport| transport.write(&[b'q'; 2000]));
    pair.scene.make_room(&pair.b.1, 1500);
    assert_eq!(pair.log.take(), ["pause"]);
    pair.join();
    pair.scene.receive(&pair.a.1, "x");
    assert_eq!(pair.a.1.unread(), 1);
    pair.scene.make_room(&pair.b.1, 500);
    assert_eq!((pair.a.1.unread(), pair.sent().1.len()), (0, 2001 - 1));
    pair.scene.make_room(&pair.b.1, 1);
    assert_eq!(pair.sent().1, b"x");
}

#[test]
fn j2_its_own_queue_does_not_hold_one_back_that_it_has_held_back_before() {
    let mut pair = Pair::new(marks(1000, 100));
    pair.a.1.set_room(0);
    pair.scene.tell(pair.a.0, |transport| transport.write(&[b'q'; 2000]));
    pair.scene.receive(&pair.a.1, "unread");
    assert_eq!((pair.log.take(), pair.a.1.unread()), (vec!["pause".into()], 6));
    pair.join();
    assert_eq!(pair.sent().1, b"unread");
}

#[test]
fn j2_two_that_are_both_full_do_not_wait_for_each_other() {
    let mut pair = Pair::new(marks(1000, 100));
    for (id, peer) in [&pair.a, &pair.b] {
        peer.set_room(0);
        pair.scene.tell(*id, |transport| transport.write(&[b'q'; 2000]));
        pair.scene.receive(peer, vec![b'x'; 3000]);
    }
    assert_eq!(pair.log.take(), ["pause", "pause"]);
    pair.join();
    // One peer reads: that the other one does not must not hold its own input back.
    for _ in 0..10 {
        pair.scene.make_room(&pair.b.1, 2000);
    }
    assert_eq!(pair.sent().1.len(), 5000);
    assert_eq!((pair.a.1.unread(), pair.b.1.unread()), (0, 3000));
    for _ in 0..10 {
        pair.scene.make_room(&pair.a.1, 2000);
    }
    assert_eq!(pair.sent().0.len(), 5000);
}

#[test]
fn j2_a_pause_from_before_is_over() {
    let mut pair = Pair::new(Limits::default());
    pair.scene.tell(pair.a.0, pause_reading);
    pair.scene.receive(&pair.a.1, "waited");
    pair.join();
    assert_eq!(pair.sent().1, b"waited");
}

/// An accepted connection, joined to one that connects onward.
fn onward() -> (Scene, Log, (ConnectionId, Peer), (ConnectionId, Peer)) {
    let (mut scene, log) = (Scene::new(), Log::default());
    let a = scene.accept(&log, leaves);
    let server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let b = scene.event_loop.context().connect(address, Relay::new(a.0)).unwrap();
    scene.event_loop.context().join(b, a.0).unwrap();
    scene.settle();
    (scene, log, a, (b, server))
}

#[test]
fn j2_one_that_is_not_established_yet_is_waited_for() {
    let (mut scene, log, (_, client), (_, server)) = onward();
    scene.receive(&client, "early");
    assert_eq!(client.unread(), 5, "it waits in the kernel");
    server.answers();
    scene.world.event(&server, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(server.take_sent(), b"early");
    scene.receive(&server, "answer");
    assert_eq!(client.take_sent(), b"answer");
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn j2_two_that_are_not_established_yet_wait_for_each_other() {
    let mut scene = Scene::new();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let connect = |scene: &mut Scene| {
        let server = scene.world.connect_begins();
        (scene.event_loop.context().connect(address, protocol(&Log::default(), leaves)).unwrap(), server)
    };
    let ((a, first), (b, second)) = (connect(&mut scene), connect(&mut scene));
    scene.event_loop.context().join(a, b).unwrap();
    for (server, sends) in [(&first, "one"), (&second, "two")] {
        server.answers();
        scene.world.event(server, Readiness::WRITABLE);
        scene.settle();
        scene.receive(server, sends);
    }
    assert_eq!((first.take_sent(), second.take_sent()), (b"two".to_vec(), b"one".to_vec()));
}

#[test]
fn j3_a_connect_that_fails_resets_the_other_one() {
    let (mut scene, _, (_, client), (b, _)) = onward();
    scene.receive(&client, "early");
    scene.tell(b, abort);
    assert_eq!(ends(&client), [Call::Reset]);
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

/// A relay within a user's protocol, which may want to say more about a failure than the relay does.
struct Wrapped(Relay);

impl Protocol for Wrapped {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.data_received(transport, data)
    }

    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut self.0)
    }
}

#[test]
fn j3_a_connect_that_fails_resets_the_other_one_by_a_relay_that_is_wrapped() {
    let (mut scene, _, (a, client), (b, _)) = onward();
    scene.event_loop.context().connection(b).unwrap().set_protocol(Wrapped(Relay::new(a)));
    scene.tell(b, abort);
    assert_eq!(ends(&client), [Call::Reset]);
    assert_eq!(scene.event_loop.context().connection_count(), 0);
}

#[test]
fn j1_an_end_from_before_the_other_one_is_established_is_passed_on() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (a, client) = scene.accept(&log, leaves);
    scene.end(&client);
    let server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let b = scene.event_loop.context().connect(address, Relay::new(a)).unwrap();
    scene.event_loop.context().join(a, b).unwrap();
    server.answers();
    scene.world.event(&server, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(ends(&server), [Call::ShutdownWrite]);
    scene.receive(&server, "answer");
    assert_eq!(client.take_sent(), b"answer");
}

#[test]
fn j3_one_that_ends_before_it_is_told_that_it_is_made_ends_the_other_one_too() {
    type Ending = fn(&mut Transport<'_>);
    let endings: [(Ending, &[Call]); 2] = [(abort, &[Call::Reset]), (close, &[Call::ShutdownWrite, Call::Close])];
    for (end, expected) in endings {
        for is_attached in [true, false] {
            let mut scene = Scene::new();
            let (other, peer) = scene.accept(&Log::default(), leaves);
            let (id, _peer) = match is_attached {
                true => scene.attach(&Log::default(), leaves),
                false => scene.accept(&Log::default(), leaves),
            };
            let mut context = scene.event_loop.context();
            if !is_attached {
                context.connection(id).unwrap().start_protocol(protocol(&Log::default(), leaves));
            }
            context.join(id, other).unwrap();
            scene.tell(id, end);
            assert_eq!(ends(&peer), expected, "attached: {is_attached}");
            assert_eq!(scene.event_loop.context().connection_count(), 0);
        }
    }
}

#[test]
fn j3_timeouts_stay_and_reset_both() {
    let mut pair = Pair::new(Limits::default());
    pair.scene.tell(pair.a.0, |transport| transport.set_timeout(Timeout::Idle, Some(SECOND)));
    pair.join();
    for _ in 0..3 {
        pair.scene.pass(600 * MS);
        pair.scene.receive(&pair.b.1, "busy");
    }
    assert_eq!(pair.sent().0.len(), 12);
    pair.scene.pass(SECOND);
    assert_eq!((ends(&pair.a.1), ends(&pair.b.1)), (vec![Call::Reset], vec![Call::Reset]));
    assert!(pair.are_gone());
}

#[test]
fn j3_a_close_and_a_shutdown_close_both_in_order() {
    for shuts_down in [false, true] {
        let mut pair = Pair::joined(Limits::default());
        pair.b.1.set_room(0);
        pair.scene.receive(&pair.a.1, "queued");
        if shuts_down {
            pair.scene.event_loop.context().shutdown(SECOND);
            pair.scene.settle();
        } else {
            pair.scene.tell(pair.a.0, close);
        }
        pair.scene.make_room(&pair.b.1, 100);
        assert_eq!(pair.sent().1, b"queued");
        for peer in [&pair.a.1, &pair.b.1] {
            assert_eq!(ends(peer), [Call::ShutdownWrite, Call::Close]);
        }
        assert!(pair.are_gone());
    }
}

#[test]
fn j3_what_cannot_be_joined_is_left_as_it_is() {
    type Ending = fn(&mut Transport<'_>);
    let endings: [(Ending, NotJoined); 4] = [
        (abort, NotJoined::Gone),
        (close, NotJoined::Closing),
        (shutdown_write, NotJoined::Closing),
        (|transport| assert!(transport.detach(|_, _| {})), NotJoined::Closing),
    ];
    for (end, error) in endings {
        let mut pair = Pair::new(Limits::default());
        let (a, b) = (pair.a.0, pair.b.0);
        // Nothing of its end has gone out when the join is tried.
        pair.a.1.set_room(0);
        let mut context = pair.scene.event_loop.context();
        context.connection(a).unwrap().write(b"queued");
        end(&mut context.connection(a).unwrap());
        assert_eq!(context.join(a, b), Err(error));
        assert_eq!(context.join(b, a), Err(error));
        pair.scene.receive(&pair.b.1, "mine");
        assert!(pair.log.take().contains(&"data mine".to_owned()), "the other one has its protocol still");
        assert_eq!(pair.sent().0, b"");
    }
    let mut pair = Pair::new(Limits::default());
    let (a, b) = (pair.a.0, pair.b.0);
    assert_eq!(pair.scene.event_loop.context().join(a, a), Err(NotJoined::Itself));
    pair.scene.tell(a, abort);
    assert_eq!(pair.scene.event_loop.context().join(b, a), Err(NotJoined::Gone));
    assert_eq!(NotJoined::Gone.to_string(), "the connection has ended");
}

#[test]
fn j3_one_whose_send_has_failed_can_be_joined_and_passes_that_on() {
    let mut pair = Pair::new(Limits::default());
    pair.a.1.write_answers(Err(io::ErrorKind::ConnectionReset.into()));
    let mut context = pair.scene.event_loop.context();
    context.connection(pair.a.0).unwrap().write(&[0; 20 * KIB]);
    context.join(pair.a.0, pair.b.0).unwrap();
    pair.scene.settle();
    assert_eq!(ends(&pair.b.1), [Call::Reset]);
}

#[test]
fn j1_the_old_protocol_of_the_callback_under_way_is_dropped_after_it() {
    let mut scene = Scene::new();
    let (b, b_peer) = scene.accept(&Log::default(), leaves);
    let log = Log::default();
    let held = Rc::new(());
    let holds = held.clone();
    let (_, a_peer) = scene.accept(&log, move |event, transport| {
        let _ = &holds;
        if let Event::Data(data) = event {
            let id = transport.id();
            transport.context().join(id, b).unwrap();
            transport.write(b"welcome");
            return data.len();
        }
        0
    });
    scene.receive(&a_peer, "go");
    assert_eq!(Rc::strong_count(&held), 1);
    scene.receive(&b_peer, ", friend");
    assert_eq!(a_peer.take_sent(), b"welcome, friend");
}
