//! Echo over a Unix socket: server and client in one program.
//!
//! Run `cargo run --example unix_echo server /tmp/echo.sock`, then `cargo run --example unix_echo client /tmp/echo.sock
//! hello`, or `nc -U /tmp/echo.sock`. A path that begins with `@` is an abstract name (Linux).

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("there are no Unix sockets here");
}

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::fmt::Display;
    use std::io::Write;

    use switchboard::{CloseReason, ConnectError, EventLoop, Protocol, Transport, UnixAddress, escape};

    struct Echo;

    impl Protocol for Echo {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(data);
            data.len()
        }
    }

    /// Sends a message, ends its half, and prints what comes back.
    struct Client {
        message: String,
    }

    impl Protocol for Client {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write(self.message.as_bytes());
            transport.shutdown_write();
        }

        // Nothing is consumed before all is there.
        fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
            0
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
            say(escape(rest));
            transport.close();
        }

        fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
            eprintln!("{error}");
        }

        // More than the input limit (64 KiB) does not come back whole: that must not look like an empty answer.
        fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
            if !matches!(reason, CloseReason::Closed | CloseReason::PeerClosed) {
                eprintln!("{reason}");
            }
        }
    }

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        env_logger::init();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let address = |name: &str| match name.strip_prefix('@') {
            Some(name) => UnixAddress::Abstract(name.as_bytes().into()),
            None => UnixAddress::Path(name.into()),
        };
        let mut event_loop = EventLoop::new()?;
        let mut context = event_loop.context();
        match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["server", name] => {
                // Nobody but our own user may connect.
                context.listen_unix(address(name), Some(0o600), |_, _| Some(Box::new(Echo)))?;
                say(format_args!("listening on {}", address(name)));
                event_loop.run()?;
            }
            ["client", name, message] => {
                let client = Client { message: (*message).to_owned() };
                context.connect(address(name), Box::new(client))?;
                event_loop.run_until_idle()?;
            }
            _ => return Err("usage: server PATH, or client PATH MESSAGE".into()),
        }
        Ok(())
    }

    /// A closed stdout is no reason to end.
    fn say(line: impl Display) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
