//! Rule T5: the timeout that only the peer's bytes reset, and that runs only while input is wanted.

use super::*;

fn silent_for_10_s() -> Scene {
    Scene::with_limits(Limits::default().with_read_idle_timeout(Some(10 * SECOND)))
}

const SILENT: [&str; 2] = ["timed out: ReadIdle", "lost: silent for too long"];

/// Checks that nothing happens until `left` has passed, and that the timeout is reported then.
fn is_told_after(scene: &mut Scene, log: &Log, left: Duration) {
    scene.pass(left - MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), SILENT);
    scene.pass(2 * SECOND);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left");
}

#[test]
fn t5_a_read_idle_timeout_is_reset_by_what_comes_and_not_by_what_goes_out() {
    let ways: [fn(&mut Transport<'_>) -> usize; 5] = [
        |_| 1,
        |_| 0,
        |transport| {
            transport.write(b"an answer");
            1
        },
        |transport| {
            transport.pause_reading();
            transport.resume_reading();
            1
        },
        |transport| {
            transport.write(&vec![b'x'; 20 * KIB]);
            1
        },
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let (mut scene, log) = (silent_for_10_s(), Log::default());
        let (id, peer) = scene.accept(&log, move |event, transport| match event {
            Event::Data(_) => way(transport),
            event => by_default(&event, transport),
        });
        scene.pass(9 * SECOND);
        scene.receive(&peer, "x");
        // Output that goes out before the timer fires must not hide when the last byte came.
        scene.tell(id, |transport| transport.write(b"z"));
        scene.pass(9 * SECOND);
        assert_eq!(log.take(), ["made", "data x"], "way {n}");
        for size in [1, 20 * KIB] {
            scene.tell(id, |transport| transport.write(&vec![b'y'; size]));
        }
        is_told_after(&mut scene, &log, SECOND);
    }
}

#[test]
fn t5_what_is_readable_at_the_deadline_is_read_before_a_peer_counts_as_silent() {
    for room in [usize::MAX, 0] {
        let (mut scene, log) = (silent_for_10_s(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(room);
        scene.tell(id, |transport| transport.write(b"an answer"));
        scene.pass(9 * SECOND);
        peer.sends("just in time");
        scene.pass(SECOND);
        assert_eq!(log.take(), ["made", "data just in time"], "room for {room}");
        is_told_after(&mut scene, &log, 10 * SECOND);
    }
}

#[test]
fn t5_a_silent_peer_has_one_wait_of_the_loop_to_speak_in() {
    for room in [usize::MAX, 0] {
        let (mut scene, log) = (silent_for_10_s(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(room);
        scene.tell(id, |transport| transport.write(b"an answer"));
        let world = scene.world.clone();
        let (busy_id, busy) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) = event {
                world.advance(20 * SECOND);
            }
            by_default(&event, transport)
        });
        busy.sends("for longer than that");
        scene.world.event(&busy, Readiness::READABLE);
        scene.turn();
        assert_eq!(log.take(), ["made"]);
        peer.sends("I was kept waiting");
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(log.take(), ["data I was kept waiting"]);
        scene.event_loop.context().connection(busy_id).unwrap().abort();
        is_told_after(&mut scene, &log, 10 * SECOND);
    }
}

#[test]
fn t5_what_comes_after_slow_work_counts_as_of_when_it_was_read() {
    for room in [usize::MAX, 0] {
        let mut scene = Scene::with_limits(Limits::default().with_read_idle_timeout(Some(SECOND)));
        let (log, world) = (Log::default(), scene.world.clone());
        let (_, busy) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) = event {
                world.advance(1500 * MS);
            }
            by_default(&event, transport)
        });
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(room);
        scene.tell(id, |transport| transport.write(b"an answer"));
        scene.pass(900 * MS);
        for peer in [&busy, &peer] {
            peer.sends("y");
            scene.world.event(peer, Readiness::READABLE);
        }
        scene.turn();
        assert_eq!(log.take(), ["made", "data y"]);
        is_told_after(&mut scene, &log, SECOND);
    }
}

// It runs only while input is wanted.

