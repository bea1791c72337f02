//! Connects: to listeners of the run, to ports without one, to addresses that never answer, to themselves; to one
//! address, to several, to a name.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ledger::{Ledger, Phase, Side};
use super::program::Program;
use crate::{Address, CloseReason, Connect, ConnectError, Context, Limit, Limits, LoopError, Transport};

/// What answers at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answers {
    /// A listener of the run, by its number.
    Listener(usize),
    /// A host, at a port on which nobody listens.
    Nobody,
    /// No host: packets are lost on the way.
    Never,
    /// The client's own address.
    Itself,
}

/// What a connection connects to.
pub(super) struct Dial {
    targets: Vec<(SocketAddr, Answers)>,
    /// Whether a name without an address is to be looked up.
    unknown: bool,
    began: Instant,
    timeout: Duration,
}

/// How late a loop that lags behind may see a deadline, at most.
const LATE_MAX: Duration = Duration::from_secs(2);

/// How many connections of programs may be alive, at most.
const LIVE_MAX: usize = 24;

/// How long the first packet is retransmitted.
const UNANSWERED: Duration = Duration::from_secs(127);

/// What names mean in these networks: the host that is named; that host after one that never answers; no address.
pub(super) fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = |text: &str| text.parse().map(|ip| SocketAddr::new(ip, port)).map_err(io::Error::other);
    match name.split_once('_') {
        Some(("at", ip)) => Ok(vec![host(ip)?]),
        Some(("behind", ip)) => Ok(vec![(NEVER, port).into(), host(ip)?]),
        Some(("nothing", _)) => Ok(vec![]),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

const NEVER: [u8; 4] = [192, 0, 2, 1];

/// A port on which nobody listens, and which no client has.
const NOBODYS_PORT: u16 = 9;

/// Begins to connect, from a host's loop.
pub(super) fn connect(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    // Once its last connection has ended, a loop that shuts down is done, and takes newcomers again.
    let over = ledger.ending[host] && context.connection_count() == 0;
    if over || ledger.connections.iter().filter(|of| of.phase.is_live()).count() >= LIVE_MAX {
        return;
    }
    let stream = ledger.new_stream();
    let index = ledger.connect(host, Side::Client, Some(stream));
    let timeout = match ledger.random.below(6) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(ledger.random.below(40)),
        2 | 3 => Duration::from_millis(ledger.random.below(3000)),
        4 => ledger.limits.connect_timeout,
        _ => Duration::from_secs(150),
    };
    let mut dial = Dial { targets: Vec::new(), unknown: false, began: context.now(), timeout };
    let (mut connect, what) = pick(ledger, &mut dial, host);
    if timeout != ledger.limits.connect_timeout {
        connect = connect.timeout(timeout);
    }
    ledger.connections[index].limits.pause_reading_over_high = false;
    if ledger.random.hits(300) {
        ledger.coverage.hit("connect with limits");
        let limits = vary(ledger);
        ledger.connections[index].limits = limits.clone();
        connect = connect.limits(limits);
    }
    let program = Program::new(ledger, index, 0);
    match context.connect(connect, program) {
        Ok(id) => {
            ledger.coverage.hit(what);
            ledger.check(!ledger.ending[host], || "a loop that shuts down connects".into());
            ledger.check(!dial.targets.is_empty() || dial.unknown, || "connects to an empty list".into());
            ledger.connections[index].phase = Phase::Connecting;
            ledger.connections[index].dial = Some(dial);
            ledger.named(index, id);
        }
        Err(error) => {
            let expected = match error.kind() {
                io::ErrorKind::NotConnected
                    if LoopError::of(&error) == Some(LoopError::ShuttingDown) && ledger.ending[host] =>
                {
                    ledger.coverage.hit("connect while shutting down");
                    true
                }
                io::ErrorKind::InvalidInput => dial.targets.is_empty() && !dial.unknown,
                _ => ledger.is_made_to_fail_with(&error),
            };
            ledger.coverage.hit("connect refused at once");
            ledger.check(expected, || format!("cannot connect: {error}"));
        }
    }
}

