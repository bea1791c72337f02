//! Protocols that do anything, and record their callbacks in the ledger.

use std::panic::resume_unwind;
use std::time::Duration;

use super::actions::{self, act_on};
use super::ledger::{Ledger, PANIC, Phase, Side, with};
use super::producing;
use super::reaching::panic_reaching;
use crate::{CloseReason, ConnectError, Limits, Protocol, Timeout, Transport};

/// A protocol of one connection of the ledger.
pub(super) struct Program {
    pub(super) connection: usize,
    /// Which protocol of its connection it is.
    instance: u32,
}

impl Program {
    pub(super) fn new(ledger: &mut Ledger, connection: usize, instance: u32) -> Program {
        ledger.protocols += 1;
        Program { connection, instance }
    }

    /// Does what a callback does once the ledger has recorded it: some actions, or the plain thing.
    fn act(&self, ledger: &mut Ledger, transport: &mut Transport<'_>) {
        ledger.inside = Some((self.connection, self.instance));
        for _ in 0..ledger.random.below(3) {
            if ledger.actions == 0 {
                break;
            }
            ledger.actions -= 1;
            if ledger.random.hits(3) {
                if ledger.random.hits(500) && panic_reaching(ledger, &mut transport.context(), self.connection) {
                    break;
                }
                ledger.inside = None;
                ledger.connections[self.connection].asked.panic = true;
                ledger.panics[ledger.connections[self.connection].host] += 1;
                ledger.coverage.hit("panic now");
                // Bypasses the panic hook, which would print it.
                resume_unwind(Box::new(PANIC));
            }
            if ledger.random.hits(250) {
                let mut context = transport.context();
                actions::act_around(ledger, &mut context, ledger.connections[self.connection].host);
            } else {
                act_on(ledger, transport, self.connection);
            }
        }
        ledger.inside = None;
    }

    pub(super) fn is(&self, connection: usize, instance: u32) -> bool {
        (self.connection, self.instance) == (connection, instance)
    }

    fn check_not_found(&self, ledger: &mut Ledger, transport: &mut Transport<'_>) {
        let id = transport.id();
        ledger.check(transport.context().connection(id).is_none(), || "a lost connection is found".into());
    }

    fn consume(&self, ledger: &mut Ledger, given: usize) -> usize {
        let ways = if ledger.actions == 0 { 1 } else { 10 };
        let (what, consumed) = match ledger.random.below(ways) {
            0..=4 => ("consume all", given),
            5 | 6 => ("consume some", ledger.random.between(1, given as u64) as usize),
            7 => ("consume one", 1),
            8 => ("consume nothing", 0),
            _ if ledger.random.hits(950) => ("consume all", given),
            _ => {
                ledger.connections[self.connection].asked.overconsume = true;
                ("consume too much", given + 1)
            }
        };
        ledger.coverage.hit(what);
        consumed
    }
}

