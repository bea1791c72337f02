//! The select server on bare mio, without the loop: shows what must be done by hand.
//!
//! Run `cargo run --example select_server_mio`, then `telnet 127.0.0.1 1234` from several windows, and type. It prints
//! the same as `select_server`: each connect, line and disconnect. Unix only, because of its signals.
//!
//! It is correct, but lacks much that the loop does: fairness between clients (here a client that never stops sending
//! is read until it does), a limit on the number of clients, writing at all (queues, watermarks, partial sends), inline
//! urgent data, and closing only one connection if its code panics.

#[allow(dead_code)] // Some of it is for examples on the loop.
mod support;
#[cfg(unix)]
#[path = "support/transcript.rs"]
mod transcript;

#[cfg(unix)]
mod unix {
    use std::collections::HashMap;
    use std::io::{self, ErrorKind, Read};
    use std::time::{Duration, Instant};

    use mio::net::{TcpListener, TcpStream};
    use mio::{Events, Interest, Poll, Token};
    use signal_hook_mio::v1_0::Signals;

    use super::support::{Failure, cannot_listen, complain, listening_address, say};
    use super::transcript::{Client, UNFINISHED_WAIT};

    const LISTENER: Token = Token(0);
    const SIGNALS: Token = Token(1);
    const FIRST_CLIENT: usize = 2;

    /// How long to wait after accepting has failed, for instance because no descriptor is left.
    const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    struct Session {
        stream: TcpStream,
        client: Client,
        /// When its unfinished line is printed.
        print_at: Option<Instant>,
    }

    struct Server {
        poll: Poll,
        listener: TcpListener,
        accept_again_at: Option<Instant>,
        sessions: HashMap<Token, Session>,
        /// Never reused: otherwise a late event could be taken for another client's.
        next_token: usize,
    }

    impl Server {
        /// Accepts until that would block: with edge triggering there is no second event for clients that remain.
        fn accept(&mut self) {
            self.accept_again_at = None;
            loop {
                match self.listener.accept() {
                    Ok((mut stream, peer)) => {
                        let token = Token(self.next_token);
                        self.next_token += 1;
                        match self.poll.registry().register(&mut stream, token, Interest::READABLE) {
                            Ok(()) => {
                                let session = Session { stream, client: Client::new(peer), print_at: None };
                                self.sessions.insert(token, session);
                            }
                            Err(error) => complain(format_args!("cannot serve {peer}: {error}")),
                        }
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => return,
                        // That client has already disconnected.
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                        // Retrying at once would spin; not retrying would leave clients in the backlog for ever.
                        _ => {
                            complain(format_args!("cannot accept: {error}"));
                            self.accept_again_at = Some(Instant::now() + ACCEPT_RETRY);
                            return;
                        }
                    },
                }
            }
        }

        /// Reads until that would block, for the same reason. Dropping a stream closes it.
        fn read(&mut self, token: Token) {
            let Some(session) = self.sessions.get_mut(&token) else { return };
            let mut buffer = [0; 16 * 1024];
            loop {
                match session.stream.read(&mut buffer) {
                    Ok(received @ 1..) => {
                        let is_unfinished = session.client.received(&buffer[..received]);
                        session.print_at = is_unfinished.then(|| Instant::now() + UNFINISHED_WAIT);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // End of file or a reset: only this client is gone.
                    Ok(0) | Err(_) => {
                        self.sessions.remove(&token);
                        return;
                    }
                }
            }
        }

        /// Returns how long the poll may sleep. This looks at every client; the loop has a heap of timers instead.
        fn time_to_next(&self) -> Option<Duration> {
            let times = self.sessions.values().filter_map(|session| session.print_at);
            let first = times.chain(self.accept_again_at).min()?;
            Some(first.saturating_duration_since(Instant::now()))
        }

        fn do_what_is_due(&mut self) {
            let now = Instant::now();
            for session in self.sessions.values_mut().filter(|session| session.print_at.is_some_and(|at| at <= now)) {
                session.print_at = None;
                session.client.print_unfinished();
            }
            if self.accept_again_at.is_some_and(|at| at <= now) {
                self.accept();
            }
        }

        fn run(&mut self) -> io::Result<()> {
            let mut events = Events::with_capacity(256);
            loop {
                match self.poll.poll(&mut events, self.time_to_next()) {
                    // A signal interrupted the poll; the next poll reports it.
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    other => other?,
                }
                for event in &events {
                    match event.token() {
                        SIGNALS => return Ok(()),
                        LISTENER => self.accept(),
                        token => self.read(token),
                    }
                }
                self.do_what_is_due();
            }
        }
    }

    pub(crate) fn main() -> Result<(), Failure> {
        let address = listening_address(&[])?;
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address).map_err(cannot_listen(address))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut signals = Signals::new([libc::SIGINT, libc::SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        say(format_args!("listening on {}", listener.local_addr()?));
        let sessions = HashMap::new();
        Server { poll, listener, accept_again_at: None, sessions, next_token: FIRST_CLIENT }.run()?;
        Ok(())
    }
}

#[cfg(unix)]
fn main() -> Result<(), support::Failure> {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example is for Unix");
}
