//! Rules A2 and A4: a listener that is out of descriptors, and one that has all the connections it may have.

use super::accepting::{hook, knock_behind, linger};
use super::*;
use crate::WhenFull;
use crate::sys::script::Call;

#[test]
fn a2_accepting_backs_off_from_10_ms_to_1_s_and_begins_anew_after_a_success() {
    let mut scene = Scene::new();
    let (log, told) = (Log::default(), hook(&mut scene));
    knock_behind(&mut scene, &log, [errno::EMFILE; 10]);
    scene.pass(3999 * MS);
    let times = [0, 10, 30, 70, 150, 310, 630, 1270, 2270, 3270];
    assert_eq!(told.take(), times.map(|ms| format!("overloaded at {ms}")));
    assert_eq!(scene.backlog.take_calls(), 10, "nothing but the timer makes it try");
    scene.pass(1000 * MS);
    assert_eq!(log.take(), ["made"]);
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    scene.settle();
    assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
}

#[test]
fn a2_accepting_does_not_try_before_its_time_whatever_the_poller_says() {
    let mut scene = Scene::new();
    let log = Log::default();
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    scene.settle();
    scene.backlog.take_calls();
    for _ in 0..9 {
        scene.world.event(&scene.backlog, Readiness::READABLE);
        scene.pass(MS);
        assert_eq!(scene.backlog.take_calls(), 0);
    }
    scene.pass(MS);
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a2_accepting_tries_again_at_once_when_the_loop_has_closed_a_descriptor() {
    type Close = fn(&mut Scene, ConnectionId, &Peer, ListenerId);
    let closes: [(&str, Close); 4] = [
        ("abort", |scene, id, _, _| scene.event_loop.context().connection(id).unwrap().abort()),
        ("close", |scene, id, _, _| scene.event_loop.context().connection(id).unwrap().close()),
        ("the peer's end", |scene, _, peer, _| {
            peer.sends("");
            scene.world.event(peer, Readiness::READABLE);
        }),
        ("a listener's end", |scene, _, _, other| scene.event_loop.context().listener(other).unwrap().close()),
    ];
    for (name, close) in closes {
        let mut scene = Scene::new();
        let (log, told) = (Log::default(), hook(&mut scene));
        let (id, peer) = scene.accept(&Log::default(), echo);
        let (other, _backlog) = scene.listen(|_, _| None);
        // Long enough without success for it to wait a whole second.
        knock_behind(&mut scene, &log, [errno::EMFILE; 9]);
        scene.pass(2300 * MS);
        assert_eq!((log.take().len(), told.take().len()), (0, 9));
        let start = scene.world.now();
        close(&mut scene, id, &peer, other);
        scene.settle();
        assert_eq!((log.take(), scene.world.now()), (vec!["made".to_owned()], start), "{name}");
    }
}

#[test]
fn a2_every_listener_that_backs_off_tries_again_when_a_descriptor_was_closed() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, _peer) = scene.accept(&Log::default(), echo);
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    let noted = log.clone();
    let (_, other) = scene.listen(move |_, _| Some(protocol(&noted, echo)));
    other.accept_fails(os_error(errno::ENFILE));
    other.connect();
    scene.world.event(&other, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), [""; 0]);
    scene.event_loop.context().connection(id).unwrap().abort();
    scene.settle();
    assert_eq!(log.take(), ["made"; 2]);
    assert_eq!(scene.event_loop.time_to_next(), None, "their timers are gone");
}

#[test]
fn a2_a_refusal_by_another_listener_s_factory_closes_a_descriptor_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, other_backlog) = scene.listen(|_, _| None);
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    scene.settle();
    other_backlog.connect();
    scene.world.event(&other_backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a2_a_hook_that_makes_room_is_answered_at_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (idle, _idle_peer) = scene.accept(&Log::default(), echo);
    scene.event_loop.context().listener(scene.listener).unwrap().on_error(move |context, _, _| {
        context.connection(idle).unwrap().abort();
    });
    let start = scene.world.now();
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    scene.settle();
    assert_eq!((log.take(), scene.world.now()), (vec!["made".to_owned()], start));
}

