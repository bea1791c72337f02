//! calloop: a source for the listener and one for each connection, state in the loop's shared data.
//!
//! - Level-triggered, and one read an event. Edge-triggered takes a second read each time: calloop does not pass on
//!   that the stream has ended, so a short read could be the last event.
//! - For a peer that takes less than is sent to it only writability is waited for: the interest changes when a send
//!   blocks, and again when everything is sent. Meanwhile nothing is read from it.
//! - A source's interest cannot be changed from within its callback, so that is done after each dispatch, through its
//!   dispatcher.
//! - One buffer for all reads; only what the kernel does not take is copied.
//! - Fan-out: the lines of all ready connections are appended to a buffer of each member, which is sent once, after the
//!   dispatch.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use calloop::generic::Generic;
use calloop::{Dispatcher, EventLoop, Interest, LoopHandle, Mode as Trigger, PostAction, RegistrationToken};
use slab::Slab;
use switchboard_compare::{
    LINE_BYTES_MAX, Listener, Mode, READ_BYTES, UNSENT_BYTES_MAX, Unsent, arguments, is_out_of_descriptors, listener,
    whole_lines,
};

/// A kind of stream, non-blocking; read and written through a reference, as sources give nothing else.
trait Stream: AsFd + 'static {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Stream for TcpStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }
}

impl Stream for UnixStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }
}

struct Connection<S: Stream> {
    source: Dispatcher<'static, Generic<S>, Server<S>>,
    token: RegistrationToken,
    unsent: Unsent,
    /// The kernel takes no more: waiting for writability.
    is_blocked: bool,
    /// The peer has ended its stream: closed once everything is sent.
    is_ended: bool,
    /// The beginning of a line.
    line: Vec<u8>,
}

/// The loop's shared data.
struct Server<S: Stream> {
    mode: Mode,
    handle: LoopHandle<'static, Server<S>>,
    listener: RegistrationToken,
    /// No descriptor was left: the next connection that closes makes room.
    is_full: bool,
    has_room: bool,
    connections: Slab<Connection<S>>,
    /// Connections whose interest has to be changed.
    changed: Vec<usize>,
    /// Lines were received in this dispatch.
    has_lines: bool,
    buffer: Vec<u8>,
}

