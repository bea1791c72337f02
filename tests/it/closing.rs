//! Ends, as the peer sees them.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use switchboard::{Protocol, Transport};

use crate::support::{
    Ends, NotingEnd, address_of, any_port, connect, event_loop, listen, pattern, read_all, serve_while, turn_until,
};

/// Answers the first data with this many bytes, and closes.
struct AnswerAndClose(usize);

impl Protocol for AnswerAndClose {
    fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
        transport.write_owned(pattern(self.0));
        transport.close();
        0
    }
}

#[test]
fn x1_the_last_answer_arrives_whole_though_the_peer_is_still_sending() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || AnswerAndClose(4 << 20));
    let answer = serve_while(&mut event_loop, move || {
        let mut client = connect(address);
        // Unread input in the server's kernel would turn a plain close into a reset.
        client.write_all(&pattern(512 << 10)).unwrap();
        read_all(&mut client)
    });
    assert!(answer == pattern(4 << 20));
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
}

#[test]
fn x2_abort_resets() {
    struct Abort;
    impl Protocol for Abort {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(data);
            transport.abort();
            data.len()
        }
    }

    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Abort);
    let error = serve_while(&mut event_loop, move || {
        let mut client = connect(address);
        client.write_all(b"?").unwrap();
        client.read(&mut [0; 10]).unwrap_err().kind()
    });
    assert_eq!(error, ErrorKind::ConnectionReset);
}

#[test]
fn h1_a_protocol_may_answer_at_length_after_the_peer_s_end() {
    struct AnswerAtEnd;
    impl Protocol for AnswerAtEnd {
        fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
            0
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
            assert_eq!(rest, b"question");
            transport.write_owned(pattern(8 << 20));
            transport.close();
        }
    }

    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || AnswerAtEnd);
    let answer = serve_while(&mut event_loop, move || {
        let mut client = connect(address);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        read_all(&mut client)
    });
    assert!(answer == pattern(8 << 20));
}

#[test]
fn h2_shutdown_write_sends_an_end_and_reading_goes_on() {
    struct EndThenListen(Rc<std::cell::RefCell<Vec<u8>>>);
    impl Protocol for EndThenListen {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write(b"that is all");
            transport.shutdown_write();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            self.0.borrow_mut().extend_from_slice(data);
            data.len()
        }
    }

    let received = Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut event_loop = event_loop();
    let noted = received.clone();
    let address = listen(&mut event_loop, move || EndThenListen(noted.clone()));
    serve_while(&mut event_loop, move || {
        let mut client = connect(address);
        assert_eq!(read_all(&mut client), b"that is all");
        client.write_all(b"still here").unwrap();
    });
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(*received.borrow(), b"still here");
}

#[test]
fn r4_what_arrived_before_a_reset_is_delivered_first() {
    let ends = Ends::default();
    let noted = ends.clone();
    struct Count(Rc<std::cell::Cell<usize>>);
    impl Protocol for Count {
        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            self.0.set(self.0.get() + data.len());
            data.len()
        }
    }

    let count = Rc::new(std::cell::Cell::new(0));
    let counted = count.clone();
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let listener = context
        .listen(any_port(), move |_, _| Some(NotingEnd { inner: Count(counted.clone()), ends: noted.clone() }))
        .unwrap();
    let address = address_of(&mut context, listener);
    let mut client = connect(address);
    client.write_all(&[7; 1000]).unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    turn_until(&mut event_loop, |context| context.counters().connections_lost == 1);
    if cfg!(target_os = "linux") {
        assert_eq!(count.get(), 1000, "Linux keeps what had arrived readable");
    }
    assert_eq!(*ends.borrow(), ["reset by the peer"]);
}

#[test]
fn h1_a_peer_that_resets_after_its_end_is_noticed_though_nothing_is_written() {
    struct StayOpen;
    impl Protocol for StayOpen {
        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }

        fn eof_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
    }

    let ends = Ends::default();
    let noted = ends.clone();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, move || NotingEnd { inner: StayOpen, ends: noted.clone() });
    let client = connect(address);
    client.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut event_loop, |context| context.connection_count() == 1);
    // After FIN a read finds the end again, so only the socket's error tells.
    event_loop.turn(Some(Duration::from_millis(20))).unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(*ends.borrow(), ["reset by the peer"]);
}

#[test]
fn x1_a_close_after_both_ends_is_no_reset() {
    struct EndAndPause;
    impl Protocol for EndAndPause {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.shutdown_write();
            transport.pause_reading();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }

    let ends = Ends::default();
    let noted = ends.clone();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, move || NotingEnd { inner: EndAndPause, ends: noted.clone() });
    serve_while(&mut event_loop, move || {
        let mut client = connect(address);
        assert!(read_all(&mut client).is_empty());
    });
    // The client has read our end and closed: both halves are over.
    event_loop.turn(Some(Duration::from_millis(20))).unwrap();
    event_loop.shutdown(Duration::from_secs(5)).unwrap();
    assert_eq!(*ends.borrow(), ["the loop was shut down"]);
}
