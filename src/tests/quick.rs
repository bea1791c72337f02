//! The quick path behaves as the general one: the same scenes, played with it and without it, make no difference.
//!
//! `event_loop/quick.rs` exists for speed alone, so nothing may reveal that it was taken. Each test plays a scene twice
//! on scripted sockets: once as it is, and once in a loop that is told never to take the quick path
//! (`Outbox::set_quick`). The tests compare all that anyone can see: the callbacks in their order with their bytes, the
//! system calls, what the peers were sent, and the counters.
//!
//! The scenes with fixed steps cover one thing each that must leave the quick path: a pause, a write to another
//! connection, a panic, an end that arrives with the data. The random ones have protocols that do anything (`life.rs`),
//! to cover what nobody thought of; a seed is one scene, and a failing one is run again by its number.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::life::{Numbers, does_anything, let_something_happen};
use super::{Event, Log, SECOND, Scene, abort, by_default, echo, idle, protocol};
use crate::sys::Readiness;
use crate::sys::script::{Call, Peer};
use crate::{ConnectionId, Limits, LoopLimits, PanicPolicy};

/// Marks so low that all of them are crossed, and nothing that keeps connections from the quick path.
fn limits() -> LoopLimits {
    let each = Limits::default()
        .with_queue_bytes_high(300)
        .with_queue_bytes_low(100)
        .with_queue_bytes_max(300_000)
        .with_input_bytes_max(200);
    LoopLimits::from(each).with_loop_queue_bytes_max(400_000)
}

/// The same, but every second scene has an idle timeout that expires.
fn limits_of(seed: u64) -> LoopLimits {
    let mut limits = limits();
    limits.each.idle_timeout = (seed % 2 == 1).then_some(Duration::from_millis(1200));
    limits
}

fn scene(quick: bool, limits: impl Into<LoopLimits>) -> Scene {
    let mut scene = Scene::with_limits(limits);
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    if !quick {
        scene.event_loop.core.parts.outbox.set_quick(false);
    }
    scene
}

/// What can be seen of a connection: its callbacks; its system calls; and what it was sent, as runs of equal bytes.
type Seen = (Vec<String>, Vec<Call>, Vec<(usize, u8)>);

fn seen(log: &Log, peer: &Peer) -> Seen {
    let sent = peer.take_sent();
    (log.take(), peer.take_calls(), sent.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect())
}

/// Plays a scene of a few connections to which anything happens, and records it step by step.
fn tell(seed: u64, quick: bool) -> Vec<Seen> {
    let mut scene = scene(quick, limits_of(seed));
    let ids = Rc::new(RefCell::new(Vec::<ConnectionId>::new()));
    let mut numbers = Numbers(seed);
    let mut lives = Vec::new();
    for n in 0..4 {
        let log = Log::default();
        let peer = match n {
            // A connection that only echoes does not end by itself, and gets whatever the others do to it.
            0 => scene.accept(&log, echo).1,
            _ => scene.knock(Some(does_anything(&log, ids.clone(), seed * 100 + n))),
        };
        peer.set_short_read_empties(numbers.below(3) != 0);
        lives.push((log, peer));
    }
    scene.settle();
    let mut story = Vec::new();
    for _ in 0..80 {
        let (_, peer) = &lives[numbers.below(lives.len() as u64) as usize];
        match numbers.below(8) {
            // Several reads for one event, and one that fills the buffer.
            0 => (0..numbers.below(4)).for_each(|_| peer.sends([b'y'; 7])),
            1 if !peer.is_closed() => scene.receive(peer, vec![b'z'; 70_000]),
            _ => {}
        }
        let_something_happen(&mut scene, peer, &mut numbers);
        scene.pass(Duration::from_millis(100 * numbers.below(10)));
        story.extend(lives.iter().map(|(log, peer)| seen(log, peer)));
    }
    let counters = scene.event_loop.context().counters();
    story.push((vec![format!("{counters:?}")], vec![], vec![]));
    story
}

#[test]
fn the_quick_path_and_the_general_one_cannot_be_told_apart_whatever_happens() {
    for seed in 0..300 {
        let (quick, general) = (tell(seed, true), tell(seed, false));
        for (step, (quick, general)) in quick.iter().zip(&general).enumerate() {
            assert_eq!(quick, general, "seed {seed}, step {step}: the quick path is on the left");
        }
    }
}

