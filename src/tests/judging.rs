//! Rules X1, X4 and T5: peers are judged by what they really did, not by what the loop has noticed of it.

use super::*;
use crate::Connect;
use crate::Limit;
use crate::sys::script::Call;

/// How much of a deadline, in ten-thousandths, is over when a full kernel takes data again, and how much it then takes,
/// if the peer takes 64 KiB within each deadline; within the first one 66,660 bytes, which its kernel does not show
/// before. Measured on Linux over loopback.
const STEPS_OF_A_KERNEL: [(u32, usize); 6] =
    [(9_990, 95_232), (19_773, 95_232), (14_532, 95_232), (14_532, 95_232), (14_532, 95_232), (14_532, 95_232)];

const CLOSE_TIMEOUT: &str = "lost: the peer did not take the remaining output in time";
const IDLE: [&str; 2] = ["timed out: Idle", "lost: idle for too long"];

/// Lets time pass, and then makes room for `bytes`, which no event reports.
fn room_comes(scene: &mut Scene, peer: &Peer, after: Duration, bytes: usize) {
    scene.pass(after);
    peer.set_room(bytes);
}

fn has_reset(peer: &Peer) -> bool {
    peer.take_calls().contains(&Call::Reset)
}

/// A connection that has written `bytes`, of which its peer has room for no more than `room`.
fn blocked(scene: &mut Scene, log: &Log, room: usize, bytes: usize) -> (ConnectionId, Peer) {
    let (id, peer) = scene.accept(log, idle);
    peer.set_room(room);
    scene.tell(id, |transport| transport.write(&vec![b'x'; bytes]));
    assert_eq!(log.take(), ["made", "pause"]);
    (id, peer)
}

#[test]
fn x1_a_peer_that_takes_64_kib_within_each_deadline_is_never_judged_though_no_event_tells() {
    for deadline in [5 * SECOND, 200 * MS] {
        let mut scene = Scene::with_limits(Limits::default().with_close_timeout(deadline));
        let log = Log::default();
        let (id, peer) = blocked(&mut scene, &log, 4_253_184, 4_253_184 + 6 * 95_232);
        scene.tell(id, close);
        for (n, (part, bytes)) in STEPS_OF_A_KERNEL.into_iter().enumerate() {
            assert_eq!(log.take(), [""; 0], "step {n}");
            room_comes(&mut scene, &peer, deadline * part / 10_000, bytes);
        }
        scene.pass(deadline);
        assert_eq!((log.take(), peer.take_sent().len()), (vec!["lost: closed by us".into()], 4_824_576));
    }
}

#[test]
fn t5_with_output_queued_a_peer_that_takes_64_kib_within_each_timeout_is_not_idle_though_no_event_tells() {
    let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let (_, peer) = blocked(&mut scene, &log, 4_253_184, 4_253_184 + 7 * 95_232);
    for (part, bytes) in STEPS_OF_A_KERNEL {
        room_comes(&mut scene, &peer, 10 * SECOND * part / 10_000, bytes);
    }
    scene.pass(9 * SECOND);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(20 * SECOND);
    assert_eq!(log.take(), IDLE);
}

#[test]
fn x1_a_peer_that_takes_nothing_is_given_twice_the_time_after_large_steps_and_only_then() {
    // How much was sent at once, and how much the peer has taken since.
    for (room, step, time) in [(0, 64 * KIB - 1, 5000), (64 * KIB, 32 * KIB - 1, 5000), (64 * KIB, 32 * KIB, 10_000)] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = blocked(&mut scene, &log, room, 1000 * KIB);
        scene.tell(id, close);
        scene.make_room(&peer, step);
        scene.pass((time - 1) * MS);
        assert_eq!(log.take(), [""; 0]);
        scene.pass(MS);
        assert_eq!(log.take(), [CLOSE_TIMEOUT]);
        assert!(has_reset(&peer));
    }
}

#[test]
fn x1_sends_are_tried_a_few_times_within_the_deadline() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = blocked(&mut scene, &log, 1, 1000 * KIB);
    scene.tell(id, close);
    peer.take_calls();
    scene.pass(4999 * MS);
    let tries = peer.take_calls();
    assert_eq!(tries, vec![Call::Write(0); 3], "at a quarter, a half, three quarters of it");
    // Data taken after the last of them is noticed before the peer is judged, and only the rest of the deadline is
    // waited for.
    peer.set_room(1);
    scene.pass(MS);
    assert_eq!((log.take(), peer.take_sent().len()), (vec![], 2));
    scene.pass(5 * SECOND);
    assert_eq!(log.take(), [CLOSE_TIMEOUT]);
}

