//! Bytes in, bytes out: many clients, large amounts, small buffers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::SockRef;
use switchboard::{EventLoop, Protocol, Transport};

use crate::support::{Echo, any_port, connect, event_loop, listen, pattern, read_all, serve_while, turn_until};

#[test]
fn many_clients_at_once_each_get_their_own_bytes_back_and_a_silent_one_blocks_nobody() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    serve_while(&mut event_loop, move || {
        let silent = connect(address);
        let mut clients: Vec<TcpStream> = (0..30).map(|_| connect(address)).collect();
        for round in 0..3_u8 {
            for (n, client) in clients.iter_mut().enumerate() {
                client.write_all(&[n as u8, round]).unwrap();
            }
            for (n, client) in clients.iter_mut().enumerate().rev() {
                let mut back = [0; 2];
                client.read_exact(&mut back).unwrap();
                assert_eq!(back, [n as u8, round]);
            }
        }
        drop(silent);
    });
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(event_loop.context().counters().connections_lost, 31);
}

/// On systems that register a socket again for each message, any other registered readiness would be reported each
/// time.
#[test]
fn k1_a_message_costs_one_wait_whichever_side_has_connected() {
    const MESSAGES: u64 = 500;
    fn ask(mut stream: TcpStream) {
        for number in 0..MESSAGES {
            stream.write_all(&[number as u8]).unwrap();
            let mut back = [0];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [number as u8]);
        }
    }
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    serve_while(&mut event_loop, move || ask(connect(address)));
    let accepted = event_loop.context().counters().polls;
    let listener = TcpListener::bind(any_port()).unwrap();
    event_loop.context().connect(listener.local_addr().unwrap(), Echo).unwrap();
    serve_while(&mut event_loop, move || ask(listener.accept().unwrap().0));
    let connected = event_loop.context().counters().polls - accepted;
    println!("{accepted} waits for {MESSAGES} messages where it has accepted, {connected} where it has connected");
    assert!(accepted.max(connected) <= MESSAGES * 5 / 4, "{accepted} and {connected}");
}

/// Sends `bytes` while reading what comes back.
fn echo_through(stream: &TcpStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        sender.write_all(&bytes).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let back = read_all(&mut stream.try_clone().unwrap());
    crate::support::join(sending);
    back
}

#[test]
fn w1_large_amounts_come_back_whole_and_in_order() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let back = serve_while(&mut event_loop, move || echo_through(&connect(address), pattern(64 << 20)));
    assert!(back == pattern(64 << 20));
}

#[test]
fn w1_small_socket_buffers_only_slow_it_down() {
    const BYTES: usize = 4096;
    struct SmallBuffers;
    impl Protocol for SmallBuffers {
        fn connection_made(&mut self, transport: &mut switchboard::Transport<'_>) {
            let socket = transport.socket().unwrap();
            SockRef::from(&socket).set_send_buffer_size(BYTES).unwrap();
            SockRef::from(&socket).set_recv_buffer_size(BYTES).unwrap();
        }

        fn data_received(&mut self, transport: &mut switchboard::Transport<'_>, data: &[u8]) -> usize {
            Echo.data_received(transport, data)
        }
    }

    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || SmallBuffers);
    let back = serve_while(&mut event_loop, move || {
        let client = connect(address);
        SockRef::from(&client).set_send_buffer_size(BYTES).unwrap();
        SockRef::from(&client).set_recv_buffer_size(BYTES).unwrap();
        echo_through(&client, pattern(64 << 10))
    });
    // Little, since each of the kernel's windows now waits for a timer.
    assert!(back == pattern(64 << 10));
}

#[test]
fn a_client_that_never_reads_is_bounded_and_hurts_nobody() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let mut greedy = connect(address);
    greedy.set_nonblocking(true).unwrap();
    let chunk = pattern(1 << 20);
    let mut sent = 0;
    // It sends for as long as anything is taken: until the loop pauses reading.
    let mut refused_in_a_row = 0;
    while refused_in_a_row < 50 {
        match greedy.write(&chunk) {
            Ok(count) => (sent, refused_in_a_row) = (sent + count, 0),
            Err(_) => refused_in_a_row += 1,
        }
        event_loop.turn(Some(std::time::Duration::from_millis(1))).unwrap();
        assert!(sent < 100 << 20, "it is never held back");
    }
    // The loop holds at most one read more than the high mark; the rest is in the kernel's buffers.
    assert_eq!(event_loop.context().connection_count(), 1);
    let back = serve_while(&mut event_loop, move || echo_through(&connect(address), pattern(1 << 20)));
    assert!(back == pattern(1 << 20));
    // When it finally reads, everything is there.
    greedy.set_nonblocking(false).unwrap();
    let back = serve_while(&mut event_loop, move || {
        greedy.shutdown(Shutdown::Write).unwrap();
        read_all(&mut greedy).len()
    });
    assert_eq!(back, sent);
}

/// Answers each read with the next piece of a pattern, in writes so small that they are sent when the callback returns.
struct Answers {
    pattern: Arc<Vec<u8>>,
    answered: Arc<AtomicUsize>,
}

const ANSWER_BYTES: usize = 60_000;

impl Protocol for Answers {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let begin = self.answered.fetch_add(1, Ordering::Relaxed) * ANSWER_BYTES;
        self.pattern[begin..][..ANSWER_BYTES].chunks(10_000).for_each(|piece| transport.write(piece));
        data.len()
    }
}

#[test]
fn w1_the_rest_of_an_answer_that_the_kernel_takes_in_part_follows() {
    let (pattern, answered) = (Arc::new(pattern(600 * ANSWER_BYTES)), Arc::new(AtomicUsize::new(0)));
    let mut event_loop = event_loop();
    let given = (pattern.clone(), answered.clone());
    let address = listen(&mut event_loop, move || Answers { pattern: given.0.clone(), answered: given.1.clone() });
    let mut client = connect(address);
    turn_until(&mut event_loop, |context| context.connection_count() == 1);
    let id = event_loop.context().connection_ids()[0];
    // The client reads nothing, until the kernel does not take an answer as a whole.
    let queued = |event_loop: &mut EventLoop| event_loop.context().connection(id).unwrap().queued_bytes();
    let mut count = 0;
    while queued(&mut event_loop) == 0 {
        client.write_all(b"?").unwrap();
        count += 1;
        turn_until(&mut event_loop, |_| answered.load(Ordering::Relaxed) == count);
    }
    let received = serve_while(&mut event_loop, move || {
        client.shutdown(Shutdown::Write).unwrap();
        read_all(&mut client)
    });
    assert_eq!(received.len(), count * ANSWER_BYTES);
    assert!(received == pattern[..received.len()]);
}
