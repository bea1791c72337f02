//! Filters that leave a loop with their connection: for another protocol, or for a thread that uses blocking I/O (rules
//! C7 and Y7).

use std::cell::Cell;
use std::io::{self, BufRead, Read, Write};

use super::kinds::{Eager, Masked};
use super::stubborn::{Greedy, Waits};
use super::*;
use crate::filter::{Filter, Flow};
use crate::sys::script::{Call, Peer as Script};
use crate::testing::every_cut;
use crate::{BlockingStream, Detached};

type Given = Rc<RefCell<Vec<Detached>>>;

/// Detaches at the first data, of which it consumes `takes` bytes, after an answer.
fn leaves(
    given: &Given,
    takes: usize,
    answer: &'static [u8],
) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let given = given.clone();
    move |event, transport| match event {
        Event::Data(data) => {
            transport.write(answer);
            let given = given.clone();
            assert!(transport.detach(move |_, detached| given.borrow_mut().push(detached)));
            transport.write(b"late");
            takes.min(data.len())
        }
        event => by_default(&event, transport),
    }
}

/// A connection with a filter, for instance `Sealed`, which waits for its peer's hello.
fn filtered(
    scene: &mut Scene,
    log: &Log,
    filter: impl Filter,
    act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static,
) -> Script {
    let (id, peer) = scene.accept(log, act);
    scene.tell(id, |transport| assert!(transport.set_filter(filter)));
    log.take();
    peer
}

/// Returns the plain bytes of records, and what follows the last of them.
fn opened(mut sealed: &[u8], key: u8) -> (Vec<u8>, &[u8]) {
    let mut plain = Vec::new();
    while let Some((&[b'R', high, low], rest)) = sealed.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
        plain.extend(payload.iter().map(|byte| byte ^ key));
        sealed = rest;
    }
    (plain, sealed)
}

/// A stream in memory that has left its loop at the first data, which is `!`, and its peer.
fn left_with(filter: impl Filter, hello: &[u8], sent: &[u8]) -> (BlockingStream, Script) {
    let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
    let peer = filtered(&mut scene, &log, filter, leaves(&given, 1, b""));
    for bytes in [hello, sent].into_iter().filter(|bytes| !bytes.is_empty()) {
        scene.receive(&peer, bytes);
    }
    let detached = given.borrow_mut().pop().expect("it has left");
    assert!(detached.has_filters() && detached.unsent().is_empty());
    peer.take_sent();
    (BlockingStream::of(detached).0, peer)
}

fn left(filter: impl Filter) -> (BlockingStream, Script) {
    left_with(filter, b"H\0", &record(b"!"))
}

/// Reads until nothing more arrives. Returns what was read, and the result of the last read.
fn read_all(stream: &mut BlockingStream) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut buffer = [0; 7];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn kind(result: &io::Result<()>) -> Option<io::ErrorKind> {
    result.as_ref().err().map(io::Error::kind)
}

/// Echoes what it consumes. At every second data it is detached, and consumes only `takes` bytes of it.
fn leaves_often(
    given: &Given,
    count: &Rc<Cell<usize>>,
    takes: usize,
) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let (given, count) = (given.clone(), count.clone());
    move |event, transport| match event {
        Event::Data(data) => {
            count.set(count.get() + 1);
            let leaves = count.get() % 2 == 1;
            let taken = if leaves { takes.min(data.len()) } else { data.len() };
            transport.write(&data[..taken]);
            let given = given.clone();
            assert!(!leaves || transport.detach(move |_, detached| given.borrow_mut().push(detached)));
            taken
        }
        event => by_default(&event, transport),
    }
}

#[test]
fn y7_in_every_cut_nothing_is_lost_or_doubled_where_a_connection_leaves_and_comes_back() {
    let input = [b"H\0", &record(b"abc")[..], &record(b"d"), &record(b"efghi"), b"E"].concat();
    for (takes, room) in [(0, usize::MAX), (2, 1), (100, 4)] {
        every_cut(&input, |pieces| {
            let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
            let count = Rc::new(Cell::new(0));
            let filter = Eager(Sealed::server(KEY, 2));
            let peer = filtered(&mut scene, &log, filter, leaves_often(&given, &count, takes));
            peer.set_room(room);
            for piece in pieces {
                scene.receive(&peer, piece);
                while let Some(detached) = given.borrow_mut().pop() {
                    let again = protocol(&log, leaves_often(&given, &count, takes));
                    scene.event_loop.context().attach(detached, again).unwrap();
                    scene.settle();
                    if !peer.is_closed() {
                        scene.make_room(&peer, room);
                    }
                }
            }
            if !given.borrow().is_empty() || !peer.is_closed() {
                scene.make_room(&peer, usize::MAX);
            }
            let sent = peer.take_sent();
            let (plain, end) = opened(&sent[2..], KEY);
            assert_eq!((&sent[..2], &plain[..], end), (&[b'S', KEY][..], &b"abcdefghi"[..], &b"E"[..]));
            assert!(log.take().ends_with(&["eof".into(), "lost: closed by the peer".into()]));
        });
    }
}

