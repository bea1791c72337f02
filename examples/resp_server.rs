//! A server for Redis' protocol, RESP2 and RESP3: GET, SET, DEL, MGET, INCR, INCRBY, DECR, DECRBY, PING, ECHO, QUIT,
//! and the commands that clients send first: HELLO, AUTH, CLIENT ID, GETNAME and SETNAME, INFO, COMMAND, CONFIG GET.
//!
//! Run `cargo run --example resp_server`, then `redis-cli -p 1234`, or `telnet 127.0.0.1 1234`, and type `set a 1` and
//! `get a`. Redis' client libraries work with it, among them redis-py and node-redis. There are no transactions and no
//! databases. `redis-benchmark -p 1234 -t get,set` measures it.
//!
//! Requests may be pipelined: all requests from one read are answered in one write. `--maxmemory=BYTES` limits how much
//! is stored (default: 256 MiB); beyond that, SET and INCR are refused. All errors have Redis' texts. SET supports EX,
//! PX, NX, XX, GET and KEEPTTL. Nothing is saved to disk.
//!
//! There are further limits: on a value (8 MiB), on a request (32 MiB), on the memory of all incomplete requests (128
//! MiB, including the positions of their arguments), and on the data queued for a client that does not read. A
//! connection has 30 s for its first request, and 30 s for each later one from its first byte to its last, so that
//! silent peers do not use up the descriptors. Between requests it may be idle for ten minutes, or `--timeout SECONDS`;
//! Redis, which trusts its network, waits for ever. `--per-peer N` limits the connections of one address. Use it only
//! where clients connect directly: behind a balancer they all have the same address.

#[path = "support/bounds.rs"]
pub(crate) mod bounds;
mod resp;
mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bounds::Bounds;
use resp::{After, Answers, Begun, Call, Facts, Parser, REQUEST_BYTES_MAX, Session, Store, execute};
use switchboard::{CloseReason, Context, EventLoop, Limit, Limits, Listen, Protocol, Timeout, TimerId, Transport};

pub(crate) const STORED_BYTES_MAX: usize = 256 << 20;

const MAXMEMORY: &str = "--maxmemory=";

/// What a refused client is sent: too many connections.
const REFUSAL: &str = "-ERR max number of clients reached\r\n";

/// The memory limit for all incomplete requests together.
pub(crate) const HELD_BYTES_MAX: usize = 128 << 20;

/// Buffers up to this size count twice: they grow by doubling, and the smaller ones they replace remain as holes in the
/// heap. In a larger buffer, pages that were never written take no memory.
const DOUBLED_BYTES_MAX: usize = 128 << 10;

/// How long a connection has for its first request, and for each later one from its first byte to its last. The longest
/// request needs 9 Mbit/s for that; a silent peer's descriptor is freed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be idle between requests. Redis, which trusts its network, never closes idle connections
/// by default (`timeout 0`). Clients that keep connections expect services to do so after some minutes, and reconnect.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Replies are sent once they reach this size, and when all requests of a read have been answered.
const GATHERED_BYTES: usize = 16 << 10;

/// How many keys may expire at once before the loop does other work.
const EXPIRED_AT_ONCE: usize = 1000;

/// The state that all connections share.
pub(crate) struct Server {
    store: Store,
    parser: Parser,
    answers: Answers,
    facts: Facts,
    held_bytes: usize,
    held_bytes_max: usize,
    /// When expired keys are removed next.
    alarm: Option<(Instant, TimerId)>,
}

pub(crate) type Shared = Rc<RefCell<Server>>;

impl Server {
    pub(crate) fn new(stored_bytes_max: usize, held_bytes_max: usize) -> Shared {
        Rc::new(RefCell::new(Server {
            store: Store::new(stored_bytes_max),
            parser: Parser::default(),
            answers: Answers::default(),
            facts: Facts::new(),
            held_bytes: 0,
            held_bytes_max,
            alarm: None,
        }))
    }
}

pub(crate) struct Client {
    server: Shared,
    session: Session,
    begun: Option<Box<Begun>>,
    held_bytes: usize,
    /// Whether the request timeout is running: the first request is awaited, or one is incomplete.
    is_timed: bool,
}

impl Client {
    pub(crate) fn new(server: &Shared, id: u64) -> Client {
        Client { server: server.clone(), session: Session::new(id), begun: None, held_bytes: 0, is_timed: true }
    }

    /// Executes the complete requests, and returns how many bytes they take.
    fn serve(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Server { store, parser, answers, facts, .. } = &mut *self.server.borrow_mut();
        answers.set_version(self.session.version());
        let mut consumed = 0;
        while consumed < data.len() {
            let data_left = &data[consumed..];
            match parser.parse(data_left, &mut self.begun) {
                Ok(Some(bytes)) => consumed += bytes,
                Ok(None) => break,
                Err(error) => {
                    answers.error(&[b"ERR ", &error.text()[..]].concat());
                    send(transport, answers);
                    transport.close_for(error);
                    return data.len();
                }
            }
            facts.commands += 1;
            let arguments = parser.arguments(data_left);
            let session = &mut self.session;
            let after = execute(&mut Call { store, answers, session, arguments, now: &Instant::now, facts });
            if after != After::GoOn {
                if after == After::Drop {
                    answers.clear();
                }
                send(transport, answers);
                transport.close();
                return data.len();
            }
            if answers.is_too_long() {
                transport.abort_over_limit(Limit::QueueBytes);
                answers.clear();
                return data.len();
            }
            if answers.bytes().len() >= GATHERED_BYTES {
                send(transport, answers);
                // The peer asks for more than it reads: the remaining requests are offered again once it has read.
                if !transport.is_reading() {
                    break;
                }
            }
        }
        send(transport, answers);
        consumed
    }

