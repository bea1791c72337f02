//! Rule R1: what protocols consume, and what happens to the rest.

use std::cell::Cell;

use super::*;

/// The length of each input, and how many there were.
#[derive(Clone, Default)]
struct Tally(Rc<Cell<(usize, usize)>>);

impl Tally {
    fn add(&self, bytes: usize) {
        let (calls, sum) = self.0.get();
        self.0.set((calls + 1, sum + bytes));
    }

    /// The number of calls, and of bytes offered in all of them.
    fn calls_and_bytes(&self) -> (usize, usize) {
        self.0.get()
    }
}

/// Consumes nothing.
fn leaves_all(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Data(_) => 0,
        event => by_default(&event, transport),
    }
}

/// Consumes everything.
fn takes_all(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    by_default(&event, transport)
}

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
fn r1_what_was_left_is_not_offered_without_new_bytes() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, leaves_all);
    scene.receive(&peer, "ab");
    assert_eq!(log.take(), ["made", "data ab"]);
    scene.world.event(&peer, Readiness::READABLE | Readiness::WRITABLE);
    scene.settle();
    assert_eq!(log.take(), [""; 0]);
    scene.receive(&peer, "c");
    assert_eq!(log.take(), ["data abc"]);
}

#[test]
fn r1_the_rest_goes_to_a_new_protocol_at_once_where_the_old_one_took_its_part() {
    let mut scene = Scene::new();
    let log = Log::default();
    let new = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Data(_) => {
            let noted = new.clone();
            transport.set_protocol(protocol(&new, move |event, transport| {
                noted.push("to the new one");
                by_default(&event, transport)
            }));
            8
        }
        _ => 0,
    });
    scene.receive(&peer, "upgrade;hello");
    assert_eq!(log.take(), ["made", "data upgrade;hello", "data hello", "to the new one"]);
    scene.end(&peer);
    assert_eq!(log.take(), ["eof", "to the new one", "lost: closed by the peer", "to the new one"]);
}

#[test]
fn r1_all_goes_to_a_new_protocol_where_the_old_one_only_looked_at_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let new = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.set_protocol(protocol(&new, takes_all));
        }
        0
    });
    scene.receive(&peer, "hello");
    assert_eq!(log.take(), ["made", "data hello", "data hello"]);
    assert_eq!(peer.unread(), 0);
}

#[test]
fn r1_the_rest_goes_to_a_protocol_that_was_set_from_outside() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, leaves_all);
    scene.receive(&peer, "hello");
    assert_eq!(log.take(), ["made", "data hello"]);
    scene.tell(id, |transport| transport.set_protocol(protocol(&log, takes_all)));
    assert_eq!(log.take(), ["data hello"]);
    scene.receive(&peer, "more");
    assert_eq!(log.take(), ["data more"]);
}

#[test]
fn r1_a_new_protocol_gets_nothing_while_reading_is_paused() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, leaves_all);
    scene.receive(&peer, "hello");
    scene.tell(id, |transport| {
        transport.pause_reading();
        transport.set_protocol(protocol(&log, takes_all));
    });
    assert_eq!(log.take(), ["made", "data hello"]);
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["data hello"]);
}