type Act = fn(&mut crate::Transport<'_>);

/// What a callback may do to its own connection.
fn acts() -> [(&'static str, Act); 18] {
    [
        ("nothing", |_| {}),
        ("writes little", |transport| transport.write(b"little")),
        ("writes much", |transport| transport.write(&[7; 20_000])),
        ("hands much over", |transport| {
            for _ in 0..3 {
                transport.write(b"head");
                transport.write_owned(vec![7; 20_000]);
            }
        }),
        ("writes often", |transport| (0..60).for_each(|_| transport.write(&[8; 1000]))),
        ("writes very often", |transport| (0..400).for_each(|_| transport.write(&[8; 1000]))),
        ("pauses", |transport| transport.pause_reading()),
        ("pauses and resumes", |transport| {
            transport.pause_reading();
            transport.resume_reading();
        }),
        ("closes", |transport| transport.close()),
        ("aborts", |transport| transport.abort()),
        ("shuts down", |transport| transport.shutdown_write()),
        ("writes and closes", |transport| {
            transport.write(b"goodbye");
            transport.close();
        }),
        ("panics", |_| panic!("on purpose")),
        ("closes and panics", |transport| {
            transport.close();
            panic!("on purpose");
        }),
        ("fails", |transport| transport.close_for("broken")),
        ("detaches", |transport| {
            let _ = transport.detach(|_, _| {});
        }),
        ("sets a mark", |transport| transport.set_input_low_bytes(5)),
        ("is replaced", |transport| {
            transport.set_protocol(protocol(&Log::default(), |event, transport| {
                transport.write(b"another");
                by_default(&event, transport)
            }));
        }),
    ]
}

/// One read, and what a callback does during it.
#[test]
fn each_thing_that_a_callback_can_do_leaves_the_quick_path() {
    for (name, act) in acts() {
        for consumed in [0, 2, 4, 5] {
            for (room, empties) in [(usize::MAX, true), (usize::MAX, false), (3, true), (0, false)] {
                let tell = |quick| {
                    let (mut scene, log) = (scene(quick, Limits::default()), Log::default());
                    let mut calls = 0;
                    let (id, peer) = scene.accept(&log, move |event, transport| match event {
                        Event::Data(data) => {
                            // A protocol that resumes reading and consumes nothing is offered the same data again and
                            // again.
                            calls += 1;
                            if calls <= 2 {
                                act(transport);
                            }
                            if calls <= 2 { consumed } else { data.len() }
                        }
                        event => by_default(&event, transport),
                    });
                    peer.set_short_read_empties(empties);
                    peer.set_room(room);
                    scene.receive(&peer, b"four");
                    peer.sends(b"more");
                    if scene.event_loop.context().connection(id).is_some() {
                        scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE);
                    }
                    scene.pass(Duration::from_secs(3));
                    seen(&log, &peer)
                };
                assert_eq!(tell(true), tell(false), "{name}, {consumed} consumed, room for {room}, {empties}");
            }
        }
    }
}

/// The end of a stream, with data before it or without, and what the callback that reports it does.
#[test]
fn h1_each_thing_that_can_come_with_an_end_of_stream_leaves_the_quick_path() {
    let hints = [Readiness::default(), Readiness::WRITE_CLOSED, Readiness::ERROR, Readiness::PRIORITY];
    for (name, act) in acts() {
        for (closes, before) in [(false, 0), (true, 0), (true, 7), (true, 70_000)] {
            for (room, hint) in [usize::MAX, 3].into_iter().flat_map(|room| hints.map(|hint| (room, hint))) {
                let tell = |quick| {
                    let (mut scene, log) =
                        (scene(quick, Limits::default().with_input_bytes_max(100_000)), Log::default());
                    let (_, peer) = scene.accept(&log, move |event, transport| {
                        if let Event::Eof(_) = event {
                            act(transport);
                        }
                        // Nothing is consumed, so the end is reported with the remaining input.
                        if closes && !matches!(event, Event::Data(_)) { by_default(&event, transport) } else { 0 }
                    });
                    peer.set_room(room);
                    if before > 0 {
                        peer.sends(vec![b'x'; before]);
                    }
                    peer.sends([]);
                    scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED | hint);
                    scene.settle();
                    if hint == Readiness::ERROR && !peer.is_closed() {
                        peer.meets(std::io::ErrorKind::ConnectionReset.into());
                        scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED | hint);
                    }
                    scene.pass(Duration::from_secs(3));
                    (seen(&log, &peer), format!("{:?}", scene.event_loop.context().counters()))
                };
                let about = format!("{name}, closes: {closes}, {before} bytes before, room for {room}, {hint:?}");
                assert_eq!(tell(true), tell(false), "{about}: the quick path is on the left");
            }
        }
    }
}

#[test]
fn h1_an_error_that_was_hinted_at_before_an_end_of_stream_is_looked_for_behind_it() {
    let tell = |quick| {
        let (mut scene, log) = (scene(quick, Limits::default()), Log::default());
        let (_, peer) = scene.accept(&log, |_, _| 0);
        scene.world.event(&peer, Readiness::READABLE | Readiness::ERROR);
        scene.settle();
        peer.sends([]);
        peer.meets(std::io::ErrorKind::ConnectionReset.into());
        scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED);
        scene.settle();
        seen(&log, &peer)
    };
    assert_eq!(tell(true), tell(false), "the quick path is on the left");
}

#[test]
fn t5_the_timer_of_an_idle_timeout_does_not_outlive_a_connection_that_ends_quickly() {
    let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(SECOND)));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, idle);
    assert!(scene.event_loop.time_to_next().is_some());
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn c4_nothing_of_a_connection_outlives_its_slot() {
    let mut scene = Scene::new();
    let holders = |scene: &mut Scene| {
        let listener = scene.event_loop.core.parts.slots.listener(scene.listener.0).unwrap();
        Rc::strong_count(&listener.settings)
    };
    let before = holders(&mut scene);
    let (_, peer) = scene.accept(&Log::default(), idle);
    let (id, _) = scene.accept(&Log::default(), idle);
    assert_eq!(holders(&mut scene), before + 2, "each connection holds the settings of its listener");
    scene.end(&peer);
    assert_eq!(holders(&mut scene), before + 1);
    scene.tell(id, abort);
    scene.settle();
    assert_eq!(holders(&mut scene), before);
}
