//! A handwritten loop on mio: what the yardstick does, as far as mio's interface allows.
//!
//! - mio is edge-triggered. TCP is registered once, for reading and writing; Unix streams for reading, and for writing only
//!   while a send is blocked, since theirs raise an edge whenever the peer reads.
//! - One buffer for all reads; what is read is sent from there at once, and only what the kernel does not take is
//!   copied.
//! - After a short read TCP is not read again, unless the event said that the stream has ended. Unix streams are read
//!   until they would block: their reads also stop short after a message with descriptors.
//! - Nothing is read from a connection with unsent data.
//! - Fan-out: the lines of all ready connections are appended to a buffer of each member, as if not all members got the
//!   same lines, and the buffer is sent once, at the end of the pass.
//! - Generic over the kind of stream, so that no message pays for the distinction.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use switchboard_compare::{
    EVENTS_MAX, LINE_BYTES_MAX, Listener, Mode, READ_BYTES, READS_PER_TURN_MAX, UNSENT_BYTES_MAX, Unsent, arguments,
    is_out_of_descriptors, listener, whole_lines,
};

/// The token of the listener's events; those of connections carry their index in the slab.
const LISTENER: Token = Token(usize::MAX);

/// A kind of listener, and of the streams that it accepts.
trait Accept: Source {
    type Stream: Source + Read + Write;
    /// What a stream is registered for, unless it is blocked.
    const INTEREST: Interest;
    /// A short read has emptied the socket.
    const SHORT_IS_ALL: bool;

    fn accept(&self) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
    const SHORT_IS_ALL: bool = true;

    fn accept(&self) -> io::Result<TcpStream> {
        self.accept().map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    const INTEREST: Interest = Interest::READABLE;
    const SHORT_IS_ALL: bool = false;

    fn accept(&self) -> io::Result<UnixStream> {
        self.accept().map(|(stream, _)| stream)
    }
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
    /// For the same, to close then: the peer has ended its stream.
    Ending,
    /// For nothing: to be closed.
    Over,
}

/// What an event says.
struct Ready {
    is_readable: bool,
    is_writable: bool,
    has_end: bool,
}

impl Ready {
    /// A socket that has failed is readable and writable, and its stream has ended.
    fn of(event: &Event) -> Ready {
        let (is_readable, is_writable) = (event.is_readable(), event.is_writable());
        Ready { is_readable, is_writable, has_end: event.is_read_closed() }
    }
}

struct Connection<S> {
    stream: S,
    state: State,
    /// An event has said that the peer's stream has ended: it is read up to there.
    has_end: bool,
    unsent: Unsent,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// Reads and sends back.
    fn echo(&mut self, buffer: &mut [u8], short_is_all: bool) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let count = match self.stream.read(buffer) {
                Ok(count @ 1..) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Reading,
                _ => return State::Over,
            };
            let sent = match self.stream.write(&buffer[..count]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return State::Over,
            };
            if sent < count {
                self.unsent.push(&buffer[sent..count]);
                return State::Sending;
            }
            if short_is_all && count < buffer.len() && !self.has_end {
                return State::Reading;
            }
        }
        State::Unread
    }

    /// Sends as much of the unsent data as the kernel takes.
    fn send(&mut self) -> State {
        match self.stream.write(self.unsent.bytes()) {
            Ok(count) => self.unsent.advance(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
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

struct Server<L: Accept> {
    mode: Mode,
    poll: Poll,
    listener: L,
    /// No descriptor was left: the next connection that closes makes room.
    is_full: bool,
    connections: Slab<Connection<L::Stream>>,
    /// Connections that had read enough for one turn.
    again: Vec<usize>,
    /// Lines were received in this pass.
    has_lines: bool,
}

impl<L: Accept> Server<L> {
    fn run(mode: Mode, mut listener: L) -> io::Result<()> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (connections, again) = (Slab::new(), Vec::new());
        let mut server = Server { mode, poll, listener, is_full: false, connections, again, has_lines: false };
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            server.pass(&mut events, &mut buffer)?;
        }
    }

    fn pass(&mut self, events: &mut Events, buffer: &mut [u8]) -> io::Result<()> {
        let timeout = if self.again.is_empty() { None } else { Some(Duration::ZERO) };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let again = mem::take(&mut self.again);
        for event in &*events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(key) => self.serve(key, Ready::of(event), buffer)?,
            }
        }
        for key in again {
            self.serve_again(key, buffer)?;
        }
        if mem::take(&mut self.has_lines) { self.send_to_all() } else { Ok(()) }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(error) if is_out_of_descriptors(&error) => {
                    self.is_full = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let entry = self.connections.vacant_entry();
            self.poll.registry().register(&mut stream, Token(entry.key()), L::INTEREST)?;
            let (unsent, line) = (Unsent::default(), Vec::new());
            entry.insert(Connection { stream, state: State::Reading, has_end: false, unsent, line });
        }
    }

    /// Handles an event.
    fn serve(&mut self, key: usize, ready: Ready, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.has_end |= ready.has_end;
        let last = connection.state;
        let next = match last {
            State::Reading if ready.is_readable => State::Unread,
            State::Sending | State::Ending if ready.is_writable => connection.send(),
            _ => return Ok(()),
        };
        let next = match self.mode {
            _ if next != State::Unread => next,
            Mode::Echo => connection.echo(buffer, L::SHORT_IS_ALL),
            Mode::Fanout => self.take_lines(key, buffer),
        };
        if next == last { Ok(()) } else { self.enter(key, next) }
    }

    /// Continues with connections that had read enough for one turn.
    fn serve_again(&mut self, key: usize, buffer: &mut [u8]) -> io::Result<()> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.state == State::Unread => {
                connection.state = State::Reading;
                self.serve(key, Ready { is_readable: true, is_writable: false, has_end: false }, buffer)
            }
            _ => Ok(()),
        }
    }

    /// Reads lines, and appends them to the buffer of each member.
    fn take_lines(&mut self, key: usize, buffer: &mut [u8]) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let connection = &mut self.connections[key];
            let count = match connection.stream.read(buffer) {
                Ok(0) if connection.unsent.is_empty() => return State::Over,
                Ok(0) => return State::Ending,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Reading,
                Err(_) => return State::Over,
            };
            let lines = whole_lines(&mut connection.line, &buffer[..count]);
            let line_bytes = connection.line.len();
            let is_all = L::SHORT_IS_ALL && count < buffer.len() && !connection.has_end;
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
    fn send_to_all(&mut self) -> io::Result<()> {
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
    fn enter(&mut self, key: usize, next: State) -> io::Result<()> {
        let connection = &mut self.connections[key];
        let last = mem::replace(&mut connection.state, next);
        match next {
            State::Over => {
                // Closing deregisters it: there is no other descriptor of that socket.
                self.connections.remove(key);
                return if mem::take(&mut self.is_full) { self.accept() } else { Ok(()) };
            }
            State::Unread => self.again.push(key),
            State::Reading | State::Sending | State::Ending => {}
        }
        let is_sending = |state| matches!(state, State::Sending | State::Ending);
        if !L::INTEREST.is_writable() && is_sending(last) != is_sending(next) {
            let interest = if is_sending(next) { L::INTEREST | Interest::WRITABLE } else { L::INTEREST };
            self.poll.registry().reregister(&mut connection.stream, Token(key), interest)?;
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let (mode, address) = arguments();
    let listener = listener(&address)?;
    listener.announce()?;
    match listener {
        Listener::Inet(listener) => Server::run(mode, TcpListener::from_std(listener)),
        Listener::Unix(listener) => Server::run(mode, UnixListener::from_std(listener)),
    }
}
