// Shared by the benches with clients: an echo server in this thread, its clients in another, and medians.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use switchboard::{EventLoop, Protocol, Transport};

pub(crate) const MESSAGE: [u8; 64] = [b'x'; 64];

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// Returns whether to run only for a moment.
pub(crate) fn is_short() -> bool {
    std::env::args().any(|argument| argument == "--short")
}

/// Serves over loopback until the clients are done.
pub(crate) fn serve(clients: impl FnOnce(SocketAddr) + Send + 'static) {
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let mut context = event_loop.context();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = context.listen(any_port, |_, _| Some(Echo)).expect("loopback has a free port");
    let address = context.listener(listener).and_then(|listener| listener.local_addr().ok()?.as_inet());
    let address = address.expect("it listens");
    let handle = context.handle();
    let clients = thread::spawn(move || {
        clients(address);
        handle.stop();
    });
    event_loop.run().expect("the poller works");
    clients.join().expect("the clients were served");
}

/// Returns the median of the results of this many rounds.
pub(crate) fn median(rounds: usize, mut round: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}