/// Limits that differ from the loop's in those that a single connection may have of its own.
pub(super) fn vary(ledger: &mut Ledger) -> Limits {
    let (high, low) = (ledger.random.below(20_000) as usize, ledger.random.below(6000) as usize);
    // A few bytes a turn only where writes are small.
    let budget = match (ledger.write_bound, ledger.random.below(2)) {
        (..=200, 0) => 1,
        (..=1000, 0) => 100,
        _ => 256 * 1024,
    };
    let batch = ledger.random.between(1, 3) as usize;
    let pauses = ledger.random.hits(500);
    let limits = ledger.limits.each.clone().with_queue_bytes_high(high).with_queue_bytes_low(low);
    limits.with_read_bytes_per_turn_max(budget).with_accepts_per_turn_max(batch).with_pause_reading_over_high(pauses)
}

/// Picks what to connect to.
fn pick(ledger: &mut Ledger, dial: &mut Dial, host: usize) -> (Connect, &'static str) {
    let own = ledger.own_port();
    let from = |port| SocketAddr::from(([10, 0, 0, host as u8 + 1], port));
    let one = |ledger: &mut Ledger, dial: &mut Dial| {
        let answers = match ledger.random.below(10) {
            0..=6 => Answers::Listener(ledger.random.below(ledger.listeners.len() as u64) as usize),
            7 | 8 => Answers::Nobody,
            _ => Answers::Never,
        };
        dial.targets.push((ledger.address_of(answers, host), answers));
        dial.targets[dial.targets.len() - 1].0
    };
    match ledger.random.below(20) {
        0..=9 => (one(ledger, dial).into(), "connect"),
        10 => {
            let local = if ledger.random.hits(500) { from(own) } else { from(0) };
            (Connect::to(one(ledger, dial)).local_addr(local), "connect from an address")
        }
        11 => {
            dial.targets.push((from(own), Answers::Itself));
            (Connect::to(from(own)).local_addr(from(own)), "connect to itself")
        }
        12..=16 => {
            let count = ledger.random.below(5);
            let list: Vec<_> = (0..count).map(|_| one(ledger, dial)).collect();
            (list.into(), "connect to a list")
        }
        way => {
            let listener = ledger.random.below(ledger.listeners.len() as u64) as usize;
            let answers = Answers::Listener(listener);
            let at = ledger.address_of(answers, host);
            let named = match way {
                17 => "at",
                18 => "behind",
                _ if ledger.random.hits(500) => "nothing",
                _ => "unknown",
            };
            match named {
                "behind" => dial.targets.extend([((NEVER, at.port()).into(), Answers::Never), (at, answers)]),
                "at" => dial.targets.push((at, answers)),
                _ => dial.unknown = true,
            }
            (Connect::to((format!("{named}_{}", at.ip()), at.port())), "connect to a name")
        }
    }
}

impl Dial {
    pub(super) fn has_several_targets(&self) -> bool {
        self.targets.len() > 1
    }
}

impl Ledger {
    fn address_of(&self, answers: Answers, host: usize) -> SocketAddr {
        let of = |host: usize, port| SocketAddr::from(([10, 0, 0, host as u8 + 1], port));
        match answers {
            Answers::Listener(index) => {
                let listener = &self.listeners[index];
                of(listener.host, listener.at[self.streams.len() % listener.at.len()].port())
            }
            Answers::Nobody | Answers::Itself => of(host, NOBODYS_PORT),
            Answers::Never => (NEVER, NOBODYS_PORT).into(),
        }
    }

    /// Returns a port that no client has had before.
    fn own_port(&mut self) -> u16 {
        // Below the ports that the system chooses from.
        10_000 + self.streams.len() as u16
    }

    /// A connection was established.
    pub(super) fn connected(&mut self, index: usize, now: Instant) {
        let Some(dial) = &self.connections[index].dial else { return };
        let passed = now - dial.began;
        let (in_time, timeout) = (passed <= dial.timeout + LATE_MAX, dial.timeout);
        let somewhere = dial.targets.iter().any(|(_, answers)| matches!(answers, Answers::Listener(_)));
        self.check(somewhere, || "connected, where nobody listens".into());
        self.check(in_time, || format!("a connect of {timeout:?} stands after {passed:?}"));
    }