impl<S: Stream> Server<S> {
    fn run<L: AsFd + 'static>(mode: Mode, listener: L, accept: fn(&L) -> io::Result<S>) -> Result<(), Box<dyn Error>> {
        let mut event_loop = EventLoop::try_new()?;
        let handle = event_loop.handle();
        let source = Generic::new(listener, Interest::READ, Trigger::Level);
        let token = handle.insert_source(source, move |_, listener, server: &mut Server<S>| {
            server.accept(|| accept(listener)).map_err(io::Error::other)
        });
        let mut server = Server {
            mode,
            handle,
            listener: token.map_err(|error| error.error)?,
            is_full: false,
            has_room: false,
            connections: Slab::new(),
            changed: Vec::new(),
            has_lines: false,
            buffer: vec![0; READ_BYTES],
        };
        // Only the poller can fail here; a connection's errors end that connection.
        Ok(event_loop.run(None, &mut server, |server| server.end_of_dispatch().expect("the poller works"))?)
    }

    fn accept(&mut self, accept: impl Fn() -> io::Result<S>) -> calloop::Result<PostAction> {
        loop {
            let stream = match accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(error) if is_out_of_descriptors(&error) => {
                    (self.is_full, self.has_room) = (true, false);
                    return Ok(PostAction::Disable);
                }
                Err(error) => return Err(error.into()),
            };
            let entry = self.connections.vacant_entry();
            let key = entry.key();
            let source = Generic::new(stream, Interest::READ, Trigger::Level);
            let source = Dispatcher::new(source, move |_, stream, server: &mut Server<S>| {
                Ok(if server.serve(key, stream) { PostAction::Continue } else { server.remove(key) })
            });
            let token = self.handle.register_dispatcher(source.clone())?;
            let (unsent, line) = (Unsent::default(), Vec::new());
            entry.insert(Connection { source, token, unsent, is_blocked: false, is_ended: false, line });
        }
    }

    /// Handles an event. Returns whether the connection stays open, like the others here.
    fn serve(&mut self, key: usize, stream: &S) -> bool {
        if self.connections[key].is_blocked {
            return self.send(key, stream);
        }
        match stream.read(&mut self.buffer) {
            Ok(0) => self.end(key),
            Ok(count) if self.mode == Mode::Echo => self.echo(key, stream, count),
            Ok(count) => self.take_lines(key, count),
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn end(&mut self, key: usize) -> bool {
        let connection = &mut self.connections[key];
        connection.is_ended = true;
        !connection.unsent.is_empty()
    }

    /// Sends back what was read.
    fn echo(&mut self, key: usize, stream: &S, count: usize) -> bool {
        let sent = match stream.write(&self.buffer[..count]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if sent < count {
            let connection = &mut self.connections[key];
            connection.unsent.push(&self.buffer[sent..count]);
            connection.is_blocked = true;
            self.changed.push(key);
        }
        true
    }

    /// Appends the lines that were read to the buffer of each member.
    fn take_lines(&mut self, key: usize, count: usize) -> bool {
        let begun = &mut self.connections[key].line;
        let lines = whole_lines(begun, &self.buffer[..count]);
        let lasts = begun.len() <= LINE_BYTES_MAX;
        if !lines.is_empty() {
            for (_, member) in self.connections.iter_mut().filter(|(_, member)| !member.is_ended) {
                member.unsent.push(&lines);
            }
            self.has_lines = true;
        }
        lasts
    }

    /// Sends each member its buffer, and updates its interest.
    fn end_of_dispatch(&mut self) -> calloop::Result<()> {
        if std::mem::take(&mut self.has_lines) {
            for key in 0..self.connections.capacity() {
                let Some(member) = self.connections.get(key) else { continue };
                let source = member.source.clone();
                let lasts = match member.unsent.len() {
                    0 => true,
                    unsent if member.is_blocked => unsent <= UNSENT_BYTES_MAX,
                    _ => self.send(key, source.as_source_ref().get_ref()),
                };
                if !lasts {
                    self.handle.remove(self.connections[key].token);
                    self.remove(key);
                }
            }
        }
        for key in std::mem::take(&mut self.changed) {
            // It may have ended meanwhile.
            let Some(connection) = self.connections.get(key) else { continue };
            let interest = if connection.is_blocked { Interest::WRITE } else { Interest::READ };
            connection.source.as_source_mut().interest = interest;
            self.handle.update(&connection.token)?;
        }
        if self.is_full && std::mem::take(&mut self.has_room) {
            self.is_full = false;
            self.handle.enable(&self.listener)?;
        }
        Ok(())
    }

    /// Sends as much of the unsent data as the kernel takes.
    fn send(&mut self, key: usize, stream: &S) -> bool {
        let connection = &mut self.connections[key];
        match stream.write(connection.unsent.bytes()) {
            Ok(count) => connection.unsent.advance(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        let is_blocked = !connection.unsent.is_empty();
        if connection.is_blocked != is_blocked {
            connection.is_blocked = is_blocked;
            self.changed.push(key);
        }
        is_blocked || !connection.is_ended
    }

    fn remove(&mut self, key: usize) -> PostAction {
        self.connections.remove(key);
        self.has_room = true;
        PostAction::Remove
    }
}

fn accept_inet(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn accept_unix(listener: &UnixListener) -> io::Result<UnixStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mode, address) = arguments();
    let listener = listener(&address)?;
    listener.announce()?;
    match listener {
        Listener::Inet(listener) => Server::run(mode, listener, accept_inet),
        Listener::Unix(listener) => Server::run(mode, listener, accept_unix),
    }
}
