//! The yardstick: a handwritten loop on epoll, for one program only, without anything that this program does not need:
//! no ids, no timers, no settable limits, no callbacks.
//!
//! - TCP is registered once, edge-triggered, for all events; no `epoll_ctl` after that. After a short read it is not
//!   read again, unless the event said that the stream has ended: new data raises a new edge.
//! - Unix streams are level-triggered, and registered for writing only while a send is blocked, for reading only while
//!   it is not: with edges, each read by the peer would raise one for writing, and a short read could leave data
//!   without a new edge, since a read also stops short after a message with descriptors.
//! - One buffer for all reads. What is read is sent from there at once; only what the kernel does not take is copied.
//! - Nothing is read from a connection with unsent data: memory is bounded by the size of one read.
//! - Fan-out: the lines of all ready connections are appended to a buffer of each member, as if not all members got the
//!   same lines, and the buffer is sent once, at the end of the pass.

use std::mem;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use switchboard_compare::{
    Address, EVENTS_MAX, LINE_BYTES_MAX, Mode, READ_BYTES, READS_PER_TURN_MAX, UNSENT_BYTES_MAX, Unsent, arguments,
    listener, whole_lines,
};

/// The token of the listener's events; those of connections carry their index in the slab.
const LISTENER: u64 = u64::MAX;

/// Errors of a socket show when it is read or written.
const WRONG: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
const ENDED: EventFlags = EventFlags::RDHUP.union(WRONG);
const READABLE: EventFlags = EventFlags::IN.union(ENDED);
const WRITABLE: EventFlags = EventFlags::OUT.union(WRONG);

/// The events that TCP is registered for, and Unix streams while they are read or written.
const ALL_EDGES: EventFlags = EventFlags::ET.union(EventFlags::IN).union(EventFlags::OUT).union(EventFlags::RDHUP);
const READING: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);
const SENDING: EventFlags = EventFlags::OUT;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// For what the peer sends.
    Reading,
    /// For its next turn to be read: there may be more, without another edge.
    Unread,
    /// For the kernel to take more; there may be more to read.
    Sending,
    /// For the same, to close then: the peer has ended its stream.
    Ending,
    /// For nothing: to be closed.
    Over,
}

struct Connection {
    socket: OwnedFd,
    state: State,
    /// An event has said that the peer's stream has ended: it is read up to there.
    has_end: bool,
    unsent: Unsent,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Connection {
    /// Reads and sends back.
    fn echo(&mut self, buffer: &mut [u8]) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let count = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((count @ 1.., _)) => count,
                Err(Errno::AGAIN) => return State::Reading,
                _ => return State::Over,
            };
            let sent = match send(&self.socket, &buffer[..count], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                Err(_) => return State::Over,
            };
            if sent < count {
                self.unsent.push(&buffer[sent..count]);
                return State::Sending;
            }
            if count < buffer.len() && !self.has_end {
                return State::Reading;
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
            (State::Ending, false) => State::Ending,
            (State::Sending, true) => State::Unread,
            (state, true) => state,
            (_, false) => State::Sending,
        }
    }
}

struct Server {
    mode: Mode,
    is_unix: bool,
    epoll: OwnedFd,
    listener: OwnedFd,
    /// No descriptor was left: the next connection that closes makes room.
    is_full: bool,
    connections: Slab<Connection>,
    /// Connections that had read enough for one turn.
    again: Vec<usize>,
    /// Lines were received in this pass.
    has_lines: bool,
}

impl Server {
    fn run(&mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        let no_wait = Default::default();
        loop {
            events.clear();
            let timeout = if self.again.is_empty() { None } else { Some(&no_wait) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let again = mem::take(&mut self.again);
            for &Event { flags, data } in &events {
                match data.u64() {
                    LISTENER => self.accept()?,
                    key => self.serve(key as usize, flags, &mut buffer)?,
                }
            }
            for key in again {
                self.serve_again(key, &mut buffer)?;
            }
            if mem::take(&mut self.has_lines) {
                self.send_to_all()?;
            }
        }
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
            let entry = self.connections.vacant_entry();
            let flags = if self.is_unix { READING } else { ALL_EDGES };
            epoll::add(&self.epoll, &socket, EventData::new_u64(entry.key() as u64), flags)?;
            let (unsent, line) = (Unsent::default(), Vec::new());
            entry.insert(Connection { socket, state: State::Reading, has_end: false, unsent, line });
        }
    }