#[test]
fn a2_a_hook_may_close_pause_or_re_hook_its_own_listener() {
    for what in ["close", "pause", "hook"] {
        let mut scene = Scene::new();
        let log = Log::default();
        let told = Log::default();
        let noted = told.clone();
        scene.event_loop.context().listener(scene.listener).unwrap().on_error(move |context, id, _| {
            noted.push("first hook");
            let mut listener = context.listener(id).unwrap();
            match what {
                "close" => listener.close(),
                "pause" => listener.pause(),
                _ => {
                    let noted = noted.clone();
                    listener.on_error(move |_, _, _| noted.push("second hook"));
                }
            }
        });
        let errors = if what == "hook" { 2 } else { 1 };
        knock_behind(&mut scene, &log, std::iter::repeat_n(errno::EMFILE, errors));
        scene.pass(5000 * MS);
        assert_eq!(scene.event_loop.time_to_next(), None, "{what}: no timer is left");
        match what {
            "close" => assert_eq!((log.take().len(), told.take().len()), (0, 1)),
            "pause" => {
                assert_eq!((log.take().len(), told.take().len()), (0, 1));
                scene.event_loop.context().listener(scene.listener).unwrap().resume();
                scene.settle();
                assert_eq!((log.take().len(), told.take().len()), (1, 0));
            }
            _ => assert_eq!((log.take().len(), told.take()), (1, vec!["first hook".into(), "second hook".into()])),
        }
    }
}

#[test]
fn a2_overload_leaves_those_who_are_served_alone() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    knock_behind(&mut scene, &Log::default(), [errno::EMFILE; 100]);
    for n in 0..50 {
        scene.receive(&peer, "x");
        assert_eq!(peer.take_sent(), b"x", "message {n}");
        scene.pass(10 * MS);
    }
}

#[test]
fn a2_a_listener_closed_while_it_backs_off_leaves_no_timer() {
    let mut scene = Scene::new();
    knock_behind(&mut scene, &Log::default(), [errno::EMFILE]);
    scene.settle();
    assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
    scene.event_loop.context().listener(scene.listener).unwrap().close();
    scene.settle();
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn a2_lingering_connections_are_given_up_first_on_overload() {
    let mut scene = Scene::new();
    let (log, told) = (Log::default(), hook(&mut scene));
    let lingering = [linger(&mut scene, &Log::default()), linger(&mut scene, &Log::default())];
    let start = scene.world.now();
    knock_behind(&mut scene, &log, [errno::EMFILE]);
    scene.settle();
    assert_eq!((log.take(), told.take().len(), scene.world.now()), (vec!["made".to_owned()], 0, start));
    assert!(lingering[0].is_closed() && !lingering[1].is_closed(), "the older one, and no more than needed");
    assert_eq!(lingering[0].take_calls().last(), Some(&Call::Close));
}

#[test]
fn a4_at_the_cap_newcomers_wait_and_are_accepted_by_themselves_when_somebody_leaves() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(2));
    let log = Log::default();
    let (first, _first_peer) = scene.accept(&Log::default(), echo);
    let (_, second_peer) = scene.accept(&Log::default(), echo);
    scene.backlog.take_calls();
    for _ in 0..3 {
        scene.knock(Some(protocol(&log, echo)));
    }
    scene.settle();
    assert_eq!((log.take().len(), scene.backlog.waiting()), (0, 3));
    assert_eq!(scene.event_loop.time_to_next(), None, "it does not spin");
    assert_eq!(scene.backlog.take_calls(), 0);
    scene.event_loop.context().connection(first).unwrap().abort();
    scene.settle();
    assert_eq!((log.take().len(), scene.backlog.waiting()), (1, 2));
    scene.end(&second_peer);
    assert_eq!((log.take().len(), scene.backlog.waiting()), (1, 1));
    assert_eq!(scene.event_loop.context().listener(scene.listener).unwrap().connection_count(), 2);
}

