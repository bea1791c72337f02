//! The server that `benches/measure.py` measures: it echoes, and does nothing else.
//!
//! It prints `listening on ADDRESS` and runs until it is killed. With `--turn-by-turn` it does one turn for every byte
//! on its standard input, and ends at the end of the input: so the driver decides how many connections are ready at a
//! poll. With `--timed` each callback is timed, with `--idle-timeout` each connection has one, with `--filter` a filter
//! that passes everything on. With `--lines` it echoes line by line. With `--broadcast` it sends each message to all
//! connections, by one operation. With `--unix PATH` it listens on a Unix socket. With `--signals` it shuts down on
//! SIGTERM, as the examples do.
//!
//! For `benches/variants.py`: with `--pieces COUNT BYTES` it answers each message with that many owned pieces; with
//! `--fan-out` it sends each message to all connections.

#[allow(dead_code)] // It has a command line of its own.
#[path = "../../examples/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use switchboard::filter::{Filter, Flow};
use switchboard::framing::{LineHandler, LineReceiver, send_line};
use switchboard::{CloseReason, ConnectionId, Context, EventLoop, Listen, ListenerId, LoopLimits, Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// Passes everything on.
struct Passing;

impl Filter for Passing {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

/// The same, by lines.
struct EchoLines;

impl LineHandler for EchoLines {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        send_line(transport, line);
    }
}

/// Answers with owned pieces.
struct Pieces {
    count: usize,
    bytes: usize,
}

impl Protocol for Pieces {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        for _ in 0..self.count {
            transport.write_owned(vec![b'x'; self.bytes]);
        }
        data.len()
    }
}

/// Broadcasts to all connections.
struct Broadcast(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Broadcast {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.borrow_mut().push(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.context().broadcast(self.0.borrow().iter().copied(), data);
        data.len()
    }
}

/// Sends to all connections.
struct FanOut(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for FanOut {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.borrow_mut().push(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        for &member in self.0.borrow().iter() {
            if let Some(mut member) = transport.context().connection(member) {
                member.write(data);
            }
        }
        data.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        self.0.borrow_mut().retain(|&member| member != transport.id());
    }
}

/// The kind of protocol.
enum Kind {
    Echo,
    Filtered,
    Lines,
    Pieces { count: usize, bytes: usize },
    Broadcast(Rc<RefCell<Vec<ConnectionId>>>),
    FanOut(Rc<RefCell<Vec<ConnectionId>>>),
}

impl Kind {
    /// Each kind has its own factory, without any check.
    fn listen(self, context: &mut Context<'_>, at: Listen) -> io::Result<ListenerId> {
        match self {
            Kind::Echo => context.listen(at, |_, _| Some(Echo)),
            Kind::Filtered => context.listen(at.filter(|_| Some(Passing)), |_, _| Some(Echo)),
            Kind::Lines => context.listen(at, |_, _| Some(LineReceiver::new(EchoLines))),
            Kind::Pieces { count, bytes } => context.listen(at, move |_, _| Some(Pieces { count, bytes })),
            Kind::Broadcast(members) => context.listen(at, move |_, _| Some(Broadcast(members.clone()))),
            Kind::FanOut(members) => context.listen(at, move |_, _| Some(FanOut(members.clone()))),
        }
    }
}

/// A turn for each byte, each byte read by a separate call. That costs next to nothing compared with a turn of fifty
/// connections.
fn turn_by_turn(event_loop: &mut EventLoop) -> io::Result<()> {
    let mut go_ahead = File::open("/dev/stdin")?;
    while go_ahead.read(&mut [0])? > 0 {
        event_loop.turn(None)?;
    }
    Ok(())
}

#[cfg(unix)]
fn at_path(path: String) -> io::Result<Listen> {
    Ok(Listen::at(switchboard::UnixAddress::Path(path.into())))
}

#[cfg(not(unix))]
fn at_path(_: String) -> io::Result<Listen> {
    Err(io::ErrorKind::Unsupported.into())
}

fn main() -> io::Result<()> {
    let mut limits = LoopLimits::default();
    let (mut is_driven, mut has_signals, mut kind) = (false, false, Kind::Echo);
    let mut at = Listen::at(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--turn-by-turn" => is_driven = true,
            "--signals" => has_signals = true,
            "--timed" => limits.times_callbacks = true,
            "--filter" => kind = Kind::Filtered,
            "--lines" => kind = Kind::Lines,
            "--pieces" => {
                let mut number = || arguments.next()?.parse().ok();
                let (Some(count), Some(bytes)) = (number(), number()) else {
                    return Err(io::Error::other("--pieces COUNT BYTES"));
                };
                kind = Kind::Pieces { count, bytes };
            }
            "--broadcast" => kind = Kind::Broadcast(Rc::default()),
            "--unix" => at = at_path(arguments.next().ok_or_else(|| io::Error::other("--unix PATH"))?)?,
            "--fan-out" => kind = Kind::FanOut(Rc::default()),
            "--idle-timeout" => limits.each.idle_timeout = Some(Duration::from_secs(3600)),
            _ => return Err(io::Error::other(format!("no such flag: {flag}"))),
        }
    }
    let mut event_loop = EventLoop::with_limits(limits)?;
    let mut context = event_loop.context();
    let listener = kind.listen(&mut context, at)?;
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    println!("listening on {}", listening.local_addr()?);
    if has_signals {
        support::shut_down_on_signals(&mut event_loop)?;
    }
    if is_driven { turn_by_turn(&mut event_loop) } else { event_loop.run() }
}
