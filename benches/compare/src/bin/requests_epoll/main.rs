//! The yardstick of `requests.py`: a handwritten loop on epoll that answers GET, of HTTP or of Redis' protocol, and knows
//! no more of either than that takes.
//!
//! - Everything that one read brings is answered in one send. A read starts behind the rest of the one before, so
//!   requests are parsed where they were read, and no bytes are copied unless a request is not whole.
//! - Registered once, edge-triggered, for all events. After a short read it is not read again, unless the event said
//!   that the stream has ended.
//! - Nothing is read from a connection with unsent answers: memory is bounded by the answers to one read.
//! - There are no timeouts, and no limits but those on a request. A request that it does not know ends the connection.

#![forbid(unsafe_code)]

mod http;
mod resp;

use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use switchboard_compare::{Address, EVENTS_MAX, READ_BYTES, READS_PER_TURN_MAX, Unsent, listener, refuse};

/// The token of the listener's events; those of connections carry their index in the slab.
const LISTENER: u64 = u64::MAX;
const ENDED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
const ALL_EDGES: EventFlags = EventFlags::ET.union(EventFlags::IN).union(EventFlags::OUT).union(EventFlags::RDHUP);

/// What is understood, and answered.
pub trait Dialect {
    /// Once for each wait.
    fn look_at_clock(&mut self);

    /// Appends the answers to all whole requests of `data`, and returns how many bytes these are; `None` is one that it
    /// does not know.
    fn answer(&mut self, data: &[u8], answers: &mut Vec<u8>) -> Option<usize>;
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// For what the peer sends.
    Reading,
    /// For its next turn to be read: there may be more, without another edge.
    Unread,
    /// For the kernel to take more; there may be more to read.
    Sending,
    /// For the same, to close then.
    Ending,
    /// For nothing: to be closed.
    Over,
}

struct Connection {
    socket: OwnedFd,
    state: State,
    has_end: bool,
    /// The beginning of a request.
    begun: Vec<u8>,
    unsent: Unsent,
}

/// What all connections share.
struct Work<D> {
    dialect: D,
    buffer: Vec<u8>,
    answers: Vec<u8>,
}

impl Connection {
    fn serve(&mut self, work: &mut Work<impl Dialect>) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let kept = self.begun.len();
            if kept == work.buffer.len() {
                return State::Over;
            }
            work.buffer[..kept].copy_from_slice(&self.begun);
            let count = match recv(&self.socket, &mut work.buffer[kept..], RecvFlags::empty()) {
                Ok((count @ 1.., _)) => count,
                Err(Errno::AGAIN) => return State::Reading,
                _ => return State::Over,
            };
            let is_short = kept + count < work.buffer.len();
            work.answers.clear();
            let taken = work.dialect.answer(&work.buffer[..kept + count], &mut work.answers);
            self.begun.clear();
            self.begun.extend_from_slice(&work.buffer[taken.unwrap_or(kept + count)..kept + count]);
            let next = self.send_first(&work.answers);
            match (next, taken) {
                (State::Reading, None) => return State::Over,
                (State::Sending, None) => return State::Ending,
                (State::Reading, Some(_)) if !is_short || self.has_end => {}
                (next, _) => return next,
            }
        }
        State::Unread
    }

    fn send_first(&mut self, answers: &[u8]) -> State {
        if answers.is_empty() {
            return State::Reading;
        }
        let sent = match send(&self.socket, answers, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return State::Over,
        };
        self.unsent.push(&answers[sent..]);
        if self.unsent.is_empty() { State::Reading } else { State::Sending }
    }

    /// Sends as much of the unsent data as the kernel takes.
    fn send(&mut self) -> State {
        match send(&self.socket, self.unsent.bytes(), SendFlags::NOSIGNAL) {
            Ok(count) => self.unsent.advance(count),
            Err(Errno::AGAIN) => {}
            Err(_) => return State::Over,
        }
        match (self.unsent.is_empty(), self.state) {
            (false, state) => state,
            (true, State::Ending) => State::Over,
            (true, _) => State::Unread,
        }
    }
}

struct Server<D> {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: Slab<Connection>,
    /// Connections that had read enough for one turn.
    again: Vec<usize>,
    work: Work<D>,
}

impl<D: Dialect> Server<D> {
    fn run(&mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let no_wait = Default::default();
        loop {
            events.clear();
            let timeout = if self.again.is_empty() { None } else { Some(&no_wait) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            self.work.dialect.look_at_clock();
            let again = mem::take(&mut self.again);
            for &Event { flags, data } in &events {
                match data.u64() {
                    LISTENER => self.accept()?,
                    key => self.handle(key as usize, flags),
                }
            }
            for key in again {
                if self.connections.get(key).is_some_and(|connection| connection.state == State::Unread) {
                    self.connections[key].state = State::Reading;
                    self.handle(key, EventFlags::IN);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<(), Errno> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error),
            };
            let entry = self.connections.vacant_entry();
            epoll::add(&self.epoll, &socket, EventData::new_u64(entry.key() as u64), ALL_EDGES)?;
            let (begun, unsent) = (Vec::new(), Unsent::default());
            entry.insert(Connection { socket, state: State::Reading, has_end: false, begun, unsent });
        }
    }

    fn handle(&mut self, key: usize, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.has_end |= flags.intersects(ENDED);
        let mut next = match connection.state {
            State::Reading if flags.intersects(EventFlags::IN | ENDED) => State::Unread,
            State::Sending | State::Ending if flags.intersects(EventFlags::OUT | ENDED) => connection.send(),
            _ => return,
        };
        if next == State::Unread {
            next = connection.serve(&mut self.work);
        }
        connection.state = next;
        match next {
            State::Over => drop(self.connections.remove(key)),
            State::Unread => self.again.push(key),
            State::Reading | State::Sending | State::Ending => {}
        }
    }
}

fn serve(dialect: impl Dialect, address: SocketAddr) -> std::io::Result<()> {
    let listener = listener(&Address::Inet(address))?;
    listener.announce()?;
    let mut server = Server {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listener: listener.into(),
        connections: Slab::new(),
        again: Vec::new(),
        work: Work { dialect, buffer: vec![0; READ_BYTES], answers: Vec::new() },
    };
    epoll::add(&server.epoll, &server.listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    Ok(server.run()?)
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, address] = &arguments[..] else { refuse("usage: requests_epoll http|resp ADDRESS") };
    let Ok(address) = address.parse() else { refuse(format_args!("no address to listen on: {address}")) };
    match mode.as_str() {
        "http" => serve(http::Http::default(), address),
        "resp" => serve(resp::Resp::default(), address),
        _ => refuse(format_args!("no such mode: {mode}")),
    }
}