#[test]
fn a4_the_cap_is_one_of_each_listener() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    scene.accept(&log, echo);
    scene.attach(&log, echo);
    let noted = log.clone();
    let (other, backlog) = scene.listen(move |_, _| Some(protocol(&noted, echo)));
    backlog.connect();
    scene.world.event(&backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made"; 3]);
    assert_eq!(scene.event_loop.context().listener(other).unwrap().connection_count(), 1);
}

#[test]
fn a4_a_raised_cap_lets_those_in_who_wait() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    for _ in 0..3 {
        scene.knock(Some(protocol(&log, echo)));
    }
    scene.settle();
    assert_eq!(log.take(), ["made"]);
    let mut context = scene.event_loop.context();
    context.listener(scene.listener).unwrap().set_limits(Limits::default().with_connections_max(2));
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a4_the_other_variant_accepts_and_closes() {
    let limits = Limits::default().with_connections_max(1).with_when_full(WhenFull::Refuse);
    let mut scene = Scene::with_limits(limits);
    let log = Log::default();
    let (id, _peer) = scene.accept(&log, echo);
    let refused: Vec<_> = (0..3).map(|_| scene.backlog.connect()).collect();
    scene.world.event(&scene.backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(scene.backlog.waiting(), 0);
    assert!(refused.iter().all(|peer| peer.take_calls() == [Call::Close]));
    assert_eq!(scene.event_loop.context().counters().connections_refused, 3);
    scene.event_loop.context().connection(id).unwrap().abort();
    scene.settle();
    scene.accept(&log, echo);
    assert_eq!(log.take(), ["made", "lost: aborted by us", "made"]);
}

#[test]
fn a4_who_is_refused_or_cannot_be_taken_in_does_not_count() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    scene.knock(None);
    scene.knock(Some(protocol(&Log::default(), echo))).refuse_registration();
    scene.knock(Some(protocol(&log, echo)));
    scene.settle();
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().listener(scene.listener).unwrap().connection_count(), 1);
}

#[test]
fn a4_a_lingering_connection_is_given_up_at_the_cap_when_somebody_waits() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let log = Log::default();
    let peer = linger(&mut scene, &Log::default());
    let start = scene.world.now();
    scene.knock(Some(protocol(&log, echo)));
    scene.settle();
    assert_eq!((log.take(), scene.world.now()), (vec!["made".to_owned()], start));
    assert!(peer.is_closed());
}

#[test]
fn a4_a_lingering_connection_is_not_given_up_at_the_cap_while_nobody_waits() {
    let mut scene = Scene::with_limits(Limits::default().with_connections_max(1));
    let act = |event: Event<'_>, transport: &mut Transport<'_>| {
        if let Event::Made = event {
            transport.write(b"go away");
            transport.close();
        }
        by_default(&event, transport)
    };
    let peer = scene.knock(Some(protocol(&Log::default(), act)));
    peer.sends("a request");
    scene.settle();
    assert!(!peer.is_closed(), "a close with input unread is a reset, which can destroy the answer");
}

#[test]
fn a4_a_lowered_cap_refuses_nobody_though_somebody_lingers() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene.accept(&Log::default(), echo);
    }
    linger(&mut scene, &Log::default());
    let mut context = scene.event_loop.context();
    context.listener(scene.listener).unwrap().set_limits(Limits::default().with_connections_max(1));
    let waiting = scene.knock(Some(protocol(&Log::default(), echo)));
    scene.settle();
    assert!(!waiting.is_closed(), "it waits in the backlog");
}

/// Makes this connection of the listener linger.
fn begin_lingering(scene: &mut Scene, id: ConnectionId, peer: &Peer) {
    peer.sends("unread");
    scene.tell(id, close);
    assert!(!peer.is_closed());
}

