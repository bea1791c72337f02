//! Rules R: reading.

use super::*;

#[test]
fn r1_what_is_consumed_is_gone_and_the_rest_is_offered_again() {
    let mut scene = Scene::new();
    let log = Log::default();
    // Takes one frame of two bytes a call.
    let (_, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) if data.len() < 2 => 0,
        Event::Data(_) => 2,
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "aabbc");
    assert_eq!(log.take(), ["made", "data aabbc", "data bbc", "data c"]);
    scene.receive(&peer, "cd");
    assert_eq!(log.take(), ["data ccd", "data d"]);
    scene.end(&peer);
    assert_eq!(log.take(), ["eof d", "lost: closed by the peer"]);
}

#[test]
fn r1_consuming_more_than_was_given_ends_the_connection() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, _| match event {
        Event::Data(data) => data.len() + 1,
        _ => 0,
    });
    scene.receive(&peer, "abc");
    assert_eq!(log.take(), ["made", "data abc", "lost: data_received answered 4 bytes consumed of 3"]);
    assert!(peer.is_closed());
}

#[test]
fn r2_nothing_is_delivered_while_paused_and_all_of_it_after_resume() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) if data.starts_with(b"stop") => {
            transport.pause_reading();
            4
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "stop and go");
    assert_eq!(log.take(), ["made", "data stop and go"]);
    scene.receive(&peer, " on");
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(peer.unread(), 3);
    scene.event_loop.context().connection(id).unwrap().resume_reading();
    scene.settle();
    assert_eq!(log.take(), ["data  and go", "data  on"]);
}
