//! Lasting connections, each with a bounded number of messages in flight.

use std::time::Instant;

use crate::client::{Buffers, Client};
use crate::options::Options;
use crate::pattern::{PIECE_BYTES_MAX, Pattern};
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::turn::{Bounds, Deadline, Load, Turn};

/// How many do their handshake at a time.
const AT_ONCE: usize = 50;

pub struct Streams {
    poller: Poller,
    pattern: Pattern,
    buffers: Buffers,
    streams: Vec<Stream>,
    message_bytes: u64,
    depth: u64,
    /// Messages begun and not yet back.
    under_way: u64,
}

struct Stream {
    client: Client,
    /// Where it begins in the pattern.
    beginning: u64,
    /// Up to where it may send: the end of the last message that was begun.
    allowed: u64,
    sent: u64,
    received: u64,
    /// When each message in flight was begun, by its number modulo the depth.
    begun: Box<[Instant]>,
}

impl Streams {
    /// Connects all, and waits for each to echo a message.
    pub fn open(options: &Options, deadline: Deadline) -> Result<Self> {
        let mut all = Self {
            poller: Poller::new()?,
            pattern: Pattern::new(),
            buffers: Buffers::new(),
            streams: Vec::new(),
            message_bytes: options.message_bytes as u64,
            depth: options.depth as u64,
            under_way: 0,
        };
        let mut turn = Turn::start(Bounds::new(None, None, options.limit), None)?;
        for first in (0..options.clients).step_by(AT_ONCE) {
            for nth in first..options.clients.min(first + AT_ONCE) {
                let client = Client::connect(options, nth, deadline)?;
                all.poller.add(&client, nth)?;
                // The socket has room now: the next edge comes when it has room again.
                all.poller.also_writable(&client, nth)?;
                let begun = vec![Instant::now(); options.depth].into();
                let beginning = Pattern::beginning(nth);
                all.streams.push(Stream { client, beginning, allowed: 0, sent: 0, received: 0, begun });
                all.begin(nth, 1, Instant::now())?;
            }
            all.wait_for_all(&mut turn, deadline, false)?;
        }
        Ok(all)
    }

    fn begin(&mut self, place: usize, messages: u64, now: Instant) -> Result<()> {
        let stream = &mut self.streams[place];
        let next = stream.allowed / self.message_bytes;
        for message in next..next + messages {
            stream.begun[(message % self.depth) as usize] = now;
        }
        stream.allowed += messages * self.message_bytes;
        self.under_way += messages;
        stream.send(&self.pattern)
    }

    fn wait_for_all(&mut self, turn: &mut Turn, deadline: Deadline, go_on: bool) -> Result<()> {
        while self.under_way > 0 {
            let left = self.under_way;
            let ready = self.poller.wait(deadline).doing(|| format!("{left} messages are unanswered"))?;
            for nth in 0..ready {
                let place = self.poller.place(nth);
                self.receive(place, turn, go_on)?;
                self.streams[place].send(&self.pattern)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, place: usize, turn: &mut Turn, go_on: bool) -> Result<()> {
        let stream = &mut self.streams[place];
        let Stream { client, beginning, received, sent, .. } = stream;
        let before = *received / self.message_bytes;
        let is_open = client.read(&mut self.buffers, &mut |came| {
            if let Err(offset) = self.pattern.verify(*beginning + *received, came) {
                let position = *received + offset as u64;
                return Err(Failure::new(format!("byte {position} of connection {place} is not what was sent")));
            }
            *received += came.len() as u64;
            match *received > *sent {
                true => Err(Failure::new(format!("bytes too many on connection {place}"))),
                false => Ok(()),
            }
        })?;
        if !is_open {
            return Err(Failure::new(format!("the server closed connection {place}")));
        }
        let after = stream.received / self.message_bytes;
        if before == after {
            return Ok(());
        }
        let now = Instant::now();
        for message in before..after {
            turn.took(now - stream.begun[(message % self.depth) as usize]);
        }
        let messages = after - before;
        turn.done(messages, messages * self.message_bytes);
        self.under_way -= messages;
        if go_on && turn.may_begin(messages, now) { self.begin(place, messages, now) } else { Ok(()) }
    }
}

impl Stream {
    /// Sends as much as is allowed and there is room for.
    fn send(&mut self, pattern: &Pattern) -> Result<()> {
        loop {
            if !self.client.flush()? || self.sent == self.allowed || self.client.is_shaking() {
                return Ok(());
            }
            let piece = (self.allowed - self.sent).min(PIECE_BYTES_MAX as u64) as usize;
            self.sent += self.client.write(pattern.at(self.beginning + self.sent, piece))? as u64;
        }
    }
}

impl Load for Streams {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        let start = turn.start_time();
        for place in 0..self.streams.len() {
            if turn.may_begin(self.depth, start) {
                self.begin(place, self.depth, Instant::now())?;
            }
        }
        let deadline = turn.deadline();
        self.wait_for_all(turn, deadline, true)
    }

    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        for stream in &mut self.streams {
            stream.client.end()?;
        }
        let mut open = vec![true; self.streams.len()];
        while open.contains(&true) {
            let ready = self.poller.wait(deadline).doing(|| "connections are not closed by the server".into())?;
            for nth in 0..ready {
                let place = self.poller.place(nth);
                let more = |_: &[u8]| Err(Failure::new(format!("more came on connection {place} than was to come")));
                open[place] = open[place] && self.streams[place].client.read(&mut self.buffers, &mut { more })?;
            }
        }
        Ok(())
    }
}
