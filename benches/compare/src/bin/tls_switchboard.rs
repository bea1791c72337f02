//! This crate with its filter for TLS, as an embedding program uses it: the same protocol as without TLS, the loop's own
//! limits.

use std::io;
use std::time::Duration;

use switchboard::{EventLoop, Listen, Protocol, Transport, signals};
use switchboard_compare::{announce, tls};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn main() -> io::Result<()> {
    let arguments = tls::arguments();
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let listen = Listen::at(arguments.address).filter(switchboard_tls::listen(arguments.config));
    let listener = context.listen(listen, |_, _| Some(Echo))?;
    signals::shutdown_on_signals(&mut context, Duration::from_secs(1))?;
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    announce(listening.local_addr()?)?;
    event_loop.run()
}
