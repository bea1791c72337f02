//! The yardstick over TLS: rustls driven by hand on epoll, for one program only. The loop is that of `epoll.rs`,
//! reduced to what TCP needs; `src/bin/epoll.rs` gives the reasons. What is added:
//!
//! - rustls' unbuffered connections: records are decrypted in place, in the one read buffer that all connections share,
//!   and encrypted into another shared buffer, which is sent. A connection keeps only the beginning of an incomplete
//!   record, and what the kernel has not taken.
//! - All data of a read is echoed by one send, in as few records as possible.
//! - With `--buffered` rustls' buffered connections, as most programs use it: rustls then buffers input and output
//!   itself.
//! - Generic over the two, so that neither pays for the other.

mod buffered;
mod unbuffered;

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use rustls::ServerConfig;
use slab::Slab;
use switchboard_compare::{EVENTS_MAX, READ_BYTES, READS_PER_TURN_MAX, Unsent, announce, refuse, tls};

const LISTENER: u64 = u64::MAX;

const WRONG: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
const ENDED: EventFlags = EventFlags::RDHUP.union(WRONG);
const READABLE: EventFlags = EventFlags::IN.union(ENDED);
const WRITABLE: EventFlags = EventFlags::OUT.union(WRONG);
const ALL_EDGES: EventFlags = EventFlags::ET.union(EventFlags::IN).union(EventFlags::OUT).union(EventFlags::RDHUP);

/// A rustls connection that echoes.
trait Session: Sized {
    fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error>;

    /// Puts kept input at the front of the buffer, and returns how many bytes that was.
    fn put_back(&mut self, buffer: &mut [u8]) -> usize;

    /// Takes the input, and puts what is to be sent into `scratch.out`, including the echo.
    fn echo(&mut self, came: &mut [u8], scratch: &mut Scratch) -> Outcome;
}

/// What to do after processing the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    GoesOn,
    /// Both sides have sent their end, or the peer has broken the rules.
    Ends,
}

/// The buffers that all connections share.
#[derive(Default)]
struct Scratch {
    plain: Vec<u8>,
    /// Initialised up to its end, and used up to `length`.
    out: Vec<u8>,
    length: usize,
}

impl Scratch {
    /// Makes room for this many more bytes.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.out.len() < self.length + bytes {
            self.out.resize(self.length + bytes, 0);
        }
        &mut self.out[self.length..]
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// For what the peer sends.
    Reading,
    /// For its next turn to be read.
    Unread,
    /// For the kernel to take more; there may be more to read.
    Sending,
    /// For the same, to close then.
    Ending,
    /// For nothing: to be closed.
    Over,
}

struct Connection<S> {
    socket: OwnedFd,
    session: S,
    state: State,
    has_end: bool,
    unsent: Unsent,
}

impl<S: Session> Connection<S> {
    /// Reads and sends back.
    fn echo(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let before = self.session.put_back(buffer);
            let count = match recv(&self.socket, &mut buffer[before..], RecvFlags::empty()) {
                Ok((count @ 1.., _)) => count,
                Err(Errno::AGAIN) => {
                    // Nothing new was read: the kept input is kept again.
                    let _ = self.session.echo(&mut buffer[..before], scratch);
                    return State::Reading;
                }
                _ => return State::Over,
            };
            let is_all = before + count < buffer.len() && !self.has_end;
            let outcome = self.session.echo(&mut buffer[..before + count], scratch);
            let out = &scratch.out[..mem::take(&mut scratch.length)];
            let sent = match out {
                [] => 0,
                out => match send(&self.socket, out, SendFlags::NOSIGNAL) {
                    Ok(sent) => sent,
                    Err(Errno::AGAIN) => 0,
                    Err(_) => return State::Over,
                },
            };
            self.unsent.push(&out[sent..]);
            match (outcome, self.unsent.is_empty()) {
                (Outcome::Ends, true) => return State::Over,
                (Outcome::Ends, false) => return State::Ending,
                (Outcome::GoesOn, false) => return State::Sending,
                (Outcome::GoesOn, true) if is_all => return State::Reading,
                (Outcome::GoesOn, true) => {}
            }
        }
        State::Unread
    }

    /// Sends as much of the unsent data as the kernel takes.
    fn send(&mut self) -> State {
        match send(&self.socket, self.unsent.bytes(), SendFlags::NOSIGNAL) {
            Ok(count) => self.unsent.advance(count),
            Err(Errno::AGAIN) => {}
            Err(_) => return State::Over,
        }
        match (self.state, self.unsent.is_empty()) {
            (State::Ending, true) => State::Over,
            (_, true) => State::Unread,
            (state, false) => state,
        }
    }
}

