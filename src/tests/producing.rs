//! Rule W8: protocols that produce output as there is room for it.

use std::cell::Cell;
use std::io::Read;

use super::*;
use crate::filter::chain::Passing;
use crate::sys::script::Call;

/// Limits whose marks are at `high` and `low`.
fn marks(high: usize, low: usize) -> Limits {
    Limits::default().with_queue_bytes_high(high).with_queue_bytes_low(low)
}

/// Starts producing when it is made, and writes `pieces` pieces of `bytes` bytes, one in each call.
fn producer(pieces: usize, bytes: usize) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize {
    let mut left = pieces;
    move |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Produce if left > 0 => {
                left -= 1;
                transport.write(&vec![b'p'; bytes]);
            }
            _ => {}
        }
        by_default(&event, transport)
    }
}

fn entries<const N: usize>(entries: [&str; N]) -> Vec<String> {
    entries.map(str::to_owned).to_vec()
}

fn produced(log: &Log) -> usize {
    log.take().iter().filter(|entry| *entry == "produce").count()
}

#[test]
fn w8_produce_comes_once_a_turn_until_it_writes_nothing() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, producer(3, 10));
    assert_eq!(log.take(), ["made"], "with the next turn");
    for _ in 0..3 {
        assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
        scene.turn();
        assert_eq!(log.take(), ["produce"]);
        assert_eq!(peer.take_sent().len(), 10);
    }
    assert_eq!(scene.settle(), 1);
    assert_eq!(log.take(), ["produce"]);
    assert_eq!(scene.event_loop.time_to_next(), None, "it has ended");
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["data x"]);
    scene.tell(id, |transport| {
        transport.start_producing();
        transport.start_producing();
    });
    assert_eq!(log.take(), ["produce"]);
}

#[test]
fn w8_produce_comes_as_often_through_a_filter() {
    let mut scene = Scene::new();
    let log = Log::default();
    let mut produces = producer(3, 10);
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Made = event {
            assert!(transport.set_filter(Passing));
        }
        produces(event, transport)
    });
    scene.settle();
    assert_eq!(peer.take_sent().len(), 30);
    assert_eq!(produced(&log), 4);
}

#[test]
fn w8_no_more_than_the_low_mark_is_queued_when_it_comes() {
    let mut scene = Scene::with_limits(marks(2000, 1000));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Produce => transport.write(&[b'p'; 468]),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.settle();
    // With the overhead of their chunk two pieces are exactly at the mark.
    assert_eq!(log.take(), ["made", "produce", "produce", "produce"]);
    scene.make_room(&peer, 467);
    assert_eq!(log.take(), [""; 0], "a byte over the low mark");
    scene.make_room(&peer, 1);
    assert_eq!(log.take(), ["produce"]);
    // The marks may be changed meanwhile.
    scene.tell(id, |transport| transport.set_write_marks(2000, 1500));
    assert_eq!(log.take(), ["produce"]);
}

#[test]
fn w8_a_peer_that_takes_all_at_once_has_it_go_on() {
    let mut scene = Scene::with_limits(marks(2000, 1000));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, producer(5, 1500));
    peer.set_room(0);
    scene.settle();
    assert_eq!(log.take(), ["made", "produce"]);
    // Nothing is left after the send, and nothing more is done for it.
    for left in [2, 3, 4, 5] {
        scene.make_room(&peer, 1500);
        assert_eq!(log.take(), ["produce"], "piece {left}");
    }
    scene.make_room(&peer, usize::MAX);
    assert_eq!(log.take(), ["produce"]);
    assert_eq!(peer.take_sent().len(), 5 * 1500);
}

#[test]
fn w8_a_share_of_a_broadcast_that_goes_out_makes_room_too() {
    for bytes in [500, 1500] {
        let mut scene = Scene::with_limits(marks(2000, 1000));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, producer(2, 1200));
        peer.set_room(0);
        scene.settle();
        assert_eq!(log.take(), ["made", "produce"]);
        // At the turn's end it is told of its queue, including what others have written to it.
        peer.set_room(usize::MAX);
        scene.world.event(&peer, Readiness::WRITABLE);
        scene.event_loop.context().broadcast([id], &vec![b'b'; bytes]);
        scene.settle();
        assert_eq!(produced(&log), 2, "{bytes}");
        assert_eq!(peer.take_sent().len(), 2 * 1200 + bytes);
    }
}

#[test]
fn w8_it_comes_behind_the_reading_of_its_connection() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Data(data) => {
                transport.write(data);
                return data.len();
            }
            Event::Produce => transport.write(b"p"),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.sends("ab");
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    assert_eq!(log.take(), ["made", "data ab", "produce"]);
    assert_eq!(peer.take_sent(), b"abp");
    let writes = peer.take_calls().iter().filter(|call| matches!(call, Call::Write(_))).count();
    assert_eq!(writes, 1, "they go out together");
}

