//! Connections that are being moved out of a loop, or into one, with half an answer sent (rule X5).

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use switchboard::{
    Address, Context, Detached, EventLoop, Feeder, IntoProtocol, Limits, PanicPolicy, Protocol, Transport, WhenFull,
};

use crate::support::{Echo, any_port, connect, event_loop, join, pattern, read_all, turn_until};

/// More than the kernel takes from a peer that does not read.
const ANSWER_BYTES: usize = 8 << 20;

/// Answers the first data, and detaches with the unsent rest.
struct AnswersAndLeaves(mpsc::Sender<Detached>);

impl Protocol for AnswersAndLeaves {
    fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
        transport.write_owned(pattern(ANSWER_BYTES));
        let sender = self.0.clone();
        transport.detach(move |_, connection| sender.send(connection).unwrap());
        1
    }
}

/// Both ends of a connection, the server's as returned by `accept`.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let client = connect(listener.local_addr().unwrap());
    (client, listener.accept().unwrap().0)
}

/// A client that has got a part of its answer, and the connection with the rest of it.
fn half_answered() -> (TcpStream, Detached) {
    let mut event_loop = event_loop();
    let (mut client, server) = pair();
    let (sender, receiver) = mpsc::channel();
    event_loop.context().attach(server, AnswersAndLeaves(sender)).unwrap();
    client.write_all(b"?!").unwrap();
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    let detached = receiver.try_recv().unwrap();
    assert!(!detached.unsent().is_empty() && detached.unread() == b"!");
    (client, detached)
}

/// The client gets a part of the answer, and then an error instead of an end.
#[track_caller]
fn assert_is_reset(mut client: TcpStream) {
    let mut answer = Vec::new();
    let error = client.read_to_end(&mut answer).expect_err("half an answer looks like a whole one");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(answer.len() < ANSWER_BYTES && pattern(ANSWER_BYTES).starts_with(&answer));
}

#[test]
fn x5_a_detached_connection_that_is_dropped_with_output_unsent_is_reset() {
    let (client, detached) = half_answered();
    drop(detached);
    assert_is_reset(client);
    // With nothing unsent the end is an orderly one.
    let (mut client, server) = pair();
    drop(Detached::from(server));
    assert!(read_all(&mut client).is_empty());
}

