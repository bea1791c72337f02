//! What filters cost: no more system calls, and no more memory, than without them (Y2).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::*;
use crate::filter::chain::Passing;
use crate::filter::{Filter, Flow};
use crate::sys::script::Call;

/// Becomes ready when something arrives, and answers that by itself, as a server does at the end of a handshake.
struct Greets(bool);

impl Filter for Greets {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        if !std::mem::replace(&mut self.0, true) {
            flow.down().push(b"ticket ");
            flow.set_ready();
        }
        Passing.receive(data, flow)
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        Passing.send(data, flow)
    }
}

/// Takes four bytes at a time.
struct Fours;

impl Filter for Fours {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(4);
        if count == 4 { Passing.receive(&mut data[..4], flow) } else { 0 }
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        Passing.send(data, flow)
    }
}

/// Takes written data seven bytes at a time.
struct Sevens;

impl Filter for Sevens {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        Passing.receive(data, flow)
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        Passing.send(&data[..data.len().min(7)], flow)
    }
}

/// Takes a byte at a time, and passes a thousand of them up.
struct Expands;

impl Filter for Expands {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let Some(&first) = data.first() else { return 0 };
        flow.up().push(&[first; 1000]);
        1
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        Passing.send(data, flow)
    }
}

/// Takes nothing until it has this much, and notes where each call had its data, and how much.
struct Whole {
    bytes: usize,
    calls: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Filter for Whole {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        self.calls.lock().unwrap().push((data.as_ptr() as usize, data.len()));
        if data.len() < self.bytes { 0 } else { Passing.receive(data, flow) }
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        Passing.send(data, flow)
    }
}

/// A connection with a filter, at rest, which handles data with `act`.
fn filtered(filter: impl Filter, act: fn(&mut Transport<'_>, &[u8])) -> (Scene, ConnectionId, Peer) {
    let mut scene = Scene::new();
    let mut filter = Some(filter);
    let (id, peer) = scene.accept(&Log::default(), move |event, transport| {
        match (&event, filter.take()) {
            (Event::Made, Some(filter)) => assert!(transport.set_filter(filter)),
            (Event::Data(data), _) => act(transport, data),
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.settle();
    peer.take_calls();
    (scene, id, peer)
}

fn kept_bytes(scene: &Scene, id: ConnectionId) -> usize {
    scene.event_loop.core.parts.slots.connection(id.0).unwrap().chain().unwrap().kept_bytes()
}

#[test]
fn y2_what_a_callback_writes_through_a_filter_is_one_send() {
    let (mut scene, _, peer) = filtered(Passing, |transport, _| (0..100).for_each(|_| transport.write(b"line\n")));
    scene.receive(&peer, "x");
    assert_eq!(peer.take_calls(), [Call::Read, Call::Write(500)]);
}

#[test]
fn y2_large_pieces_through_a_filter_are_one_send() {
    let act = |transport: &mut Transport<'_>, _: &[u8]| (0..3).for_each(|_| transport.write(&[b'x'; 20 * KIB]));
    let (mut scene, _, peer) = filtered(Passing, act);
    scene.receive(&peer, "x");
    assert_eq!(peer.take_calls(), [Call::Read, Call::Write(60 * KIB)]);
}

#[test]
fn y2_what_a_filter_says_and_the_answer_behind_it_are_one_send() {
    for begins_anew in [false, true] {
        let mut scene = Scene::new();
        let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Made = event {
                assert!(transport.set_filter(Greets(false)));
                if begins_anew {
                    // Its `connection_made` is called when the filter is ready, right before the data that came with
                    // that.
                    transport.start_protocol(protocol(&Log::default(), echo));
                }
            }
            echo(event, transport)
        });
        scene.settle();
        peer.take_calls();
        scene.receive(&peer, "hello");
        assert_eq!(peer.take_calls(), [Call::Read, Call::Write("ticket hello".len())]);
        assert_eq!(peer.take_sent(), b"ticket hello");
    }
}

#[test]
fn y2_what_the_kernel_does_not_take_waits_in_order_behind_a_filter() {
    for room in [0, 1, 300, 499] {
        let (mut scene, id, peer) = filtered(Passing, |transport, data| transport.write(&data.repeat(100)));
        peer.set_room(room);
        scene.receive(&peer, "12345");
        scene.receive(&peer, "67890");
        scene.make_room(&peer, usize::MAX);
        assert_eq!(peer.take_sent(), [b"12345".repeat(100), b"67890".repeat(100)].concat(), "{room}");
        let connection = scene.event_loop.core.parts.slots.connection(id.0).unwrap();
        assert!(!connection.has_output(), "nothing counts as queued any more");
    }
}

#[test]
fn y2_what_a_filter_takes_in_parts_goes_out_once_and_in_order() {
    let (mut scene, _, peer) = filtered(Sevens, |transport, data| transport.write(data));
    for text in ["abcdef", "abcdefg", "abcdefghijklmnopqrstuvwxyz", "!"] {
        scene.receive(&peer, text);
        assert_eq!(peer.take_sent(), text.as_bytes());
    }
}

#[test]
fn y2_what_a_filter_has_left_stays_before_what_comes_though_an_event_brings_nothing() {
    for quiet_events in 0..3 {
        let (mut scene, _, peer) = filtered(Fours, |transport, data| transport.write(data));
        for byte in b"abcdefgh" {
            scene.receive(&peer, [*byte]);
            for _ in 0..quiet_events {
                scene.world.event(&peer, Readiness::READABLE);
                scene.settle();
            }
        }
        assert_eq!(peer.take_sent(), b"abcdefgh");
    }
}

#[test]
fn y2_what_a_filter_leaves_is_not_moved_for_each_read_of_a_long_record() {
    const PIECE: usize = 64;
    let bytes = 256 * PIECE;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (mut scene, _, peer) =
        filtered(Whole { bytes, calls: calls.clone() }, |transport, data| transport.write(&data[..1]));
    for _ in 0..256 {
        scene.receive(&peer, [b'x'; PIECE]);
    }
    assert_eq!(peer.take_sent().len(), 1, "the record is complete");
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    // The first read found nothing before it, so its data was where the loop reads into.
    let (read_buffer, _) = calls[0];
    let moved: usize = calls.iter().filter(|(at, _)| *at == read_buffer).map(|(_, count)| count - PIECE).sum();
    assert!(0 < moved && moved <= 5 * bytes, "{moved} bytes were moved in front of what was read, for {bytes}");
}

#[test]
fn y2_an_idle_connection_keeps_no_memory_for_its_filters() {
    let (mut scene, id, peer) = filtered(Passing, |transport, data| transport.write(data));
    for count in [1, 60 * KIB, 1] {
        scene.receive(&peer, vec![b'x'; count]);
        assert_eq!(peer.take_sent().len(), count);
        assert_eq!(kept_bytes(&scene, id), 0, "{count}");
    }
}

#[test]
fn r5_little_input_that_becomes_much_does_not_exceed_a_turn() {
    let mut scene = Scene::with_limits(Limits::default().with_read_bytes_per_turn_max(2_500));
    let log = Log::default();
    let total = Rc::new(Cell::new(0));
    let counted = total.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        match &event {
            Event::Made => assert!(transport.set_filter(Expands)),
            Event::Data(data) => counted.set(counted.get() + data.len()),
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.settle();
    peer.sends("0123456789");
    scene.world.event(&peer, Readiness::READABLE);
    for turn in 1..=4 {
        scene.turn();
        assert_eq!(total.get(), 10_000.min(3_000 * turn));
    }
}
