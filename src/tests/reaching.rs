//! Rules C3 and E1, for reaching another connection's protocol at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{Inner, NotReached};

/// Has a state, and logs its end.
struct Member {
    log: Log,
    knows: usize,
}

impl Protocol for Member {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.knows += data.len();
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.log.push(format!("member {} lost: {reason}", self.knows));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.log.push("dropped");
    }
}

/// Wraps another protocol.
struct Adapter(Box<dyn Protocol>);

impl Protocol for Adapter {
    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut *self.0)
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.data_received(transport, data)
    }
}

fn member(log: &Log) -> Box<dyn Protocol> {
    Box::new(Member { log: log.clone(), knows: 0 })
}

fn accept(scene: &mut Scene, protocol: Box<dyn Protocol>) -> (ConnectionId, Peer) {
    let peer = scene.knock(Some(protocol));
    scene.turn();
    let id = scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).expect("accepted").0;
    (ConnectionId(id), peer)
}

#[test]
fn c3_a_protocol_is_reached_at_once_and_what_is_written_goes_out_before_the_loop_sleeps() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = accept(&mut scene, member(&log));
    scene.receive(&peer, "abc");
    let known = scene.event_loop.context().with_protocol(id, |member: &mut Member, transport| {
        member.knows += 1;
        transport.write(b"hello");
        transport.id()
    });
    assert_eq!((known, peer.take_sent()), (Ok(id), vec![]));
    assert_eq!(scene.event_loop.context().with_protocol(id, |member: &mut Member, _| member.knows), Ok(4));
    scene.turn();
    assert_eq!(peer.take_sent(), b"hello");
}

#[test]
fn c3_gone_and_busy_and_other_type_are_told_apart() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = accept(&mut scene, member(&log));
    let mut context = scene.event_loop.context();
    assert_eq!(context.with_protocol(id, |_: &mut Adapter, _| ()), Err(NotReached::OtherType));
    assert_eq!(context.with_protocol(id, |_: &mut Box<dyn Protocol>, _| ()), Err(NotReached::OtherType), "its box");
    let nested = context.with_protocol(id, |_: &mut Member, transport| {
        let of_other_type = transport.with_protocol(id, |_: &mut Adapter, _| ());
        (transport.with_protocol(id, |_: &mut Member, _| ()), of_other_type)
    });
    assert_eq!(nested, Ok((Err(NotReached::Busy), Err(NotReached::Busy))));
    context.connection(id).unwrap().abort();
    assert_eq!(context.with_protocol(id, |_: &mut Member, _| ()), Err(NotReached::Gone), "its end is not told yet");
    scene.settle();
    assert_eq!(scene.event_loop.context().with_protocol(id, |_: &mut Member, _| ()), Err(NotReached::Gone));
    assert_eq!((log.take().len(), peer.is_closed()), (2, true));
    let texts = [NotReached::Gone, NotReached::Busy, NotReached::OtherType].map(|why| why.to_string());
    assert_eq!(texts, ["the connection has ended", "the protocol is in use already", "the protocol has another type"]);
}

#[test]
fn c3_a_callback_finds_its_own_protocol_busy_and_the_next_one_free() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let next = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            let id = transport.id();
            assert_eq!(transport.with_protocol(id, |_: &mut Member, _| ()), Err(NotReached::Busy));
            transport.set_protocol(member(&next));
            transport.write(b"one, ");
            let call = |member: &mut Member, transport: &mut Transport<'_>| {
                member.knows = 10;
                transport.write(b"two, ");
            };
            assert_eq!(transport.with_protocol(id, call), Ok(()));
            transport.write(b"three");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    scene.receive(&peer, "yz");
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "data x", "member 12 lost: closed by the peer", "dropped"]);
    assert_eq!(peer.take_sent(), b"one, two, three");
}

#[test]
fn c3_what_is_wrapped_is_found_and_the_outermost_first() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, Box::new(Adapter(Box::new(Adapter(member(&log))))));
    let mut context = scene.event_loop.context();
    assert_eq!(context.with_protocol(id, |member: &mut Member, _| member.knows += 1), Ok(()));
    let is_outermost = |of: &mut Adapter, _: &mut Transport<'_>| {
        crate::protocol::find(&mut *of.0, std::any::TypeId::of::<Adapter>()).is_some()
    };
    assert_eq!(context.with_protocol(id, is_outermost), Ok(true));
}