#[test]
fn t5_a_read_idle_timeout_stands_still_while_reading_is_paused_whatever_is_queued() {
    for room in [usize::MAX, 0] {
        let (mut scene, log) = (silent_for_10_s(), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        scene.pass(8 * SECOND);
        peer.set_room(room);
        scene.tell(id, |transport| {
            transport.pause_reading();
            transport.write(b"an answer");
        });
        scene.pass(1000 * SECOND);
        assert_eq!(scene.event_loop.time_to_next(), None, "standing still wakes nobody");
        scene.tell(id, pause_reading);
        scene.tell(id, resume_reading);
        assert_eq!(log.take(), ["made"]);
        is_told_after(&mut scene, &log, 2 * SECOND);
    }
}

/// A connection whose output goes over the high mark after 8 s, and down to the low one 1,000 s later.
fn held_back(limits: Limits, meanwhile: impl FnOnce(&mut Scene, ConnectionId)) -> (Scene, Log) {
    let (mut scene, log) = (Scene::with_limits(limits), Log::default());
    let (id, peer) = scene.accept(&log, idle);
    scene.pass(8 * SECOND);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&vec![b'x'; 100 * KIB]));
    assert_eq!(log.take(), ["made", "pause"]);
    scene.pass(500 * SECOND);
    meanwhile(&mut scene, id);
    scene.pass(500 * SECOND);
    scene.make_room(&peer, 100 * KIB);
    (scene, log)
}

#[test]
fn t5_a_read_idle_timeout_stands_still_while_a_full_queue_keeps_the_peer_from_sending() {
    let limits = Limits::default().with_read_idle_timeout(Some(10 * SECOND));
    let (mut scene, log) = held_back(limits.clone(), |_, _| ());
    assert_eq!(log.take(), ["resume"]);
    is_told_after(&mut scene, &log, 2 * SECOND);
    // Something else that keeps it from sending begins and ends meanwhile.
    let (mut scene, log) = held_back(limits.clone(), |scene, id| {
        scene.tell(id, pause_reading);
        scene.pass(100 * SECOND);
        scene.tell(id, resume_reading);
    });
    assert_eq!(log.take(), ["resume"]);
    is_told_after(&mut scene, &log, 2 * SECOND);
    // A timeout that is set meanwhile begins then.
    let (mut scene, log) = held_back(limits.clone(), |scene, id| {
        scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, Some(5 * SECOND)));
    });
    assert_eq!(log.take(), ["resume"]);
    is_told_after(&mut scene, &log, 5 * SECOND);
    // If the peer may send meanwhile, it is judged.
    let (_, log) = held_back(limits.with_pause_reading_over_high(false), |scene, _| scene.pass(SECOND));
    assert_eq!(log.take(), SILENT);
}

#[test]
fn t5_one_that_is_paused_when_its_queue_has_room_again_is_not_judged_by_silence() {
    let limits = Limits::default().with_read_idle_timeout(Some(10 * SECOND));
    let (mut scene, log) = held_back(limits, |scene, id| scene.tell(id, pause_reading));
    scene.pass(100 * SECOND);
    assert_eq!(log.take(), ["resume"]);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn t5_a_read_idle_timeout_stands_still_while_a_rate_keeps_the_peer_from_sending() {
    for in_group in [false, true] {
        let (mut scene, log) =
            (Scene::with_limits(Limits::default().with_read_idle_timeout(Some(500 * MS))), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        let rate = Rate::new(1).burst(1);
        let group = scene.event_loop.context().add_rate_group(rate);
        scene.tell(id, |transport| match in_group {
            true => transport.set_rate_group(Some(group)),
            false => transport.set_read_rate(Some(rate)),
        });
        scene.receive(&peer, "abcd");
        scene.pass(1200 * MS);
        // Something else that keeps it from sending begins and ends meanwhile, and the timeout is reset.
        scene.tell(id, pause_reading);
        scene.tell(id, resume_reading);
        scene.pass(10 * MS);
        scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, Some(500 * MS)));
        scene.pass(2000 * MS);
        assert_eq!(log.take(), ["made", "data a", "data b", "data c", "data d"], "in a group: {in_group}");
        // A timeout that begins while the rate waits stands still, too.
        for after in [None, Some(500 * MS)] {
            scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, after));
        }
        // Only with the next byte that it may read does the loop learn that there is none.
        is_told_after(&mut scene, &log, 1290 * MS);
    }
}

#[test]
fn t5_a_read_idle_timeout_ends_with_the_peers_end() {
    let limits = Limits::default().with_read_idle_timeout(Some(10 * SECOND));
    for with_idle in [false, true] {
        let idle_timeout = with_idle.then_some(30 * SECOND);
        let mut scene = Scene::with_limits(limits.clone().with_idle_timeout(idle_timeout));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, |event, transport| match event {
            Event::Eof(_) => 0,
            event => by_default(&event, transport),
        });
        scene.end(&peer);
        scene.pass(20 * SECOND);
        scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, Some(SECOND)));
        scene.tell(id, |transport| transport.write(b"the rest of a long answer"));
        scene.pass(29 * SECOND);
        assert_eq!(log.take(), ["made", "eof"]);
        scene.pass(SECOND);
        let told = if with_idle { vec!["timed out: Idle", "lost: idle for too long"] } else { vec![] };
        assert_eq!(log.take(), told);
    }
}

