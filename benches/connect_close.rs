//! How long a whole connection takes, with one echoed message: `cargo bench --bench connect_close`.
//!
//! The loop runs in one thread, the client in another, over loopback. Each connection is made, echoed to, and ended by
//! its client, which sees the server's end before it makes the next one. What is printed is a median of rounds; compare
//! only figures of one machine and one hour. With `-- --short` it runs for a moment only, to see that it works.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{EventLoop, Protocol, Transport};

const MESSAGE: [u8; 64] = [b'x'; 64];

/// How many connections are timed together.
const ROUND: u32 = 50;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// The life of one connection, seen by its client.
fn live(mut client: TcpStream) {
    client.write_all(&MESSAGE).expect("the server reads");
    let mut back = [0; MESSAGE.len()];
    client.read_exact(&mut back).expect("the server answers");
    assert_eq!(back, MESSAGE);
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(client.read(&mut back).expect("the server closes"), 0);
}

/// The median time of a life, over many rounds.
fn measure(address: SocketAddr, rounds: u32) -> Duration {
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUND {
                live(TcpStream::connect(address).expect("the server listens"));
            }
            start.elapsed() / ROUND
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    // Whoever ends a TCP connection first has its port blocked for a minute: 5,000 leave enough of the usual 28,000.
    let connections = if std::env::args().any(|argument| argument == "--short") { 200 } else { 5_000 };
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let mut context = event_loop.context();
    let any_port = ([127, 0, 0, 1], 0).into();
    let listener = context.listen(any_port, |_, _| Some(Box::new(Echo))).expect("loopback has a free port");
    let address = context.listener(listener).and_then(|listener| listener.local_addr().ok()?.as_inet());
    let address = address.expect("it listens");
    let handle = context.handle();
    let client = thread::spawn(move || {
        let time = measure(address, connections / ROUND);
        println!("connect, echo of 64 bytes, close over TCP: {} ns a connection", time.as_nanos());
        handle.stop();
    });
    event_loop.run().expect("the poller works");
    client.join().expect("the client was served");
}
