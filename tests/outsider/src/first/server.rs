use std::io;
use std::net::SocketAddr;

use switchboard::{EventLoop, Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn main() -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1234));
    let mut event_loop = EventLoop::new()?;
    event_loop.context().listen(address, |_, _| Some(Echo))?;
    event_loop.run()
}