    /// Updates the memory that this client holds: the incomplete request, and the client's name.
    fn hold(&mut self, transport: &mut Transport<'_>, unconsumed_bytes: usize) {
        let mut bytes = self.session.held_bytes();
        if unconsumed_bytes > 0 {
            let begun_bytes = self.begun.as_ref().map_or(0, |begun| begun.held_bytes());
            bytes += unconsumed_bytes + unconsumed_bytes.min(DOUBLED_BYTES_MAX) + begun_bytes;
        }
        if bytes == self.held_bytes {
            return;
        }
        let server = &mut *self.server.borrow_mut();
        server.held_bytes = server.held_bytes - self.held_bytes + bytes;
        self.held_bytes = bytes;
        server.parser.shrink();
        if server.held_bytes > server.held_bytes_max && bytes > 0 {
            transport.abort_over_limit(Limit::InputBytes);
        }
    }

    /// Runs the request timeout while a request is incomplete.
    fn time(&mut self, transport: &mut Transport<'_>, is_partial: bool) {
        if is_partial != self.is_timed {
            self.is_timed = is_partial;
            transport.set_timeout(Timeout::Handshake, is_partial.then_some(REQUEST_TIMEOUT));
        }
    }
}

#[inline]
fn send(transport: &mut Transport<'_>, answers: &mut Answers) {
    transport.write(answers.bytes());
    answers.clear();
}

impl Protocol for Client {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        let facts = &mut self.server.borrow_mut().facts;
        facts.clients += 1;
        facts.connections += 1;
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let consumed = self.serve(transport, data);
        self.hold(transport, data.len() - consumed);
        // The next request gets its own timeout.
        if consumed > 0 {
            self.time(transport, false);
        }
        if consumed < data.len() {
            let is_partial = transport.is_reading();
            self.time(transport, is_partial);
        }
        if self.server.borrow().store.next_deadline().is_some() {
            watch(&self.server, &mut transport.context());
        }
        consumed
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        let mut server = self.server.borrow_mut();
        server.held_bytes -= self.held_bytes;
        server.facts.clients -= 1;
    }
}

/// Sets a timer for when the next key expires.
fn watch(server: &Shared, context: &mut Context<'_>) {
    let mut borrowed = server.borrow_mut();
    let Some(deadline) = borrowed.store.next_deadline() else { return };
    match borrowed.alarm {
        Some((at, _)) if at <= deadline => return,
        Some((_, timer)) => drop(context.cancel_timer(timer)),
        None => {}
    }
    let timer = context.call_at(deadline, {
        let server = server.clone();
        move |context| {
            server.borrow_mut().alarm = None;
            server.borrow_mut().store.expire(Instant::now(), EXPIRED_AT_ONCE);
            watch(&server, context);
        }
    });
    // The timer alone must not keep the program running.
    context.set_background(timer, true);
    borrowed.alarm = Some((deadline, timer));
}

/// The command line.
struct Options {
    stored_bytes_max: usize,
    bounds: Bounds,
    /// The remaining arguments: the address.
    rest: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, support::Failure> {
        let mut rest: Vec<_> = arguments.collect();
        let bounds = Bounds::take_from(&mut rest, IDLE_TIMEOUT)?;
        let stored = rest.iter().position(|argument| argument.starts_with(MAXMEMORY)).map(|place| rest.remove(place));
        let stored_bytes_max = stored.as_deref().map_or(Ok(STORED_BYTES_MAX), |argument| {
            let value = &argument[MAXMEMORY.len()..];
            let wrong = |_| format!("{value:?} is not a number of bytes: use one, as in {MAXMEMORY}1000000");
            value.parse().map_err(|error| support::Failure::new(wrong(error)))
        })?;
        Ok(Options { stored_bytes_max, bounds, rest })
    }
}

pub(crate) fn limits(bounds: &Bounds) -> Limits {
    bounds
        .limits()
        .with_input_bytes_max(REQUEST_BYTES_MAX)
        .with_queue_bytes_max(REQUEST_BYTES_MAX)
        .with_handshake_timeout(Some(REQUEST_TIMEOUT))
}

fn main() -> Result<(), support::Failure> {
    let Options { stored_bytes_max, bounds, rest } = Options::parse(std::env::args().skip(1))?;
    let [timeout, per_peer] = bounds::FLAGS;
    let address = support::listening_address_in(rest, &["--maxmemory=BYTES", timeout, per_peer])?;
    let mut event_loop = EventLoop::with_limits(limits(&bounds))?;
    let server = Server::new(stored_bytes_max, HELD_BYTES_MAX);
    let mut ids = 1..;
    let listen = Listen::at(address).refusal(REFUSAL);
    let listener = event_loop.context().listen(listen, move |_, _| Some(Client::new(&server, ids.next()?)));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
#[path = "resp/held.rs"]
mod held;
