//! Rules W2 to W4: marks, caps and buffers.

use super::*;
use crate::sys::script::Call;

/// Limits whose marks are at `high` and `low`.
fn marks(high: usize, low: usize) -> Limits {
    Limits::default().with_queue_bytes_high(high).with_queue_bytes_low(low)
}

#[test]
fn w2_pause_comes_over_high_and_resume_at_low() {
    let mut scene = Scene::with_limits(marks(1000, 500));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    // With its chunk's overhead this is exactly at the mark.
    scene.tell(id, |transport| transport.write(&[0; 936]));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.write(&[0]));
    assert_eq!(log.take(), ["pause"]);
    scene.make_room(&peer, 937 - 437);
    assert_eq!(log.take(), [""; 0], "a byte over the low mark");
    scene.make_room(&peer, 1);
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn w2_by_default_the_marks_are_at_64_and_16_kib() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 64 * KIB - 64]));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.write(&[0]));
    assert_eq!(log.take(), ["pause"]);
    scene.make_room(&peer, 48 * KIB);
    assert_eq!(log.take(), [""; 0]);
    scene.make_room(&peer, 65);
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn w2_marks_alternate_strictly_whatever_is_written_and_sent() {
    let mut scene = Scene::with_limits(marks(300, 100));
    let log = Log::default();
    // Writes from within both callbacks, so that each sometimes crosses the other mark.
    let (id, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Pause => transport.write(&[1; 50]),
            Event::Resume => transport.write(&[2; 400]),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    assert_eq!(log.take(), ["made"]);
    let mut marks = Vec::new();
    for step in 0..200_usize {
        if step % 3 == 0 {
            scene.tell(id, |transport| transport.write(&vec![0; step * 7 % 500]));
        }
        scene.make_room(&peer, step * 31 % 700);
        marks.extend(log.take());
    }
    assert!(marks.len() > 20, "{marks:?}");
    for (n, mark) in marks.iter().enumerate() {
        assert_eq!(mark, ["pause", "resume"][n % 2], "at {n}");
    }
}

#[test]
fn w2_whoever_is_written_to_by_others_is_told_of_his_marks() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (other, other_peer) = scene.accept(&log, idle);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(data) = &event {
            transport.context().connection(other).unwrap().write(data);
        }
        by_default(&event, transport)
    });
    other_peer.set_room(0);
    scene.receive(&peer, vec![b'x'; 200]);
    assert_eq!(log.take(), ["made", "pause"]);
    scene.make_room(&other_peer, 200);
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn w2_changing_the_marks_checks_both_anew() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 1000]));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.set_write_marks(500, 100));
    assert_eq!(log.take(), ["pause"]);
    scene.tell(id, |transport| transport.set_write_marks(5000, 1063));
    assert_eq!(log.take(), [""; 0], "over the low mark, though far below the high one");
    scene.tell(id, |transport| transport.set_write_marks(5000, 1064));
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn w2_marks_that_a_callback_changes_for_its_own_connection_are_checked_when_it_returns() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 1000]);
            transport.set_write_marks(500, 100);
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "pause"]);
}

#[test]
fn w2_a_low_mark_over_the_high_one_counts_as_that() {
    let mut scene = Scene::with_limits(marks(100, 1000));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 200]));
    assert_eq!(log.take(), ["made", "pause"]);
    scene.make_room(&peer, 163);
    assert_eq!(log.take(), [""; 0]);
    scene.make_room(&peer, 1);
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn w2_the_marks_are_read_back_as_they_hold() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let (id, _peer) = scene.accept(&Log::default(), idle);
    scene.tell(id, |transport| {
        assert_eq!(transport.write_marks(), (100, 10));
        transport.set_write_marks(50, 70);
        assert_eq!(transport.write_marks(), (50, 50));
    });
    let (other, _peer) = scene.accept(&Log::default(), idle);
    scene.tell(other, |transport| assert_eq!(transport.write_marks(), (100, 10), "they are the first one's alone"));
}

