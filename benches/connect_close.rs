//! How long a whole connection takes, with one echoed message: `cargo bench --bench connect_close`.
//!
//! The loop runs in one thread, the client in another, over loopback. Each connection is made, used for one echo, and
//! ended by its client, which waits for the server's end before it makes the next one. It prints a median of rounds;
//! compare only figures from the same machine and hour. With `-- --short` it runs only for a moment, to check that it
//! works.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::MESSAGE;

/// How many connections are timed together.
const ROUND: u32 = 50;

/// The life of one connection, as its client sees it.
fn live(mut client: TcpStream) {
    client.write_all(&MESSAGE).expect("the server reads");
    let mut back = [0; MESSAGE.len()];
    client.read_exact(&mut back).expect("the server answers");
    assert_eq!(back, MESSAGE);
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(client.read(&mut back).expect("the server closes"), 0);
}

/// Returns the average time of the connections that are timed together.
fn round(address: SocketAddr) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUND {
        live(TcpStream::connect(address).expect("the server listens"));
    }
    start.elapsed() / ROUND
}

fn main() {
    // The side that ends a TCP connection first has its port blocked for a minute: 5,000 leave enough of the usual
    // 28,000.
    let connections = if support::is_short() { 200 } else { 5_000 };
    support::serve(move |address| {
        let time = support::median(connections / ROUND as usize, || round(address));
        println!("connect, echo of 64 bytes, close over TCP: {} ns a connection", time.as_nanos());
    });
}
