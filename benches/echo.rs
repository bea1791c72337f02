//! How long an echoed message takes, with 1, 50 and 400 clients: `cargo bench --bench echo`.
//!
//! The loop runs in one thread, the clients in another, over loopback. Each client has one message of 64 bytes under
//! way. What is printed is a median of rounds; compare only figures of one machine and one hour. With `-- --short` it
//! runs for a moment only, to see that it works.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use switchboard::{EventLoop, Protocol, Transport};

const MESSAGE: [u8; 64] = [b'x'; 64];

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

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
    let rounds = (messages / clients.len()).max(3);
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            round(&mut clients);
            start.elapsed() / clients.len() as u32
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("echo of 64 bytes over {transport}, {} clients: {} ns a message", clients.len(), median.as_nanos());
}

fn main() {
    let messages = if std::env::args().any(|argument| argument == "--short") { 2_000 } else { 200_000 };
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let mut context = event_loop.context();
    let any_port = ([127, 0, 0, 1], 0).into();
    let listener = context.listen(any_port, |_, _| Some(Box::new(Echo))).expect("loopback has a free port");
    let address = context.listener(listener).and_then(|listener| listener.local_addr().ok()?.as_inet());
    let address = address.expect("it listens");
    let handle = context.handle();
    let clients = thread::spawn(move || {
        // 400 clients are 800 descriptors; an ordinary limit is 1,024.
        for clients in [1, 50, 400] {
            measure("TCP", messages, (0..clients).map(|_| connect(address)).collect());
        }
        handle.stop();
    });
    event_loop.run().expect("the poller works");
    clients.join().expect("the clients were served");
}