#[test]
fn x1_a_flush_may_be_given_a_time_in_all() {
    let limits = Limits::default().with_flush_timeout(Some(20 * SECOND));
    let (mut scene, log) = (Scene::with_limits(limits), Log::default());
    let (id, peer) = blocked(&mut scene, &log, 1, 1000 * KIB);
    scene.pass(100 * SECOND);
    scene.tell(id, close);
    for _ in 0..4 {
        room_comes(&mut scene, &peer, 4 * SECOND, 1);
    }
    scene.pass(3999 * MS);
    assert_eq!((log.take(), peer.take_sent().len()), (vec![], 5), "it counts from the close");
    scene.pass(MS);
    assert_eq!(log.take(), [CLOSE_TIMEOUT]);
}

#[test]
fn x1_what_comes_at_the_end_of_lingering_is_discarded_before_the_close() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.accept(&log, idle);
    peer.sends("unread");
    scene.tell(id, close);
    scene.pass(1999 * MS);
    peer.sends("more, of which no event has told yet");
    scene.pass(MS);
    assert_eq!((log.take(), peer.unread()), (vec!["made".into(), "lost: closed by us".into()], 0));
}

// X4

/// Runs a connection that does `act` and is then idle. Returns its last calls, and its callbacks.
fn after_a_timeout(act: impl Fn(&mut Transport<'_>) + 'static) -> (Vec<Call>, Vec<String>) {
    let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, act);
    peer.take_calls();
    scene.pass(30 * SECOND);
    let calls = peer.take_calls().into_iter().filter(|call| !matches!(call, Call::Write(_) | Call::Read)).collect();
    (calls, log.take().split_off(1))
}

#[test]
fn x4_with_nothing_queued_a_timeout_closes_in_order_for_what_the_kernel_still_holds() {
    let (calls, log) = after_a_timeout(|transport| transport.write(b"all in the kernel"));
    assert_eq!((calls, log), (vec![Call::ShutdownWrite, Call::Close], IDLE.map(String::from).to_vec()));
}

#[test]
fn x4_a_protocol_in_the_middle_of_an_answer_is_aborted_by_a_timeout() {
    let (calls, log) = after_a_timeout(|transport| {
        transport.write(b"half an answer");
        transport.set_answering(true);
    });
    assert_eq!((calls, log), (vec![Call::Reset], IDLE.map(String::from).to_vec()));
    let (calls, _) = after_a_timeout(|transport| {
        transport.set_answering(true);
        transport.write(b"an answer");
        transport.set_answering(false);
    });
    assert_eq!(calls, [Call::ShutdownWrite, Call::Close]);
}

#[test]
fn x4_with_output_that_waits_in_any_place_a_timeout_aborts() {
    type Write = fn(&mut Transport<'_>);
    let writes: [(&str, Write); 3] = [
        ("gathered", |transport| transport.write(b"x")),
        ("handed over", |transport| transport.write_owned(vec![0; 20 * KIB])),
        ("a share", |transport| {
            let id = transport.id();
            transport.context().broadcast([id], b"x");
        }),
    ];
    for (name, write) in writes {
        let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(10 * SECOND)));
        let log = Log::default();
        let (_, peer) = scene.accept(&log, move |event, transport| {
            if let Event::TimedOut(_) = event {
                write(transport);
            }
            by_default(&event, transport)
        });
        scene.pass(10 * SECOND);
        assert_eq!((has_reset(&peer), log.take().pop()), (true, Some(IDLE[1].into())), "{name}");
    }
}

