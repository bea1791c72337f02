//! Two connections of different kinds, joined.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use switchboard::{Protocol, Relay, Transport};

use crate::support::{PATIENCE, any_port, event_loop, pattern, serve_while, turn_until};

/// For each client, attaches one end of a Unix stream and joins the two.
struct ToUnix(Option<UnixStream>);

impl Protocol for ToUnix {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let (id, stream) = (transport.id(), self.0.take().expect("it is made once"));
        let mut context = transport.context();
        let other = context.attach(stream, Relay::new(id)).unwrap();
        context.join(id, other).unwrap();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        unreachable!("it is replaced before anything is read")
    }
}

/// Sends all of it, shuts down its half, and returns what the other side sends up to its end.
fn exchange<S: Read + Write + Send + 'static>(
    mut reads: S,
    mut writes: S,
    sends: Vec<u8>,
    end: fn(&S),
) -> thread::JoinHandle<Vec<u8>> {
    let writing = thread::spawn(move || {
        writes.write_all(&sends).unwrap();
        end(&writes);
    });
    thread::spawn(move || {
        let mut got = Vec::new();
        reads.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got
    })
}

#[test]
fn j1_tcp_and_a_unix_stream_carry_much_both_ways_at_once() {
    let mut event_loop = event_loop();
    let (ours, far) = UnixStream::pair().unwrap();
    let mut ours = Some(ours);
    let listener = event_loop.context().listen(any_port(), move |_, _| Some(ToUnix(ours.take()))).unwrap();
    let address = event_loop.context().listener(listener).unwrap().local_addr().unwrap().as_inet().unwrap();
    let near = TcpStream::connect(address).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let (question, mut answer) = (pattern(8 << 20), pattern(6 << 20));
    answer.reverse();
    let (sends, answers) = (question.clone(), answer.clone());
    let (near_got, far_got) = serve_while(&mut event_loop, move || {
        let near = exchange(near.try_clone().unwrap(), near, sends, |of| of.shutdown(Shutdown::Write).unwrap());
        let far = exchange(far.try_clone().unwrap(), far, answers, |of| of.shutdown(Shutdown::Write).unwrap());
        (near.join().unwrap(), far.join().unwrap())
    });
    assert!(near_got == answer && far_got == question, "{} and {} bytes", near_got.len(), far_got.len());
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
}
