//! The select server a third time, with no loop of ours: what there is to do by hand on bare mio.
//!
//! Run `cargo run --example select_server_mio`, then `telnet 127.0.0.1 1234` from several windows, and type. It prints the
//! same as `select_server`: who comes, each line, who leaves. On Unix only, for its signals.
//!
//! It is right as far as it goes. What it leaves out, and the loop does: a share of time for each client (here one that
//! never stops sending is read until he does), a limit on clients, writing at all (queues, marks, partial sends), urgent
//! data at its place, and an end of one client alone where his code panics.

#[allow(dead_code)] // It also has what examples on the loop need.
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

    /// How long accepting waits where there is no descriptor left, for instance.
    const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    struct Session {
        stream: TcpStream,
        client: Client,
        /// When his unfinished line is printed.
        print_at: Option<Instant>,
    }

    struct Server {
        poll: Poll,
        listener: TcpListener,
        accept_again_at: Option<Instant>,
        sessions: HashMap<Token, Session>,
        /// Never used twice: an event that is late would otherwise be taken for another client's.
        next_token: usize,
    }

    impl Server {
        /// Accepts until nobody waits any more: under edge triggering nobody tells of them once more.
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
                        // That client is gone again.
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                        // Trying at once would spin, not trying would leave those who wait alone for ever.
                        _ => {
                            complain(format_args!("cannot accept: {error}"));
                            self.accept_again_at = Some(Instant::now() + ACCEPT_RETRY);
                            return;
                        }
                    },
                }
            }
        }

        /// Reads until nothing is there, for the same reason. A stream that is dropped is closed.
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
                    // The end, or a reset: he has left, and only he.
                    Ok(0) | Err(_) => {
                        self.sessions.remove(&token);
                        return;
                    }
                }
            }
        }

        /// How long the poll may sleep. Looks at every client, which the loop's heap of timers does not.
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
                    // A signal came while it waited; what it brought is told with the next one.
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
