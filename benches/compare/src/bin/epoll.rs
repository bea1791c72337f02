//! The yardstick: a loop by hand on epoll, for one program only, with nothing in it that this program does not need: no
//! ids, no timers, no limits to set, no callbacks.
//!
//! - Edge-triggered, each socket registered once, for all that it can tell; no `epoll_ctl` after that. Only Unix streams are
//!   asked about writing when that is wanted: theirs raise an edge whenever the peer reads.
//! - One buffer for all that is read. What a read brings is sent from there at once; only what the kernel does not take is
//!   copied.
//! - After a short read TCP is not read again, unless the event said that the stream has ended: new data raises a new edge.
//!   Unix streams are read until they would block, since a read stops short also after a message with descriptors.
//! - Nothing is read from whom something waits to be sent to: memory is bounded by what one read brings.
//! - Fan-out: each member has a buffer, which the lines of all that was ready are appended to, and which is sent once, at the
//!   end of the pass.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use switchboard_compare::{
    Address, EVENTS_MAX, LINE_BYTES_MAX, Mode, READ_BYTES, READS_PER_TURN_MAX, UNSENT_BYTES_MAX, Unsent, arguments,
    listener,
};

/// What the listener's events carry; connections' carry their place in the slab.
const LISTENER: u64 = u64::MAX;

/// What shows that there is something to read, be it the end.
const READABLE: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::HUP).union(EventFlags::ERR);

/// What shows that more can be sent, or that sending fails.
const WRITABLE: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);

/// What shows that it is the end.
const ENDED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

struct Connection {
    socket: OwnedFd,
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

struct Server {
    mode: Mode,
    is_unix: bool,
    epoll: OwnedFd,
    listener: OwnedFd,
    /// No descriptor was left: the next that is closed makes room.
    is_full: bool,
    connections: Slab<Connection>,
    /// Those that had read enough for one turn.
    again: Vec<usize>,
    /// In this pass lines have come.
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
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let again = std::mem::take(&mut self.again);
            for &Event { flags, data } in &events {
                match data.u64() {
                    LISTENER => self.accept()?,
                    key => self.serve(key as usize, flags, &mut buffer)?,
                }
            }
            for key in again {
                self.serve(key, EventFlags::empty(), &mut buffer)?;
            }
            if std::mem::take(&mut self.has_lines) {
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
            let data = EventData::new_u64(entry.key() as u64);
            let wanted = if self.is_unix { EventFlags::empty() } else { EventFlags::OUT };
            epoll::add(&self.epoll, &socket, data, EventFlags::IN | EventFlags::RDHUP | EventFlags::ET | wanted)?;
            entry.insert(Connection {
                socket,
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
    fn serve(&mut self, key: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.is_unread |= flags.intersects(READABLE);
        connection.has_end |= flags.intersects(ENDED);
        if connection.is_blocked && flags.intersects(WRITABLE) && self.send(key)? == State::Over {
            return self.close(key);
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
    fn echo(&mut self, key: usize, buffer: &mut [u8]) -> Result<State, Errno> {
        let connection = &mut self.connections[key];
        for _ in 0..READS_PER_TURN_MAX {
            let count = match recv(&connection.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(State::Over),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => {
                    connection.is_unread = false;
                    return Ok(State::Open);
                }
                Err(_) => return Ok(State::Over),
            };
            let sent = match send(&connection.socket, &buffer[..count], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                Err(_) => return Ok(State::Over),
            };
            if sent < count {
                connection.unsent.push(&buffer[sent..count]);
                return self.set_blocked(key, true);
            }
            if count < buffer.len() && !self.is_unix && !connection.has_end {
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
            let count = match recv(&connection.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => {
                    connection.is_ended = true;
                    return if connection.unsent.is_empty() { State::Over } else { State::Open };
                }
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => {
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
            if count < buffer.len() && !self.is_unix && !connection.has_end {
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
    fn send_to_all(&mut self) -> Result<(), Errno> {
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
    fn send(&mut self, key: usize) -> Result<State, Errno> {
        let connection = &mut self.connections[key];
        match send(&connection.socket, connection.unsent.bytes(), SendFlags::NOSIGNAL) {
            Ok(count) => connection.unsent.advance(count),
            Err(Errno::AGAIN) => {}
            Err(_) => return Ok(State::Over),
        }
        let is_blocked = !connection.unsent.is_empty();
        self.set_blocked(key, is_blocked)
    }

    /// Waits until the kernel takes more, or does so no longer.
    fn set_blocked(&mut self, key: usize, is_blocked: bool) -> Result<State, Errno> {
        let connection = &mut self.connections[key];
        if self.is_unix && connection.is_blocked != is_blocked {
            let wanted = if is_blocked { EventFlags::OUT } else { EventFlags::empty() };
            let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET | wanted;
            epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(key as u64), flags)?;
        }
        connection.is_blocked = is_blocked;
        Ok(if connection.is_ended && !is_blocked { State::Over } else { State::Open })
    }

    fn close(&mut self, key: usize) -> Result<(), Errno> {
        self.connections.remove(key);
        if std::mem::take(&mut self.is_full) { self.accept() } else { Ok(()) }
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
