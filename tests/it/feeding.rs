//! A listener without a socket, and listeners that give away what they accept: with real sockets, between loops.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use switchboard::{
    Address, Context, Detached, EventLoop, Feeder, Limits, ListenerId, PanicPolicy, PostError, Protocol, Transport,
};

use crate::support::{
    Echo, Ends, NotingEnd, PATIENCE, address_of, any_port, connect, event_loop, join, read_all, turn_until,
};

/// A loop that serves what it is fed, and records the ends.
fn fed_loop(limits: Limits, backlog: usize) -> (EventLoop, Feeder, Ends) {
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    let ends = Ends::default();
    let notes = ends.clone();
    let factory = move |_: &mut Context<'_>, peer: &Address| {
        assert!(peer.as_inet().is_some());
        Some(NotingEnd { inner: Echo, ends: notes.clone() })
    };
    let feeder = event_loop.context().listen_fed(any_port().into(), backlog, factory).unwrap();
    (event_loop, feeder, ends)
}

/// Both ends of a connection, the server's as returned by `accept`.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let client = connect(listener.local_addr().unwrap());
    (client, listener.accept().unwrap().0)
}

/// Returns whether a non-blocking peek shows that the peer has closed.
fn is_closed(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let looked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    match looked {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a4_who_is_fed_over_the_cap_waits_and_a_full_backlog_gives_back() {
    let (mut event_loop, feeder, ends) = fed_loop(Limits::default().with_connections_max(2), 3);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, server) = pair();
        feeder.feed(server).unwrap();
        clients.push(client);
    }
    let (_, server) = pair();
    let local = server.local_addr().unwrap();
    let refused = feeder.feed(server).unwrap_err();
    assert!(matches!(refused, PostError::Full(_)), "{refused}");
    assert_eq!(refused.into_inner().into_tcp().unwrap().stream.local_addr().unwrap(), local);

    turn_until(&mut event_loop, |context| context.counters().connections_made == 2);
    event_loop.turn(Some(PATIENCE / 100)).unwrap();
    assert_eq!((feeder.connection_count(), feeder.waiting_count()), (2, 1));
    drop(clients.remove(0));
    turn_until(&mut event_loop, |context| context.counters().connections_made == 3);
    assert_eq!((feeder.connection_count(), feeder.waiting_count()), (2, 0));
    drop(clients);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!((feeder.connection_count(), ends.borrow().len()), (0, 3));
    // `accept` gave none of them.
    assert_eq!(event_loop.context().counters().accepts, 0);
}

#[test]
fn a4_a_backlog_of_0_holds_one() {
    let (mut event_loop, feeder, ends) = fed_loop(Limits::default(), 0);
    for served in 1..=3 {
        let (client, server) = pair();
        feeder.feed(server).unwrap();
        assert!(matches!(feeder.feed(pair().1), Err(PostError::Full(_))));
        drop(client);
        turn_until(&mut event_loop, |_| ends.borrow().len() == served);
    }
}

/// A connection that was detached in the middle of an answer, and its client.
fn half_answered() -> (TcpStream, Detached) {
    struct Leaves(mpsc::Sender<Detached>);
    impl Protocol for Leaves {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write_owned(vec![b'x'; 12 << 20]);
            let sender = self.0.clone();
            transport.detach(move |_, connection| sender.send(connection).unwrap());
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let mut event_loop = event_loop();
    let (client, server) = pair();
    let (sender, receiver) = mpsc::channel();
    event_loop.context().attach(server, Leaves(sender)).unwrap();
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    let detached = receiver.try_recv().unwrap();
    assert!(!detached.unsent().is_empty());
    (client, detached)
}

#[test]
fn x5_half_an_answer_that_is_fed_and_not_served_ends_by_a_reset() {
    for is_refused in [true, false] {
        let mut event_loop = event_loop();
        let feeder = event_loop.context().listen_fed(any_port().into(), 1024, |_, _| None::<Echo>).unwrap();
        let (mut client, connection) = half_answered();
        feeder.feed(connection).unwrap();
        match is_refused {
            true => turn_until(&mut event_loop, |context| context.counters().connections_refused == 1),
            false => event_loop.context().listener(feeder.listener_id()).unwrap().close(),
        }
        let error = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn g1_connections_fed_by_four_threads_to_a_sleeping_loop_are_each_served_once() {
    const EACH: usize = 150;
    let (mut event_loop, feeder, ends) = fed_loop(Limits::default(), 40);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let feeder = feeder.clone();
            thread::spawn(move || {
                let listener = TcpListener::bind(any_port()).unwrap();
                for number in 0..EACH {
                    let mut client = connect(listener.local_addr().unwrap());
                    let mut server = Detached::from(listener.accept().unwrap().0);
                    while let Err(error) = feeder.feed(server) {
                        server = error.into_inner();
                        thread::yield_now();
                    }
                    // Only the feeding wakes the loop, and then this.
                    client.write_all(&[number as u8]).unwrap();
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                    assert_eq!(read_all(&mut client), [number as u8]);
                }
            })
        })
        .collect();
    let handle = event_loop.context().handle();
    let ender = thread::spawn(move || {
        let all: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
        handle.stop();
        all.into_iter().for_each(|one| one.unwrap());
    });
    event_loop.context().call_later(PATIENCE, |_| panic!("waited for {PATIENCE:?} in vain"));
    event_loop.run().unwrap();
    join(ender);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(*ends.borrow(), vec!["closed by the peer"; 4 * EACH]);
    assert_eq!((feeder.connection_count(), feeder.waiting_count()), (0, 0));
}

#[test]
fn c7_what_was_unread_and_unsent_goes_on_where_it_is_fed() {
    struct Leaves(mpsc::Sender<Detached>);
    impl Protocol for Leaves {
        fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
            transport.write(b"from there, ");
            let sender = self.0.clone();
            transport.detach(move |_, connection| sender.send(connection).unwrap());
            1
        }
    }
    let mut first = event_loop();
    let (mut client, server) = pair();
    let (sender, receiver) = mpsc::channel();
    first.context().attach(server, Leaves(sender)).unwrap();
    client.write_all(b"!and back").unwrap();
    turn_until(&mut first, |context| context.connection_count() == 0);
    let detached = receiver.try_recv().unwrap();
    assert_eq!(detached.unread(), b"and back");
    let (mut second, feeder, ends) = fed_loop(Limits::default(), 1024);
    feeder.feed(detached).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    turn_until(&mut second, |_| ends.borrow().len() == 1);
    assert_eq!(read_all(&mut client), b"from there, and back");
}