#[test]
fn y7_in_every_cut_a_thread_reads_all_and_then_the_end_that_was_said_or_that_it_was_not() {
    let data = [&record(b"abc")[..], &record(b"d"), &record(b"efghi")].concat();
    for is_said in [true, false] {
        let input = if is_said { [&data[..], b"E"].concat() } else { data.clone() };
        every_cut(&input, |pieces| {
            let (mut stream, peer) = left(Sealed::server(KEY, 100));
            let mut all = Vec::new();
            let mut last = Ok(());
            for piece in pieces {
                peer.sends(piece);
                let (read, result) = read_all(&mut stream);
                all.extend(read);
                last = result;
            }
            assert_eq!(all, b"abcdefghi");
            if !is_said {
                assert_eq!(kind(&last), Some(io::ErrorKind::WouldBlock));
                peer.sends([]);
                last = read_all(&mut stream).1;
                let error = last.as_ref().unwrap_err();
                assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::UnexpectedEof, "no end was said"));
                // The error remains.
                last = read_all(&mut stream).1;
            }
            assert_eq!(kind(&last), (!is_said).then_some(io::ErrorKind::UnexpectedEof));
            peer.take_calls();
            drop(stream);
            let end = if is_said { Call::Close } else { Call::Reset };
            assert_eq!(peer.take_calls(), [end]);
        });
    }
}

#[test]
fn y7_what_had_been_read_before_it_left_comes_before_what_is_still_to_be_read() {
    // Consumed; left over; passed by the filter but not delivered; and not given to the filter.
    let sent = [&record(b"!left")[..], &record(b"behind"), b"R\0\x04ha"].concat();
    for filter in [true, false] {
        let (mut stream, peer) = match filter {
            true => left_with(Eager(Sealed::server(KEY, 100)), b"H\0", &sent),
            false => left_with(Sealed::server(KEY, 100), b"H\0", &sent),
        };
        peer.sends([b'l' ^ KEY, b'f' ^ KEY]);
        let expected = [&b"leftbehind"[..], &[b'h' ^ KEY, b'a' ^ KEY], b"lf"].concat();
        assert_eq!(read_all(&mut stream).0, expected);
    }
}

#[test]
fn c7_a_read_into_a_large_buffer_gives_what_was_left_over_before_what_is_still_to_be_read() {
    let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
    let (_, peer) = scene.accept(&log, leaves(&given, 1, b""));
    scene.receive(&peer, b"!left");
    let mut stream = BlockingStream::of(given.borrow_mut().pop().expect("it has left")).0;
    peer.sends(b"behind");
    let mut buffer = vec![0; 64 * KIB];
    for expected in [&b"left"[..], b"behind"] {
        let count = stream.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], expected);
    }
}

#[test]
fn y7_one_that_leaves_as_soon_as_it_is_made_takes_along_what_came_with_that() {
    let input = [b"H\0", &record(b"abc")[..], b"E"].concat();
    every_cut(&input, |pieces| {
        let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
        let (id, peer) = scene.accept(&log, idle);
        let receiver = given.clone();
        let leaves = protocol(&log, move |event, transport| {
            let given = receiver.clone();
            let detaches = matches!(event, Event::Made);
            assert!(!detaches || transport.detach(move |_, detached| given.borrow_mut().push(detached)));
            0
        });
        scene.tell(id, |transport| {
            assert!(transport.set_filter(Eager(Sealed::server(KEY, 100))));
            transport.start_protocol(leaves);
        });
        let mut stream = None;
        let mut all = Vec::new();
        let mut has_ended = false;
        for piece in pieces {
            match stream {
                Some(_) => peer.sends(piece),
                None => scene.receive(&peer, piece),
            }
            stream = stream.or_else(|| Some(BlockingStream::of(given.borrow_mut().pop()?).0));
            if let Some(stream) = &mut stream {
                let (read, last) = read_all(stream);
                all.extend(read);
                has_ended = last.is_ok();
            }
        }
        assert_eq!((all, has_ended), (b"abc".to_vec(), true));
    });
}

