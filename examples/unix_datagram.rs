//! A log collector on a Unix datagram socket, like `/dev/log`: programs send lines to it, and wait for no answer.
//!
//! Run `cargo run --example unix_datagram -- /tmp/collector`, then `cargo run --example unix_datagram -- /tmp/collector
//! hello`, `logger --socket /tmp/collector hello`, or `echo hello | nc -uU /tmp/collector`. A path that begins with `@`
//! is an abstract name (Linux). Unix only.
//!
//! It prints each datagram, escaped, with its sender; most senders have no name. The path is removed when the program
//! ends. With lines as arguments it is the sender: it sends a datagram for each line, and waits up to 5 s while the
//! collector accepts none. If some lines were not sent it prints how many, and its exit code is 1.

#[allow(dead_code)] // Some of it is for servers.
mod support;
#[cfg(unix)]
#[path = "support/unix.rs"]
mod unix_support;

#[cfg(unix)]
mod unix {
    use std::cell::RefCell;
    use std::io;
    use std::process::ExitCode;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use super::support::{Failure, say, show_log, shut_down_on_signals};
    use super::unix_support::address;
    use switchboard::{
        Address, Context, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, EventLoop, UnixAddress,
        escape,
    };

    struct Collector;

    impl DatagramProtocol for Collector {
        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: {}", escape(data.strip_suffix(b"\n").unwrap_or(data))));
        }

        fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: more than {} bytes", data.len()));
        }
    }

    /// How long the sender waits for a collector that accepts nothing.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// How often the sender checks whether the collector has accepted something.
    const PERIOD: Duration = Duration::from_millis(10);

    /// Sends a datagram for each line; the collector does not answer.
    struct Sender(Rc<RefCell<Sending>>);

    /// The progress of a sender.
    struct Sending {
        lines: std::vec::IntoIter<String>,
        lost: u64,
        /// When the collector last accepted something.
        taken: Instant,
    }

    /// Sends lines while the collector accepts them. At most one line is queued at a time, so that unsent lines can be
    /// counted.
    fn go_on(context: &mut Context<'_>, id: DatagramId, sending: Rc<RefCell<Sending>>) {
        let now = context.now();
        let Some(mut transport) = context.datagram(id) else { return };
        let mut state = sending.borrow_mut();
        while transport.queued_bytes() == 0 {
            let Some(line) = state.lines.next() else {
                // Close after a delay, since a closed socket reports no more errors.
                context.call_later(PERIOD, move |context| {
                    if let Some(mut transport) = context.datagram(id) {
                        transport.close();
                    }
                });
                return;
            };
            state.taken = now;
            transport.send(line.as_bytes());
        }
        if now.saturating_duration_since(state.taken) > PATIENCE {
            eprintln!("the collector has taken nothing for {} s", PATIENCE.as_secs());
            // The queued line is reported as dropped when the socket ends.
            state.lost += state.lines.by_ref().count() as u64;
            return transport.abort();
        }
        drop(state);
        context.call_later(PERIOD, move |context| go_on(context, id, sending));
    }

    impl DatagramProtocol for Sender {
        fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
            let id = transport.id();
            go_on(&mut transport.context(), id, self.0.clone());
        }

        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}

        fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
            eprintln!("{error}");
            self.0.borrow_mut().lost += if let DatagramError::Dropped(count) = error { *count } else { 1 };
        }
    }

    fn collect(address: &UnixAddress) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let bound = event_loop.context().bind_datagram(Address::Unix(address.clone()), Collector);
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        shut_down_on_signals(&mut event_loop)?;
        say(format_args!("listening on {address}"));
        event_loop.run()?;
        Ok(ExitCode::SUCCESS)
    }

    fn send(address: UnixAddress, lines: Vec<String>) -> Result<ExitCode, Failure> {
        let mut event_loop = EventLoop::new()?;
        let count = lines.len();
        let sending = Sending { lines: lines.into_iter(), lost: 0, taken: event_loop.context().now() };
        let sending = Rc::new(RefCell::new(sending));
        event_loop.context().connect_datagram(Address::Unix(address), Sender(sending.clone()))?;
        event_loop.run_until_idle()?;
        let lost = sending.borrow().lost;
        match lost {
            0 => Ok(ExitCode::SUCCESS),
            _ => Err(Failure::new(format!("{lost} of {count} lines were not sent"))),
        }
    }

    pub(crate) fn run() -> Result<ExitCode, Failure> {
        show_log();
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