#[test]
fn x5_what_cannot_be_made_blocking_with_its_output_sent_is_reset() {
    let (client, detached) = half_answered();
    let error = detached.into_blocking(Some(Duration::from_millis(1))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_is_reset(client);
}

#[test]
fn x5_a_blocking_stream_that_is_dropped_after_a_write_that_failed_is_reset() {
    let (client, server) = pair();
    let mut blocking = Detached::from(server).into_blocking(Some(Duration::from_millis(1))).unwrap();
    blocking.write_all(&pattern(ANSWER_BYTES)).unwrap_err();
    drop(blocking);
    assert_is_reset(client);
    // The same on the way back into a loop.
    let (client, server) = pair();
    let mut blocking = Detached::from(server).into_blocking(Some(Duration::from_millis(1))).unwrap();
    blocking.write_all(&pattern(ANSWER_BYTES)).unwrap_err();
    drop(Detached::from(blocking));
    assert_is_reset(client);
    // One that could finish writing has an orderly end.
    let (mut client, server) = pair();
    let mut blocking = Detached::from(server).into_blocking(Some(Duration::from_millis(1))).unwrap();
    blocking.write_all(&pattern(ANSWER_BYTES)).unwrap_err();
    let reading = std::thread::spawn(move || client.read_to_end(&mut Vec::new()));
    blocking.set_timeout(None).unwrap();
    blocking.write_all(b"the end").unwrap();
    drop(blocking);
    join(reading).unwrap();
}

#[test]
fn x5_a_panic_with_a_connection_in_hand_resets_it() {
    let (client, server) = pair();
    let handler = std::thread::spawn(move || {
        let mut blocking = Detached::from(server).into_blocking(None).unwrap();
        blocking.write_all(b"half of").unwrap();
        panic!("a bug");
    });
    handler.join().unwrap_err();
    assert_is_reset_with(client, b"half of");
    let (client, mut server) = pair();
    let handler = std::thread::spawn(move || {
        server.write_all(b"half of").unwrap();
        let _detached = Detached::from(server);
        panic!("a bug");
    });
    handler.join().unwrap_err();
    assert_is_reset_with(client, b"half of");
}

#[track_caller]
fn assert_is_reset_with(mut client: TcpStream, expected: &[u8]) {
    let mut answer = Vec::new();
    let error = client.read_to_end(&mut answer).expect_err("half an answer looks like a whole one");
    assert_eq!((error.kind(), &answer[..]), (ErrorKind::ConnectionReset, expected));
}

fn fed_loop<P: IntoProtocol>(
    limits: Limits,
    factory: impl FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
) -> (EventLoop, Feeder) {
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    let feeder = event_loop.context().listen_fed(any_port().into(), 1024, factory).unwrap();
    (event_loop, feeder)
}

#[test]
fn x5_a_fed_connection_that_is_dropped_in_the_queue_is_reset_if_output_is_unsent() {
    for closes_the_listener in [true, false] {
        let (mut event_loop, feeder) = fed_loop(Limits::default(), |_, _| Some(Echo));
        let (client, detached) = half_answered();
        feeder.feed(detached).unwrap();
        if closes_the_listener {
            event_loop.context().listener(feeder.listener_id()).unwrap().close();
        } else {
            drop(event_loop);
        }
        assert_is_reset(client);
        // If it is given back, the feeding code drops it.
        let (client, detached) = half_answered();
        drop(feeder.feed(detached).unwrap_err());
        assert_is_reset(client);
    }
}

#[test]
fn x5_a_fed_connection_that_is_refused_is_reset_if_output_is_unsent() {
    let refuses_all = Limits::default().with_connections_max(0).with_when_full(WhenFull::Refuse);
    for limits in [Limits::default(), refuses_all, Limits::default().with_connections_per_peer_max(Some(0))] {
        let (mut event_loop, feeder) = fed_loop(limits, |_, _| None::<Echo>);
        let (client, detached) = half_answered();
        feeder.feed(detached).unwrap();
        turn_until(&mut event_loop, |context| context.counters().connections_refused == 1);
        assert_is_reset(client);
        // The next one has no unsent output, so its end is orderly.
        let (mut client, server) = pair();
        feeder.feed(server).unwrap();
        turn_until(&mut event_loop, |context| context.counters().connections_refused == 2);
        assert!(read_all(&mut client).is_empty());
    }
}

#[test]
fn x5_a_connection_that_a_loop_does_not_take_any_more_is_reset_if_output_is_unsent() {
    let mut event_loop = event_loop();
    event_loop.context().listen(any_port(), |_, _| None::<Echo>).unwrap();
    event_loop.context().shutdown(Duration::from_secs(1));
    let (client, detached) = half_answered();
    event_loop.context().attach(detached, Echo).unwrap_err();
    assert_is_reset(client);
}

#[test]
fn c7_a_fed_connection_that_is_given_away_keeps_what_was_unread_and_unsent() {
    let (mut event_loop, feeder) = fed_loop(Limits::default(), |_, _| None::<Echo>);
    let (sender, receiver) = mpsc::channel();
    let mut context = event_loop.context();
    let mut listening = context.listener(feeder.listener_id()).unwrap();
    listening.on_accept(move |_, connection| sender.send(connection).unwrap());
    let (_client, detached) = half_answered();
    let unsent = detached.unsent().to_vec();
    feeder.feed(detached).unwrap();
    let mut given = None;
    turn_until(&mut event_loop, |_| {
        given = receiver.try_recv().ok();
        given.is_some()
    });
    let given = given.unwrap();
    assert!(given.unread() == b"!" && given.unsent() == unsent && given.peer_addr().is_some());
}

/// A loop whose listener is fed, and closed by its own factory at the first connection.
fn closing_itself(accepts: bool) -> (EventLoop, Feeder) {
    let id = std::rc::Rc::new(std::cell::Cell::new(None));
    let its_id = id.clone();
    let (event_loop, feeder) = fed_loop(Limits::default(), move |context, _| {
        context.listener(its_id.get().unwrap()).unwrap().close();
        accepts.then_some(Echo)
    });
    id.set(Some(feeder.listener_id()));
    (event_loop, feeder)
}

#[test]
fn c7_a_fed_connection_keeps_what_it_had_though_the_factory_closes_its_listener() {
    let (mut event_loop, feeder) = closing_itself(true);
    let (mut client, detached) = half_answered();
    feeder.feed(detached).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = crate::support::serve_while(&mut event_loop, move || read_all(&mut client));
    assert!(answer == [&pattern(ANSWER_BYTES)[..], b"!"].concat());
}

#[test]
fn x5_a_fed_connection_that_is_refused_by_a_factory_that_closes_its_listener_is_reset() {
    let (mut event_loop, feeder) = closing_itself(false);
    let (client, detached) = half_answered();
    feeder.feed(detached).unwrap();
    turn_until(&mut event_loop, |context| context.counters().connections_refused == 1);
    assert_is_reset(client);
}