#[test]
fn y7_a_write_that_would_block_takes_nothing_and_one_that_took_some_is_not_to_be_done_again() {
    for room in [1, 2, 5, 50] {
        let (mut stream, peer) = left(Sealed::server(KEY, 3));
        let data: Vec<u8> = (0..100).collect();
        peer.set_room(0);
        let mut left = &data[..];
        while !left.is_empty() {
            match stream.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    peer.set_room(room);
                }
            }
        }
        // The last bytes have been taken, but not sent.
        peer.set_room(0);
        let error = stream.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        peer.set_room(usize::MAX);
        stream.flush().unwrap();
        assert_eq!(opened(&peer.take_sent(), KEY), (data, &b""[..]));
        drop(stream);
        assert!(!peer.take_calls().contains(&Call::Reset), "all is out");
    }
}

#[test]
fn y7_a_stream_that_is_dropped_with_what_a_filter_has_made_unsent_is_reset() {
    let (mut stream, peer) = left(Sealed::server(KEY, 100));
    peer.set_room(2);
    assert_eq!(stream.write(b"abc").unwrap(), 3);
    drop(stream);
    assert_eq!((peer.take_sent(), peer.take_calls().pop()), (b"R\0".to_vec(), Some(Call::Reset)));
    // If the stream comes back to a loop, the rest is sent.
    let (mut stream, peer) = left(Sealed::server(KEY, 100));
    peer.set_room(2);
    assert_eq!(stream.write(b"abc").unwrap(), 3);
    let (mut scene, log) = (Scene::new(), Log::default());
    let id = scene.event_loop.context().attach(stream, protocol(&log, echo)).unwrap();
    scene.settle();
    scene.make_room(&peer, 100);
    scene.tell(id, |transport| transport.write(b"d"));
    assert_eq!(peer.take_sent(), [record(b"abc"), record(b"d")].concat());
}

