//! Rules W1, W5 and W6: writing. W7 needs real sockets and a process of its own.

use std::io::Write;

use super::*;
use crate::connection::output::{GATHER_MAX, LARGE_BYTES};
use crate::sys::script::Call;

#[test]
fn w1_write_calls_nobody_back_and_its_errors_arrive_as_the_loss() {
    let mut scene = Scene::new();
    let log = Log::default();
    let noted = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 100 * KIB]);
            transport.write(b"more");
            noted.push("written");
        }
        by_default(&event, transport)
    });
    peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "written", "lost: I/O error: timed out"]);
}

#[test]
fn w1_the_first_error_is_told_and_not_its_echo() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.write_answers(Err(io::ErrorKind::HostUnreachable.into()));
    peer.read_fails(io::ErrorKind::BrokenPipe.into());
    scene.tell(id, |transport| transport.write(b"x"));
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: I/O error: host unreachable"]);
}

#[test]
fn w1_a_reset_is_called_by_one_name_whichever_call_meets_it() {
    for error in [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        peer.write_answers(Err(error.into()));
        scene.tell(id, |transport| transport.write(b"x"));
        assert_eq!(log.take(), ["made", "lost: reset by the peer"]);
    }
}

#[test]
fn w1_a_callback_s_writes_go_out_in_one_call_when_it_returns() {
    let mut scene = Scene::new();
    let (_, peer) = scene.accept(&Log::default(), |event, transport| {
        if let Event::Data(_) = event {
            for _ in 0..100 {
                transport.write(b"line\n");
            }
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(peer.take_calls(), [Call::Read, Call::Write(500)]);
}

#[test]
fn w1_writes_to_somebody_else_go_out_in_one_call_before_the_loop_sleeps() {
    let mut scene = Scene::new();
    let (other, other_peer) = scene.accept(&Log::default(), idle);
    let mut peers = Vec::new();
    for _ in 0..10 {
        let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) = event {
                transport.context().connection(other).unwrap().write(b"line\n");
            }
            by_default(&event, transport)
        });
        peers.push(peer);
    }
    for peer in &peers {
        peer.sends("x");
        scene.world.event(peer, Readiness::READABLE);
    }
    scene.turn();
    assert_eq!(other_peer.take_calls(), [Call::Write(50)]);
}

#[test]
fn w1_all_ways_to_write_keep_the_order_of_the_calls() {
    let large = |byte: u8| vec![byte; 20 * KIB];
    for room in [usize::MAX, 0, 10, 30 * KIB] {
        let mut scene = Scene::new();
        let own = Rc::new(RefCell::new(None));
        let id = own.clone();
        let (accepted, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) = event {
                let own: ConnectionId = id.borrow().unwrap();
                transport.write(b"1");
                transport.context().connection(own).unwrap().write(b"2");
                transport.write_owned(b"3".to_vec());
                transport.write(&[b'4'; 20 * KIB]);
                transport.write_shared(b"5".as_slice().into());
                transport.context().connection(own).unwrap().write_owned(vec![b'6'; 20 * KIB]);
                transport.write_shared(vec![b'7'; 20 * KIB].into());
                write!(transport, "{}", 8).unwrap();
                transport.write(b"9");
            }
            by_default(&event, transport)
        });
        own.replace(Some(accepted));
        peer.set_room(room);
        scene.receive(&peer, "x");
        scene.make_room(&peer, usize::MAX);
        let expected = [b"123".to_vec(), large(b'4'), b"5".to_vec(), large(b'6'), large(b'7'), b"89".to_vec()];
        assert!(peer.take_sent() == expected.concat(), "room {room}");
    }
}

#[test]
fn w1_what_others_write_comes_between_two_callbacks_in_the_order_of_the_calls() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), echo);
    let (_, other_peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(data) = &event {
            transport.context().connection(id).unwrap().write(data);
        }
        by_default(&event, transport)
    });
    for (from, what) in [(&peer, "a"), (&other_peer, "b"), (&peer, "c"), (&other_peer, "d")] {
        from.sends(what);
        scene.world.event(from, Readiness::READABLE);
    }
    scene.settle();
    assert_eq!(peer.take_sent(), b"abcd");
}

