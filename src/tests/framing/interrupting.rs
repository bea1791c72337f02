//! What a handler does in the middle of a buffer takes effect there: nothing more is given to it, and nothing is lost.

use super::*;
use crate::framing::{FixedSize, Framed};

/// Protocols of all kinds, with an input of three frames and a bit; the second frame makes the handler do something.
fn protocols(
    log: &Log,
    act: impl Fn(&str, &mut Transport<'_>, &mut usize) + Clone + 'static,
) -> [(Box<dyn Protocol>, &'static str, &'static str); 3] {
    let handler = || noting(log, act.clone());
    [
        (Box::new(LineReceiver::new(handler())), "a\nstop\nb\nc", "line"),
        (Box::new(Telnet::new(LineReceiver::new(handler()))), "a\nstop\nb\nc", "line"),
        (Box::new(Framed::new(FixedSize::new(4), handler())), "aaaastopbbbbc", "frame"),
    ]
}

fn is_stop(entry: &str) -> bool {
    entry.ends_with(" stop")
}

#[test]
fn f1_a_pause_in_the_middle_of_a_buffer_keeps_the_rest() {
    let log = Log::default();
    for (protocol, input, what) in protocols(&log, |entry, transport, _| {
        if is_stop(entry) {
            transport.pause_reading();
        }
    }) {
        let mut scene = Scene::new();
        let peer = scene.knock(Some(protocol));
        scene.turn();
        let id =
            ConnectionId(scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).unwrap().0);
        log.take();
        scene.receive(&peer, input);
        let found = log.take();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], format!("{what} stop"));
        scene.tell(id, resume_reading);
        let found = log.take();
        assert!(found.len() == 1 && found[0].starts_with(&format!("{what} b")), "{found:?}");
        scene.end(&peer);
        assert_eq!(log.take()[0], "eof c");
    }
}

#[test]
fn f1_a_close_in_the_middle_of_a_buffer_is_the_end() {
    for end in [close as fn(&mut Transport<'_>), abort, |transport| transport.close_for("no")] {
        let log = Log::default();
        for (protocol, input, what) in protocols(&log, move |entry, transport, _| {
            if is_stop(entry) {
                end(transport);
            }
        }) {
            let mut scene = Scene::new();
            let peer = scene.knock(Some(protocol));
            scene.turn();
            log.take();
            scene.receive(&peer, input);
            let found = log.take();
            assert_eq!(found.len(), 3, "{found:?}");
            assert_eq!(found[1], format!("{what} stop"));
            assert!(found[2].starts_with("lost"));
        }
    }
}

#[test]
fn f1_a_new_protocol_in_the_middle_of_a_buffer_gets_the_rest() {
    let log = Log::default();
    let new = log.clone();
    for (old, input, what) in protocols(&log, move |entry, transport, _| {
        if is_stop(entry) {
            transport.set_protocol(protocol(&new, idle));
        }
    }) {
        let mut scene = Scene::new();
        let peer = scene.knock(Some(old));
        scene.turn();
        log.take();
        scene.receive(&peer, input);
        let rest = input.split_once("stop").unwrap().1.trim_start();
        let found = log.take();
        assert_eq!(found[1..], [format!("{what} stop"), format!("data {rest}")]);
    }
}

#[test]
fn f1_a_panic_in_the_middle_of_a_buffer_is_the_end() {
    let log = Log::default();
    for (protocol, input, what) in protocols(&log, |entry, _, _| assert!(!is_stop(entry), "stopped")) {
        let mut scene = Scene::new();
        scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
        let peer = scene.knock(Some(protocol));
        scene.turn();
        log.take();
        scene.receive(&peer, input);
        let found = log.take();
        assert!(found[0].starts_with(&format!("{what} a")), "{found:?}");
        assert_eq!(found[1..], ["lost: a callback panicked: stopped"]);
    }
}

/// Each answer has this many bytes; the second one takes the queue over the mark.
fn answers_over_the_mark_hold_frames_back(answer_bytes: usize) {
    let log = Log::default();
    let answer = vec![7; answer_bytes];
    for (protocol, input, what) in protocols(&log, move |entry, transport, _| {
        if !["made", "pause", "resume"].contains(&entry) {
            transport.write(&answer);
        }
    }) {
        let limits = Limits::default().with_queue_bytes_high(answer_bytes + answer_bytes / 2);
        let mut scene = Scene::with_limits(limits);
        let peer = scene.knock(Some(protocol));
        peer.set_room(0);
        scene.turn();
        log.take();
        scene.receive(&peer, input);
        assert_eq!(log.take()[1..], [format!("{what} stop"), "pause".into()], "the peer does not read");
        scene.make_room(&peer, 100 * KIB);
        let found = log.take();
        assert!(found[0] == "resume" && found[1].starts_with(&format!("{what} b")), "{found:?}");
    }
}

#[test]
fn f1_gathered_answers_over_the_mark_hold_frames_back() {
    answers_over_the_mark_hold_frames_back(8 * KIB);
}

#[test]
fn f1_large_answers_over_the_mark_hold_frames_back() {
    answers_over_the_mark_hold_frames_back(20 * KIB);
}

#[test]
fn f2_raw_data_and_lines_alternate_in_the_middle_of_a_buffer() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let handler = noting(&log, |entry, _, raw_bytes| {
        if let Some(bytes) = entry.strip_prefix("line raw ") {
            *raw_bytes = bytes.parse().unwrap();
        }
    });
    let (_, peer) = scene.connect(LineReceiver::new(handler));
    scene.receive(&peer, "a\nraw 4\nb\nc\nd\nraw 5\ne\n");
    assert_eq!(log.take(), ["made", "line a", "line raw 4", r"raw b\nc\n", "line d", "line raw 5", r"raw e\n"]);
    scene.receive(&peer, "fg");
    assert_eq!(log.take(), ["raw fg"]);
    scene.receive(&peer, "h\ni\n");
    assert_eq!(log.take(), ["raw h", "line ", "line i"]);
}

#[test]
fn f2_raw_data_that_its_handler_leaves_is_offered_again_with_more() {
    struct Pairs(Log);
    impl LineHandler for Pairs {
        fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
        fn is_raw(&self) -> bool {
            true
        }
        fn raw_data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            self.0.push(shown("offered", data));
            data.len() / 2 * 2
        }
    }
    for telnet in [false, true] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let inner = LineReceiver::new(Pairs(log.clone()));
        let protocol: Box<dyn Protocol> = if telnet { Box::new(Telnet::new(inner)) } else { Box::new(inner) };
        let peer = scene.knock(Some(protocol));
        scene.turn();
        scene.receive(&peer, "abc");
        // The loop always calls a protocol again that has consumed something, and so do adapters.
        let mut offered = log.take();
        offered.dedup();
        assert_eq!(offered, ["offered abc", "offered c"]);
        scene.receive(&peer, "d");
        assert_eq!(log.take(), ["offered cd"]);
    }
}

#[test]
fn f2_raw_data_that_is_consumed_twice_ends_the_connection() {
    struct Greedy;
    impl LineHandler for Greedy {
        fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
        fn is_raw(&self) -> bool {
            true
        }
        fn raw_data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len() + 1
        }
    }
    for telnet in [false, true] {
        let mut scene = Scene::new();
        let inner = LineReceiver::new(Greedy);
        let protocol: Box<dyn Protocol> = if telnet { Box::new(Telnet::new(inner)) } else { Box::new(inner) };
        let peer = scene.knock(Some(protocol));
        scene.turn();
        scene.receive(&peer, "abc\u{ff}d");
        assert!(peer.is_closed());
    }
}
