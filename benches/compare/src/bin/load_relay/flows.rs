//! What is sent through the relay: a stream from one end of a pair to the other, with a bounded number of messages in
//! flight.

use std::net::TcpListener;
use std::ops::Range;
use std::time::Instant;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::address::Address;
use crate::ending::end_all;
use crate::options::Options;
use crate::pairs;
use crate::pattern::{PIECE_BYTES_MAX, Pattern};
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::turn::{Bounds, Deadline, Load, Turn};

/// The sockets of all pairs. The two ends of a pair are neighbours: see `other`.
pub struct Flows {
    poller: Poller,
    pattern: Pattern,
    buffer: Vec<u8>,
    ends: Vec<End>,
    /// Which of the ends send: each, or each second one.
    step: usize,
    message_bytes: usize,
    depth: usize,
    /// Messages begun that have not arrived.
    under_way: u64,
}

/// One end of a pair, and what it sends.
struct End {
    socket: OwnedFd,
    /// Where its stream begins in the pattern.
    beginning: u64,
    /// Up to where it may send: the end of the last message that was begun.
    allowed: u64,
    sent: u64,
    /// How much of it has arrived at the other end.
    arrived: u64,
    /// When each message in flight was begun, by its number modulo the depth.
    begun: Box<[Instant]>,
    watches_room: bool,
}

/// Returns the other end of the pair.
fn other(place: usize) -> usize {
    place ^ 1
}

impl Flows {
    /// Connects all pairs through the relay, and waits for a message in each direction that is used.
    pub fn open(options: &Options, relay: &Address, target: &TcpListener, deadline: Deadline) -> Result<Self> {
        let mut flows = Self {
            poller: Poller::new()?,
            pattern: Pattern::new(),
            buffer: vec![0; PIECE_BYTES_MAX],
            ends: Vec::new(),
            step: if options.both { 1 } else { 2 },
            message_bytes: options.message_bytes,
            depth: options.depth,
            under_way: 0,
        };
        for nth in 0..options.pairs {
            for socket in pairs::connect(relay, target, nth, deadline)? {
                let place = flows.ends.len();
                flows.poller.add(&socket, place)?;
                flows.ends.push(End::new(socket, place, options.depth));
            }
        }
        let mut turn = Turn::start(Bounds::new(None, None, options.limit), None)?;
        flows.begin_each(1, &mut turn)?;
        flows.wait_for_all(&mut turn, deadline, false)?;
        Ok(flows)
    }

    fn begin_each(&mut self, messages: usize, turn: &mut Turn) -> Result<()> {
        for place in (0..self.ends.len()).step_by(self.step) {
            if turn.may_begin(messages as u64, turn.start_time()) {
                self.begin(place, messages, Instant::now())?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, place: usize, messages: usize, now: Instant) -> Result<()> {
        let end = &mut self.ends[place];
        let next = end.allowed / self.message_bytes as u64;
        for message in next..next + messages as u64 {
            end.begun[(message % self.depth as u64) as usize] = now;
        }
        end.allowed += (messages * self.message_bytes) as u64;
        self.under_way += messages as u64;
        self.send(place)
    }

    fn send(&mut self, place: usize) -> Result<()> {
        let end = &mut self.ends[place];
        while end.sent < end.allowed {
            let piece = (end.allowed - end.sent).min(PIECE_BYTES_MAX as u64) as usize;
            match send(&end.socket, self.pattern.at(end.beginning + end.sent, piece), SendFlags::NOSIGNAL) {
                Ok(count) => end.sent += count as u64,
                Err(Errno::AGAIN) if end.watches_room => break,
                Err(Errno::AGAIN) => {
                    end.watches_room = true;
                    self.poller.also_writable(&end.socket, place)?;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).doing(|| format!("sending from {}", named(place))),
            }
        }
        Ok(())
    }

    fn wait_for_all(&mut self, turn: &mut Turn, deadline: Deadline, go_on: bool) -> Result<()> {
        while self.under_way > 0 {
            let left = self.under_way;
            let ready = self.poller.wait(deadline).doing(|| format!("{left} messages have not arrived"))?;
            for nth in 0..ready {
                let place = self.poller.place(nth);
                self.receive(place, turn, go_on)?;
                self.send(place)?;
            }
        }
        Ok(())
    }

    /// Reads at this end what the other one has sent, until there is no more. A read that does not fill the buffer has
    /// emptied the socket: later data raises a new edge.
    fn receive(&mut self, place: usize, turn: &mut Turn, go_on: bool) -> Result<()> {
        let from = other(place);
        loop {
            let count = match recv(&self.ends[place].socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Failure::new(format!("the relay has closed {}", named(place)))),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| format!("reading at {}", named(place))),
            };
            let sender = &mut self.ends[from];
            let before = sender.arrived / self.message_bytes as u64;
            sender.verify(from, &self.buffer[..count], &self.pattern)?;
            let after = sender.arrived / self.message_bytes as u64;
            self.arrived(from, before..after, turn, go_on)?;
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn arrived(&mut self, from: usize, which: Range<u64>, turn: &mut Turn, go_on: bool) -> Result<()> {
        let messages = which.end - which.start;
        if messages == 0 {
            return Ok(());
        }
        let now = Instant::now();
        for message in which {
            turn.took(now - self.ends[from].begun[(message % self.depth as u64) as usize]);
        }
        turn.done(messages, messages * self.message_bytes as u64);
        self.under_way -= messages;
        if go_on && turn.may_begin(messages, now) { self.begin(from, messages as usize, now) } else { Ok(()) }
    }
}

/// Names an end in an error.
fn named(place: usize) -> String {
    let side = if place.is_multiple_of(2) { "client" } else { "server's connection" };
    format!("{side} {}", place / 2)
}

impl End {
    fn new(socket: OwnedFd, place: usize, depth: usize) -> Self {
        let begun = vec![Instant::now(); depth].into();
        let beginning = Pattern::beginning(place);
        Self { socket, beginning, allowed: 0, sent: 0, arrived: 0, begun, watches_room: false }
    }

    fn verify(&mut self, place: usize, came: &[u8], pattern: &Pattern) -> Result<()> {
        let end = self.arrived + came.len() as u64;
        if let Err(offset) = pattern.verify(self.beginning + self.arrived, came) {
            let position = self.arrived + offset as u64;
            return Err(Failure::new(format!("byte {position} from {} is not what was sent", named(place))));
        }
        if end > self.sent {
            return Err(Failure::new(format!("{} bytes too many from {}", end - self.sent, named(place))));
        }
        self.arrived = end;
        Ok(())
    }
}

impl Load for Flows {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        self.begin_each(self.depth, turn)?;
        let deadline = turn.deadline();
        self.wait_for_all(turn, deadline, true)
    }

    /// Each end of a stream must be passed on.
    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        end_all(&mut self.poller, self.ends.iter().map(|end| &end.socket), deadline)
    }
}
