//! Rule C7, for detached connections: the socket, unread input and unsent output go to the receiver that asked for
//! them.

use super::*;
use crate::sys::script::Call;

/// Where receivers put what they are given.
type Given = Rc<RefCell<Vec<Detached>>>;

fn to(given: &Given) -> impl FnOnce(&mut crate::Context<'_>, Detached) + 'static {
    let given = given.clone();
    move |_, detached| given.borrow_mut().push(detached)
}

/// Consumes two bytes and detaches.
fn detaches(given: &Given) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let given = given.clone();
    move |event, transport| match event {
        Event::Data(_) => {
            transport.write(b"answer");
            assert!(transport.detach(to(&given)));
            transport.write(b"late");
            2
        }
        event => by_default(&event, transport),
    }
}

#[test]
fn c7_what_is_unconsumed_goes_with_a_detached_connection_and_its_protocol_is_told() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    let (id, peer) = scene.accept(&log, detaches(&given));
    scene.receive(&peer, "abcd");
    assert_eq!(log.take(), ["made", "data abcd", "lost: detached from the loop"]);
    assert_eq!(peer.take_sent(), b"answer");
    let detached = given.borrow_mut().pop().expect("given");
    assert_eq!((detached.unread(), detached.unsent()), (&b"cd"[..], &b""[..]));
    assert!(detached.peer_addr().is_some() && !peer.is_closed());
    let mut context = scene.event_loop.context();
    assert!(context.connection(id).is_none());
    assert_eq!((context.connection_count(), context.counters().late_writes), (0, 1));
    assert_eq!(context.listener(scene.listener).unwrap().connection_count(), 0);
    drop(detached);
    assert!(peer.is_closed());
}

#[test]
fn c7_a_detached_connection_goes_on_where_it_was_when_it_is_attached_again() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    let (_, peer) = scene.accept(&log, detaches(&given));
    peer.set_room(3);
    scene.receive(&peer, "abcd");
    let detached = given.borrow_mut().pop().expect("given");
    assert_eq!((detached.unread(), detached.unsent()), (&b"cd"[..], &b"wer"[..]));
    assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
    log.take();

    let id = scene.event_loop.context().attach(detached, protocol(&log, echo)).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made", "data cd"]);
    scene.make_room(&peer, 100);
    assert_eq!(peer.take_sent(), b"answercd");
    scene.receive(&peer, "e");
    assert_eq!((log.take(), peer.take_sent()), (vec!["data e".to_owned()], b"e".to_vec()));
    scene.tell(id, close);
    scene.end(&peer);
    assert_eq!((log.take(), scene.event_loop.core.parts.outbox.queued()), (vec!["lost: closed by us".to_owned()], 0));
}

#[test]
fn c7_input_that_was_read_elsewhere_comes_before_what_is_in_the_socket() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    let (_, peer) = scene.accept(&log, detaches(&given));
    scene.receive(&peer, "abcd");
    let detached = given.borrow_mut().pop().expect("given");
    log.take();
    let detached = Detached::with_unread(detached, b"ef");
    scene.event_loop.context().attach(detached, protocol(&log, echo)).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made", "data cdef"]);
    scene.receive(&peer, "g");
    assert_eq!(log.take(), ["data g"]);
}

#[test]
fn c7_a_connection_can_be_detached_by_its_id_with_what_it_keeps() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => 0,
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "kept");
    let receiver = to(&given);
    scene.tell(id, move |transport| {
        transport.write(b"gone out");
        assert!(transport.detach(receiver));
        assert!(!transport.detach(|_, _| unreachable!("it is detached already")));
    });
    assert_eq!(log.take(), ["made", "data kept", "lost: detached from the loop"]);
    assert_eq!(given.borrow()[0].unread(), b"kept");
    assert_eq!(peer.take_sent(), b"gone out");
}