#[test]
fn a4_in_a_full_loop_a_connection_of_any_listener_that_begins_to_linger_makes_room() {
    for attached in [false, true] {
        let mut scene = Scene::with_limits(LoopLimits::default().with_loop_connections_max(Some(1)));
        let (log, noted) = (Log::default(), Log::default());
        let (id, peer) = match attached {
            true => scene.attach(&Log::default(), idle),
            false => scene.accept(&Log::default(), idle),
        };
        scene.settle();
        let notes = noted.clone();
        let (_, other) = scene.listen(move |_, _| Some(protocol(&notes, idle)));
        other.connect();
        scene.world.event(&other, Readiness::READABLE);
        scene.knock(Some(protocol(&log, idle)));
        scene.settle();
        assert!(log.take().is_empty() && noted.take().is_empty(), "the loop is full");
        let start = scene.world.now();
        peer.sends("unread");
        scene.tell(id, close);
        assert_eq!((log.take().len() + noted.take().len(), scene.world.now()), (1, start), "one of them comes in");
        assert!(peer.is_closed());
    }
}

#[test]
fn a4_a_lingering_connection_of_another_listener_makes_no_room_at_a_listener_s_own_cap() {
    let limits = LoopLimits::from(Limits::default().with_connections_max(1)).with_loop_connections_max(Some(2));
    let mut scene = Scene::with_limits(limits);
    let log = Log::default();
    let (served, _peer) = scene.accept(&Log::default(), idle);
    let (lingers, lingering) = scene.attach(&Log::default(), idle);
    scene.settle();
    begin_lingering(&mut scene, lingers, &lingering);
    let waiting = scene.knock(Some(protocol(&log, idle)));
    scene.event_loop.context().listener(scene.listener).unwrap().resume();
    scene.settle();
    // Giving the other one up would not help: it waits, and neither connection is closed for it.
    assert_eq!((waiting.is_closed(), lingering.is_closed(), log.take()), (false, false, vec![]));
    scene.event_loop.context().connection(served).unwrap().abort();
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a4_where_newcomers_are_refused_a_lingering_connection_makes_room_too() {
    for whole_loop in [false, true] {
        let each = Limits::default().with_when_full(WhenFull::Refuse);
        let limits = match whole_loop {
            true => LoopLimits::from(each).with_loop_connections_max(Some(1)),
            false => each.with_connections_max(1).into(),
        };
        let mut scene = Scene::with_limits(limits);
        let log = Log::default();
        let (id, lingering) = scene.accept(&Log::default(), idle);
        begin_lingering(&mut scene, id, &lingering);
        scene.knock(Some(protocol(&log, idle)));
        scene.settle();
        assert_eq!((log.take(), lingering.is_closed()), (vec!["made".to_owned()], true));
        let refused = scene.knock(Some(protocol(&log, idle)));
        scene.settle();
        assert_eq!((log.take(), refused.is_closed()), (vec![], true));
    }
}

#[test]
fn a2_a_would_block_ends_an_overload() {
    let mut scene = Scene::new();
    for _ in 0..9 {
        scene.backlog.accept_fails(os_error(errno::EMFILE));
    }
    scene.world.event(&scene.backlog, Readiness::READABLE);
    scene.pass(Duration::from_secs(10));
    scene.backlog.accept_fails(os_error(errno::EMFILE));
    scene.world.event(&scene.backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::from_millis(10)));
}

#[test]
fn a2_a_full_listener_that_refuses_closes_a_descriptor_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (other, backlog) = scene.listen(|_, _| None);
    let limits = Limits::default().with_connections_max(0).with_when_full(WhenFull::Refuse);
    scene.event_loop.context().listener(other).unwrap().set_limits(limits);
    scene.backlog.accept_fails(os_error(errno::EMFILE));
    scene.knock(Some(protocol(&log, echo)));
    scene.settle();
    backlog.connect();
    scene.world.event(&backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn a2_a_socket_that_cannot_be_registered_closes_a_descriptor_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, backlog) = scene.listen(|_, _| Some(protocol(&Log::default(), echo)));
    scene.backlog.accept_fails(os_error(errno::EMFILE));
    scene.knock(Some(protocol(&log, echo)));
    scene.settle();
    backlog.connect().refuse_registration();
    scene.world.event(&backlog, Readiness::READABLE);
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}
