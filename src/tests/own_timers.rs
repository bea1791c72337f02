//! Rules C1, C7 and T1 to T3, for a protocol's own timers, which are named by keys.

use super::*;

/// Does what it is told in `connection_made`, and nothing else.
fn on_made(
    mut act: impl FnMut(&mut Transport<'_>) + 'static,
) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    move |event, transport| {
        if let Event::Made = event {
            act(transport);
        }
        by_default(&event, transport)
    }
}

/// How many timers the loop has.
fn timers(scene: &Scene) -> usize {
    scene.event_loop.core.timers()
}

#[test]
fn t1_timers_with_keys_come_by_their_deadlines_and_equal_ones_in_order() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _) = scene.accept(
        &log,
        on_made(|transport| {
            for (key, ms) in [(5, 20), (1, 10), (9, 10), (0, 10), (u16::MAX, 0)] {
                transport.set_timer(key, ms * MS);
            }
        }),
    );
    scene.pass(9 * MS);
    assert_eq!(log.take(), ["made", "timer 65535"]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timer 1", "timer 9", "timer 0"]);
    scene.pass(10 * MS);
    assert_eq!(log.take(), ["timer 5"]);
    assert_eq!(scene.event_loop.context().counters().timers_fired, 5);
    scene.tell(id, |transport| transport.set_timer(3, Duration::MAX));
    scene.pass(100 * SECOND);
    assert_eq!((log.take(), timers(&scene)), (vec![], 1), "the longest that there is");
}

#[test]
fn t1_a_key_that_is_set_again_replaces_its_timer() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _) = scene.accept(&log, on_made(|transport| transport.set_timer(1, 10 * MS)));
    scene.pass(9 * MS);
    scene.tell(id, |transport| {
        transport.set_timer(2, 10 * MS);
        transport.set_timer(1, 10 * MS);
    });
    assert_eq!(timers(&scene), 2);
    scene.pass(9 * MS);
    assert_eq!(log.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timer 2", "timer 1"], "it counts as set when it was set last");
    assert_eq!(timers(&scene), 0);
}

#[test]
fn t2_a_timer_that_was_cancelled_never_comes_and_leaves_nothing_behind() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _) = scene.accept(&log, on_made(|transport| transport.set_timer(1, 10 * MS)));
    scene.tell(id, |transport| {
        (0..1000).for_each(|key| transport.set_timer(key, SECOND));
        assert!(!transport.cancel_timer(1000), "there is none");
        (0..1000).rev().for_each(|key| assert!(transport.cancel_timer(key)));
        assert!(!transport.cancel_timer(1), "it was cancelled already");
    });
    assert_eq!(timers(&scene), 0);
    scene.pass(2 * SECOND);
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.set_timer(1, MS));
    scene.pass(MS);
    scene.tell(id, |transport| assert!(!transport.cancel_timer(1), "it has come already"));
    assert_eq!(log.take(), ["timer 1"]);
}

#[test]
fn t3_a_timer_that_is_set_for_now_by_itself_comes_in_the_next_turn() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let mut times = 0;
    scene.accept(&log, move |event, transport| {
        if matches!(event, Event::Made | Event::Timer(_)) && times < 3 {
            times += 1;
            transport.set_timer(1, Duration::ZERO);
        }
        by_default(&event, transport)
    });
    assert_eq!(log.take(), ["made", "timer 1"]);
    for _ in 0..2 {
        scene.turn();
        assert_eq!(log.take(), ["timer 1"]);
    }
    scene.turn();
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn t3_the_delay_counts_from_when_it_is_set_however_long_the_turn_has_taken() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let world = scene.world.clone();
    scene.accept(
        &log,
        on_made(move |transport| {
            world.advance(SECOND);
            transport.set_timer(1, 10 * MS);
        }),
    );
    scene.pass(9 * MS);
    assert_eq!(log.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timer 1"]);
}

