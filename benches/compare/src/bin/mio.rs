//! A loop by hand on mio: what the yardstick does, as far as mio's interface lets it.
//!
//! - mio is edge-triggered. TCP is registered once, for reading and writing; Unix streams for reading, and for writing only
//!   while a send is blocked, since theirs raise an edge whenever the peer reads.
//! - One buffer for all that is read; what a read brings is sent from there at once, and only what the kernel does not take
//!   is copied.
//! - After a short read TCP is not read again, unless the event said that the stream has ended. Unix streams are read until
//!   they would block.
//! - Nothing is read from whom something waits to be sent to.
//! - Fan-out: each member has a buffer, which the lines of all that was ready are appended to, and which is sent once, at the
//!   end of the pass.
//! - Generic over the kind of stream, so that no message pays for there being two.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use switchboard_compare::{
    EVENTS_MAX, LINE_BYTES_MAX, Listener, Mode, READ_BYTES, READS_PER_TURN_MAX, UNSENT_BYTES_MAX, Unsent, arguments,
    is_out_of_descriptors, listener,
};

/// What the listener's events carry; connections' carry their place in the slab.
const LISTENER: Token = Token(usize::MAX);

/// A kind of listener, and of the streams that it accepts.
trait Accept: Source {
    type Stream: Source + Read + Write;
    /// What a stream is registered for, unless it is blocked.
    const INTEREST: Interest;
    /// A short read has read all there is.
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

struct Connection<S> {
    stream: S,
    unsent: Unsent,
    /// The kernel takes no more: the next edge for writing goes on with it.
    is_blocked: bool,
    /// Reading has stopped though there may be more: no edge will say so.
    is_unread: bool,
    /// The peer has ended its stream, as an event said: read up to there.
    has_end: bool,
    /// That end was read: to be closed once all is sent.
    is_ended: bool,
    /// The beginning of a line.
    line: Vec<u8>,
}

/// What has become of a connection.
#[derive(PartialEq, Eq)]
enum State {
    Open,
    Over,
}

struct Server<L: Accept> {
    mode: Mode,
    poll: Poll,
    listener: L,
    /// No descriptor was left: the next that is closed makes room.
    is_full: bool,
    connections: Slab<Connection<L::Stream>>,
    /// Those that had read enough for one turn.
    again: Vec<usize>,
    /// In this pass lines have come.
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
        let again = std::mem::take(&mut self.again);
        for event in &*events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(key) => self.serve(key, Some(event), buffer)?,
            }
        }
        for key in again {
            self.serve(key, None, buffer)?;
        }
        if std::mem::take(&mut self.has_lines) { self.send_to_all() } else { Ok(()) }
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
            entry.insert(Connection {
                stream,
                unsent: Unsent::default(),
                is_blocked: false,
                is_unread: false,
                has_end: false,
                is_ended: false,
                line: Vec::new(),
            });
        }
    }

    /// Does what an event says can be done now, or what was left to do.
    fn serve(&mut self, key: usize, event: Option<&Event>, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        if let Some(event) = event {
            connection.is_unread |= event.is_readable() || event.is_read_closed();
            connection.has_end |= event.is_read_closed() || event.is_error();
            if connection.is_blocked && event.is_writable() && self.send(key)? == State::Over {
                return self.close(key);
            }
        }
        let connection = &mut self.connections[key];
        if connection.is_blocked || !connection.is_unread || connection.is_ended {
            return Ok(());
        }
        let state = match self.mode {
            Mode::Echo => self.echo(key, buffer)?,
            Mode::Fanout => self.take_lines(key, buffer),
        };
        if state == State::Over { self.close(key) } else { Ok(()) }
    }

    /// Reads and sends back.
    fn echo(&mut self, key: usize, buffer: &mut [u8]) -> io::Result<State> {
        let connection = &mut self.connections[key];
        for _ in 0..READS_PER_TURN_MAX {
            let count = match connection.stream.read(buffer) {
                Ok(0) => return Ok(State::Over),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.is_unread = false;
                    return Ok(State::Open);
                }
                Err(_) => return Ok(State::Over),
            };
            let sent = match connection.stream.write(&buffer[..count]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return Ok(State::Over),
            };
            if sent < count {
                connection.unsent.push(&buffer[sent..count]);
                return self.set_blocked(key, true);
            }
            if L::SHORT_IS_ALL && count < buffer.len() && !connection.has_end {
                connection.is_unread = false;
                return Ok(State::Open);
            }
        }
        self.again.push(key);
        Ok(State::Open)
    }

    /// Reads lines, and appends them to what each member is to be sent.
    fn take_lines(&mut self, key: usize, buffer: &mut [u8]) -> State {
        for _ in 0..READS_PER_TURN_MAX {
            let connection = &mut self.connections[key];
            let count = match connection.stream.read(buffer) {
                Ok(0) => {
                    connection.is_ended = true;
                    return if connection.unsent.is_empty() { State::Over } else { State::Open };
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.is_unread = false;
                    return State::Open;
                }
                Err(_) => return State::Over,
            };
            let end = memchr::memrchr(b'\n', &buffer[..count]).map_or(0, |at| at + 1);
            if end > 0 {
                let begun = std::mem::take(&mut connection.line);
                self.append_to_all(&begun, &buffer[..end]);
            }
            let connection = &mut self.connections[key];
            connection.line.extend_from_slice(&buffer[end..count]);
            if connection.line.len() > LINE_BYTES_MAX {
                return State::Over;
            }
            if L::SHORT_IS_ALL && count < buffer.len() && !connection.has_end {
                connection.is_unread = false;
                return State::Open;
            }
        }
        self.again.push(key);
        State::Open
    }

    fn append_to_all(&mut self, begun: &[u8], lines: &[u8]) {
        for (_, member) in self.connections.iter_mut().filter(|(_, member)| !member.is_ended) {
            member.unsent.push(begun);
            member.unsent.push(lines);
        }
        self.has_lines = true;
    }

    /// Sends each member what this pass has brought it.
    fn send_to_all(&mut self) -> io::Result<()> {
        for key in 0..self.connections.capacity() {
            let Some(member) = self.connections.get(key) else { continue };
            let state = match member.unsent.len() {
                0 => State::Open,
                unsent if member.is_blocked && unsent > UNSENT_BYTES_MAX => State::Over,
                _ if member.is_blocked => State::Open,
                _ => self.send(key)?,
            };
            if state == State::Over {
                self.close(key)?;
            }
        }
        Ok(())
    }

    /// Sends what is unsent, as far as the kernel takes it.
    fn send(&mut self, key: usize) -> io::Result<State> {
        let connection = &mut self.connections[key];
        match connection.stream.write(connection.unsent.bytes()) {
            Ok(count) => connection.unsent.advance(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Ok(State::Over),
        }
        let is_blocked = !connection.unsent.is_empty();
        self.set_blocked(key, is_blocked)
    }

    /// Waits until the kernel takes more, or does so no longer.
    fn set_blocked(&mut self, key: usize, is_blocked: bool) -> io::Result<State> {
        let connection = &mut self.connections[key];
        if !L::INTEREST.is_writable() && connection.is_blocked != is_blocked {
            let interest = if is_blocked { L::INTEREST | Interest::WRITABLE } else { L::INTEREST };
            self.poll.registry().reregister(&mut connection.stream, Token(key), interest)?;
        }
        connection.is_blocked = is_blocked;
        Ok(if connection.is_ended && !is_blocked { State::Over } else { State::Open })
    }

    fn close(&mut self, key: usize) -> io::Result<()> {
        // Closing it is all that it takes: there is no other descriptor of that socket.
        self.connections.remove(key);
        if std::mem::take(&mut self.is_full) { self.accept() } else { Ok(()) }
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
