//! How long an echoed message takes, with 1, 50 and 400 clients: `cargo bench --bench echo`.
//!
//! The loop runs in one thread, the clients in another, over loopback. Each client has one message of 64 bytes in
//! flight. It prints a median of rounds; compare only figures from the same machine and hour. With `-- --short` it runs
//! only for a moment, to check that it works.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use support::MESSAGE;

/// One message of each client, there and back.
fn round(clients: &mut [impl Read + Write]) {
    for client in &mut *clients {
        client.write_all(&MESSAGE).expect("the server reads");
    }
    for client in clients {
        let mut back = [0; MESSAGE.len()];
        client.read_exact(&mut back).expect("the server answers");
        assert_eq!(back, MESSAGE);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_nodelay(true).expect("it is connected");
    client
}

/// Prints the median time of a message, over many rounds.
fn measure(transport: &str, messages: usize, mut clients: Vec<impl Read + Write>) {
    round(&mut clients);
    let count = clients.len();
    let time = support::median((messages / count).max(3), || {
        let start = Instant::now();
        round(&mut clients);
        start.elapsed() / count as u32
    });
    println!("echo of 64 bytes over {transport}, {count} clients: {} ns a message", time.as_nanos());
}

fn main() {
    let messages = if support::is_short() { 2_000 } else { 200_000 };
    support::serve(move |address| {
        // 400 clients need 800 descriptors; the usual limit is 1,024.
        for clients in [1, 50, 400] {
            measure("TCP", messages, (0..clients).map(|_| connect(address)).collect());
        }
    });
}