#[test]
fn w8_what_its_own_callbacks_write_before_it_counts_against_the_low_mark() {
    let mut scene = Scene::with_limits(marks(2000, 1000));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Data(data) => {
                transport.write(&[0; 1001]);
                return data.len();
            }
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    assert_eq!(log.take(), ["made", "data x"]);
    scene.settle();
    assert_eq!(log.take(), ["produce"], "it has gone out");
}

#[test]
fn w8_it_goes_on_behind_the_peer_s_end() {
    let mut scene = Scene::new();
    let log = Log::default();
    let mut produce = producer(3, 10);
    let (_, peer) = scene.accept(&log, move |event, transport| match event {
        Event::Eof(_) => 0,
        event => produce(event, transport),
    });
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "produce", "produce", "produce", "produce"]);
    assert_eq!(peer.take_sent().len(), 30);
}

#[test]
fn c1_produce_never_comes_before_connection_made() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, _peer) = scene.attach(&log, producer(0, 0));
    scene.event_loop.context().connection(id).unwrap().start_producing();
    scene.settle();
    assert_eq!(log.take(), ["made", "produce"]);

    let server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let id = scene.event_loop.context().connect(address, protocol(&log, idle)).unwrap();
    scene.tell(id, start_producing);
    assert_eq!(log.take(), [""; 0]);
    server.answers();
    scene.world.event(&server, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(log.take(), ["made", "produce"]);
}

#[test]
fn c1_a_connect_that_fails_produces_nothing() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let _server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let id = scene.event_loop.context().connect(address, protocol(&log, idle)).unwrap();
    scene.tell(id, |transport| {
        transport.start_producing();
        transport.abort();
    });
    assert_eq!(log.take().len(), 1, "that it has failed");
}

#[test]
fn w8_after_an_end_of_sending_nothing_is_produced() {
    type Ending = fn(&mut Transport<'_>);
    let detach: Ending = |transport| assert!(transport.detach(|_, _| {}));
    let fails: Ending = |transport| transport.close_for("broken");
    let endings: [(Ending, &[&str]); 6] = [
        (close, &["lost: closed by us"]),
        (abort, &["lost: aborted by us"]),
        (shutdown_write, &[]),
        (detach, &["lost: detached from the loop"]),
        (fails, &["lost: protocol error: broken"]),
        (stop_producing, &[]),
    ];
    for (n, (end, lost)) in endings.into_iter().enumerate() {
        for within in [false, true] {
            let mut scene = Scene::new();
            let log = Log::default();
            let (id, _peer) = scene.accept(&log, move |event, transport| {
                match event {
                    Event::Made => transport.start_producing(),
                    Event::Produce => {
                        transport.write(b"p");
                        if within {
                            end(transport);
                        }
                    }
                    _ => {}
                }
                by_default(&event, transport)
            });
            scene.turn();
            if !within {
                end(&mut scene.event_loop.context().connection(id).unwrap());
            }
            scene.settle();
            let expected = [&["made", "produce"], lost].concat();
            assert_eq!(log.take(), expected, "ending {n}, within its callback: {within}");
        }
    }
}

#[test]
fn c7_producing_is_the_protocol_s_own_and_a_start_behind_a_change_is_the_new_one_s() {
    type Change = fn(&mut Transport<'_>, Box<dyn Protocol>);
    let changes: [Change; 2] =
        [|transport, new| transport.set_protocol(new), |transport, new| transport.start_protocol(new)];
    for (n, change) in changes.into_iter().enumerate() {
        for starts_again in [false, true] {
            let mut scene = Scene::new();
            let (log, new_log) = (Log::default(), Log::default());
            let log_of_new = new_log.clone();
            scene.accept(&log, move |event, transport| {
                match event {
                    Event::Made => transport.start_producing(),
                    // It writes nothing: that ends its own producing, but not that of the new protocol.
                    Event::Produce => {
                        change(transport, protocol(&log_of_new, idle));
                        if starts_again {
                            transport.start_producing();
                        }
                    }
                    _ => {}
                }
                by_default(&event, transport)
            });
            scene.settle();
            assert_eq!(log.take(), ["made", "produce"]);
            let mut expected = if n == 0 { vec![] } else { entries(["made"]) };
            expected.extend(starts_again.then(|| "produce".to_owned()));
            assert_eq!(new_log.take(), expected, "change {n}, started again: {starts_again}");
        }
    }
}

#[test]
fn c7_the_one_that_is_set_from_outside_does_not_go_on_with_what_the_old_one_produced() {
    let mut scene = Scene::new();
    let (log, new_log) = (Log::default(), Log::default());
    let (id, _peer) = scene.accept(&log, producer(1000, 1));
    scene.turn();
    let new = protocol(&new_log, idle);
    scene.tell(id, |transport| transport.set_protocol(new));
    assert_eq!((log.take(), new_log.take()), (entries(["made", "produce"]), vec![]));
}

#[test]
fn l2_one_that_produces_for_ever_starves_nobody() {
    let mut scene = Scene::new();
    let log = Log::default();
    let forever = |log: &Log| {
        protocol(log, |event, transport| {
            match event {
                Event::Made => transport.start_producing(),
                Event::Produce => transport.write(&[0; 20 * KIB]),
                _ => {}
            }
            by_default(&event, transport)
        })
    };
    for _ in 0..3 {
        scene.knock(Some(forever(&log)));
    }
    let (other, peer) = scene.accept(&Log::default(), echo);
    scene.turn();
    log.take();
    scene.event_loop.context().call_later(Duration::ZERO, move |context| {
        context.connection(other).unwrap().write(b"timer ");
    });
    for turn in 0..5 {
        peer.sends("x");
        scene.world.event(&peer, Readiness::READABLE);
        scene.turn();
        assert_eq!(log.take(), ["produce"; 3], "each once");
        let expected: &[u8] = if turn == 0 { b"xtimer " } else { b"x" };
        assert_eq!(peer.take_sent(), expected);
    }
}

#[test]
fn w8_where_a_piece_passes_the_high_mark_the_marks_are_told_and_it_goes_on() {
    let mut scene = Scene::with_limits(marks(100, 10));
    let log = Log::default();
    let (_, peer) = scene.accept(&log, producer(2, 200));
    peer.set_room(0);
    scene.settle();
    assert_eq!(log.take(), ["made", "produce", "pause"]);
    scene.make_room(&peer, 200);
    assert_eq!(log.take(), ["resume", "produce", "pause"]);
    scene.make_room(&peer, usize::MAX);
    assert_eq!(log.take(), ["resume", "produce"]);
}

#[test]
fn e1_a_panic_in_produce_ends_its_connection() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (_, peer) = scene.accept(&log, |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Produce => panic!("on purpose"),
            _ => {}
        }
        by_default(&event, transport)
    });
    scene.settle();
    assert_eq!(log.take(), ["made", "produce", "lost: a callback panicked: on purpose"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

// What is read from a reader.

/// Yields this many bytes, in reads as long as asked for, and logs how long they were.
struct Source {
    left: usize,
    longest: Rc<Cell<usize>>,
    ends: Option<io::ErrorKind>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.left);
        if count == 0 {
            self.ends.take().map_or(Ok(()), |kind| Err(io::Error::from(kind)))?;
        }
        self.longest.set(self.longest.get().max(count));
        self.left -= count;
        buffer[..count].fill(b'f');
        Ok(count)
    }
}

