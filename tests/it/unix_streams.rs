//! Unix stream sockets, taken into the loop ready-made, and both kinds taken out of it again.

use std::cell::RefCell;
use std::io::{BufRead, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use switchboard::{ConnectionId, Context, Detached, EventLoop, Handle, Protocol, Transport};

use crate::support::{Echo, Ends, NotingEnd, PATIENCE, connect, event_loop, listen, pattern, serve_while, turn_until};

/// A client, and its server in the loop.
fn pair<P: Protocol>(event_loop: &mut EventLoop, protocol: P) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    event_loop.context().attach(ours, protocol).unwrap();
    theirs
}

#[test]
fn w1_large_amounts_come_back_whole_and_in_order_over_a_unix_stream() {
    let mut event_loop = event_loop();
    let mut client = pair(&mut event_loop, Echo);
    let bytes = pattern(8 << 20);
    let (sent, mut sender) = (bytes.clone(), client.try_clone().unwrap());
    let sending = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let back = serve_while(&mut event_loop, move || {
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        back
    });
    sending.join().unwrap();
    assert!(back == bytes);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
}

/// Goes on after the peer's end, with something to send or without.
struct StaysOn(&'static [u8]);

impl Protocol for StaysOn {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        transport.write(self.0);
    }
}

#[test]
fn h3_a_unix_peer_s_close_is_both_halves() {
    for says_something_first in [false, true] {
        let mut event_loop = event_loop();
        let ends = Ends::default();
        let mut client = pair(&mut event_loop, NotingEnd { inner: StaysOn(b""), ends: ends.clone() });
        if says_something_first {
            client.write_all(b"hello").unwrap();
        }
        drop(client);
        turn_until(&mut event_loop, |context| context.connection_count() == 0);
        assert_eq!(ends.take(), ["closed by the peer"]);
    }
}

#[test]
fn h1_a_unix_peer_s_half_close_leaves_the_other_half() {
    let mut event_loop = event_loop();
    let ends = Ends::default();
    let mut client = pair(&mut event_loop, NotingEnd { inner: StaysOn(b"still here"), ends: ends.clone() });
    client.shutdown(Shutdown::Write).unwrap();
    let client = serve_while(&mut event_loop, move || {
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still here");
        client
    });
    assert_eq!((event_loop.context().connection_count(), ends.borrow().len()), (1, 0));
    drop(client);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(ends.take(), ["closed by the peer"]);
}

#[test]
fn a_unix_stream_costs_no_wake_up_when_its_peer_reads() {
    let mut event_loop = event_loop();
    let mut client = pair(&mut event_loop, Echo);
    let mut answered = |event_loop: &mut EventLoop, text: &[u8]| {
        client.write_all(text).unwrap();
        event_loop.turn(Some(PATIENCE)).unwrap();
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, text);
    };
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    for _ in 0..10 {
        answered(&mut event_loop, b"message");
        // The peer has read. Were that an event, it would be there by now.
        let before = event_loop.context().counters().events;
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(event_loop.context().counters().events, before, "woken without a reason");
    }
}

/// Detaches at the first bytes, consuming one of them, and hands the rest to a thread.
struct HandsOver(Handle);

impl Protocol for HandsOver {
    fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
        transport.write(b"handing over\n");
        let handle = self.0.clone();
        transport.detach(|_, detached| drop(thread::spawn(move || answer_a_line(detached, &handle))));
        1
    }
}

/// Reads a line with plain calls, answers it, and gives the connection back to the loop, which echoes.
fn answer_a_line(detached: Detached, handle: &Handle) {
    let mut stream = detached.into_blocking(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).unwrap();
    stream.write_all(&line).unwrap();
    let give_back = move |context: &mut Context<'_>| {
        context.attach(stream, Echo).unwrap();
    };
    handle.post(give_back).unwrap();
}

#[test]
fn c7_a_thread_answers_a_detached_connection_with_plain_calls_and_gives_it_back() {
    fn talk(mut stream: impl Read + Write) {
        stream.write_all(b"?a lin").unwrap();
        let mut heard = vec![0; "handing over\n".len()];
        stream.read_exact(&mut heard).unwrap();
        // What comes with the line's end is read ahead with it, and belongs to the loop.
        stream.write_all(b"e\nec").unwrap();
        heard.resize("a line\n".len(), 0);
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, b"a line\n");
        stream.write_all(b"ho").unwrap();
        heard.resize(4, 0);
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, b"echo");
    }

    let mut event_loop = event_loop();
    let handle = event_loop.context().handle();
    let unix = pair(&mut event_loop, HandsOver(handle.clone()));
    let address = listen(&mut event_loop, move || HandsOver(handle.clone()));
    serve_while(&mut event_loop, move || {
        talk(unix);
        talk(connect(address));
    });
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
}