    /// Handles an event.
    fn serve(&mut self, key: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.has_end |= flags.intersects(ENDED);
        let last = connection.state;
        let next = match last {
            State::Reading if flags.intersects(READABLE) => State::Unread,
            State::Sending | State::Ending if flags.intersects(WRITABLE) => connection.send(),
            _ => return Ok(()),
        };
        let next = match self.mode {
            _ if next != State::Unread => next,
            Mode::Echo => connection.echo(buffer),
            Mode::Fanout => self.take_lines(key, buffer),
        };
        if next == last { Ok(()) } else { self.enter(key, next) }
    }

    /// Continues with connections that had read enough for one turn.
    fn serve_again(&mut self, key: usize, buffer: &mut [u8]) -> Result<(), Errno> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.state == State::Unread => {
                connection.state = State::Reading;
                self.serve(key, EventFlags::IN, buffer)
            }
            _ => Ok(()),
        }
    }

    /// Reads lines, and appends them to the buffer of each member.
    fn take_lines(&mut self, key: usize, buffer: &mut [u8]) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let connection = &mut self.connections[key];
            let count = match recv(&connection.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) if connection.unsent.is_empty() => return State::Over,
                Ok((0, _)) => return State::Ending,
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return State::Reading,
                Err(_) => return State::Over,
            };
            let lines = whole_lines(&mut connection.line, &buffer[..count]);
            let line_bytes = connection.line.len();
            let is_all = count < buffer.len() && !connection.has_end;
            if !lines.is_empty() {
                self.append_to_all(&lines);
            }
            if line_bytes > LINE_BYTES_MAX {
                return State::Over;
            }
            if is_all {
                return State::Reading;
            }
        }
        State::Unread
    }

    fn append_to_all(&mut self, lines: &[u8]) {
        for (_, member) in self.connections.iter_mut().filter(|(_, member)| member.state != State::Ending) {
            member.unsent.push(lines);
        }
        self.has_lines = true;
    }

    /// Sends each member its buffer.
    fn send_to_all(&mut self) -> Result<(), Errno> {
        for key in 0..self.connections.capacity() {
            let Some(member) = self.connections.get_mut(key) else { continue };
            let next = match (member.state, member.unsent.len()) {
                (_, 0) => continue,
                (State::Sending, unsent) if unsent > UNSENT_BYTES_MAX => State::Over,
                (State::Sending, _) => continue,
                _ => member.send(),
            };
            if next != member.state {
                self.enter(key, next)?;
            }
        }
        Ok(())
    }

    /// Registers a connection for what it waits for now.
    fn enter(&mut self, key: usize, next: State) -> Result<(), Errno> {
        let connection = &mut self.connections[key];
        let last = mem::replace(&mut connection.state, next);
        match next {
            State::Over => {
                self.connections.remove(key);
                return if mem::take(&mut self.is_full) { self.accept() } else { Ok(()) };
            }
            State::Unread => self.again.push(key),
            State::Reading | State::Sending | State::Ending => {}
        }
        let is_sending = |state| matches!(state, State::Sending | State::Ending);
        if self.is_unix && is_sending(last) != is_sending(next) {
            let flags = if is_sending(next) { SENDING } else { READING };
            epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(key as u64), flags)?;
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    let (mode, address) = arguments();
    let listener = listener(&address)?;
    listener.announce()?;
    let mut server = Server {
        mode,
        is_unix: matches!(address, Address::Unix(_)),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listener: listener.into(),
        is_full: false,
        connections: Slab::new(),
        again: Vec::new(),
        has_lines: false,
    };
    epoll::add(&server.epoll, &server.listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    Ok(server.run()?)
}
