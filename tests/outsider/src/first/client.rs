use std::io;
use std::net::SocketAddr;

use switchboard::{ConnectError, EventLoop, Protocol, Transport};

struct Client;

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b"hello\n");
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if !data.ends_with(b"\n") {
            return 0; // Half a line: it is given again, with what follows it.
        }
        println!("the server says {:?}", String::from_utf8_lossy(data));
        transport.close();
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        eprintln!("{error}");
    }
}

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    event_loop.context().connect(SocketAddr::from(([127, 0, 0, 1], 1234)), Client)?;
    event_loop.run_until_idle()
}
