//! A server of Redis' protocol, RESP2 and RESP3: GET, SET, DEL, MGET, INCR, INCRBY, DECR, DECRBY, PING, ECHO, QUIT, and what
//! clients begin with: HELLO, AUTH, CLIENT ID, GETNAME and SETNAME, INFO, COMMAND, CONFIG GET.
//!
//! Run `cargo run --example resp_server`, then `redis-cli -p 1234`, or `telnet 127.0.0.1 1234`: type `set a 1` and `get a`.
//! Redis' client libraries speak with it, redis-py and node-redis among them; it knows no transactions and no databases.
//! `redis-benchmark -p 1234 -t get,set` measures it.
//!
//! Requests may be pipelined: what came in one read is answered in one write. `--maxmemory=BYTES` bounds what is stored (256
//! MiB); over that SET and INCR are refused, in Redis' words, like everything else that is wrong. SET knows EX, PX, NX, XX, GET and
//! KEEPTTL. Nothing is saved.
//!
//! Bounded as well: a value (8 MiB), a request (32 MiB), the memory of all requests that are incomplete (128 MiB, where each
//! argument was found included), and what waits for a client that does not read. A connection has 30 s for its first request,
//! and for each later one from its first byte to its last, so that peers that say nothing do not use up the descriptors;
//! between requests it may be idle for ten minutes, or for `--timeout SECONDS`, where Redis waits for ever, on networks that it
//! trusts. `--per-peer N` bounds how many connections one address has: only where clients come by themselves, for behind a
//! balancer all have one.

#[path = "support/bounds.rs"]
mod bounds;
mod resp;
mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bounds::Bounds;
use resp::{After, Answers, Begun, Call, Facts, Parser, REQUEST_BYTES_MAX, Session, Store, execute};
use switchboard::{CloseReason, Context, EventLoop, Limit, Limits, Listen, Protocol, Timeout, TimerId, Transport};

const STORED_BYTES_MAX: usize = 256 << 20;

const MAXMEMORY: &str = "--maxmemory=";

/// What a client is told that may not have one more connection.
const REFUSAL: &str = "-ERR max number of clients reached\r\n";

/// The memory of requests of which a part is there, all together.
const HELD_BYTES_MAX: usize = 128 << 20;

/// A buffer of up to so many bytes counts twice: it grows by doubling, and leaves the smaller ones behind as holes in the
/// heap. The pages of a larger one that nothing was written to take no memory.
const DOUBLED_BYTES_MAX: usize = 128 << 10;

/// How long a connection has until its first request is there, and each later one from its first byte to its last. The
/// longest needs 9 Mbit/s for that; a peer that says nothing gives its descriptor back.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be idle between requests. Redis closes none by itself (`timeout 0`), for networks that it trusts;
/// clients that keep connections are used to services that do so after some minutes, and connect again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Answers go out when there is so much of them, and when all requests of a read are answered.
const GATHERED_BYTES: usize = 16 << 10;

/// So many keys expire at once; then others have their turn.
const EXPIRED_AT_ONCE: usize = 1000;

/// What the connections share.
struct Server {
    store: Store,
    parser: Parser,
    answers: Answers,
    begun: Instant,
    commands: u64,
    held_bytes: usize,
    held_bytes_max: usize,
    /// When keys are looked at that expire.
    alarm: Option<(Instant, TimerId)>,
}

type Shared = Rc<RefCell<Server>>;

impl Server {
    fn new(stored_bytes_max: usize, held_bytes_max: usize) -> Shared {
        Rc::new(RefCell::new(Server {
            store: Store::new(stored_bytes_max),
            parser: Parser::default(),
            answers: Answers::default(),
            begun: Instant::now(),
            commands: 0,
            held_bytes: 0,
            held_bytes_max,
            alarm: None,
        }))
    }
}

struct Client {
    server: Shared,
    session: Session,
    begun: Option<Box<Begun>>,
    held_bytes: usize,
    /// A request is awaited, or incomplete, and has so long.
    is_timed: bool,
}

impl Client {
    fn new(server: &Shared, id: u64) -> Client {
        Client { server: server.clone(), session: Session::new(id), begun: None, held_bytes: 0, is_timed: true }
    }

    /// Carries out the requests that are whole, and returns how many bytes they are.
    fn serve(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Server { store, parser, answers, begun, commands, .. } = &mut *self.server.borrow_mut();
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
            *commands += 1;
            let context = &transport.context();
            let facts = || Facts {
                uptime: begun.elapsed(),
                clients: context.connection_count(),
                connections: context.counters().accepts,
                commands: *commands,
            };
            let arguments = parser.arguments(data_left);
            let session = &mut self.session;
            let after = execute(&mut Call { store, answers, session, arguments, now: &Instant::now, facts: &facts });
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
                // The peer takes less than it asks for: the rest is offered again once it has.
                if !transport.is_reading() {
                    break;
                }
            }
        }
        send(transport, answers);
        consumed
    }

    /// Counts what is held of a request until the rest of it comes, and the client's name.
    fn hold(&mut self, transport: &mut Transport<'_>, unconsumed_bytes: usize) {
        let begun_bytes = self.begun.as_ref().map_or(0, |begun| begun.held_bytes());
        let buffer_bytes = unconsumed_bytes + unconsumed_bytes.min(DOUBLED_BYTES_MAX);
        let bytes = buffer_bytes + begun_bytes + self.session.held_bytes();
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

    /// Has the time run while the end of a request is awaited.
    fn time(&mut self, transport: &mut Transport<'_>, is_partial: bool) {
        if is_partial != self.is_timed {
            self.is_timed = is_partial;
            transport.set_timeout(Timeout::Handshake, is_partial.then_some(REQUEST_TIMEOUT));
        }
    }
}

fn send(transport: &mut Transport<'_>, answers: &mut Answers) {
    transport.write(answers.bytes());
    answers.clear();
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let consumed = self.serve(transport, data);
        self.hold(transport, data.len() - consumed);
        // The next request has a time of its own.
        if consumed > 0 {
            self.time(transport, false);
        }
        let is_partial = consumed < data.len() && transport.is_reading();
        self.time(transport, is_partial);
        watch(&self.server, &mut transport.context());
        consumed
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        self.server.borrow_mut().held_bytes -= self.held_bytes;
    }
}

/// Has the keys looked at when the next of them expires.
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
    // It is no reason for the program to go on.
    context.set_background(timer, true);
    borrowed.alarm = Some((deadline, timer));
}

/// What the command line says beside the address.
struct Options {
    stored_bytes_max: usize,
    bounds: Bounds,
    /// The arguments that are left.
    rest: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, support::Failure> {
        let mut rest: Vec<_> = arguments.collect();
        let bounds = Bounds::take_from(&mut rest, IDLE_TIMEOUT)?;
        let stored = rest.iter().position(|argument| argument.starts_with(MAXMEMORY)).map(|place| rest.remove(place));
        let stored_bytes_max = stored.as_deref().map_or(Ok(STORED_BYTES_MAX), |argument| {
            let value = &argument[MAXMEMORY.len()..];
            let wrong = |_| format!("{value:?} is no number of bytes: give one, as in {MAXMEMORY}1000000");
            value.parse().map_err(|error| support::Failure::new(wrong(error)))
        })?;
        Ok(Options { stored_bytes_max, bounds, rest })
    }
}

fn limits(bounds: &Bounds) -> Limits {
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