#[test]
fn w2_no_mark_is_told_after_close() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(&[0; 200]);
        transport.close();
    });
    assert_eq!(log.take(), ["made"], "no pause");
    let (id, paused_peer) = scene.accept(&log, idle);
    paused_peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 200]));
    assert_eq!(log.take(), ["made", "pause"]);
    scene.tell(id, close);
    scene.make_room(&paused_peer, 199);
    assert_eq!(log.take(), [""; 0], "no resume");
    scene.make_room(&paused_peer, 1);
    assert_eq!(log.take(), ["lost: closed by us"]);
}

#[test]
fn w2_no_mark_is_told_after_abort_or_loss() {
    for ends in [0, 1] {
        let mut scene = Scene::with_limits(marks(100, 10));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        peer.set_room(0);
        scene.tell(id, |transport| transport.write(&[0; 200]));
        assert_eq!(log.take(), ["made", "pause"]);
        if ends == 0 {
            scene.tell(id, |transport| {
                transport.abort();
                transport.set_write_marks(1000, 1000);
            });
            assert_eq!(log.take(), ["lost: aborted by us"]);
        } else {
            peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
            scene.world.event(&peer, Readiness::WRITABLE);
            scene.settle();
            assert_eq!(log.take(), ["lost: reset by the peer"]);
        }
    }
}

#[test]
fn w2_a_connection_that_ends_in_the_same_callback_is_not_told_of_a_mark() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 200]);
            transport.abort();
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "lost: aborted by us"]);
}

#[test]
fn w2_whoever_does_not_read_is_not_read_from_over_the_high_mark() {
    let mut scene = Scene::with_limits(marks(100, 10).with_read_bytes_per_turn_max(150));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        let count = echo(event, transport);
        assert!(transport.queued_bytes() <= 150, "bounded by the mark and one turn");
        count
    });
    peer.set_room(0);
    scene.receive(&peer, vec![b'x'; 1000]);
    assert_eq!(log.take().len(), 3, "made, data, pause");
    assert_eq!(peer.unread(), 850);
    scene.world.event(&peer, Readiness::READABLE);
    assert_eq!(scene.settle(), 1);
    assert_eq!(peer.unread(), 850);
    // No event comes for bytes that have arrived already.
    scene.make_room(&peer, 150);
    assert_eq!(peer.unread(), 700);
    scene.make_room(&peer, usize::MAX);
    assert_eq!(peer.unread(), 0);
    assert_eq!(peer.take_sent().len(), 1000);
}

#[test]
fn w2_small_answers_to_the_frames_of_one_read_hold_the_next_frames_back() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => {
            transport.write(&[0; 60]);
            1
        }
        event => by_default(&event, transport),
    });
    peer.set_room(0);
    scene.receive(&peer, "123");
    assert_eq!(log.take(), ["made", "data 123", "data 23", "pause"]);
    scene.make_room(&peer, 180);
    assert_eq!(log.take(), ["resume", "data 3"]);
}

#[test]
fn w2_the_user_s_pause_and_that_of_the_mark_are_apart() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(&[0; 200]);
        transport.pause_reading();
    });
    scene.receive(&peer, "kept");
    assert_eq!(log.take(), ["made", "pause"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), [""; 0], "still over the mark");
    scene.tell(id, pause_reading);
    scene.make_room(&peer, 200);
    assert_eq!(log.take(), ["resume"], "still paused");
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data kept"]);
}

#[test]
fn w2_holding_the_reading_back_can_be_turned_off() {
    let mut scene = Scene::with_limits(marks(100, 10).with_pause_reading_over_high(false));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 200]));
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "pause", "data x"]);
}

