//! Rule E1: panics of user code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use super::*;
use crate::sys::script::Call;

const POLICIES: [PanicPolicy; 2] = [PanicPolicy::Isolate, PanicPolicy::Propagate];

/// Runs one turn, and returns what propagates out of it.
fn turn(scene: &mut Scene) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| scene.turn()))
}

/// Turns until nothing is carried over, and returns the panics that propagated.
fn settle(scene: &mut Scene) -> Vec<Box<dyn Any + Send>> {
    let mut panics = Vec::new();
    for _ in 0..1000 {
        panics.extend(turn(scene).err());
        if scene.event_loop.time_to_next() != Some(Duration::ZERO) {
            return panics;
        }
    }
    panic!("the loop does not come to rest");
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// Panics when it is dropped.
struct Explosive(#[allow(dead_code)] Bomb);

impl Protocol for Explosive {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

fn explosive() -> Box<dyn Protocol> {
    Box::new(Explosive(Bomb("in a destructor")))
}

#[test]
fn e1_a_panic_in_any_callback_ends_that_connection_and_no_other() {
    let life = ["made", "data x", "pause", "resume", "eof", "lost: closed by the peer"];
    for (at, place) in life.into_iter().enumerate() {
        for policy in POLICIES {
            let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
            scene.event_loop.set_panic_policy(policy);
            let (log, other_log) = (Log::default(), Log::default());
            let peer = scene.knock(Some(protocol(&log, move |event: Event<'_>, transport: &mut Transport<'_>| {
                if event.shown() == place {
                    transport.write(b"half an answer");
                    panic!("in {place}");
                }
                if let Event::Data(_) = event {
                    transport.write(&[0; 50]);
                }
                by_default(&event, transport)
            })));
            let other = scene.knock(Some(protocol(&other_log, echo)));
            peer.set_room(0);
            let mut panics = settle(&mut scene);
            // Both are ready each time, and the one that panics comes first.
            type Act = fn(&Peer);
            let acts: [Act; 3] = [|peer| peer.sends("x"), |peer| peer.set_room(1000), |peer| peer.sends("")];
            for act in acts {
                if !peer.is_closed() {
                    act(&peer);
                    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE);
                }
                other.sends("y");
                scene.world.event(&other, Readiness::READABLE);
                panics.extend(turn(&mut scene).err());
                assert_eq!(other.take_sent(), b"y", "{place}, {policy:?}: it is served in the same turn");
                panics.extend(settle(&mut scene));
            }
            let mut expected: Vec<_> = life[..=at].iter().map(ToString::to_string).collect();
            if at < life.len() - 1 {
                expected.push(format!("lost: a callback panicked: in {place}"));
                assert!(peer.take_calls().contains(&Call::Reset), "{place}");
            }
            assert_eq!(log.take(), expected, "{policy:?}");
            assert_eq!(other_log.take(), ["made", "data y", "data y", "data y"]);
            assert!(peer.take_sent().iter().all(|&byte| byte == 0), "{place}: what it wrote there was dropped");
            let messages: Vec<_> = panics.iter().map(|payload| message(&**payload)).collect();
            match policy {
                PanicPolicy::Propagate => assert_eq!(messages, [format!("in {place}")]),
                _ => assert!(messages.is_empty(), "{messages:?}"),
            }
            let counters = scene.event_loop.context().counters();
            assert_eq!((counters.panics, counters.connections_lost), (1, 1), "{place}");
            assert_eq!(scene.event_loop.context().connection_count(), 1, "its slot was freed");
            // The loop goes on, and so does its listener.
            let (_, newcomer) = scene.accept(&other_log, echo);
            scene.receive(&newcomer, "z");
            assert_eq!(newcomer.take_sent(), b"z");
        }
    }
}

#[test]
fn e1_a_panic_keeps_what_others_were_written_to() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (other, other_peer) = scene.accept(&Log::default(), echo);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"dropped");
            transport.context().connection(other).unwrap().write(b"kept");
            panic!("then");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(peer.take_sent(), b"");
    assert_eq!(other_peer.take_sent(), b"kept");
}

#[test]
fn e1_a_panic_does_not_lose_who_waits_behind_it_in_the_backlog() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        scene.knock(Some(protocol(&Log::default(), |_, _| panic!("in connection_made"))));
        scene.knock(Some(protocol(&log, echo)));
        assert_eq!(turn(&mut scene).is_err(), policy == PanicPolicy::Propagate);
        assert_eq!(log.take(), ["made"]);
    }
}