#[test]
fn w1_partial_sends_keep_their_place() {
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    for step in [1_000, 16_384, 77_777] {
        let mut scene = Scene::new();
        let (id, peer) = scene.accept(&Log::default(), idle);
        peer.set_room(0);
        let mut sent = Vec::new();
        for piece in bytes.chunks(17_001) {
            scene.tell(id, |transport| transport.write(&piece[..1]));
            scene.tell(id, |transport| transport.write(&piece[1..]));
            scene.make_room(&peer, step / 10);
            sent.extend(peer.take_sent());
        }
        while sent.len() < bytes.len() {
            scene.make_room(&peer, step);
            sent.extend(peer.take_sent());
        }
        assert!(sent == bytes, "step {step}");
    }
}

#[test]
fn w1_an_interrupted_send_is_done_again() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    peer.write_answers(Err(io::ErrorKind::Interrupted.into()));
    scene.tell(id, |transport| transport.write(b"abc"));
    assert_eq!(peer.take_sent(), b"abc");
}

#[test]
fn w1_would_block_right_after_a_writable_event_waits_for_the_next_one() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"abc"));
    scene.world.event(&peer, Readiness::WRITABLE);
    assert_eq!(scene.settle(), 1);
    assert_eq!(peer.take_calls(), [Call::Write(0), Call::Write(0)]);
    scene.make_room(&peer, 3);
    assert_eq!(peer.take_sent(), b"abc");
    assert_eq!(log.take(), ["made"]);
}

#[test]
fn w1_a_blocked_connection_is_not_tried_again_without_an_event() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"a"));
    peer.take_calls();
    scene.tell(id, |transport| transport.write(b"b"));
    scene.tell(id, |transport| transport.write(&[b'c'; 20 * KIB]));
    scene.pass(Duration::from_secs(60));
    assert_eq!(peer.take_calls(), []);
    assert_eq!(scene.event_loop.context().connection(id).unwrap().queued_bytes(), 2 + 20 * KIB);
}

#[test]
fn w1_what_is_written_before_the_connection_is_made_goes_out_then() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.attach(&log, idle);
    scene.event_loop.context().connection(id).unwrap().write(b"early");
    assert_eq!(log.take(), [""; 0]);
    scene.settle();
    assert_eq!((log.take(), peer.take_sent()), (vec!["made".into()], b"early".to_vec()));
}

#[test]
fn w5_writes_after_close_are_ignored_and_counted() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"last words");
            transport.close();
            transport.write(b"too late");
            transport.write_owned(vec![0; 20 * KIB]);
            write!(transport, "too late").unwrap();
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"last words");
    assert_eq!(scene.event_loop.context().counters().late_writes, 3);
}

#[test]
fn w5_writes_after_shutdown_write_are_ignored_and_counted() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| {
        transport.write(b"last words");
        transport.shutdown_write();
        transport.write(b"too late");
    });
    scene.tell(id, |transport| transport.write(b"too late"));
    assert_eq!(peer.take_sent(), b"last words");
    assert_eq!(scene.event_loop.context().counters().late_writes, 2);
    scene.receive(&peer, "still here");
    assert_eq!(log.take(), ["made", "data still here"]);
}

#[test]
fn w5_writes_after_the_loss_are_ignored_and_counted() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Data(_) => {
                transport.abort();
                transport.write(b"too late");
            }
            Event::Lost(_) => {
                transport.write(b"too late");
                transport.write(&[0; 20 * KIB]);
                transport.close();
                transport.abort();
                transport.shutdown_write();
                transport.pause_reading();
                transport.resume_reading();
            }
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "data x", "lost: aborted by us"]);
    assert_eq!(scene.event_loop.context().counters().late_writes, 3);
    assert_eq!(peer.take_sent(), b"");
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn w5_writes_to_somebody_else_who_is_closing_are_ignored_and_counted() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (other, other_peer) = scene.accept(&log, idle);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            let mut context = transport.context();
            let mut other = context.connection(other).unwrap();
            other.close();
            other.write(b"too late");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(other_peer.take_sent(), b"");
    assert_eq!(scene.event_loop.context().counters().late_writes, 1);
}

#[test]
fn w6_a_write_of_nothing_does_nothing() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), |event, transport| {
        transport.write(b"");
        transport.write_owned(Vec::new());
        transport.write_shared([].as_slice().into());
        by_default(&event, transport)
    });
    scene.tell(id, |transport| {
        transport.write(b"");
        transport.write_owned(Vec::new());
        transport.write_shared([].as_slice().into());
        transport.close();
        transport.write(b"");
    });
    assert!(!peer.take_calls().iter().any(|call| matches!(call, Call::Write(_))));
    assert_eq!(scene.event_loop.context().counters().late_writes, 0);
}