#[test]
fn x4_a_timeout_and_a_limit_of_a_protocols_own_end_it_as_others_do_and_say_their_own_text() {
    type End = fn(&mut Transport<'_>);
    let ends: [(&str, bool, End); 4] = [
        ("no answer of the store", false, |transport| {
            transport.end_on_timeout(Timeout::Other("no answer of the store"));
        }),
        ("half of it", true, |transport| {
            transport.set_answering(true);
            transport.end_on_timeout(Timeout::Other("half of it"));
        }),
        ("too slow", true, |transport| transport.abort_on_timeout(Timeout::Other("too slow"))),
        ("too many headers", true, |transport| transport.abort_over_limit(Limit::Other("too many headers"))),
    ];
    for (text, is_reset, end) in ends {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        scene.tell(id, |transport| transport.set_timeout(Timeout::Other("none of the loop's"), Some(SECOND)));
        assert_eq!(scene.event_loop.time_to_next(), None);
        scene.tell(id, end);
        assert_eq!((has_reset(&peer), log.take().pop()), (is_reset, Some(format!("lost: {text}"))));
    }
}

#[test]
fn x4_a_total_timeout_aborts_whatever_is_queued() {
    let mut scene = Scene::with_limits(Limits::default().with_total_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, idle);
    scene.pass(10 * SECOND);
    assert!(has_reset(&peer));
    assert_eq!(log.take(), ["made", "timed out: Total", "lost: connected for too long"]);
}

#[test]
fn x4_a_peer_that_goes_on_sending_lingers_after_a_timeout_as_after_any_close() {
    let mut scene = Scene::with_limits(Limits::default().with_handshake_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, pause_reading);
    scene.receive(&peer, "unread");
    scene.pass(10 * SECOND);
    assert_eq!((log.take(), peer.is_closed()), (vec!["made".into(), "timed out: Handshake".into()], false));
    scene.end(&peer);
    assert_eq!(log.take(), ["lost: the handshake took too long"]);
    assert!(!has_reset(&peer));
}

#[test]
fn x5_a_shutdown_in_the_middle_of_an_answer_is_a_reset_at_its_end() {
    for answering in [false, true] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        scene.tell(id, |transport| {
            transport.write(b"half an answer");
            transport.set_answering(answering);
        });
        peer.take_calls();
        scene.event_loop.shutdown(SECOND).unwrap();
        let (calls, end) = (peer.take_calls(), log.take().pop());
        assert_eq!(
            (calls[0].clone(), calls.last()),
            match answering {
                false => (Call::ShutdownWrite, Some(&Call::Close)),
                true => (Call::Reset, Some(&Call::Reset)),
            }
        );
        assert_eq!(end, Some("lost: the loop was shut down".into()));
    }
}

// T5: no peer is judged by a stale clock.

/// Keeps its loop busy for a second and a half with each input.
fn slow(scene: &Scene) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + use<> {
    let world = scene.world.clone();
    move |event, transport| {
        if let Event::Data(_) = event {
            world.advance(1500 * MS);
        }
        by_default(&event, transport)
    }
}

#[test]
fn t5_bytes_count_as_of_when_they_were_read_however_long_the_loop_was_busy_before() {
    for carried_over in [false, true] {
        let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(SECOND)));
        let log = Log::default();
        let acts = slow(&scene);
        let (other_id, other) = scene.accept(&Log::default(), acts);
        let (id, peer) = scene.accept(&log, idle);
        if carried_over {
            [other_id, id].into_iter().for_each(|id| scene.tell(id, pause_reading));
        }
        scene.pass(900 * MS);
        for (id, peer) in [(other_id, &other), (id, &peer)] {
            peer.sends("y");
            match carried_over {
                false => scene.world.event(peer, Readiness::READABLE),
                true => scene.event_loop.context().connection(id).unwrap().resume_reading(),
            }
        }
        scene.turn();
        assert_eq!(log.take(), ["made", "data y"]);
        scene.pass(999 * MS);
        assert_eq!(log.take(), [""; 0], "carried over: {carried_over}");
        scene.pass(MS);
        assert_eq!(log.take(), IDLE);
    }
}

#[test]
fn t5_what_goes_out_or_begins_to_wait_after_slow_work_counts_as_of_then() {
    for (size, room) in [(1, usize::MAX), (20 * KIB, usize::MAX), (1, 0), (20 * KIB, 0)] {
        for broadcasts in [false, true] {
            let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(SECOND)));
            let log = Log::default();
            let (id, peer) = scene.accept(&log, idle);
            peer.set_room(room);
            let world = scene.world.clone();
            scene.pass(900 * MS);
            let data = vec![b'x'; size];
            let later = move |context: &mut crate::Context<'_>| {
                world.advance(90 * MS);
                match broadcasts {
                    true => _ = context.broadcast([id], &data),
                    false => context.connection(id).unwrap().write(&data),
                }
            };
            scene.event_loop.context().call_later(Duration::ZERO, later);
            scene.turn();
            scene.pass(999 * MS);
            assert_eq!(log.take(), ["made"], "{size} bytes, room for {room}, broadcasts: {broadcasts}");
            scene.pass(MS);
            assert_eq!(log.take(), IDLE);
        }
    }
}