#[test]
fn w3_each_chunk_counts_a_little_more_than_its_bytes() {
    let mut scene = Scene::with_limits(marks(16 * KIB + 10, 0));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write_owned(vec![0; 16 * KIB]));
    assert_eq!(log.take(), ["made", "pause"]);
    assert_eq!(scene.event_loop.context().connection(id).unwrap().queued_bytes(), 16 * KIB, "told without it");
}

#[test]
fn w3_tiny_writes_share_a_chunk() {
    let mut scene = Scene::with_limits(marks(10_100, 0));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    for _ in 0..10_000 {
        scene.event_loop.context().connection(id).unwrap().write_shared([0].as_slice().into());
    }
    scene.settle();
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn w3_after_a_burst_the_loop_gives_its_buffers_back_and_then_rests() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 100 * KIB]));
    scene.make_room(&peer, usize::MAX);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::from_secs(1)));
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.event_loop.time_to_next(), None, "within two seconds nothing is left to give back");
    assert!(!peer.is_closed());
}

#[test]
fn w4_a_write_that_finds_the_queue_over_the_cap_ends_the_connection() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(1000));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[1; 936]));
    // Exactly at the cap: the write is accepted as a whole, however large it is.
    scene.tell(id, |transport| transport.write(&[2; 5000]));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.write(&[3]));
    assert_eq!(log.take(), ["lost: too much output queued"]);
    assert_eq!(peer.take_calls(), [Call::Write(0), Call::Reset]);
}

#[test]
fn w4_no_part_of_the_write_that_found_too_much_goes_out() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(1000));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[1; 2000]));
    // There is room again, but the loop has not been told.
    peer.set_room(usize::MAX);
    scene.tell(id, |transport| transport.write(&[2; 20 * KIB]));
    assert_eq!(log.take(), ["made", "lost: too much output queued"]);
    assert!(!peer.take_sent().contains(&2));
}

#[test]
fn w4_what_a_callback_writes_after_the_cap_has_ended_its_connection_is_ignored() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(1000));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 20 * KIB]);
            for _ in 0..5 {
                transport.write(&[0; 20 * KIB]);
            }
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "x");
    assert_eq!(log.take().last().unwrap(), "lost: too much output queued");
    assert_eq!(scene.event_loop.context().counters().late_writes, 4);
}

#[test]
fn w4_by_default_the_cap_is_at_16_mib() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    let mebibyte: std::sync::Arc<[u8]> = vec![0; KIB * KIB].into();
    for _ in 0..16 {
        scene.event_loop.context().connection(id).unwrap().write_shared(mebibyte.clone());
    }
    scene.settle();
    assert_eq!(log.take(), ["made", "pause"]);
    scene.tell(id, |transport| transport.write(&[0]));
    assert_eq!(log.take(), ["lost: too much output queued"], "the overhead of the chunks makes it more");
}

#[test]
fn w4_the_whole_loop_has_a_cap_too_and_what_has_gone_out_no_longer_counts() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(10_000));
    let log = Log::default();
    let (slow, slow_peer) = scene.accept(&log, idle);
    let (id, peer) = scene.accept(&log, idle);
    log.take();
    slow_peer.set_room(0);
    scene.tell(slow, |transport| transport.write(&[0; 11_000]));
    scene.make_room(&slow_peer, 5000);
    scene.tell(id, |transport| transport.write(b"fits again"));
    assert_eq!(peer.take_sent(), b"fits again");
    scene.tell(slow, |transport| transport.write(&[0; 5000]));
    assert_eq!(log.take(), [""; 0]);
    // The next write finds the loop over its cap: the connection that hoards ends, not the one being written to.
    scene.tell(id, |transport| transport.write(b"fits too"));
    assert_eq!(
        (log.take(), peer.take_sent()),
        (vec!["lost: too much output queued in the whole loop".into()], b"fits too".to_vec())
    );
    assert_eq!(slow_peer.take_calls().last(), Some(&Call::Reset));
}