#[test]
fn w6_a_send_that_takes_nothing_is_an_error() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.write_answers(Ok(0));
    scene.tell(id, |transport| transport.write(b"x"));
    let error = io::Error::from(io::ErrorKind::WriteZero);
    assert_eq!(log.take(), ["made".into(), format!("lost: I/O error: {error}")]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

#[test]
fn w6_without_buffers_a_send_is_tried_again_by_time_and_nothing_is_lost() {
    const MS: Duration = Duration::from_millis(1);
    for code in [errno::ENOBUFS, errno::ENOMEM] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        for _ in 0..3 {
            peer.write_answers(Err(os_error(code)));
        }
        scene.tell(id, |transport| transport.write(b"abc"));
        assert_eq!(scene.event_loop.time_to_next(), Some(10 * MS));
        scene.pass(29 * MS);
        assert_eq!(peer.take_sent(), b"");
        scene.pass(MS);
        assert_eq!(peer.take_sent(), b"abc");
        assert_eq!(log.take(), ["made"]);
        scene.pass(2000 * MS);
        assert_eq!(scene.event_loop.time_to_next(), None, "it is over");
    }
}

#[test]
fn w6_what_waits_for_buffers_may_be_as_many_pieces_as_one_call_takes() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    for _ in 0..2 * GATHER_MAX {
        peer.write_answers(Err(os_error(errno::ENOBUFS)));
    }
    scene.tell(id, |transport| {
        (0..GATHER_MAX).for_each(|index| transport.write_owned(vec![index as u8; LARGE_BYTES]));
        transport.write(&[b'l'; 2 * LARGE_BYTES]);
    });
    assert!(peer.take_sent().is_empty());
    while scene.event_loop.time_to_next().is_some() {
        scene.pass(Duration::from_secs(1));
    }
    let mut expected: Vec<_> = (0..GATHER_MAX).map(|index| vec![index as u8; LARGE_BYTES]).collect();
    expected.push(vec![b'l'; 2 * LARGE_BYTES]);
    assert!(peer.take_sent() == expected.concat());
}

#[test]
fn w6_a_connection_that_ends_while_it_waits_for_buffers_leaves_nothing_behind() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.write_answers(Err(os_error(errno::ENOBUFS)));
    scene.tell(id, |transport| transport.write(b"abc"));
    scene.tell(id, abort);
    scene.pass(Duration::from_secs(3));
    assert_eq!(log.take(), ["made", "lost: aborted by us"]);
    assert_eq!(peer.take_calls(), [Call::Reset]);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn w1_the_first_error_of_a_large_write_is_told_and_not_that_of_the_next_try() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.tell(id, |transport| transport.write(&[0; 300 * KIB]));
    assert_eq!(log.take(), ["made", "lost: I/O error: timed out"]);
}

#[test]
fn w1_a_limit_met_after_a_failed_send_does_not_hide_the_first_error() {
    let mut scene = Scene::with_limits(Limits::default().with_input_bytes_max(4));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => 0,
        event => by_default(&event, transport),
    });
    peer.sends("abcde");
    peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
    scene.tell(id, |transport| transport.write(b"x"));
    assert_eq!(log.take(), ["made", "data abcde", "lost: I/O error: timed out"]);
}

#[test]
fn w1_what_is_written_when_it_is_made_goes_out_at_once_and_to_nobody_else() {
    let mut scene = Scene::new();
    let greets = |text: &'static [u8]| {
        protocol(&Log::default(), move |event, transport| {
            if let Event::Made = event {
                transport.write(text);
            }
            by_default(&event, transport)
        })
    };
    let peers = [&b"first"[..], b"second", b""].map(|text| (scene.knock(Some(greets(text))), text));
    scene.turn();
    for (peer, text) in peers {
        assert_eq!(peer.take_sent(), text);
    }
}

#[test]
fn k1_a_stream_waits_for_room_while_it_connects_and_while_a_send_is_blocked_and_at_no_other_time() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = scene.world.connect_begins();
    let id = {
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        scene.event_loop.context().connect(to, protocol(&log, idle)).unwrap()
    };
    assert!(peer.awaits_writable());
    scene.stands(&peer);
    assert!(!peer.awaits_writable());
    peer.set_room(3);
    scene.tell(id, |transport| transport.write(b"more than that"));
    assert!(peer.awaits_writable());
    peer.set_room(KIB);
    scene.world.event(&peer, Readiness::WRITABLE);
    scene.settle();
    assert!(!peer.awaits_writable());
    let (_, accepted) = scene.accept(&log, idle);
    assert!(!accepted.awaits_writable());
}
