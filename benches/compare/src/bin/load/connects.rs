//! Connections that live for one message: connect, send, read its echo, close.

use std::time::Instant;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::address::Address;
use crate::options::Options;
use crate::pattern::{PIECE_BYTES_MAX, Pattern};
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::turn::{Deadline, Load, Turn};

pub struct Connects {
    poller: Poller,
    pattern: Pattern,
    buffer: Vec<u8>,
    address: Address,
    message_bytes: usize,
    /// How many are open at a time.
    places: Vec<Option<Life>>,
    /// How many there have been.
    born: usize,
    alive: usize,
}

struct Life {
    socket: OwnedFd,
    nth: usize,
    begun: Instant,
    received: usize,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    /// The echo is not complete.
    Waiting,
    /// This side has ended; the server must.
    Ending,
}

impl Connects {
    pub fn open(options: &Options) -> Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            pattern: Pattern::new(),
            buffer: vec![0; PIECE_BYTES_MAX],
            address: options.address.clone(),
            message_bytes: options.message_bytes,
            places: (0..options.clients).map(|_| None).collect(),
            born: 0,
            alive: 0,
        })
    }

    fn begin(&mut self, place: usize, deadline: Deadline) -> Result<()> {
        let (begun, nth) = (Instant::now(), self.born);
        let socket = self.address.connect(nth, deadline)?;
        let message = self.pattern.at(Pattern::beginning(nth), self.message_bytes);
        let sent = send(&socket, message, SendFlags::NOSIGNAL).doing(|| format!("sending on connection {nth}"))?;
        if sent < message.len() {
            return Err(Failure::new(format!(
                "connection {nth} takes only {sent} bytes at once: use a smaller message"
            )));
        }
        self.poller.add(&socket, place)?;
        self.places[place] = Some(Life { socket, nth, begun, received: 0, state: State::Waiting });
        self.born += 1;
        self.alive += 1;
        Ok(())
    }

    /// Continues a connection that is ready, and begins another one if it has ended.
    fn serve(&mut self, place: usize, turn: &mut Turn) -> Result<()> {
        // An event of one that ended a moment ago.
        let Some(life) = &mut self.places[place] else { return Ok(()) };
        if !life.go_on(&mut self.buffer, &self.pattern, self.message_bytes)? {
            return Ok(());
        }
        let now = Instant::now();
        turn.took(now - life.begun);
        turn.done(1, self.message_bytes as u64);
        self.places[place] = None;
        self.alive -= 1;
        if turn.may_begin(1, now) { self.begin(place, turn.deadline()) } else { Ok(()) }
    }
}

impl Life {
    /// Reads what there is; returns whether this was the end.
    fn go_on(&mut self, buffer: &mut [u8], pattern: &Pattern, message_bytes: usize) -> Result<bool> {
        let nth = self.nth;
        loop {
            let count = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) if self.state == State::Ending => return Ok(true),
                Ok((_, 0)) => return Err(Failure::new(format!("the server closed connection {nth} before its echo"))),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| format!("reading from connection {nth}")),
            };
            let end = self.received + count;
            if end > message_bytes {
                return Err(Failure::new(format!("{} bytes too many on connection {nth}", end - message_bytes)));
            }
            let position = Pattern::beginning(nth) + self.received as u64;
            if let Err(offset) = pattern.verify(position, &buffer[..count]) {
                let offset = self.received + offset;
                return Err(Failure::new(format!("byte {offset} of connection {nth} is wrong")));
            }
            self.received = end;
            if end == message_bytes {
                shutdown(&self.socket, Shutdown::Write).doing(|| format!("ending connection {nth}"))?;
                self.state = State::Ending;
            }
        }
    }
}

impl Load for Connects {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        let deadline = turn.deadline();
        for place in 0..self.places.len() {
            if turn.may_begin(1, Instant::now()) {
                self.begin(place, deadline)?;
            }
        }
        while self.alive > 0 {
            let alive = self.alive;
            let ready = self.poller.wait(deadline).doing(|| format!("{alive} connections have not ended"))?;
            for nth in 0..ready {
                self.serve(self.poller.place(nth), turn)?;
            }
        }
        Ok(())
    }

    /// None is open between turns.
    fn finish(&mut self, _: Deadline) -> Result<()> {
        Ok(())
    }
}