#[test]
fn r1_a_protocol_can_ask_whether_it_would_be_given_more() {
    let mut scene = Scene::new();
    let log = Log::default();
    let answers = Log::default();
    let asked = answers.clone();
    let (id, peer) = scene.accept(&log, move |event, transport| {
        let ask = |when: &str, transport: &mut Transport<'_>| {
            asked.push(format!("{when}: {}", transport.is_reading()));
        };
        match event {
            Event::Data(b"pause") => {
                ask("data", transport);
                transport.pause_reading();
                ask("paused", transport);
                transport.resume_reading();
                ask("resumed", transport);
            }
            Event::Data(b"replace") => {
                transport.set_protocol(protocol(&Log::default(), idle));
                ask("replaced", transport);
            }
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "pause");
    assert_eq!(answers.take(), ["data: true", "paused: false", "resumed: true"]);
    scene.tell(id, |transport| {
        assert!(transport.is_reading());
        transport.pause_reading();
        assert!(!transport.is_reading());
        transport.resume_reading();
    });
    scene.receive(&peer, "replace");
    assert_eq!(answers.take(), ["replaced: false"]);
    let (id, _peer) = scene.accept(&log, {
        let answers = answers.clone();
        move |event, transport| {
            if let Event::Lost(_) = event {
                answers.push(format!("lost: {}", transport.is_reading()));
            }
            0
        }
    });
    scene.tell(id, |transport| {
        transport.close();
        assert!(!transport.is_reading());
    });
    assert_eq!(answers.take(), ["lost: false"]);
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
    assert_eq!(log.take(), ["made", "data abc", "lost: data_received reported 4 bytes consumed of 3"]);
    assert!(peer.is_closed());
}

#[test]
fn r1_as_much_as_the_limit_may_be_left_and_not_a_byte_more() {
    let mut scene = Scene::with_limits(Limits::default().with_input_bytes_max(4));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, leaves_all);
    scene.receive(&peer, "abcd");
    assert_eq!(log.take(), ["made", "data abcd"]);
    scene.receive(&peer, "e");
    assert_eq!(log.take(), ["data abcde", "lost: too much input left unconsumed"]);
}

#[test]
fn r1_by_default_64_kib_may_be_left() {
    let mut scene = Scene::new();
    let offered = Tally::default();
    let seen = offered.clone();
    let log = Log::default();
    let (_, peer) = scene.accept(&Log::default(), move |event, _| {
        match event {
            Event::Data(data) => seen.add(data.len()),
            Event::Lost(reason) => log.push(reason.to_string()),
            _ => {}
        }
        0
    });
    scene.receive(&peer, vec![0; 64 * 1024]);
    assert_eq!(offered.calls_and_bytes(), (1, 64 * 1024));
    assert!(!peer.is_closed());
    scene.receive(&peer, [0]);
    assert_eq!(offered.calls_and_bytes(), (2, 2 * 64 * 1024 + 1));
    assert!(peer.is_closed());
}

#[test]
fn r1_the_limit_can_be_raised_for_one_connection() {
    let mut scene = Scene::with_limits(Limits::default().with_input_bytes_max(4));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Made = event {
            transport.set_input_bytes_max(5);
        }
        leaves_all(event, transport)
    });
    scene.receive(&peer, "abcde");
    assert_eq!(log.take(), ["made", "data abcde"]);
    scene.receive(&peer, "f");
    assert_eq!(log.take(), ["data abcdef", "lost: too much input left unconsumed"]);
}

#[test]
fn r1_the_limit_does_not_count_what_a_pause_kept_from_the_protocol() {
    let mut scene = Scene::with_limits(Limits::default().with_input_bytes_max(4));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(b"stop and go on") => {
            transport.pause_reading();
            4
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, "stop and go on");
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["made", "data stop and go on", "data  and go on"]);
}

#[test]
fn r1_with_a_low_mark_there_is_no_call_before_so_much_is_there_or_the_end() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Made = event {
            transport.set_input_low_bytes(4);
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "abc");
    assert_eq!(log.take(), ["made"]);
    scene.receive(&peer, "d");
    assert_eq!(log.take(), ["data abcd"]);
    scene.receive(&peer, "ef");
    scene.end(&peer);
    assert_eq!(log.take(), ["eof ef", "lost: closed by the peer"]);
}

#[test]
fn r1_lowering_the_low_mark_from_outside_offers_what_is_kept() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, |transport| transport.set_input_low_bytes(100));
    scene.receive(&peer, "abc");
    assert_eq!(log.take(), ["made"]);
    scene.tell(id, |transport| transport.set_input_low_bytes(0));
    assert_eq!(log.take(), ["data abc"]);
}