#[test]
fn c7_much_output_before_a_detach_loses_neither_input_nor_order() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    let receiver = given.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Data(_) => {
            // More than the high mark, so that it is sent while the input is still being handled.
            (0..20).for_each(|n| transport.write(&[n; 8 * KIB]));
            transport.detach(to(&receiver));
            1
        }
        event => by_default(&event, transport),
    });
    peer.set_room(10 * KIB);
    scene.receive(&peer, "xyz");
    let detached = given.borrow_mut().pop().expect("given");
    assert_eq!(detached.unread(), b"yz");
    let all: Vec<u8> = (0..20).flat_map(|n| [n; 8 * KIB]).collect();
    assert_eq!([peer.take_sent(), detached.unsent().to_vec()].concat(), all);
}

#[test]
fn c7_what_ends_a_connection_before_it_is_out_drops_the_receiver() {
    for (fails, lost) in [(true, "lost: a callback panicked: oh"), (false, "lost: reset by the peer")] {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let (log, given) = (Log::default(), Given::default());
        let receiver = given.clone();
        let (_, peer) = scene.accept(&log, move |event, transport| match event {
            Event::Data(data) => {
                transport.write(b"answer");
                transport.detach(to(&receiver));
                assert!(!fails, "oh");
                data.len()
            }
            event => by_default(&event, transport),
        });
        peer.write_answers(Err(io::ErrorKind::ConnectionReset.into()));
        scene.receive(&peer, "x");
        assert_eq!(log.take(), ["made", "data x", lost]);
        assert!(peer.is_closed() && given.borrow().is_empty());
        assert_eq!(Rc::strong_count(&given), 1, "the receiver is dropped");
    }
}

#[test]
fn x5_a_detached_connection_that_nobody_takes_is_reset_if_output_is_unsent() {
    for (room, end) in [(3, Call::Reset), (100, Call::Close)] {
        let mut scene = Scene::new();
        let (log, given) = (Log::default(), Given::default());
        let (_, peer) = scene.accept(&log, detaches(&given));
        peer.set_room(room);
        scene.receive(&peer, "abcd");
        let detached = given.borrow_mut().pop().expect("given");
        peer.take_calls();
        drop(detached);
        assert_eq!(peer.take_calls(), [end], "room for {room}");
    }
}

#[test]
fn x5_a_receiver_that_panics_with_a_connection_in_hand_resets_it() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| assert!(transport.detach(|_, _detached| panic!("oh"))));
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

#[test]
fn x5_what_is_detached_and_cannot_be_attached_or_made_blocking_is_reset() {
    let mut scene = Scene::new();
    let (log, given) = (Log::default(), Given::default());
    for attaches in [true, false] {
        let (_, peer) = scene.accept(&log, detaches(&given));
        peer.set_room(3);
        scene.receive(&peer, "abcd");
        let detached = given.borrow_mut().pop().expect("given");
        peer.take_calls();
        if attaches {
            peer.refuse_registration();
            scene.event_loop.context().attach(detached, protocol(&log, idle)).unwrap_err();
        } else {
            // A scripted stream cannot be made blocking.
            detached.into_blocking(None).unwrap_err();
        }
        assert_eq!(peer.take_calls(), [Call::Reset]);
    }
}

#[test]
fn c7_a_connection_that_is_closing_cannot_be_detached_and_abort_overrules_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(b"x");
        transport.close();
        assert!(!transport.detach(|_, _| unreachable!("it was refused")));
        transport.abort();
    });
    let (id, _) = scene.accept(&log, idle);
    scene.tell(id, |transport| {
        assert!(transport.detach(|_, _| unreachable!("it was aborted")));
        transport.close();
        transport.abort();
    });
    assert_eq!(log.take(), ["made", "lost: aborted by us", "made", "lost: aborted by us"]);
}

#[test]
fn e1_a_receiver_that_panics_hurts_nobody_else() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (id, _) = scene.accept(&log, idle);
    let (_, other) = scene.accept(&log, echo);
    scene.tell(id, |transport| assert!(transport.detach(|_, _| panic!("oh"))));
    scene.receive(&other, "x");
    assert_eq!((scene.event_loop.context().counters().panics, other.take_sent()), (1, b"x".to_vec()));
}

#[test]
fn c7_a_loop_that_ends_first_drops_the_receiver() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    let mut context = scene.event_loop.context();
    assert!(context.connection(id).unwrap().detach(|_, _| unreachable!("the loop is gone")));
    drop(scene);
    assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
    assert!(peer.is_closed());
}