#[test]
fn y7_shutting_down_says_the_filters_end_behind_what_was_written_and_reading_goes_on() {
    let (mut stream, peer) = left(Sealed::server(KEY, 100));
    peer.set_room(4);
    assert_eq!(stream.write(b"abc").unwrap(), 3);
    assert_eq!(stream.shutdown_write().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    peer.set_room(usize::MAX);
    peer.take_calls();
    stream.shutdown_write().unwrap();
    let sent = peer.take_sent();
    assert_eq!(peer.take_calls().pop(), Some(Call::ShutdownWrite));
    peer.sends([&record(b"more")[..], b"E"].concat());
    assert_eq!(stream.write(b"late").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(read_all(&mut stream).0, b"more");
    assert!(sent.ends_with(b"E") && peer.take_sent().is_empty());
    // In a loop our half is shut as well, and the peer's end is reported there, too: that ends both halves.
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.context().attach(stream, protocol(&log, stays)).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
    assert_eq!((peer.take_sent(), peer.take_calls().contains(&Call::Reset)), (vec![], false));
}

#[test]
fn y7_a_failure_of_a_filter_is_an_error_behind_all_data_and_what_it_said_goes_out() {
    for is_before in [true, false] {
        let (mut stream, peer) = match is_before {
            true => left_with(Greedy, b"", b"xfine!worse"),
            false => left_with(Greedy, b"", b"x"),
        };
        if !is_before {
            peer.sends(b"fine!worse");
        }
        let (read, last) = read_all(&mut stream);
        assert_eq!(read, b"fine");
        let error = last.unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::InvalidData, "a wrong byte"));
        assert_eq!(kind(&read_all(&mut stream).1), Some(io::ErrorKind::InvalidData));
        assert_eq!(stream.write(b"lost").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(if is_before { b"alert".to_vec() } else { peer.take_sent() }, b"alert");
        // A loop reports the failure as the reason.
        let (mut scene, log) = (Scene::new(), Log::default());
        scene.event_loop.context().attach(stream, protocol(&log, idle)).unwrap();
        scene.settle();
        assert_eq!(log.take(), ["made", "lost: protocol error: a wrong byte"]);
    }
}

#[test]
fn y7_a_failure_that_was_found_as_it_left_is_told_where_it_comes_back_behind_all_data() {
    let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
    let peer = filtered(&mut scene, &log, Greedy, leaves(&given, 1, b""));
    peer.set_room(2);
    scene.receive(&peer, b"xfine!worse");
    let detached = given.borrow_mut().pop().expect("it has left");
    log.take();
    scene.event_loop.context().attach(detached, protocol(&log, echo)).unwrap();
    scene.settle();
    scene.make_room(&peer, 100);
    assert_eq!(log.take(), ["made", "data fine", "lost: protocol error: a wrong byte"]);
    assert_eq!(peer.take_sent(), b"alert", "and what was not filtered does not go out");
}

#[test]
fn y7_what_was_written_and_not_filtered_is_filtered_where_it_goes_on() {
    for in_thread in [true, false] {
        let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
        let peer = filtered(&mut scene, &log, Sealed::server(KEY, 2), leaves(&given, 1, b"answer"));
        scene.receive(&peer, b"H\0");
        peer.take_sent();
        peer.set_room(1);
        scene.receive(&peer, record(b"!"));
        let detached = given.borrow_mut().pop().expect("it has left");
        assert_eq!(detached.unsent(), b"swer", "two of them are filtered, and not out");
        peer.set_room(usize::MAX);
        let _stream = match in_thread {
            true => {
                let (mut stream, unsent) = BlockingStream::of(detached);
                stream.write_all(&unsent).unwrap();
                Some(stream)
            }
            false => {
                scene.event_loop.context().attach(detached, protocol(&log, echo)).unwrap();
                scene.settle();
                None
            }
        };
        assert_eq!(opened(&peer.take_sent(), KEY), (b"answer".to_vec(), &b""[..]));
    }
    // If the only unsent bytes are ones that a filter has made, what is there must not pass for everything.
    let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
    let peer = filtered(&mut scene, &log, Sealed::server(KEY, 100), leaves(&given, 1, b"answer"));
    scene.receive(&peer, b"H\0");
    peer.set_room(1);
    scene.receive(&peer, record(b"!"));
    let detached = given.borrow_mut().pop().expect("it has left");
    assert_eq!(detached.unsent(), b"");
    drop(detached);
    assert_eq!(peer.take_calls().pop(), Some(Call::Reset));
}

#[test]
fn y7_one_is_not_detached_before_its_filters_are_ready() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = scene.accept(&log, |event, transport| match event {
        Event::Data(data) => {
            assert!(transport.set_filter(Sealed::server(KEY, 100)));
            assert!(!transport.detach(|_, _| panic!("it has not even begun")));
            data.len()
        }
        event => by_default(&event, transport),
    });
    scene.receive(&peer, b"x");
    scene.tell(id, |transport| assert!(!transport.detach(|_, _| panic!("it is not ready"))));
    scene.receive(&peer, b"H\0");
    scene.tell(id, |transport| assert!(transport.detach(|_, detached| assert!(detached.has_filters()))));
    assert_eq!(log.take(), ["made", "data x", "lost: detached from the loop"]);
}

#[test]
fn y7_an_end_that_came_before_it_left_is_told_to_the_next_one() {
    for is_told in [true, false] {
        for in_thread in [true, false] {
            let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
            let receiver = given.clone();
            let act = move |event: Event<'_>, transport: &mut Transport<'_>| {
                let leaves = if is_told { matches!(event, Event::Eof(_)) } else { matches!(event, Event::Data(_)) };
                let given = receiver.clone();
                assert!(!leaves || transport.detach(move |_, detached| given.borrow_mut().push(detached)));
                if let Event::Data(data) = event { data.len() } else { 0 }
            };
            let peer = filtered(&mut scene, &log, Eager(Sealed::server(KEY, 100)), act);
            scene.receive(&peer, [b"H\0", &record(b"all")[..], b"E"].concat());
            let detached = given.borrow_mut().pop().expect("it has left");
            log.take();
            if in_thread {
                let mut stream = BlockingStream::of(detached).0;
                assert_eq!(read_all(&mut stream).1.ok(), Some(()), "and not that it would block");
            } else {
                scene.event_loop.context().attach(detached, protocol(&log, idle)).unwrap();
                scene.settle();
                assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer"]);
            }
        }
    }
}