/// Broadcasts its input to a room.
struct Talks(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Talks {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.context().broadcast(self.0.borrow().iter(), data);
        data.len()
    }
}

#[test]
fn w1_a_broadcast_over_unix_streams_comes_to_each_whole_and_in_order_however_slowly_it_reads() {
    let mut event_loop = event_loop();
    let room = Rc::new(RefCell::new(Vec::new()));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        theirs.set_write_timeout(Some(PATIENCE)).unwrap();
        let id = event_loop.context().attach(ours, Talks(room.clone())).unwrap();
        room.borrow_mut().push(id);
        clients.push(theirs);
    }
    // Small pieces and one large one, more than a socket takes at once.
    let bytes = pattern(3 << 20);
    let (sent, mut sender) = (bytes.clone(), clients[0].try_clone().unwrap());
    let sending = thread::spawn(move || sender.write_all(&sent).unwrap());
    let back = serve_while(&mut event_loop, move || {
        let read = |mut client: UnixStream| {
            thread::spawn(move || {
                let mut back = vec![0; 3 << 20];
                client.read_exact(&mut back).unwrap();
                (back, client)
            })
        };
        clients
            .into_iter()
            .map(read)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|reading| reading.join().unwrap())
            .collect::<Vec<_>>()
    });
    sending.join().unwrap();
    assert!(back.iter().all(|(back, _)| *back == bytes));
}

/// Like [`pair`], and returns the connection's id: its socket is full, and little is queued.
fn full_pair<P: Protocol>(event_loop: &mut EventLoop, protocol: P) -> (UnixStream, ConnectionId) {
    let client = pair(event_loop, protocol);
    turn_until(event_loop, |context| context.connection_count() == 1);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let id = event_loop.context().connection_ids()[0];
    while event_loop.context().connection(id).unwrap().queued_bytes() == 0 {
        event_loop.context().connection(id).unwrap().write(&[b'x'; 4096]);
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    (client, id)
}

#[test]
fn n1_a_broadcast_behind_what_a_unix_peer_had_not_taken_asks_for_no_more_events() {
    let mut event_loop = event_loop();
    let (mut client, id) = full_pair(&mut event_loop, Echo);
    let mut received = vec![0; 1 << 20];
    let mut read = |client: &mut UnixStream| client.read(&mut received).unwrap();
    read(&mut client);
    event_loop.context().broadcast([id], b"behind");
    turn_until(&mut event_loop, |context| context.connection(id).unwrap().queued_bytes() == 0);
    client.set_nonblocking(true).unwrap();
    let before = event_loop.context().counters().events;
    for _ in 0..10 {
        let _ = client.read(&mut [0; 4096]);
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(event_loop.context().counters().events, before);
}

/// Answers with a head and a borrowed piece too large to be copied.
struct Lends;

impl Protocol for Lends {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(b"head");
        transport.write(&[b'x'; 20 * 1024]);
        data.len()
    }
}

#[test]
fn n1_a_large_answer_behind_what_a_unix_peer_had_not_taken_asks_for_no_more_events() {
    let mut event_loop = event_loop();
    let (mut client, id) = full_pair(&mut event_loop, Lends);
    client.set_nonblocking(true).unwrap();
    let mut received = vec![0; 1 << 20];
    // The loop sees that there is room, and the question, at once.
    while client.read(&mut received).is_ok() {}
    client.write_all(b"?").unwrap();
    turn_until(&mut event_loop, |context| {
        context.connection(id).unwrap().stats().bytes_received == 1
            && context.connection(id).unwrap().queued_bytes() == 0
    });
    let before = event_loop.context().counters().events;
    for _ in 0..10 {
        let _ = client.read(&mut received);
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
        event_loop.context().connection(id).unwrap().write(&[b'x'; 100]);
    }
    assert_eq!(event_loop.context().counters().events, before);
}