#[test]
fn e1_a_panic_does_not_lose_who_stands_behind_it_on_the_lists_of_work() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        let [(first, first_peer), (second, second_peer)] = ["first", "second"].map(|name| {
            let noted = log.clone();
            scene.accept(&Log::default(), move |event, transport| {
                if let Event::Data(_) | Event::Pause = event {
                    noted.push(format!("{name} {}", event.shown()));
                    assert_ne!(name, "first", "in a callback");
                }
                by_default(&event, transport)
            })
        });
        // On the list of connections that others wrote to, or on the ready list.
        let flushed = policy == PanicPolicy::Isolate;
        for (id, peer) in [(first, &first_peer), (second, &second_peer)] {
            let mut context = scene.event_loop.context();
            let mut transport = context.connection(id).unwrap();
            if flushed {
                peer.set_room(0);
                transport.set_write_marks(10, 0);
                transport.write(b"more than it takes");
            } else {
                peer.sends("x");
                transport.pause_reading();
                transport.resume_reading();
            }
        }
        assert_eq!(turn(&mut scene).is_err(), policy == PanicPolicy::Propagate);
        let what = if flushed { "pause" } else { "data x" };
        assert_eq!(log.take(), [format!("first {what}"), format!("second {what}")]);
    }
}

#[test]
fn e1_a_panic_in_connection_lost_is_told_to_nobody_and_the_next_is_still_told() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        let ids = [0, 1].map(|_| {
            scene.accept(&log, |event, transport| {
                assert!(!matches!(event, Event::Lost(_)), "in connection_lost");
                by_default(&event, transport)
            })
        });
        for (id, _) in &ids {
            scene.event_loop.context().connection(*id).unwrap().abort();
        }
        let result = turn(&mut scene);
        assert_eq!(result.is_err(), policy == PanicPolicy::Propagate, "the first comes out, the second is counted");
        assert!(settle(&mut scene).is_empty());
        assert_eq!(log.take(), ["made", "made", "lost: aborted by us", "lost: aborted by us"]);
        assert_eq!(scene.event_loop.context().counters().panics, 2);
        assert_eq!(scene.event_loop.context().connection_count(), 0);
    }
}

#[test]
fn e1_the_reason_carries_the_message_if_there_is_one() {
    type Throw = fn();
    let throws: [(&str, Throw); 3] = [
        ("a literal", || panic!("a literal")),
        ("a String of 2 parts", || panic!("a String of {} parts", 1 + 1)),
        ("(no message)", || panic_any(42)),
    ];
    for (message, throw) in throws {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let log = Log::default();
        let (_, peer) = scene.accept(&log, move |event, transport| {
            if let Event::Data(_) = event {
                throw();
            }
            by_default(&event, transport)
        });
        scene.receive(&peer, "x");
        assert_eq!(log.take(), ["made", "data x", &format!("lost: a callback panicked: {message}")]);
    }
}

#[test]
fn e1_what_propagates_is_what_was_thrown() {
    let mut scene = Scene::new();
    scene.event_loop.context().call_later(Duration::ZERO, |_| panic_any(42));
    assert_eq!(turn(&mut scene).unwrap_err().downcast_ref(), Some(&42));
}

#[test]
fn e1_of_several_panics_in_one_turn_the_first_propagates_and_all_are_counted() {
    let mut scene = Scene::new();
    for what in ["first", "second", "third"] {
        scene.event_loop.context().call_later(Duration::ZERO, move |_| panic!("{what}"));
    }
    assert_eq!(message(&*turn(&mut scene).unwrap_err()), "first");
    assert_eq!(scene.event_loop.context().counters().panics, 3);
    assert!(settle(&mut scene).is_empty(), "none comes out later");
}

#[test]
fn e1_a_payload_that_panics_when_dropped_ends_nothing_more() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            panic_any(Bomb("in the payload"));
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "lost: a callback panicked: (no message)"]);
}

#[test]
fn e1_a_panic_in_a_timer_leaves_the_other_timers_alone() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        let mut context = scene.event_loop.context();
        context.call_later(Duration::ZERO, |_| panic!("in a timer"));
        let noted = log.clone();
        context.call_later(Duration::ZERO, move |_| noted.push("second"));
        let noted = log.clone();
        context.call_later(Duration::from_millis(1), move |_| noted.push("third"));
        let result = turn(&mut scene);
        assert_eq!(result.is_err(), policy == PanicPolicy::Propagate);
        assert_eq!(log.take(), ["second"]);
        scene.pass(Duration::from_millis(1));
        assert_eq!(log.take(), ["third"]);
    }
}