struct Server<S> {
    config: Arc<ServerConfig>,
    epoll: OwnedFd,
    listener: OwnedFd,
    /// No descriptor was left: the next connection that closes makes room.
    is_full: bool,
    connections: Slab<Connection<S>>,
    /// Connections that had read enough for one turn.
    again: Vec<usize>,
    scratch: Scratch,
}

impl<S: Session> Server<S> {
    fn run(config: Arc<ServerConfig>, listener: OwnedFd) -> Result<(), Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
        let (connections, again, scratch) = (Slab::new(), Vec::new(), Scratch::default());
        let mut server = Server::<S> { config, epoll, listener, is_full: false, connections, again, scratch };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            server.pass(&mut events, &mut buffer)?;
        }
    }

    fn pass(&mut self, events: &mut Vec<Event>, buffer: &mut [u8]) -> Result<(), Errno> {
        events.clear();
        let no_wait = Default::default();
        let timeout = if self.again.is_empty() { None } else { Some(&no_wait) };
        match epoll::wait(&self.epoll, spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let again = mem::take(&mut self.again);
        for &Event { flags, data } in &*events {
            match data.u64() {
                LISTENER => self.accept()?,
                key => self.serve(key as usize, flags, buffer)?,
            }
        }
        for key in again {
            if let Some(connection) = self.connections.get_mut(key).filter(|found| found.state == State::Unread) {
                connection.state = State::Reading;
                self.serve(key, EventFlags::IN, buffer)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Errno> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.is_full = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let session = match S::new(self.config.clone()) {
                Ok(session) => session,
                Err(error) => refuse(error),
            };
            let entry = self.connections.vacant_entry();
            epoll::add(&self.epoll, &socket, EventData::new_u64(entry.key() as u64), ALL_EDGES)?;
            let unsent = Unsent::default();
            entry.insert(Connection { socket, session, state: State::Reading, has_end: false, unsent });
        }
    }

    /// Handles an event.
    fn serve(&mut self, key: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.has_end |= flags.intersects(ENDED);
        let next = match connection.state {
            State::Reading if flags.intersects(READABLE) => State::Unread,
            State::Sending | State::Ending if flags.intersects(WRITABLE) => connection.send(),
            _ => return Ok(()),
        };
        let next = if next == State::Unread { connection.echo(buffer, &mut self.scratch) } else { next };
        connection.state = next;
        match next {
            State::Over => {
                self.connections.remove(key);
                if mem::take(&mut self.is_full) { self.accept() } else { Ok(()) }
            }
            State::Unread => {
                self.again.push(key);
                Ok(())
            }
            State::Reading | State::Sending | State::Ending => Ok(()),
        }
    }
}

fn main() -> std::io::Result<()> {
    let arguments = tls::arguments();
    let listener = tls::tcp_listener(arguments.address)?;
    announce(listener.local_addr()?)?;
    match arguments.flag.as_deref() {
        None => Server::<unbuffered::Unbuffered>::run(arguments.config, listener.into())?,
        Some("--buffered") => Server::<buffered::Buffered>::run(arguments.config, listener.into())?,
        Some(flag) => refuse(format_args!("no such flag: {flag}")),
    }
    Ok(())
}
