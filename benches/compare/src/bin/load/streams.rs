//! Echo, pipelined, bulk and requests: lasting connections, each with a bounded number of messages in flight.

use std::time::Instant;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::ending::end_all;
use crate::options::Options;
use crate::pattern::PIECE_BYTES_MAX;
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::talk::Talk;
use crate::turn::{Bounds, Deadline, Load, Turn};

/// How many connect before they are checked to be served: fewer than any server's backlog holds.
const AT_ONCE: usize = 100;

pub struct Streams {
    poller: Poller,
    talk: Talk,
    buffer: Vec<u8>,
    streams: Vec<Stream>,
    depth: usize,
    /// Messages begun and not yet answered.
    under_way: u64,
}

struct Stream {
    socket: OwnedFd,
    /// Its number, from 0.
    nth: usize,
    /// Up to where it may send: the end of the last message that was begun.
    allowed: u64,
    sent: u64,
    received: u64,
    /// When each message in flight was begun, by its number modulo the depth.
    begun: Box<[Instant]>,
    watches_room: bool,
}

impl Streams {
    /// Connects all, and waits for each to be answered once: a connection in the backlog is not served yet.
    pub fn open(options: &Options, deadline: Deadline) -> Result<Self> {
        let mut all = Self::none(options, deadline)?;
        all.connect(options, 0..options.clients, deadline)?;
        Ok(all)
    }

    fn none(options: &Options, deadline: Deadline) -> Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            talk: Talk::new(options, deadline)?,
            buffer: vec![0; PIECE_BYTES_MAX],
            streams: Vec::new(),
            depth: options.depth,
            under_way: 0,
        })
    }

    /// The idle ones, connected after the active ones.
    pub fn open_idle(options: &Options, deadline: Deadline) -> Result<Self> {
        let mut all = Self { depth: 1, ..Self::none(options, deadline)? };
        all.connect(options, options.clients..options.clients + options.idle, deadline)?;
        Ok(all)
    }

    fn connect(&mut self, options: &Options, which: std::ops::Range<usize>, deadline: Deadline) -> Result<()> {
        let mut turn = Turn::start(Bounds::new(None, None, options.limit), None)?;
        for first in which.clone().step_by(AT_ONCE) {
            let first_place = self.streams.len();
            for nth in first..which.end.min(first + AT_ONCE) {
                let stream = Stream::new(options.address.connect(nth, deadline)?, nth, self.depth);
                self.poller.add(&stream.socket, self.streams.len())?;
                self.streams.push(stream);
            }
            (first_place..self.streams.len()).try_for_each(|place| self.begin(place, 1, Instant::now()))?;
            self.wait_for_all(&mut turn, deadline, false)?;
        }
        Ok(())
    }

    /// Each sends one message, and gets it back.
    pub fn once_each(&mut self, turn: &mut Turn, deadline: Deadline) -> Result<()> {
        (0..self.streams.len()).try_for_each(|place| self.begin(place, 1, Instant::now()))?;
        self.wait_for_all(turn, deadline, false)
    }

    fn begin(&mut self, place: usize, messages: usize, now: Instant) -> Result<()> {
        let stream = &mut self.streams[place];
        let next = stream.allowed / self.talk.request_bytes() as u64;
        for message in next..next + messages as u64 {
            stream.begun[(message % self.depth as u64) as usize] = now;
        }
        stream.allowed += (messages * self.talk.request_bytes()) as u64;
        self.under_way += messages as u64;
        self.send(place)
    }

    fn send(&mut self, place: usize) -> Result<()> {
        let stream = &mut self.streams[place];
        while stream.sent < stream.allowed {
            let piece = (stream.allowed - stream.sent).min(PIECE_BYTES_MAX as u64) as usize;
            let bytes = self.talk.request(stream.nth, stream.sent, piece);
            match send(&stream.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => stream.sent += count as u64,
                Err(Errno::AGAIN) if stream.watches_room => break,
                Err(Errno::AGAIN) => {
                    stream.watches_room = true;
                    self.poller.also_writable(&stream.socket, place)?;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).doing(|| format!("sending on connection {place}")),
            }
        }
        Ok(())
    }

    fn wait_for_all(&mut self, turn: &mut Turn, deadline: Deadline, go_on: bool) -> Result<()> {
        while self.under_way > 0 {
            let left = self.under_way;
            let ready = self.poller.wait(deadline).doing(|| format!("{left} messages are unanswered"))?;
            for nth in 0..ready {
                let place = self.poller.place(nth);
                self.receive(place, turn, go_on)?;
                self.send(place)?;
            }
        }
        Ok(())
    }

    /// Reads until there is no more. A read that does not fill the buffer has emptied the socket: later data raises a
    /// new edge.
    fn receive(&mut self, place: usize, turn: &mut Turn, go_on: bool) -> Result<()> {
        loop {
            let stream = &mut self.streams[place];
            let count = match recv(&stream.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => {
                    let missing = self.talk.answered_by(stream.allowed) - stream.received;
                    return Err(Failure::new(format!(
                        "the server closed connection {place}, {missing} bytes before its end"
                    )));
                }
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| format!("reading from connection {place}")),
            };
            let before = stream.received / self.talk.answer_bytes() as u64;
            stream.verify(place, &self.buffer[..count], &self.talk)?;
            let after = stream.received / self.talk.answer_bytes() as u64;
            self.came_back(place, before..after, turn, go_on)?;
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn came_back(&mut self, place: usize, which: std::ops::Range<u64>, turn: &mut Turn, go_on: bool) -> Result<()> {
        let messages = which.end - which.start;
        if messages == 0 {
            return Ok(());
        }
        let now = Instant::now();
        for message in which {
            turn.took(now - self.streams[place].begun[(message % self.depth as u64) as usize]);
        }
        turn.done(messages, messages * self.talk.answer_bytes() as u64);
        self.under_way -= messages;
        if go_on && turn.may_begin(messages, now) {
            self.begin(place, messages as usize, now)?;
        }
        Ok(())
    }

    /// Ends its half of each connection, and waits for the server to end the other.
    pub fn close(&mut self, deadline: Deadline) -> Result<()> {
        end_all(&mut self.poller, self.streams.iter().map(|stream| &stream.socket), deadline)
    }
}

impl Stream {
    fn new(socket: OwnedFd, nth: usize, depth: usize) -> Self {
        let begun = vec![Instant::now(); depth].into();
        Self { socket, nth, allowed: 0, sent: 0, received: 0, begun, watches_room: false }
    }

    fn verify(&mut self, place: usize, came: &[u8], talk: &Talk) -> Result<()> {
        let (end, most) = (self.received + came.len() as u64, talk.answered_by(self.sent));
        if let Err(offset) = talk.verify(self.nth, self.received, came) {
            let position = self.received + offset as u64;
            return Err(Failure::new(format!("byte {position} of connection {place} is wrong")));
        }
        if end > most {
            return Err(Failure::new(format!("{} bytes too many on connection {place}", end - most)));
        }
        self.received = end;
        Ok(())
    }
}

impl Load for Streams {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        let start = turn.start_time();
        for place in 0..self.streams.len() {
            if turn.may_begin(self.depth as u64, start) {
                self.begin(place, self.depth, Instant::now())?;
            }
        }
        let deadline = turn.deadline();
        self.wait_for_all(turn, deadline, true)
    }

    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        self.close(deadline)
    }
}