#[test]
fn a6_a_closed_listener_and_a_dropped_loop_give_back_and_close_who_waits() {
    let (mut event_loop, feeder, _) = fed_loop(Limits::default(), 1024);
    let (waiting, server) = pair();
    feeder.feed(server).unwrap();
    event_loop.context().listener(feeder.listener_id()).unwrap().close();
    assert!(is_closed(&waiting));
    let (_kept, server) = pair();
    assert!(matches!(feeder.feed(server), Err(PostError::Gone(_))));

    let (event_loop, feeder, _) = fed_loop(Limits::default(), 1024);
    let (waiting, server) = pair();
    feeder.feed(server).unwrap();
    drop(event_loop);
    assert!(is_closed(&waiting));
    let (_kept, server) = pair();
    assert!(matches!(feeder.feed(server), Err(PostError::Gone(_))));
}

/// Listens with a factory that refuses every peer, so every client that is served was given away.
fn giving_away(
    event_loop: &mut EventLoop,
    receiver: impl FnMut(&mut Context<'_>, Detached) + 'static,
) -> (ListenerId, SocketAddr) {
    let mut context = event_loop.context();
    let id = context.listen(any_port(), |_, _| None::<Echo>).unwrap();
    // It keeps none of them, so its caps do not hold.
    let limits = Limits::default().with_connections_max(0).with_connections_per_peer_max(Some(0));
    let mut listening = context.listener(id).unwrap();
    listening.set_limits(limits);
    listening.on_accept(receiver);
    (id, address_of(&mut context, id))
}

#[test]
fn a5_what_one_loop_accepts_is_served_by_another() {
    let (mut serving, feeder, ends) = fed_loop(Limits::default(), 1024);
    let mut accepting = event_loop();
    let (_, address) = giving_away(&mut accepting, move |_, connection| feeder.feed(connection).unwrap());
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"hello").unwrap());
    turn_until(&mut accepting, |context| context.counters().accepts == 20);
    turn_until(&mut serving, |context| context.counters().bytes_sent == 20 * 5);
    for client in &mut clients {
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
    }
    drop(clients);
    turn_until(&mut serving, |context| context.connection_count() == 0);
    assert_eq!(*ends.borrow(), ["closed by the peer"; 20]);
    // They did not count as connections of the loop that accepted them.
    let counters = accepting.context().counters();
    assert_eq!((counters.connections_made, counters.connections_refused), (0, 0));
}

#[test]
fn a5_a_panic_of_who_takes_connections_closes_that_one_and_the_listener_goes_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let taken = Rc::new(RefCell::new(Vec::new()));
    let takes = taken.clone();
    let mut count = 0;
    let (_, address) = giving_away(&mut event_loop, move |_, connection| {
        count += 1;
        assert!(count != 2, "the second one is refused");
        takes.borrow_mut().push(connection);
    });
    let clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    turn_until(&mut event_loop, |_| taken.borrow().len() == 2);
    assert_eq!(event_loop.context().counters().panics, 1);
    assert_eq!(clients.iter().filter(|client| is_closed(client)).count(), 1);
}

#[test]
fn a6_pausing_from_who_takes_connections_stops_behind_that_one() {
    let mut event_loop = event_loop();
    let taken = Rc::new(RefCell::new(Vec::new()));
    let takes = taken.clone();
    let this = Rc::new(RefCell::new(None));
    let its_id = this.clone();
    let (id, address) = giving_away(&mut event_loop, move |context, connection| {
        takes.borrow_mut().push(connection);
        context.listener(its_id.borrow().unwrap()).unwrap().pause();
    });
    *this.borrow_mut() = Some(id);
    let _clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for count in 1..=3 {
        turn_until(&mut event_loop, |_| taken.borrow().len() == count);
        event_loop.turn(Some(PATIENCE / 500)).unwrap();
        assert_eq!(taken.borrow().len(), count);
        event_loop.context().listener(id).unwrap().resume();
    }
}
