//! Two loops driven from outside: a bare `poll(2)` waits for their descriptors, as in a program that also waits for
//! things of its own.
//!
//! Run `cargo run --example embed_poll`, then `telnet 127.0.0.1 1234`, which echoes, and `telnet 127.0.0.1 1235`, which
//! counts the seconds.
//!
//! A loop must be turned when its descriptor is readable, and when `time_to_next` has passed. The descriptor stays
//! readable while there are events to fetch, and the time is zero while work is carried over, so a turn that leaves
//! work undone is followed by another one. Nothing is lost, and neither loop keeps the other waiting.

#[cfg(unix)]
mod support;

#[cfg(unix)]
fn main() -> Result<(), support::Failure> {
    on_unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs poll(2), which only Unix has");
}

#[cfg(unix)]
mod on_unix {
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use switchboard::{ConnectionId, Context, EventLoop, ListenerId, Protocol, Transport};

    use crate::support;

    struct Echo;

    impl Protocol for Echo {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(data);
            data.len()
        }
    }

    struct Count;

    impl Protocol for Count {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            let id = transport.id();
            count(&mut transport.context(), id, 0);
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }

    /// Sends the connection its age in seconds, once a second until it ends.
    fn count(context: &mut Context<'_>, id: ConnectionId, seconds: u64) {
        if let Some(mut transport) = context.connection(id) {
            transport.write(format!("{seconds} s\r\n").as_bytes());
            context.call_later(Duration::from_secs(1), move |context| count(context, id, seconds + 1));
        }
    }

    /// A loop that serves one listener, until a signal shuts it down.
    struct Server {
        event_loop: EventLoop,
        listener: ListenerId,
    }

    impl Server {
        fn new<P: Protocol>(address: SocketAddr, protocol: fn() -> P) -> Result<Server, support::Failure> {
            let mut event_loop = EventLoop::new()?;
            let listener = event_loop.context().listen(address, move |_, _| Some(protocol()));
            let listener = listener.map_err(support::cannot_listen(address))?;
            support::shut_down_on_signals(&mut event_loop)?;
            support::announce(&mut event_loop, listener)?;
            Ok(Server { event_loop, listener })
        }

        /// Returns whether the loop was shut down and its last connection has ended.
        fn is_done(&mut self) -> bool {
            let mut context = self.event_loop.context();
            context.listener(self.listener).is_none() && context.connection_count() == 0
        }

        fn is_due(&self) -> bool {
            self.event_loop.time_to_next() == Some(Duration::ZERO)
        }
    }

    /// Waits until a loop has something to do, and returns for each loop whether its descriptor is readable.
    fn wait(servers: &[Server]) -> io::Result<Vec<bool>> {
        let time_to_next = servers.iter().filter_map(|server| server.event_loop.time_to_next()).min();
        let readable = |server| PollFd::new(AsFd::as_fd(server), PollFlags::POLLIN);
        let mut descriptors: Vec<_> = servers.iter().map(|server| readable(&server.event_loop)).collect();
        match poll(&mut descriptors, time_to_next.map_or(PollTimeout::NONE, whole_milliseconds)) {
            // Interrupted by a signal: its loop learns of it from its own descriptor, at the next wait.
            Ok(_) | Err(Errno::EINTR) => Ok(descriptors.iter().map(|of| of.any() == Some(true)).collect()),
            Err(error) => Err(error.into()),
        }
    }

    /// Converts a time for `poll`. It is rounded up, since a wait that ends too early would be followed by a busy loop
    /// of waits of no length.
    fn whole_milliseconds(time: Duration) -> PollTimeout {
        // A time beyond the system's range is clamped: `time_to_next` is consulted again after the wait.
        let milliseconds = time.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    }

    /// Returns the address with the next port, or with port 0 if the system chooses the first one too.
    fn second_address(first: SocketAddr) -> SocketAddr {
        let port = match first.port() {
            0 | u16::MAX => 0,
            port => port + 1,
        };
        SocketAddr::new(first.ip(), port)
    }

    pub(crate) fn main() -> Result<(), support::Failure> {
        let address = support::listening_address(&[])?;
        let second = second_address(address);
        let mut servers = [Server::new(address, || Echo)?, Server::new(second, || Count)?];
        while !servers.iter_mut().all(Server::is_done) {
            let ready = wait(&servers)?;
            for (server, ready) in servers.iter_mut().zip(ready) {
                if ready || server.is_due() {
                    server.event_loop.turn(Some(Duration::ZERO))?;
                }
            }
        }
        Ok(())
    }
}