#[test]
fn t5_a_peer_has_one_wait_of_the_loop_to_speak_in_before_it_is_called_idle() {
    for handshake in [false, true] {
        let limits = match handshake {
            false => Limits::default().with_idle_timeout(Some(SECOND)),
            true => Limits::default().with_handshake_timeout(Some(SECOND)),
        };
        let mut scene = Scene::with_limits(limits);
        let log = Log::default();
        let (_, peer) = scene.accept(&log, |event, transport| {
            if let Event::Data(_) = event {
                transport.set_timeout(Timeout::Handshake, None);
            }
            by_default(&event, transport)
        });
        let (_, silent) = scene.accept(&Log::default(), idle);
        let acts = slow(&scene);
        let (_, busy) = scene.accept(&Log::default(), acts);
        scene.pass(500 * MS);
        busy.sends("for longer than that");
        scene.world.event(&busy, Readiness::READABLE);
        scene.turn();
        assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO), "it does not sleep meanwhile");
        peer.sends("I was kept waiting");
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(log.take(), ["made", "data I was kept waiting"]);
        assert!(silent.is_closed(), "and one only");
    }
}

#[test]
fn t5_an_idle_timer_offers_no_old_input_again() {
    let mut scene = Scene::with_limits(Limits::default().with_idle_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let mut ends = [false, true].into_iter();
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Data(_) => 0,
        Event::TimedOut(_) if ends.next() == Some(false) => 0,
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "half a frame");
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), ["made", "data half a frame", "timed out: Idle"]);
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), IDLE);
}

#[test]
fn x4_what_ends_the_handshake_is_read_before_its_timeout_is_told() {
    let mut scene = Scene::with_limits(Limits::default().with_handshake_timeout(Some(10 * SECOND)));
    let log = Log::default();
    let ready = |event: Event<'_>, transport: &mut Transport<'_>| match event {
        Event::Data(b"ready") => {
            transport.set_timeout(Timeout::Handshake, None);
            5
        }
        Event::Data(b"soon") => {
            transport.set_timeout(Timeout::Handshake, Some(3 * SECOND));
            4
        }
        event => by_default(&event, transport),
    };
    let peers = [(); 3].map(|()| scene.accept(&log, ready).1);
    scene.pass(9 * SECOND);
    log.take();
    for (peer, word) in peers.iter().zip(["ready", "soon", "late"]) {
        peer.sends(word);
    }
    scene.pass(SECOND);
    let told = log.take();
    assert_eq!(told[..3], ["data ready", "data soon", "data late"]);
    assert_eq!(told[3..], ["timed out: Handshake", "lost: the handshake took too long"]);
    scene.pass(2999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), ["timed out: Handshake", "lost: the handshake took too long"]);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

#[test]
fn k2_what_the_loop_allows_its_clients_is_no_limit_of_what_it_connects_to() {
    let limits = Limits::default()
        .with_idle_timeout(Some(SECOND))
        .with_read_idle_timeout(Some(SECOND))
        .with_handshake_timeout(Some(SECOND))
        .with_total_timeout(Some(SECOND))
        .with_read_rate(Some(Rate::new(1).burst(1)));
    let server = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let (mut scene, log) = (Scene::with_limits(limits.clone()), Log::default());
    let connected = |scene: &mut Scene, connect: Connect| {
        let peer = scene.world.connect_begins();
        scene.event_loop.context().connect(connect, protocol(&log, idle)).unwrap();
        scene.stands(&peer);
        peer
    };
    let peer = connected(&mut scene, Connect::to(server));
    scene.receive(&peer, "all of it");
    scene.pass(100 * SECOND);
    assert_eq!(log.take(), ["made", "data all of it"]);
    // Limits given for the connection itself take precedence.
    let peer = connected(&mut scene, Connect::to(server).limits(limits));
    scene.receive(&peer, "ab");
    scene.pass(10 * SECOND);
    assert_eq!(log.take()[..2], ["made", "data a"]);
    assert!(peer.is_closed());
}