#[cfg(feature = "framing")]
#[test]
fn c3_handlers_and_what_wraps_them_are_found() {
    use crate::framing::{FixedSize, FrameHandler, Framed, LineHandler, LineReceiver, Telnet};
    struct Lines(usize);
    impl LineHandler for Lines {
        fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
            self.0 += 1;
        }
    }
    impl FrameHandler for Lines {
        fn frame_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
    }
    let mut scene = Scene::new();
    let (id, peer) = accept(&mut scene, Box::new(Telnet::new(LineReceiver::new(Lines(0)))));
    scene.receive(&peer, "one\ntwo\n");
    let mut context = scene.event_loop.context();
    assert_eq!(context.with_protocol(id, |lines: &mut Lines, _| lines.0), Ok(2));
    assert_eq!(context.with_protocol(id, |_: &mut LineReceiver<Lines>, _| ()), Ok(()));
    assert_eq!(context.with_protocol(id, |_: &mut Telnet<Lines>, _| ()), Ok(()));
    let (id, _peer) = accept(&mut scene, Box::new(Framed::new(FixedSize::new(4), Lines(7))));
    assert_eq!(scene.event_loop.context().with_protocol(id, |lines: &mut Lines, _| lines.0), Ok(7));
}

#[test]
fn c3_a_connection_is_reached_before_it_is_established_and_while_it_closes() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    let server: std::net::SocketAddr = ([10, 0, 0, 1], 80).into();
    let id = scene.event_loop.context().connect(server, member(&log)).unwrap();
    let write = |member: &mut Member, transport: &mut Transport<'_>| {
        member.knows += 1;
        transport.write(b"early");
    };
    assert_eq!(scene.event_loop.context().with_protocol(id, write), Ok(()));
    peer.answers();
    scene.world.event(&peer, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(peer.take_sent(), b"early");
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(b"the rest");
        transport.close();
    });
    assert_eq!(scene.event_loop.context().with_protocol(id, |member: &mut Member, _| member.knows), Ok(1));
}

#[test]
fn c3_what_is_done_to_the_connection_meanwhile_holds() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, member(&log));
    let next = log.clone();
    let replace = move |of: &mut Member, transport: &mut Transport<'_>| {
        of.knows = 1;
        transport.set_protocol(Member { log: next.clone(), knows: 2 });
        transport.with_protocol(id, |of: &mut Member, _| of.knows).unwrap()
    };
    assert_eq!(scene.event_loop.context().with_protocol(id, replace), Ok(2));
    scene.settle();
    assert_eq!(log.take(), ["dropped"]);
    assert_eq!(scene.event_loop.context().with_protocol(id, |_: &mut Member, it| it.abort()), Ok(()));
    scene.settle();
    assert_eq!(log.take(), ["member 2 lost: aborted by us", "dropped"]);
}

#[test]
fn c3_two_connections_reach_each_other_in_turn_and_nobody_twice() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (first, _one) = accept(&mut scene, member(&log));
    let (second, _two) = accept(&mut scene, member(&log));
    let found = scene.event_loop.context().with_protocol(first, |_: &mut Member, transport| {
        transport.with_protocol(second, |of: &mut Member, transport| {
            of.knows = 1;
            transport.with_protocol(first, |_: &mut Member, _| ())
        })
    });
    assert_eq!(found, Ok(Ok(Err(NotReached::Busy))));
    assert!(scene.event_loop.context().connection(first).is_some());
}

#[test]
fn e1_a_panic_in_what_reaches_a_protocol_ends_both() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (other, peer) = accept(&mut scene, member(&log));
    let (_, caller) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            let _ = transport.with_protocol(other, |_: &mut Member, _| panic!("deliberate"));
        }
        by_default(&event, transport)
    });
    scene.receive(&caller, "x");
    let ends = ["member 0 lost: a callback panicked: deliberate", "dropped", "lost: a callback panicked: deliberate"];
    assert_eq!(log.take(), [&["made", "data x"], &ends[..]].concat());
    assert_eq!(scene.event_loop.context().counters().panics, 1);
    assert!(peer.is_closed() && caller.is_closed());
}

#[test]
fn e1_outside_of_callbacks_the_panic_goes_on_into_the_caller() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, member(&log));
    let unwinds = catch_unwind(AssertUnwindSafe(|| {
        scene.event_loop.context().with_protocol(id, |_: &mut Member, _| panic!("deliberate"))
    }));
    assert_eq!(*unwinds.unwrap_err().downcast::<&str>().unwrap(), "deliberate");
    scene.settle();
    assert_eq!(log.take(), ["member 0 lost: a callback panicked: deliberate", "dropped"]);
}

#[test]
fn c3_another_connection_by_its_id_outlives_the_context_that_would_have_found_it() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (other, peer) = scene.accept(&log, idle);
    let (_, caller) = scene.accept(&log, move |event, transport| {
        if let (Event::Data(_), Some(mut found)) = (&event, transport.connection(other)) {
            found.write(b"to the other");
            found.abort();
            assert!(transport.connection(other).is_none(), "it has ended");
        }
        by_default(&event, transport)
    });
    scene.receive(&caller, "x");
    assert!(peer.is_closed());
    assert_eq!(log.take(), ["made", "made", "data x", "lost: aborted by us"]);
}
