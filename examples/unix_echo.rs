//! An echo server and its client over a Unix socket, in one program.
//!
//! Run `cargo run --example unix_echo /tmp/echo.sock`, then `cargo run --example unix_echo /tmp/echo.sock hello`, or
//! `nc -U /tmp/echo.sock`. A path that begins with `@` is an abstract name (Linux). Unix only.
//!
//! With a message it is the client: it prints the answer, escaped, or exits with 1 if there is none. The path is
//! removed when the server ends.

#[path = "support/client.rs"]
#[allow(dead_code)] // Some of it is for Internet addresses.
mod client;
#[allow(dead_code)]
mod support;
#[cfg(unix)]
#[path = "support/unix.rs"]
mod unix_support;

#[cfg(unix)]
mod unix {
    use std::io;
    use std::process::ExitCode;

    use super::client::{self, Outcome};
    use super::support::{Failure, say, show_log, shut_down_on_signals};
    use super::unix_support::address;
    use switchboard::{CloseReason, ConnectError, EventLoop, Listen, Protocol, Transport, UnixAddress, escape};

    struct Echo;

    impl Protocol for Echo {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(data);
            data.len()
        }
    }

    /// Sends a message, shuts down its writing half, and prints the answer.
    struct Client {
        message: String,
        outcome: Outcome,
    }

    impl Protocol for Client {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write(self.message.as_bytes());
            transport.shutdown_write();
        }

        // The whole answer is buffered until end of file.
        fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
            0
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
            if rest.is_empty() && !self.message.is_empty() {
                self.outcome.failed(&"no answer: the server has hung up");
            } else {
                client::say(escape(rest));
            }
            transport.close();
        }

        fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
            self.outcome.failed(&error);
        }

        // An answer larger than the input limit (64 KiB) is cut short: that must not look like an empty answer.
        fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
            if !matches!(reason, CloseReason::Closed | CloseReason::PeerClosed) {
                self.outcome.failed(&reason);
            }
        }
    }

    fn serve(address: &UnixAddress) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let listen = match address {
            // Only processes of the same user may connect.
            UnixAddress::Path(_) => Listen::at(address.clone()).mode(0o600),
            // Any process on the machine may connect to an abstract name.
            _ => address.clone().into(),
        };
        let listened = event_loop.context().listen(listen, |_, _| Some(Echo));
        listened.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        shut_down_on_signals(&mut event_loop)?;
        say(format_args!("listening on {address}"));
        event_loop.run()?;
        Ok(ExitCode::SUCCESS)
    }

    fn ask(address: UnixAddress, message: String) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let outcome = Outcome::default();
        event_loop.context().connect(address, Client { message, outcome: outcome.clone() })?;
        event_loop.run_until_idle()?;
        Ok(outcome.code())
    }

    pub(crate) fn run() -> Result<ExitCode, Failure> {
        show_log();
        let mut arguments = std::env::args().skip(1);
        let name = arguments.next().ok_or_else(|| io::Error::other("usage: PATH to serve, or PATH MESSAGE to ask"))?;
        match arguments.next() {
            Some(message) => ask(address(&name), message),
            None => serve(&address(&name)),
        }
    }
}

#[cfg(unix)]
fn main() -> Result<std::process::ExitCode, support::Failure> {
    unix::run()
}

#[cfg(not(unix))]
fn main() {}