#[test]
fn c1_what_a_timer_writes_goes_out_and_its_panic_ends_the_connection() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (id, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.set_timer(1, MS),
            Event::Timer(1) => transport.write(b"late"),
            Event::Timer(_) => panic!("deliberate"),
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.pass(MS);
    assert_eq!(peer.take_sent(), b"late");
    scene.tell(id, |transport| transport.set_timer(2, MS));
    scene.pass(MS);
    assert_eq!(log.take(), ["made", "timer 1", "timer 2", "lost: a callback panicked: deliberate"]);
}

#[test]
fn c1_no_timer_comes_before_connection_made_or_after_an_end_has_begun() {
    let ends: [fn(&mut Transport<'_>); 6] = [
        close,
        abort,
        |transport| transport.close_for("a mistake"),
        |transport| assert!(transport.detach(|_, _| ())),
        |transport| transport.context().shutdown(SECOND),
        |transport| transport.end_on_timeout(Timeout::Idle),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = scene.attach(
            &log,
            on_made(|transport| {
                transport.set_timer(1, 10 * MS);
                transport.set_timer(4, 3600 * SECOND);
            }),
        );
        peer.set_room(0);
        scene.event_loop.context().connection(id).unwrap().set_timer(2, Duration::ZERO);
        assert_eq!(timers(&scene), 0, "it is not made yet");
        scene.tell(id, |transport| transport.write(b"what keeps it"));
        scene.tell(id, |transport| {
            end(transport);
            transport.set_timer(3, MS);
            assert!(!transport.cancel_timer(1) && !transport.cancel_timer(3), "end {n}");
        });
        let connection = scene.event_loop.core.parts.slots.connection(id.0);
        let own = connection.and_then(|connection| connection.extras.as_ref()).map(|extras| &extras.own);
        assert!(own.is_none_or(crate::connection::Own::is_empty), "end {n}");
        scene.pass(60 * SECOND);
        let told = log.take();
        assert!(told.len() == 2 && told[1].starts_with("lost: "), "end {n}: {told:?}");
        assert_eq!(timers(&scene), 0);
    }
}

#[test]
fn c1_a_peer_that_has_ended_first_leaves_no_timer_behind() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Eof(_) => 0,
        event => by_default(&event, transport),
    });
    scene.tell(id, |transport| transport.set_timer(1, MS));
    scene.end(&peer);
    scene.pass(MS);
    assert_eq!(log.take(), ["made", "eof", "timer 1"], "it may go on writing, and so waiting");
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.set_timer(1, SECOND);
        transport.write(b"x");
        transport.shutdown_write();
        assert!(!transport.cancel_timer(1));
    });
    scene.make_room(&peer, 1);
    scene.pass(3 * SECOND);
    assert_eq!((log.take(), timers(&scene)), (vec!["lost: closed by the peer".into()], 0));
}

#[test]
fn c7_timers_belong_to_the_protocol_that_set_them() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _) = scene.accept(&log, on_made(|transport| transport.set_timer(1, MS)));
    let other = log.clone();
    scene.tell(id, move |transport| {
        transport.set_timer(2, MS);
        transport.set_protocol(protocol(&other, idle));
        assert!(!transport.cancel_timer(1) && !transport.cancel_timer(2));
        transport.set_timer(3, MS);
    });
    scene.pass(SECOND);
    assert_eq!(log.take(), ["made", "timer 3"], "it is the new one's");
    let other = log.clone();
    scene.tell(id, move |transport| {
        transport.set_timer(4, MS);
        transport.start_protocol(protocol(&other, on_made(|transport| transport.set_timer(5, MS))));
        transport.set_timer(6, MS);
        assert!(!transport.cancel_timer(4) && !transport.cancel_timer(6), "it is not made yet");
    });
    scene.pass(SECOND);
    assert_eq!((log.take(), timers(&scene)), (vec!["made".into(), "timer 5".into()], 0));
}

#[test]
fn c6_a_timer_does_not_keep_a_loop_going_but_its_connection_does() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _) = scene.accept(&log, on_made(|transport| transport.set_timer(1, SECOND)));
    let listener = scene.listener;
    scene.event_loop.context().set_background(listener, true);
    assert!(!scene.event_loop.core.parts.is_idle());
    scene.event_loop.context().set_background(id, true);
    assert!(scene.event_loop.core.parts.is_idle());
}