#[test]
fn a5_a_panic_in_a_factory_closes_that_socket_and_the_listener_goes_on() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        let (noted, mut calls) = (log.clone(), 0);
        let (listener, backlog) = scene.listen(move |_, _| {
            calls += 1;
            assert!(calls % 3 != 0, "in a factory");
            Some(protocol(&noted, echo))
        });
        let peers: Vec<_> = (0..6).map(|_| backlog.connect()).collect();
        scene.world.event(&backlog, Readiness::READABLE);
        assert_eq!(turn(&mut scene).is_err(), policy == PanicPolicy::Propagate);
        assert_eq!(log.take(), ["made"; 4]);
        let closed: Vec<_> = peers.iter().map(Peer::is_closed).collect();
        assert_eq!(closed, [false, false, true, false, false, true]);
        assert_eq!(peers[2].take_calls(), [Call::Reset]);
        assert_eq!(scene.event_loop.context().listener(listener).unwrap().connection_count(), 4);
        assert_eq!(scene.event_loop.context().counters().panics, 2);
    }
}

#[test]
fn e1_a_panic_in_the_hook_of_a_listener_is_caught_and_the_hook_stays() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let noted = log.clone();
    scene.event_loop.context().listener(scene.listener).unwrap().on_error(move |_, _, _| {
        noted.push("told");
        panic!("in the hook");
    });
    let accepted = Log::default();
    for _ in 0..2 {
        scene.backlog.accept_fails(os_error(errno::EMFILE));
    }
    scene.knock(Some(protocol(&accepted, echo)));
    scene.pass(Duration::from_secs(1));
    assert_eq!(log.take(), ["told", "told"]);
    assert_eq!(accepted.take(), ["made"]);
}

#[test]
fn e1_destructors_that_panic_end_nothing_more() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        // A protocol of a lost connection.
        let peer = scene.knock(Some(explosive()));
        assert!(settle(&mut scene).is_empty());
        let (replaced, _replaced_peer) = scene.accept(&log, echo);
        let (_, bystander) = scene.accept(&log, echo);
        log.take();
        peer.sends("");
        scene.world.event(&peer, Readiness::READABLE);
        bystander.sends("x");
        scene.world.event(&bystander, Readiness::READABLE);
        let mut panics = settle(&mut scene);
        assert_eq!(log.take(), ["data x"]);
        // A protocol that was replaced.
        for _ in 0..2 {
            scene.event_loop.context().connection(replaced).unwrap().set_protocol(explosive());
        }
        panics.extend(settle(&mut scene));
        // A timer that was called.
        let bomb = Bomb("in a destructor");
        scene.event_loop.context().call_later(Duration::ZERO, move |_| drop(bomb));
        panics.extend(settle(&mut scene));
        // A factory.
        let bomb = Bomb("in a destructor");
        let (listener, _backlog) = scene.listen(move |_, _| {
            let _ = &bomb;
            None
        });
        scene.event_loop.context().listener(listener).unwrap().close();
        panics.extend(settle(&mut scene));
        assert_eq!(scene.event_loop.context().counters().panics, 4);
        let messages: Vec<_> = panics.iter().map(|payload| message(&**payload)).collect();
        match policy {
            PanicPolicy::Propagate => assert_eq!(messages, ["in a destructor"; 4]),
            _ => assert!(messages.is_empty()),
        }
        scene.receive(&bystander, "y");
        assert_eq!(log.take(), ["data y"]);
        // And the last one, which is dropped with the loop.
        drop(scene);
        assert_eq!(log.take(), ["lost: the loop was shut down"]);
    }
}

#[test]
fn e1_dropping_the_loop_tells_all_though_some_panic() {
    for policy in POLICIES {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(policy);
        let log = Log::default();
        for _ in 0..3 {
            scene.accept(&log, |event, transport| {
                assert!(!matches!(event, Event::Lost(_)), "in connection_lost");
                by_default(&event, transport)
            });
        }
        log.take();
        for what in ["first", "second"] {
            let bomb = Bomb(what);
            scene.event_loop.context().call_later(Duration::MAX, move |_| drop(bomb));
        }
        drop(scene);
        assert_eq!(log.take(), ["lost: the loop was shut down"; 3]);
    }
}

#[test]
fn e1_run_can_be_called_again_after_a_panic_came_out_of_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.context().stop();
            panic!("in a callback");
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    let result = catch_unwind(AssertUnwindSafe(|| scene.event_loop.run()));
    assert_eq!(message(&*result.unwrap_err()), "in a callback");
    assert_eq!(log.take(), ["made", "data x", "lost: a callback panicked: in a callback"], "in that same turn");
    // It was stopped, too.
    scene.world.take_waits();
    scene.event_loop.run().unwrap();
    assert!(scene.world.take_waits().is_empty());
    scene.event_loop.context().call_later(Duration::ZERO, stop);
    scene.event_loop.run().unwrap();
}
