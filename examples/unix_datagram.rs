//! A log collector on a Unix datagram socket, as `/dev/log` is one: programs send it a line each, nobody waits for it.
//!
//! Run `cargo run --example unix_datagram -- /tmp/collector`, then `cargo run --example unix_datagram -- /tmp/collector
//! hello`, `logger --socket /tmp/collector hello`, or `echo hello | nc -uU /tmp/collector`. A path that begins with `@` is
//! an abstract name (Linux). On Unix only.
//!
//! It prints what comes, escaped, with who sent it; most senders have no name. The path goes when the program ends. With
//! lines it is the sender, of a datagram for each, and ends with 1 where one of them cannot be sent.

#[path = "support/client.rs"]
#[allow(dead_code)] // What is for who connects to an Internet address.
mod client;
#[allow(dead_code)] // What is for who listens on one.
mod support;
#[cfg(unix)]
#[path = "support/unix.rs"]
mod unix_support;

#[cfg(unix)]
mod unix {
    use std::io;
    use std::process::ExitCode;

    use super::client::Outcome;
    use super::support::{Failure, say, shut_down_on_signals};
    use super::unix_support::address;
    use switchboard::{Address, DatagramError, DatagramProtocol, DatagramTransport, EventLoop, UnixAddress, escape};

    struct Collector;

    impl DatagramProtocol for Collector {
        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: {}", escape(data.strip_suffix(b"\n").unwrap_or(data))));
        }

        fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: more than {} bytes", data.len()));
        }
    }

    /// Sends a datagram for each line; a collector does not answer.
    struct Sender {
        lines: Vec<String>,
        outcome: Outcome,
    }

    impl DatagramProtocol for Sender {
        fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
            for line in &self.lines {
                transport.send(line.as_bytes());
            }
            // What cannot be sent is told before the end.
            transport.close();
        }

        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}

        fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: DatagramError) {
            self.outcome.failed(&error);
        }
    }

    fn collect(address: &UnixAddress) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let bound = event_loop.context().bind_datagram(Address::Unix(address.clone()), Box::new(Collector));
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        shut_down_on_signals(&mut event_loop)?;
        say(format_args!("listening on {address}"));
        event_loop.run()?;
        Ok(ExitCode::SUCCESS)
    }

    fn send(address: UnixAddress, lines: Vec<String>) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let outcome = Outcome::default();
        let sender = Sender { lines, outcome: outcome.clone() };
        event_loop.context().connect_datagram(Address::Unix(address), Box::new(sender))?;
        event_loop.run_until_idle()?;
        Ok(outcome.code())
    }

    pub(crate) fn run() -> Result<ExitCode, Failure> {
        env_logger::init();
        let mut arguments = std::env::args().skip(1);
        let name =
            arguments.next().ok_or_else(|| io::Error::other("usage: PATH to collect, or PATH LINE... to send"))?;
        let lines: Vec<_> = arguments.collect();
        if lines.is_empty() { collect(&address(&name)) } else { send(address(&name), lines) }
    }
}

#[cfg(unix)]
fn main() -> Result<std::process::ExitCode, support::Failure> {
    unix::run()
}

#[cfg(not(unix))]
fn main() {}