#[test]
fn w4_whoever_ends_frees_his_share_of_the_loop_s_cap() {
    for ends in [0, 1, 2] {
        let mut scene = Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(10_000));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        let (slow, slow_peer) = scene.accept(&Log::default(), idle);
        slow_peer.set_room(0);
        scene.tell(slow, |transport| transport.write(&[0; 11_000]));
        match ends {
            0 => scene.tell(slow, abort),
            1 => {
                slow_peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
                scene.world.event(&slow_peer, Readiness::WRITABLE);
                scene.settle();
            }
            _ => {
                scene.tell(slow, close);
                scene.pass(Duration::from_secs(5));
            }
        }
        scene.tell(id, |transport| transport.write(b"fits"));
        assert_eq!((log.take(), peer.take_sent()), (vec!["made".into()], b"fits".to_vec()), "{ends}");
    }
}

#[test]
fn w4_each_small_write_of_a_callback_finds_what_the_ones_before_have_queued() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(1000));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            for _ in 0..3 {
                transport.write(&[0; 600]);
            }
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "x");
    // The third write finds 1200 bytes and their overhead.
    assert_eq!(log.take(), ["made", "data x", "lost: too much output queued"]);
}

#[test]
fn w2_large_answers_to_the_frames_of_one_read_hold_the_next_frames_back() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => {
            transport.write(&[0; 100 * KIB]);
            1
        }
        event => by_default(&event, transport),
    });
    peer.set_room(0);
    scene.receive(&peer, "123");
    assert_eq!(log.take(), ["made", "data 123", "pause"]);
}

#[test]
fn w2_small_answers_behind_a_queue_hold_the_next_frames_back() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(1000).with_queue_bytes_low(10));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => {
            transport.write(&[0; 600]);
            1
        }
        event => by_default(&event, transport),
    });
    peer.set_room(0);
    scene.receive(&peer, "1");
    assert_eq!(log.take(), ["made", "data 1"]);
    scene.receive(&peer, "23");
    // 600 bytes are queued and 600 gathered: over the mark, though neither alone is.
    assert_eq!(log.take(), ["data 23", "pause"]);
}

#[test]
fn w2_answers_to_one_read_hold_the_next_read_back() {
    let mut scene = Scene::new();
    let log = Log::default();
    let noted = log.clone();
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        match &event {
            Event::Data(data) => {
                noted.push(format!("{} bytes", data.len()));
                transport.write_owned(vec![0; 6 * KIB * KIB]);
            }
            Event::Pause => noted.push("pause"),
            Event::Lost(reason) => noted.push(reason.to_string()),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, vec![0; 256 * KIB]);
    assert_eq!(log.take(), ["65536 bytes", "pause"]);
}

#[test]
fn w3_a_burst_to_somebody_else_gives_its_buffers_back_too() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    scene.tell(id, |transport| {
        transport.write(b"small");
        transport.write(&[0; 20 * KIB]);
    });
    assert_eq!(peer.take_sent().len(), 5 + 20 * KIB);
    assert_eq!(scene.event_loop.time_to_next(), Some(SECOND), "its buffer is given back in time");
}

#[test]
fn w3_a_burst_of_gathered_writes_gives_its_buffer_back_too() {
    let mut scene = Scene::new();
    let (_, peer) = scene.accept(&Log::default(), |event, transport| {
        if let Event::Data(_) = event {
            for _ in 0..200 {
                transport.write(&[0; KIB]);
            }
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(peer.take_sent().len(), 200 * KIB);
    assert_eq!(scene.event_loop.time_to_next(), Some(SECOND), "its buffer is given back in time");
}

#[test]
fn w4_the_loop_s_cap_counts_what_the_same_callback_wrote_to_others() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(1000));
    let log = Log::default();
    let (other, other_peer) = scene.accept(&log, idle);
    other_peer.set_room(0);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            transport.context().connection(other).unwrap().write(&[0; 2000]);
            transport.write(&[0; 900]);
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "lost: too much output queued in the whole loop"]);
}
