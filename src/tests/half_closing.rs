//! Rules H: half-close.

use super::*;
use crate::sys::script::Call;

/// Consumes all data, and does not close at the peer's end.
fn stays(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Eof(_) => 0,
        event => by_default(&event, transport),
    }
}

fn last_call(peer: &Peer) -> Option<Call> {
    peer.take_calls().pop()
}

#[test]
fn h1_at_the_peer_s_end_the_default_flushes_and_closes() {
    /// Has no `eof_received` of its own.
    struct Greets(Log);

    impl Protocol for Greets {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(b"hello");
            data.len()
        }

        fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
            self.0.push(reason.to_string());
        }
    }

    let mut scene = Scene::new();
    let log = Log::default();
    let peer = scene.knock(Some(Box::new(Greets(log.clone()))));
    scene.turn();
    peer.set_room(3);
    peer.sends("x");
    scene.end(&peer);
    assert_eq!((log.take(), peer.take_sent()), (vec![], b"hel".to_vec()));
    scene.make_room(&peer, 2);
    assert_eq!((log.take(), peer.take_sent()), (vec!["closed by the peer".into()], b"lo".to_vec()));
}

#[test]
fn h1_a_protocol_may_go_on_writing_after_the_peer_s_end_as_long_as_it_likes() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, stays);
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof"]);
    let mut sent = 0;
    for _ in 0..10 {
        peer.set_room(0);
        scene.tell(id, |transport| transport.write(&[0; 200]));
        assert_eq!(log.take(), ["pause"]);
        scene.pass(Duration::from_secs(3600));
        scene.make_room(&peer, 200);
        assert_eq!(log.take(), ["resume"]);
        sent += peer.take_sent().len();
    }
    assert_eq!(sent, 2000);
    scene.tell(id, close);
    assert_eq!(log.take(), ["lost: closed by the peer"]);
}

#[test]
fn h1_the_last_write_and_close_may_come_with_the_end() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Eof(rest) = event {
            transport.write(rest);
            transport.write(b", goodbye");
        }
        match event {
            Event::Data(_) => 0,
            event => by_default(&event, transport),
        }
    });
    peer.sends("hello");
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "data hello", "eof hello", "lost: closed by the peer"]);
    assert_eq!(peer.take_sent(), b"hello, goodbye");
    assert_eq!(last_call(&peer), Some(Call::Close));
}

#[test]
fn h2_shutdown_write_flushes_then_sends_fin_and_reading_goes_on() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(2);
    scene.tell(id, |transport| {
        transport.write(b"abc");
        transport.shutdown_write();
    });
    assert_eq!(peer.take_calls(), [Call::Write(2), Call::Write(0)]);
    scene.receive(&peer, "one");
    peer.take_calls();
    scene.make_room(&peer, 1);
    assert_eq!(peer.take_calls(), [Call::Write(1), Call::ShutdownWrite]);
    scene.receive(&peer, "two");
    scene.pass(60 * SECOND);
    assert_eq!(log.take(), ["made", "data one", "data two"]);
    scene.end(&peer);
    assert_eq!(log.take(), ["eof", "lost: closed by the peer"]);
}

#[test]
fn h2_fin_goes_out_at_once_where_nothing_is_queued_and_only_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            transport.write(b"abc");
            transport.shutdown_write();
            transport.shutdown_write();
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(peer.take_calls(), [Call::Read, Call::Write(3), Call::ShutdownWrite]);
    scene.tell(id, shutdown_write);
    scene.world.event(&peer, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(peer.take_calls(), []);
    assert_eq!(log.take(), ["made", "data x"]);
}

#[test]
fn h2_both_halves_shut_is_lost_in_every_order() {
    // Our end before the peer's, with and without output in the way; and the peer's before ours.
    for (room, ours_first) in [(usize::MAX, true), (0, true), (usize::MAX, false), (0, false)] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (id, peer) = scene.accept(&log, stays);
        peer.set_room(room);
        scene.tell(id, |transport| transport.write(b"abc"));
        if ours_first {
            scene.tell(id, shutdown_write);
            scene.end(&peer);
        } else {
            scene.end(&peer);
            scene.tell(id, shutdown_write);
        }
        scene.make_room(&peer, usize::MAX);
        assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"], "{room}, {ours_first}");
        assert_eq!(peer.take_sent(), b"abc");
        assert_eq!(last_call(&peer), Some(Call::Close));
    }
}

#[test]
fn h2_shutdown_write_at_the_peer_s_end_ends_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Eof(_) => {
            transport.write(b"bye");
            transport.shutdown_write();
            0
        }
        event => by_default(&event, transport),
    });
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
    assert_eq!(peer.take_sent(), b"bye");
}

#[test]
fn h2_close_after_shutdown_write_ends_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, stays);
    scene.tell(id, shutdown_write);
    scene.tell(id, close);
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(last_call(&peer), Some(Call::Close));
}

#[test]
fn h3_the_end_is_seen_once_and_not_spun_on() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, stays);
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof"]);
    peer.take_calls();
    for _ in 0..10 {
        scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED);
        assert_eq!(scene.settle(), 1);
    }
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(peer.take_calls(), []);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn h3_after_the_end_pausing_and_resuming_finds_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, stays);
    scene.end(&peer);
    scene.tell(id, pause_reading);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["made", "eof"]);
}

#[test]
fn h1_a_reset_after_the_peer_s_end_is_noticed_though_nothing_is_written() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Eof(_) => 0,
        event => by_default(&event, transport),
    });
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof"]);
    peer.meets(io::ErrorKind::BrokenPipe.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["lost: reset by the peer"]);
}

#[test]
fn h1_a_reset_behind_an_end_that_waited_for_resume_is_noticed_too() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Eof(_) => 0,
        event => by_default(&event, transport),
    });
    scene.tell(id, pause_reading);
    peer.sends([]);
    peer.meets(io::ErrorKind::BrokenPipe.into());
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR);
    scene.settle();
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["eof", "lost: reset by the peer"]);
}