#[test]
fn y7_a_filter_that_waits_for_its_peer_before_it_takes_more_is_waited_for_within_a_write() {
    for is_above in [false, true] {
        let (mut scene, log, given) = (Scene::new(), Log::default(), Given::default());
        let (id, peer) = scene.accept(&log, leaves(&given, 1, b""));
        scene.tell(id, |transport| {
            assert!(transport.set_filter(Waits::new()));
            assert!(!is_above || transport.set_filter(Masked { key: 0x20, step: 3 }));
        });
        scene.receive(&peer, b"x");
        let mut stream = BlockingStream::of(given.borrow_mut().pop().expect("it has left")).0;
        // The lower filter has taken nothing of what the upper one has made.
        let written = stream.write(b"HELLO");
        assert_eq!(
            written.map_err(|error| error.kind()),
            if is_above { Ok(3) } else { Err(io::ErrorKind::WouldBlock) }
        );
        peer.sends(b"AB!");
        stream.write_all(if is_above { b"LO" } else { b"HELLO" }).unwrap();
        stream.flush().unwrap();
        assert_eq!(peer.take_sent(), if is_above { b"hello" } else { b"HELLO" });
        assert_eq!(stream.unread(), if is_above { b"ab\x01" } else { b"AB!" }, "what came meanwhile is there");
    }
}

/// Reports the peer's name, takes one line, and leaves.
struct Names(bool);

impl Filter for Names {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        match data.iter().position(|byte| *byte == b'\n') {
            Some(end) if !self.0 => {
                self.0 = true;
                flow.up().push(&data[..=end]);
                end + 1
            }
            Some(end) => {
                flow.set_peer_addr(SocketAddr::from(([10, 0, 0, 1], 5)).into());
                flow.leave();
                end + 1
            }
            None => 0,
        }
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn y7_one_that_leaves_in_a_thread_is_gone_there_and_what_it_left_is_read() {
    let (mut stream, peer) = left_with(Names(false), b"", b"!\n");
    assert!(stream.filter::<Names>().is_some() && stream.filter::<Masked>().is_none());
    peer.sends(b"10.0.0.1\nrest");
    let mut line = [0; 5];
    stream.read_exact(&mut line).unwrap();
    let named = Address::from(SocketAddr::from(([10, 0, 0, 1], 5)));
    assert_eq!((&line, stream.peer_addr()), (b"\nrest", Some(&named)));
    assert!(stream.filter::<Names>().is_none() && !Detached::from(stream).has_filters());
}

#[test]
fn y7_what_a_filter_leaves_for_later_is_bounded_in_a_thread_as_well() {
    let (mut stream, peer) = left_with(Names(false), b"", b"!\n");
    peer.sends(vec![b'x'; 400 * KIB]);
    let (read, last) = read_all(&mut stream);
    assert_eq!((read, kind(&last)), (b"\n".to_vec(), Some(io::ErrorKind::InvalidData)));
    assert!(peer.unread() > 0, "and no more of it is read");
}

/// Panics at `?`, and at `!` in the middle of what it outputs.
struct Panics;

impl Filter for Panics {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        assert!(!data.contains(&b'?'), "oh");
        let panics = data.contains(&b'!');
        flow.up().push(data);
        if panics {
            flow.down().push(b"half of what it sa");
            panic!("oh");
        }
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn y10_what_a_filter_panics_with_is_a_panic_of_its_thread_and_no_byte_passes_it_afterwards() {
    let (mut stream, peer) = left_with(Panics, b"", b"xy");
    peer.sends(b"!secret");
    assert_eq!(stream.fill_buf().unwrap(), b"y");
    stream.consume(1);
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(stream.fill_buf())));
    assert!(panics.is_err());
    assert!(stream.fill_buf().is_err() && stream.write(b"plain").is_err());
    peer.take_calls();
    // Nor in a loop.
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.context().attach(stream, protocol(&log, echo)).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: protocol error: a filter of this stream panicked"]);
    assert_eq!(peer.take_sent(), b"");
    // If the stream is not used any more, it is reset.
    let (mut stream, peer) = left_with(Panics, b"", b"x");
    peer.sends(b"?");
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(stream.fill_buf())));
    assert!(panics.is_err() && stream.flush().is_err());
    drop(stream);
    assert_eq!(peer.take_calls().pop(), Some(Call::Reset));
}
