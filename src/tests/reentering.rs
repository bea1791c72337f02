//! Rules C3, C4 and C5: callbacks that reach into the loop, ids that outlive what they name, ends that coincide.

use super::*;

#[test]
fn c3_no_method_calls_back_while_user_code_holds_its_state_borrowed() {
    // All members share one state, which every callback borrows for as long as it runs.
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
    let state = Rc::new(RefCell::new(Vec::<ConnectionId>::new()));
    let log = Log::default();
    let mut peers = Vec::new();
    for _ in 0..4 {
        let shared = state.clone();
        let (_, peer) = scene.accept(&log, move |event, transport| {
            let mut members = shared.borrow_mut();
            match event {
                Event::Made => members.push(transport.id()),
                Event::Data(data) => {
                    let context = &mut transport.context();
                    for (n, &member) in members.iter().enumerate() {
                        // To itself and to the others: cross every mark, end it, and replace it.
                        let Some(mut member) = context.connection(member) else { continue };
                        member.write(&[0; 1000]);
                        member.write_owned(vec![0; 20_000]);
                        member.pause_reading();
                        member.resume_reading();
                        match n {
                            0 => member.close(),
                            1 => member.abort(),
                            2 => member.shutdown_write(),
                            _ => {}
                        }
                    }
                    context.call_later(Duration::ZERO, |_| {});
                    return data.len();
                }
                Event::Lost(_) => {
                    let gone = transport.id();
                    members.retain(|&member| member != gone);
                }
                _ => {}
            }
            by_default(&event, transport)
        });
        peer.set_room(500);
        peers.push(peer);
    }
    // What was requested while no callback could be called still happens, for all of them.
    for peer in &peers {
        scene.receive(peer, "x");
        scene.make_room(peer, usize::MAX);
    }
    scene.pass(Duration::from_secs(10));
    assert!(state.borrow().is_empty());
    let entries = log.take();
    assert_eq!(entries.iter().filter(|entry| entry.starts_with("lost")).count(), 4, "{entries:?}");
}

#[test]
fn c3_what_is_called_between_turns_calls_nobody_either() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
    let state = Rc::new(RefCell::new(0));
    let log = Log::default();
    let act = |state: &Rc<RefCell<i32>>| {
        let shared = state.clone();
        move |event: Event<'_>, transport: &mut Transport<'_>| {
            *shared.borrow_mut() += 1;
            by_default(&event, transport)
        }
    };
    let (first, _first_peer) = scene.accept(&log, act(&state));
    let (second, second_peer) = scene.accept(&log, act(&state));
    second_peer.set_room(0);
    let shared = state.clone();
    let (listener, backlog) = {
        let held = state.borrow_mut();
        let listening = scene.listen(move |_, _| {
            *shared.borrow_mut() += 1;
            None
        });
        backlog_event(&scene, &listening.1);
        scene.attach(&log, act(&state));
        let mut context = scene.event_loop.context();
        context.call_later(Duration::ZERO, |_| {});
        context.connection(first).unwrap().abort();
        let mut transport = context.connection(second).unwrap();
        transport.write(&[0; 100_000]);
        transport.close();
        transport.abort();
        drop(held);
        listening
    };
    assert_eq!(log.take(), ["made", "made"]);
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: aborted by us", "lost: aborted by us"]);
    assert_eq!(backlog.waiting(), 0, "the factory was called, in a turn");
    let held = state.borrow_mut();
    scene.event_loop.context().listener(listener).unwrap().close();
    drop(held);
}

fn backlog_event(scene: &Scene, backlog: &Backlog) {
    backlog.connect();
    scene.world.event(backlog, Readiness::READABLE);
}

