//! A server as a service manager runs it: sockets handed over, readiness, a watchdog, a drain, a restart without a gap.
//!
//! Run `cargo run --example service --features service -- tcp:127.0.0.1:1234 unix:/tmp/service.sock:mode=600`, then
//! `telnet 127.0.0.1 1234`. Each line is answered with the number of the process that does it, after `--delay MS` if that is
//! given.
//!
//! `kill -USR2 NUMBER` has a new process take over: whoever is connected stays with the old one until its answers are
//! given, whoever comes is served by the new one, and nobody is refused. `kill NUMBER`, or Ctrl-C, ends it once the
//! answers under way are given, after `--grace SECONDS` at the latest. A new process that is not ready after
//! `--start-timeout SECONDS` is given up. A peer that has been silent for a minute, or `--timeout SECONDS`, and waits for no
//! answer is disconnected. `--per-peer N` limits the connections of one address. Under systemd: `examples/service/`. On Unix only.

#[cfg(unix)]
#[path = "support/bounds.rs"]
mod bounds;
#[allow(dead_code)] // It also has what servers on one Internet address need.
mod support;

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::bounds::Bounds;
    use super::support::{self, Failure};
    use switchboard::service::Service;
    use switchboard::{Endpoint, EventLoop, Protocol, Timeout, Transport};

    const DEFAULT_ENDPOINT: &str = "tcp:127.0.0.1:1234";

    /// How long a peer may be silent that waits for no answer.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// Answers each line, after a while.
    struct Session {
        delay: Duration,
        waiting: Rc<Waiting>,
    }

    /// What a session shares with the timers that answer for it.
    #[derive(Default)]
    struct Waiting {
        answers: Cell<usize>,
        /// The peer has said all it has to say.
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

        /// While an answer is due, it is not the peer's turn: the time begins anew.
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
        // First of all: it takes the environment apart.
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
        service.start(&mut event_loop.context())?;
        for listener in listeners {
            support::announce(&mut event_loop, listener)?;
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