// Both timeouts share one timer.

#[test]
fn t5_with_both_idle_timeouts_each_is_told_at_its_own_time() {
    let limits = Limits::default().with_idle_timeout(Some(10 * SECOND)).with_read_idle_timeout(Some(25 * SECOND));
    let (mut scene, log) = (Scene::with_limits(limits.clone()), Log::default());
    let (id, _) = scene.accept(&log, idle);
    for _ in 0..3 {
        scene.pass(8 * SECOND);
        scene.tell(id, |transport| transport.write(b"x"));
    }
    assert_eq!(log.take(), ["made"]);
    is_told_after(&mut scene, &log, SECOND);
    let (_, peer) = scene.accept(&log, idle);
    scene.receive(&peer, "x");
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), ["made", "data x", "timed out: Idle", "lost: idle for too long"]);
    // Removing or resetting one of them leaves the other as it was.
    let (id, _) = scene.accept(&log, idle);
    scene.pass(9 * SECOND);
    scene.tell(id, |transport| transport.set_timeout(Timeout::Idle, None));
    assert_eq!(log.take(), ["made"]);
    is_told_after(&mut scene, &log, 16 * SECOND);
    let (id, _) = scene.accept(&log, idle);
    scene.pass(9 * SECOND);
    scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, None));
    scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, Some(1000 * SECOND)));
    scene.pass(SECOND);
    assert_eq!(log.take(), ["made", "timed out: Idle", "lost: idle for too long"]);
}

#[test]
fn t5_with_output_queued_a_peer_is_judged_by_each_of_the_two_for_itself() {
    let limits = Limits::default().with_idle_timeout(Some(10 * SECOND)).with_read_idle_timeout(Some(10 * SECOND));
    for takes in [false, true] {
        let (mut scene, log) = (Scene::with_limits(limits.clone()), Log::default());
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(0);
        scene.tell(id, |transport| transport.write(b"not much"));
        for _ in 0..2 {
            scene.pass(4 * SECOND);
            match takes {
                true => peer.set_room(1),
                false => scene.receive(&peer, "x"),
            }
        }
        scene.pass(2 * SECOND);
        assert_eq!(log.take().pop().unwrap(), if takes { SILENT[1] } else { "lost: idle for too long" });
    }
}

#[test]
fn t5_a_read_idle_timeout_that_goes_on_does_not_wait_for_the_timer_of_the_other_one() {
    let limits = Limits::default().with_idle_timeout(Some(5000 * SECOND)).with_read_idle_timeout(Some(10 * SECOND));
    let (mut scene, log) = held_back(limits, |_, _| ());
    assert_eq!(log.take(), ["resume"]);
    scene.pass(1999 * MS);
    assert_eq!(log.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(log.take(), SILENT);
}

#[test]
fn x4_a_read_idle_timeout_closes_in_order_begins_anew_where_it_is_not_heeded_and_moves_no_timer() {
    let (mut scene, log) = (silent_for_10_s(), Log::default());
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::TimedOut(_) if transport.stats().bytes_sent == 0 => 0,
        event => by_default(&event, transport),
    });
    let before = scene.event_loop.time_to_next();
    scene.world.advance(SECOND);
    scene.receive(&peer, "x");
    assert_eq!(scene.event_loop.time_to_next().map(|left| left + SECOND), before, "the timer stands where it stood");
    scene.pass(20 * SECOND);
    assert_eq!(log.take(), ["made", "data x", SILENT[0], SILENT[0]]);
    scene.tell(id, |transport| transport.write(b"x"));
    peer.take_calls();
    scene.pass(10 * SECOND);
    assert_eq!(log.take(), SILENT);
    let calls: Vec<_> = peer.take_calls().into_iter().filter(|call| *call != sys::script::Call::Read).collect();
    assert_eq!(calls, [sys::script::Call::ShutdownWrite, sys::script::Call::Close]);
}

#[test]
fn k6_a_read_idle_timeout_that_is_set_before_it_is_established_begins_then() {
    let (mut scene, log) = (silent_for_10_s(), Log::default());
    let (id, peer) = scene.connecting(&log);
    scene.tell(id, |transport| transport.set_timeout(Timeout::ReadIdle, Some(3 * SECOND)));
    scene.pass(5 * SECOND);
    scene.stands(&peer);
    assert_eq!(log.take(), ["made"]);
    is_told_after(&mut scene, &log, 3 * SECOND);
}