#[test]
fn c3_callbacks_that_cause_each_other_for_ever_come_one_a_phase_and_never_nest() {
    let mut scene = Scene::new();
    let log = Log::default();
    let running = Rc::new(RefCell::new(()));
    let (id, peer) = scene.accept(&log, move |event, transport| {
        let _alone = running.borrow_mut();
        match event {
            Event::Pause => transport.set_write_marks(1000, 1000),
            Event::Resume => transport.set_write_marks(10, 10),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(id).unwrap();
    transport.set_write_marks(10, 10);
    transport.write(b"x");
    log.take();
    let mut callbacks = Vec::new();
    for _ in 0..1000 {
        scene.turn();
        let came = log.take();
        // From what is carried over, and from the flush.
        assert!((1..=2).contains(&came.len()));
        callbacks.extend(came);
    }
    assert!(callbacks.chunks(2).all(|pair| pair[0] == "pause" && pair.get(1).is_none_or(|second| second == "resume")));
}

#[test]
fn c4_the_socket_is_closed_when_connection_lost_runs_and_the_slot_is_freed_after_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let known = Rc::new(RefCell::new(None::<Peer>));
    let seen = known.clone();
    let (id, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Lost(_) = event {
            assert!(seen.borrow().as_ref().unwrap().is_closed());
            assert_eq!(transport.local_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
            assert_eq!(transport.context().connection_count(), 1);
            let own = transport.id();
            assert!(transport.context().connection(own).is_none(), "it has ended");
        }
        by_default(&event, transport)
    });
    *known.borrow_mut() = Some(peer.clone());
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
    assert_eq!(scene.event_loop.context().connection_count(), 0);
    assert!(scene.event_loop.context().connection(id).is_none());
}

#[test]
fn c4_no_slot_is_free_before_the_last_callback_of_the_turn() {
    let mut scene = Scene::new();
    let log = Log::default();
    let act = |log: &Log| {
        let log = log.clone();
        move |event: Event<'_>, transport: &mut Transport<'_>| {
            if let Event::Lost(_) = event {
                log.push(format!("{} slots", transport.context().connection_count()));
            }
            by_default(&event, transport)
        }
    };
    let peers: Vec<_> = (0..2).map(|_| scene.accept(&Log::default(), act(&log)).1).collect();
    for peer in &peers {
        peer.sends([]);
        scene.world.event(peer, Readiness::READABLE | Readiness::READ_CLOSED);
    }
    scene.settle();
    assert_eq!(log.take(), ["2 slots", "2 slots"], "the first one's is kept until the turn is over");
}

#[test]
fn c4_a_slot_is_not_reused_within_the_turn_and_its_events_hit_nobody() {
    let mut scene = Scene::new();
    let (victim_log, newcomer_log) = (Log::default(), Log::default());
    let (victim, victim_peer) = scene.accept(&victim_log, echo);
    let (_, killer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            transport.context().connection(victim).unwrap().abort();
        }
        by_default(&event, transport)
    });
    // In one batch: the victim is ended, another connection comes, and then there are events for the victim.
    killer.sends("x");
    scene.world.event(&killer, Readiness::READABLE);
    let newcomer = scene.knock(Some(protocol(&newcomer_log, echo)));
    victim_peer.sends("for the victim");
    newcomer.sends("for the newcomer");
    scene.world.event(&victim_peer, Readiness::READABLE);
    scene.turn();
    assert_eq!(victim_log.take(), ["made", "lost: aborted by us"]);
    assert_eq!(newcomer_log.take(), ["made"]);
    let slot = |peer: &Peer| crate::ids::slot_of(sys::script::Registered::token(peer));
    assert_ne!(slot(&newcomer), slot(&victim_peer));
    // The next connection has that slot. A late event for the victim must not reach it.
    let successor_log = Log::default();
    let (successor, successor_peer) = scene.accept(&successor_log, echo);
    assert_eq!(slot(&successor_peer), slot(&victim_peer));
    successor_peer.sends("for the successor");
    scene.world.event(&victim_peer, Readiness::READABLE);
    scene.turn();
    assert_eq!(successor_log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().counters().stale_events, 1);
    assert_ne!(successor, victim);
}

#[test]
fn c4_stale_ids_reach_nobody() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (old, _old_peer) = scene.accept(&log, echo);
    scene.event_loop.context().connection(old).unwrap().abort();
    assert!(scene.event_loop.context().connection(old).is_none(), "from the abort on");
    scene.settle();
    let (_, peer) = scene.accept(&log, echo);
    let (old_listener, old_backlog) = scene.listen(|_, _| None);
    scene.event_loop.context().listener(old_listener).unwrap().close();
    assert!(old_backlog.is_closed());
    let (_, _backlog) = scene.listen(|_, _| None);
    let mut context = scene.event_loop.context();
    let timer = context.call_later(Duration::ZERO, |_| {});
    assert!(context.cancel_timer(timer));
    context.call_later(Duration::from_secs(1), |_| {});
    assert!(context.connection(old).is_none());
    assert!(context.listener(old_listener).is_none());
    assert!(!context.cancel_timer(timer));
    assert!(
        !context.set_background(old, true)
            && !context.set_background(old_listener, true)
            && !context.set_background(timer, true)
    );
    // A listener's id, used as a connection's or a source's, names neither.
    assert!(context.connection(ConnectionId(scene.listener.0)).is_none());
    assert!(!context.deregister(crate::SourceId(scene.listener.0)));
    assert!(!peer.is_closed());
}