impl Protocol for Program {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        with(|ledger| {
            ledger.coverage.hit("made");
            let address = transport.local_addr().ok().and_then(|address| address.as_inet());
            let connection = &ledger.connections[self.connection];
            match address {
                Some(address) if connection.stream.is_none() || connection.dial.is_some() => {
                    ledger.name_stream(self.connection, address);
                }
                Some(_) => {}
                None => ledger.violated("a connection that is made has no address"),
            }
            let is_first = !ledger.connections[self.connection].starting;
            ledger.made(self.connection, self.instance, transport.id());
            if is_first {
                ledger.connected(self.connection, transport.context().now());
            }
            self.act(ledger, transport);
        });
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "data");
            let over = ledger.connections[self.connection].over;
            let failing = over && format!("{transport:?}").contains("Failing");
            ledger.data(self.connection, data, failing);
            self.act(ledger, transport);
            let consumed = self.consume(ledger, data.len());
            ledger.consumed(self.connection, data.len(), consumed);
            consumed
        })
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "eof");
            ledger.eof(self.connection, rest);
            self.act(ledger, transport);
            if ledger.actions == 0 || ledger.random.hits(500) {
                actions::close(ledger, transport, self.connection);
            }
        });
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "pause");
            ledger.mark(self.connection, true, transport.queued_bytes());
            self.act(ledger, transport);
        });
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "resume");
            ledger.mark(self.connection, false, transport.queued_bytes());
            self.act(ledger, transport);
        });
    }

    fn produce(&mut self, transport: &mut Transport<'_>) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "produce");
            producing::begin(ledger, transport, self.connection);
            producing::produce(ledger, transport, self.connection);
            self.act(ledger, transport);
            producing::end(ledger, self.connection, self.instance);
        });
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "timed_out");
            ledger.timed_out(self.connection, timeout);
            self.act(ledger, transport);
            let way = ledger.random.below(10);
            if way < 6 && ledger.connections[self.connection].instance == self.instance {
                ledger.connections[self.connection].asked.timeout = true;
                ledger.closes(self.connection);
                match way {
                    0 => transport.abort_on_timeout(Timeout::Other("of its own")),
                    1 | 2 => transport.abort_on_timeout(timeout),
                    _ => transport.end_on_timeout(timeout),
                }
            }
        });
    }

    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "own timer");
            ledger.own_timer_fires(self.connection, key, transport.context().now());
            self.act(ledger, transport);
        });
    }

    fn draining(&mut self, transport: &mut Transport<'_>) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "draining");
            ledger.draining(self.connection);
            self.act(ledger, transport);
        });
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        with(|ledger| {
            ledger.enters(self.connection, self.instance, "lost");
            ledger.lost(self.connection, &reason);
            self.check_not_found(ledger, transport);
            self.act(ledger, transport);
        });
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        with(|ledger| {
            let present = ledger.connections[self.connection].instance;
            ledger.check(self.instance == present, || "connect_failed for a protocol that was replaced".into());
            ledger.connect_failed(self.connection, transport, &error);
            self.check_not_found(ledger, transport);
            self.act(ledger, transport);
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If a panic begins in the ledger itself, the ledger is still borrowed while it unwinds.
        if std::thread::panicking() {
            return;
        }
        with(|ledger| {
            ledger.protocols -= 1;
            let connection = &ledger.connections[self.connection];
            let (phase, present) = (connection.phase, connection.instance);
            if connection.starting && present == self.instance {
                return ledger.lost_untold(self.connection);
            }
            let over = matches!(phase, Phase::New | Phase::Lost) || present != self.instance;
            ledger.check(over, || format!("the protocol of a connection that is {phase:?} is dropped"));
        });
    }
}

/// Does what a listener's factory does, which is mostly to make a protocol.
pub(super) fn make(ledger: &mut Ledger, host: usize, client: std::net::SocketAddr, limits: Limits) -> Option<Program> {
    let plain = ledger.actions == 0;
    if !plain && ledger.random.hits(30) {
        ledger.coverage.hit("refuse");
        refused(ledger, client);
        return None;
    }
    if !plain && ledger.random.hits(10) {
        ledger.coverage.hit("panic in a factory");
        ledger.panics[host] += 1;
        resume_unwind(Box::new(PANIC));
    }
    let stream = ledger.stream_of(client);
    let connection = ledger.connect(host, Side::Server, Some(stream));
    ledger.connections[connection].limits = limits;
    Some(Program::new(ledger, connection, 0))
}

fn refused(ledger: &mut Ledger, client: std::net::SocketAddr) {
    let stream = ledger.stream_of(client);
    ledger.streams[stream].halves[Side::Server as usize].end_asked = true;
}

/// Returns a delay: none, short, or long.
pub(super) fn delay(ledger: &mut Ledger) -> Duration {
    match ledger.random.below(8) {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(ledger.random.below(2_000_000)),
        2..=4 => Duration::from_millis(ledger.random.below(50)),
        5 | 6 => Duration::from_millis(ledger.random.below(3000)),
        _ => Duration::from_secs(ledger.random.below(100)),
    }
}