#[test]
fn r1_what_a_low_mark_withholds_from_a_resumed_reader_does_not_hide_the_end_behind_it() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.set_input_low_bytes(100));
    scene.tell(id, pause_reading);
    peer.sends("four");
    scene.end(&peer);
    assert_eq!(log.take(), ["made"]);
    // Reading starts over without an event: it must go on after the withheld input.
    scene.tell(id, resume_reading);
    assert_eq!(log.take(), ["eof four", "lost: closed by the peer"]);
}

#[test]
fn r1_a_low_mark_over_the_limit_counts_as_the_limit() {
    let mut scene = Scene::with_limits(Limits::default().with_input_bytes_max(4));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, takes_all);
    scene.tell(id, |transport| transport.set_input_low_bytes(1000));
    scene.receive(&peer, "abc");
    assert_eq!(log.take(), ["made"]);
    scene.receive(&peer, "d");
    assert_eq!(log.take(), ["data abcd"]);
}

#[test]
fn r1_a_low_mark_makes_a_frame_of_single_bytes_one_call() {
    const FRAME: usize = 50_000;
    let mut scene = Scene::new();
    let offered = Tally::default();
    let seen = offered.clone();
    let (id, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(data) = &event {
            seen.add(data.len());
        }
        by_default(&event, transport)
    });
    scene.tell(id, |transport| transport.set_input_low_bytes(FRAME));
    for _ in 0..FRAME {
        scene.receive(&peer, "x");
    }
    assert_eq!(offered.calls_and_bytes(), (1, FRAME));
}

#[test]
fn r1_frames_taken_one_a_call_from_single_bytes_cost_linear_work() {
    const FRAME: usize = 10;
    const FRAMES: usize = 2_000;
    let mut scene = Scene::new();
    let offered = Tally::default();
    let seen = offered.clone();
    let (id, peer) = scene.accept(&Log::default(), move |event, transport| match event {
        Event::Data(data) => {
            seen.add(data.len());
            FRAME
        }
        event => by_default(&event, transport),
    });
    scene.tell(id, |transport| transport.set_input_low_bytes(FRAME));
    for _ in 0..FRAME * FRAMES {
        scene.receive(&peer, "x");
    }
    assert_eq!(offered.calls_and_bytes(), (FRAMES, FRAME * FRAMES));
}

#[test]
fn r1_what_was_left_to_a_new_protocol_is_offered_to_it_before_the_end() {
    let mut scene = Scene::new();
    let log = Log::default();
    let new = log.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            transport.set_protocol(protocol(&new, idle));
        }
        0
    });
    peer.sends("request");
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "data request", "data request", "eof", "lost: closed by the peer"]);
}

#[test]
fn r1_lowering_the_low_mark_in_another_callback_offers_what_is_kept() {
    let limits = Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10);
    let mut scene = Scene::with_limits(limits.with_pause_reading_over_high(false));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.set_input_low_bytes(100),
            Event::Pause => transport.set_input_low_bytes(0),
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "kept");
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 200]));
    scene.pass(SECOND);
    assert_eq!(log.take(), ["made", "pause", "data kept"]);
}

#[test]
fn r1_a_new_protocol_is_offered_the_rest_though_the_old_one_had_a_low_mark() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.set_input_low_bytes(100));
    scene.receive(&peer, "hello");
    scene.tell(id, |transport| transport.set_protocol(protocol(&log, idle)));
    assert_eq!(log.take(), ["made", "data hello"]);
}

#[test]
fn r1_after_a_resume_that_found_nothing_what_is_left_is_offered_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(_) => 0,
        event => by_default(&event, transport),
    });
    scene.tell(id, |transport| transport.pause_reading());
    scene.tell(id, |transport| transport.resume_reading());
    scene.receive(&peer, "ab");
    assert_eq!(log.take(), ["made", "data ab"]);
}
