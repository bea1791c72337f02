//! Reads for which the kernel lacks memory (rule R6): the shortage passes, and no connection ends.

use super::*;
use crate::sys::script::Call;

/// The kernel's error when it is short of memory.
fn short_of_memory() -> io::Error {
    os_error(errno::ENOMEM)
}

fn reads(peer: &Peer) -> usize {
    peer.take_calls().iter().filter(|call| **call == Call::Read).count()
}

#[test]
fn r6_a_read_that_fails_for_lack_of_memory_is_done_again_later() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    for quick in [true, false] {
        scene.event_loop.core.parts.outbox.set_quick(quick);
        (0..2).for_each(|_| peer.read_fails(short_of_memory()));
        scene.receive(&peer, "data");
        scene.pass(19 * MS);
        assert_eq!(peer.take_sent(), b"");
        scene.pass(MS);
        assert_eq!(peer.take_sent(), b"data");
        assert_eq!(scene.event_loop.time_to_next(), None, "a timer is left");
    }
    assert_eq!(log.take(), ["made", "data data", "data data"]);
}

#[test]
fn r6_reads_that_go_on_failing_for_lack_of_memory_do_not_add_up() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    (0..10_000).for_each(|_| peer.read_fails(short_of_memory()));
    for _ in 0..100 {
        scene.world.event(&peer, Readiness::READABLE);
        scene.pass(MS);
    }
    // Each event triggers another try.
    assert!((100..120).contains(&reads(&peer)));
    scene.pass(SECOND);
    assert!((99..102).contains(&reads(&peer)));
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, abort);
    scene.pass(SECOND);
    assert_eq!((reads(&peer), scene.event_loop.time_to_next()), (0, None));
}

#[test]
fn x1_a_close_that_cannot_look_for_input_for_lack_of_memory_lingers() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.read_fails(short_of_memory());
    scene.tell(id, |transport| {
        transport.write(b"the last answer");
        transport.close();
    });
    assert_eq!(peer.take_calls()[..3], [Call::Write(15), Call::ShutdownWrite, Call::Read]);
    assert_eq!(log.take(), ["made"], "it is not over");
    peer.read_fails(short_of_memory());
    scene.receive(&peer, "more of a request");
    scene.pass(10 * MS);
    assert_eq!(peer.unread(), 0);
    scene.end(&peer);
    assert_eq!(log.take(), ["lost: closed by us"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Close));
}

#[test]
fn r4_a_connection_that_can_neither_send_nor_read_ends() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.read_fails(short_of_memory());
    peer.write_answers(Err(io::ErrorKind::TimedOut.into()));
    scene.tell(id, |transport| transport.write(b"x"));
    assert_eq!(log.take(), ["made", "lost: I/O error: timed out"]);
}
