//! A server run by a service manager: socket activation, readiness, a watchdog, draining, a restart without a gap.
//!
//! Run `cargo run --example service --features service -- tcp:127.0.0.1:1234 unix:/tmp/service.sock:mode=600`, then
//! `telnet 127.0.0.1 1234`. It answers each line with the id of its process, after `--delay MS` if that is given.
//!
//! On `kill -USR2 PID` a new process takes over: existing connections stay with the old process until they have their
//! answers, new ones are served by the new process, and none is refused. On `kill PID` or Ctrl-C the server ends once
//! all pending answers are sent, or after `--grace SECONDS`. A new process that is not ready after
//! `--start-timeout SECONDS` is abandoned. A peer that has been silent for a minute, or `--timeout SECONDS`, and is not
//! waiting for an answer is disconnected. `--per-peer N` limits the connections of one address. Unit files for systemd
//! are in `examples/service/`. Unix only.

#[cfg(unix)]
#[path = "support/bounds.rs"]
mod bounds;
#[allow(dead_code)] // Some of it is for servers on one Internet address.
mod support;

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    use super::bounds::Bounds;
    use super::support::{self, Failure};
    use switchboard::service::Service;
    use switchboard::{Endpoint, EventLoop, Protocol, Timeout, Transport};

    const DEFAULT_ENDPOINT: &str = "tcp:127.0.0.1:1234";

    /// How long a peer that is not waiting for an answer may be silent.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// Answers each line, after a delay.
    struct Session {
        delay: Duration,
        waiting: Rc<Waiting>,
    }

    /// The state that a session shares with the timers that send its answers.
    #[derive(Default)]
    struct Waiting {
        answers: Cell<usize>,
        /// Whether the peer has closed its sending half.
        is_last: Cell<bool>,
    }

    impl Protocol for Session {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            let Some(end) = data.iter().position(|&byte| byte == b'\n') else { return 0 };
            let mut answer = format!("{} ", std::process::id()).into_bytes();
            answer.extend_from_slice(&data[..=end]);
            self.waiting.answers.set(self.waiting.answers.get() + 1);
            let (id, waiting) = (transport.id(), self.waiting.clone());
            transport.context().call_later(self.delay, move |context| {
                waiting.answers.set(waiting.answers.get() - 1);
                let is_last = waiting.answers.get() == 0 && (waiting.is_last.get() || context.is_draining());
                let Some(mut transport) = context.connection(id) else { return };
                transport.write_owned(answer);
                if is_last {
                    transport.close();
                }
            });
            end + 1
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
            self.waiting.is_last.set(true);
            if self.waiting.answers.get() == 0 {
                transport.close();
            }
        }

        /// While an answer is pending the peer need not send anything, so the timeout starts again.
        fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
            if self.waiting.answers.get() == 0 {
                transport.end_on_timeout(timeout);
            }
        }
    }

    /// The command line.
    struct Options {
        endpoints: Vec<Endpoint>,
        delay: Duration,
        grace: Duration,
        start_timeout: Duration,
        bounds: Bounds,
    }

    fn options() -> Result<Options, Failure> {
        support::show_log();
        let (endpoints, delay, seconds) = (Vec::new(), Duration::ZERO, Duration::from_secs(20));
        let mut arguments = std::env::args().skip(1).collect();
        let bounds = Bounds::take_from(&mut arguments, IDLE_TIMEOUT)?;
        let mut options = Options { endpoints, delay, grace: seconds, start_timeout: seconds, bounds };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let number = arguments.next().and_then(|text| text.parse().ok());
                number.ok_or_else(|| Failure::new(format!("{argument} needs a number")))
            };
            match argument.as_str() {
                "--delay" => options.delay = Duration::from_millis(number()?),
                "--grace" => options.grace = Duration::from_secs(number()?),
                "--start-timeout" => options.start_timeout = Duration::from_secs(number()?),
                endpoint => options.endpoints.push(endpoint.parse().map_err(|error| Failure::new(format!("{error}")))?),
            }
        }
        if options.endpoints.is_empty() {
            options.endpoints.push(DEFAULT_ENDPOINT.parse().expect("it is one"));
        }
        Ok(options)
    }

    pub(crate) fn run() -> Result<(), Failure> {
        // This must come first, since it changes the environment.
        let service = Service::from_env()?;
        let Options { endpoints, delay, grace, start_timeout, bounds } = options()?;
        let mut service = service.grace(grace).start_timeout(start_timeout);
        let mut event_loop = EventLoop::with_limits(bounds.limits())?;
        let mut listeners = Vec::new();
        for endpoint in &endpoints {
            listeners.push(service.listen(&mut event_loop.context(), endpoint, move |_, _| {
                Some(Session { delay, waiting: Rc::default() })
            })?);
        }
        // Nothing may fail once the service is ready: a process that this one replaces stops serving then.
        let mut addresses = Vec::new();
        for listener in listeners {
            let mut context = event_loop.context();
            let listening = context.listener(listener).ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
            addresses.extend(listening.local_addrs()?);
        }
        service.start(&mut event_loop.context())?;
        for address in addresses {
            support::say(format_args!("listening on {address}"));
        }
        event_loop.run()?;
        Ok(())
    }
}

#[cfg(unix)]
fn main() -> Result<(), support::Failure> {
    unix::run()
}

#[cfg(not(unix))]
fn main() {}