#[test]
fn c4_tokens_that_nobody_has_are_counted_and_no_more() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    let token = sys::script::Registered::token(&peer);
    for stale in [token + 1, token ^ (1 << (crate::ids::SLOT_BITS + 8)), 0, 12_345, usize::MAX - 1, usize::MAX] {
        scene.world.raw_event(stale, Readiness::READABLE | Readiness::ERROR);
    }
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x"]);
    assert_eq!(scene.event_loop.context().counters().stale_events, 6);
}

#[test]
fn c5_ends_that_meet_in_one_turn_are_one_end_with_the_first_reason() {
    type Act = fn(&mut Transport<'_>);
    let ends: [(&str, Act); 6] = [
        ("aborted by us", |transport| {
            transport.abort();
            transport.abort();
            transport.close();
            transport.close_for("too late");
        }),
        ("aborted by us", |transport| {
            transport.close();
            transport.abort();
        }),
        ("aborted by us", |transport| {
            transport.abort();
            panic!("too late");
        }),
        ("a callback panicked: before it was flushed", |transport| {
            transport.close();
            panic!("before it was flushed");
        }),
        ("closed by us", |transport| {
            transport.close();
            transport.close();
            transport.close_for("too late");
        }),
        ("protocol error: first", |transport| {
            transport.close_for("first");
            transport.close_for("second");
            transport.close();
        }),
    ];
    for (reason, end) in ends {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let log = Log::default();
        let (_, peer) = scene.accept(&log, move |event, transport| {
            if let Event::Data(_) = event {
                end(transport);
            }
            by_default(&event, transport)
        });
        scene.receive(&peer, "x");
        assert_eq!(log.take(), ["made", "data x", &format!("lost: {reason}")]);
        assert_eq!(scene.event_loop.context().counters().connections_lost, 1);
    }
}

#[test]
fn c5_two_that_end_each_other_in_one_batch_are_lost_once_each() {
    let mut scene = Scene::new();
    let (first_log, second_log) = (Log::default(), Log::default());
    let ids = Rc::new(RefCell::new(Vec::<ConnectionId>::new()));
    let ends_the_other = |ids: &Rc<RefCell<Vec<ConnectionId>>>| {
        let ids = ids.clone();
        move |event: Event<'_>, transport: &mut Transport<'_>| {
            if let Event::Data(_) | Event::Lost(_) = event {
                for &id in ids.borrow().iter() {
                    if let Some(mut other) = transport.context().connection(id) {
                        other.abort();
                    }
                }
            }
            by_default(&event, transport)
        }
    };
    let (first, first_peer) = scene.accept(&first_log, ends_the_other(&ids));
    let (second, second_peer) = scene.accept(&second_log, ends_the_other(&ids));
    ids.borrow_mut().extend([second, first]);
    for peer in [&first_peer, &second_peer] {
        peer.sends("x");
        scene.world.event(peer, Readiness::READABLE);
    }
    scene.settle();
    assert_eq!(first_log.take(), ["made", "data x", "lost: aborted by us"]);
    assert_eq!(second_log.take(), ["made", "lost: aborted by us"], "no data after it was ended");
}

/// Clears the list when it is dropped.
struct Member(Rc<RefCell<Vec<u32>>>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.borrow_mut().clear();
    }
}

#[test]
fn c3_closing_a_listener_drops_what_is_the_user_s_only_later() {
    let mut scene = Scene::new();
    let list = Rc::new(RefCell::new(vec![1]));
    let member = Member(list.clone());
    let (listener, _backlog) = scene.listen(move |_, _| {
        let _ = &member;
        None
    });
    let held = list.borrow_mut();
    scene.event_loop.context().listener(listener).unwrap().close();
    drop(held);
    scene.settle();
    assert_eq!(scene.event_loop.context().counters().panics, 0);
    assert!(list.borrow().is_empty());
}

#[test]
fn c3_cancelling_a_timer_drops_what_is_the_user_s_only_later() {
    let mut scene = Scene::new();
    let list = Rc::new(RefCell::new(vec![1]));
    let member = Member(list.clone());
    let timer = scene.event_loop.context().call_later(Duration::ZERO, move |_| drop(member));
    let held = list.borrow_mut();
    scene.event_loop.context().cancel_timer(timer);
    drop(held);
}
