//! Rule R6: when a would-block at the urgent mark is believed.

use super::*;
use crate::sys::script::Call;

/// Makes a read of the urgent byte block, without an edge for it.
fn would_block_at_mark(peer: &Peer) {
    peer.read_fails(io::ErrorKind::WouldBlock.into());
    peer.sends("!");
}

#[test]
fn r6_a_would_block_at_the_urgent_mark_is_not_believed_while_that_is_hinted_at() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, idle);
    log.take();
    for _ in 0..3 {
        would_block_at_mark(&peer);
        scene.world.event(&peer, Readiness::READABLE | Readiness::PRIORITY);
        assert_eq!(scene.settle(), 1);
        assert_eq!(peer.take_calls(), [Call::Read, Call::TellAgain]);
        // What the poller reports then.
        scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY);
        scene.settle();
        assert_eq!(log.take(), ["data !"]);
        assert_eq!(peer.take_calls(), [Call::Read, Call::Read, Call::TellAgain]);
        // Without that hint the last would-block was genuine, and everything is as before.
        scene.world.event(&peer, Readiness::WRITABLE);
        scene.settle();
        scene.receive(&peer, "more");
        assert_eq!(log.take(), ["data more"]);
        assert_eq!(peer.take_calls(), [Call::Read]);
        assert_eq!(scene.event_loop.time_to_next(), None, "a timer is left");
    }
}

#[test]
fn r6_an_urgent_byte_that_cannot_be_read_is_asked_for_a_few_times_a_second() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    let mut asked = 0;
    // The hint stays, since the data before that byte is missing.
    let mut answer = |scene: &mut Scene| {
        scene.world.event(&peer, Readiness::WRITABLE | Readiness::PRIORITY);
        assert!(scene.settle() < 3);
        let calls = peer.take_calls();
        assert!(calls.iter().filter(|call| **call == Call::Read).count() <= 1, "{calls:?}");
        asked += calls.iter().filter(|call| **call == Call::TellAgain).count();
    };
    for _ in 0..1000 {
        answer(&mut scene);
        scene.pass(MS);
    }
    assert!((10..=22).contains(&asked), "asked {asked} times in a second");
    // The data arrives at last.
    scene.receive(&peer, "before!");
    assert_eq!(log.take(), ["made", "data before!"]);
    scene.tell(id, |transport| transport.abort());
    scene.pass(SECOND);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn r6_where_nothing_was_ever_urgent_no_would_block_is_doubted() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    for hints in [Readiness::READABLE, Readiness::READ_CLOSED, Readiness::ERROR, Readiness::WRITE_CLOSED] {
        scene.world.event(&peer, hints | Readiness::READABLE);
        scene.settle();
        scene.tell(id, pause_reading);
        scene.tell(id, resume_reading);
    }
    let calls = peer.take_calls();
    assert!(calls.len() >= 4 && calls.iter().all(|call| *call == Call::Read), "{calls:?}");
}

#[test]
fn r4_an_urgent_byte_is_delivered_though_a_send_fails_and_its_read_would_block_a_few_times() {
    for tries in [1, 7] {
        urgent_behind_a_failed_send(tries);
    }
}

fn urgent_behind_a_failed_send(tries: usize) {
    let mut scene = Scene::new();
    let log = Log::default();
    let peer = scene.knock(Some(protocol(&log, |event, transport| {
        if let Event::Made = event {
            transport.write(b"hello");
        }
        by_default(&event, transport)
    })));
    // The send fails before any event has reported the data that has arrived.
    peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
    for _ in 0..tries {
        peer.read_fails(io::ErrorKind::WouldBlock.into());
    }
    peer.sends("!");
    scene.settle();
    assert_eq!(log.take(), ["made", "data !", "lost: I/O error: timed out"]);
}

#[test]
fn x1_a_close_finds_an_urgent_byte_though_its_read_would_block_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, pause_reading);
    scene.world.event(&peer, Readiness::READABLE | Readiness::PRIORITY);
    scene.settle();
    would_block_at_mark(&peer);
    scene.tell(id, close);
    assert_eq!(log.take(), ["made"], "it lingers: to close over what is unread would reset the peer");
    scene.end(&peer);
    assert_eq!(log.take(), ["lost: closed by us"]);
}

#[test]
fn x1_a_close_finds_an_urgent_byte_before_any_event_has_hinted_at_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    would_block_at_mark(&peer);
    scene.tell(id, close);
    assert_eq!(log.take(), ["made"], "it lingers: to close over what is unread would reset the peer");
    scene.end(&peer);
    assert_eq!(log.take(), ["lost: closed by us"]);
}