fn sends(log: &Log, bytes: usize, ends: Option<io::ErrorKind>) -> (Box<dyn Protocol>, Rc<Cell<usize>>) {
    let longest = Rc::new(Cell::new(0));
    let mut source = Source { left: bytes, longest: longest.clone(), ends };
    let sender = protocol(log, move |event, transport| {
        match event {
            Event::Made => transport.start_producing(),
            Event::Produce if transport.write_from(&mut source) == 0 => transport.close(),
            _ => {}
        }
        by_default(&event, transport)
    });
    (sender, longest)
}

#[test]
fn w8_a_reader_is_sent_in_pieces_that_stay_below_the_high_mark() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (sender, longest) = sends(&log, 1000 * KIB, None);
    let peer = scene.knock(Some(sender));
    scene.turn();
    let id = ConnectionId(scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).unwrap().0);
    peer.set_room(0);
    scene.settle();
    let mut sent = 0;
    while let Some(transport) = scene.event_loop.context().connection(id) {
        assert!(transport.queued_bytes() <= 64 * KIB);
        scene.make_room(&peer, 7000);
        sent += peer.take_sent().len();
    }
    assert_eq!(sent, 1000 * KIB);
    assert!((32 * KIB..=64 * KIB).contains(&longest.get()), "{}", longest.get());
    let log = log.take();
    assert!(!log.contains(&"pause".to_owned()), "{log:?}");
    assert_eq!(log.last().unwrap(), "lost: closed by us");
}

#[test]
fn w8_x5_an_error_of_the_reader_resets_the_connection_and_an_interruption_does_not() {
    for (kind, lost) in [
        (io::ErrorKind::Interrupted, "lost: closed by us"),
        (io::ErrorKind::Other, "lost: I/O error: other error"),
        (io::ErrorKind::ConnectionReset, "lost: I/O error: connection reset"),
    ] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (sender, _) = sends(&log, 10, Some(kind));
        let peer = scene.knock(Some(sender));
        scene.settle();
        scene.end(&peer);
        assert_eq!(log.take(), ["made", "produce", "produce", lost]);
        let resets = peer.take_calls().contains(&Call::Reset);
        assert_eq!((peer.take_sent().len(), resets), (10, kind != io::ErrorKind::Interrupted));
    }
}

#[test]
fn w8_w5_nothing_is_read_for_a_connection_that_is_closing() {
    let mut scene = Scene::new();
    let (id, peer) = scene.accept(&Log::default(), idle);
    peer.set_room(0);
    let mut input: &[u8] = b"left where it is";
    scene.tell(id, |transport| transport.write(b"queued"));
    scene.event_loop.context().connection(id).unwrap().close();
    assert_eq!(scene.event_loop.context().connection(id).unwrap().write_from(&mut input), 0);
    assert_eq!(input.len(), 16);
}