    /// `connect_failed` was called.
    pub(super) fn connect_failed(&mut self, index: usize, transport: &mut Transport<'_>, error: &ConnectError) {
        let connection = &mut self.connections[index];
        let phase = std::mem::replace(&mut connection.phase, Phase::Lost);
        connection.lost_in_step = self.step;
        self.check(phase == Phase::Connecting, || format!("connect_failed of a connection that is {phase:?}"));
        let queued = transport.queued_bytes();
        self.check(queued == 0, || format!("{queued} bytes are queued for a connection that is not made"));
        let Some(dial) = self.connections[index].dial.take() else {
            return self.violated("connect_failed of a connection that has not connected");
        };
        let passed = transport.context().now() - dial.began;
        self.check(passed <= dial.timeout + LATE_MAX, || {
            format!("a connect of {:?} fails after {passed:?}", dial.timeout)
        });
        let what = match error {
            ConnectError::Failed(failures) => {
                self.check(failures.len() == dial.targets.len() && !dial.unknown, || {
                    format!("not all failed: {error}")
                });
                self.check_failures(&dial, failures, passed);
                "connect failed"
            }
            ConnectError::Timeout(failures) => {
                self.check(passed >= dial.timeout, || {
                    format!("a connect is given up {:?} early", dial.timeout - passed)
                });
                self.check_failures(&dial, failures, passed);
                "connect timed out"
            }
            ConnectError::Lookup(_) => {
                self.check(dial.unknown, || format!("a name that is known: {error}"));
                "lookup failed"
            }
            ConnectError::Filter(_) => return self.violated("the handshake of no filter fails"),
            ConnectError::Cancelled(reason) => {
                self.check_cancelled(index, reason);
                "connect cancelled"
            }
        };
        self.coverage.hit(what);
        self.connections[index].dial = Some(dial);
        self.end_of_sending(index);
    }

    /// Checks that each address is reported once, with an error that it may have met.
    fn check_failures(&mut self, dial: &Dial, failures: &[(Address, io::Error)], passed: Duration) {
        let mut left = dial.targets.clone();
        for (address, error) in failures {
            let found = left.iter().position(|&(target, _)| Some(target) == address.as_inet());
            let Some(answers) = found.map(|found| left.swap_remove(found).1) else {
                self.violated(format!("{address} was not asked for, or is told of twice"));
                continue;
            };
            let fits = match (answers, error.kind()) {
                _ if self.is_made_to_fail_with(error) => true,
                // At the deadline, or when the kernel has given up.
                (_, io::ErrorKind::TimedOut) => passed >= dial.timeout.min(UNANSWERED),
                (Answers::Nobody | Answers::Itself, kind) => kind == io::ErrorKind::ConnectionRefused,
                (Answers::Never, _) => false,
                (Answers::Listener(listener), io::ErrorKind::ConnectionRefused) => {
                    let listener = &self.listeners[listener];
                    self.fatal || listener.closed || self.ending[listener.host]
                }
                // Accepted, and reset at once; Linux reports a broken pipe if an end came before that.
                (Answers::Listener(_), kind) => {
                    matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
                }
            };
            self.check(fits, || format!("{address} ({answers:?}): {error}"));
        }
    }

    fn check_cancelled(&mut self, index: usize, reason: &CloseReason) {
        let connection = &self.connections[index];
        let asked = &connection.asked;
        let fits = match reason {
            CloseReason::Closed => asked.close,
            CloseReason::Aborted => asked.abort,
            CloseReason::Protocol(_) => asked.fail,
            CloseReason::Shutdown => self.ending[connection.host],
            CloseReason::Panic(_) => asked.panic,
            CloseReason::Limit(limit) => matches!(limit, Limit::QueueBytes | Limit::LoopQueueBytes),
            _ => false,
        };
        self.check(fits, || format!("a connect is cancelled for a reason that nobody gave: {reason}"));
    }
}
