//! Fan-out: in each round every member sends a line, and gets the lines of all members, including its own.
//!
//! A line is its sender's number, the round's number, and padding. Input is split into lines of that length, and each
//! is compared with the line that its sender has sent in this round; a bit for each pair records that it arrived. So a
//! line that is lost, duplicated, late, truncated or of the wrong sender is found.

use std::io::Write;
use std::time::Instant;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::ending::end_all;
use crate::options::Options;
use crate::pattern::PIECE_BYTES_MAX;
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::turn::{Deadline, Load, Turn};

/// Two numbers, each followed by a space, and the end of the line.
pub const LINE_BYTES_MIN: usize = SENDER_DIGITS + 1 + ROUND_DIGITS + 1 + 1;
const SENDER_DIGITS: usize = 6;
const ROUND_DIGITS: usize = 10;
/// How many connect before their membership is checked: fewer than any server's backlog holds.
const AT_ONCE: usize = 100;
/// The round in which members join. Earlier members get the lines of later ones, so not all get the same, and some get
/// theirs during the first round.
const JOINING: u64 = 0;

pub struct Fanout {
    poller: Poller,
    buffer: Vec<u8>,
    members: Vec<Member>,
    /// The lines of this round, all of one length, by sender.
    lines: Vec<u8>,
    /// The lines of joining members, while they may still arrive.
    joining: Vec<u8>,
    line_bytes: usize,
    round: u64,
    round_begun: Instant,
    /// Members that wait for a line.
    waiting: usize,
}

struct Member {
    socket: OwnedFd,
    /// The beginning of a line whose end has not arrived.
    part: Vec<u8>,
    /// A bit for each sender whose line has arrived.
    seen: Vec<u64>,
    missing: usize,
}

impl Fanout {
    /// Connects all, and waits until each has got its own line: then it is a member.
    pub fn open(options: &Options, deadline: Deadline) -> Result<Self> {
        if options.clients >= 10usize.pow(SENDER_DIGITS as u32) {
            return Err(Failure::new("too many members for the number in a line"));
        }
        let mut all = Self {
            poller: Poller::new()?,
            buffer: vec![0; PIECE_BYTES_MAX],
            members: Vec::new(),
            lines: vec![0; options.clients * options.message_bytes],
            joining: Vec::new(),
            line_bytes: options.message_bytes,
            round: JOINING,
            round_begun: Instant::now(),
            waiting: 0,
        };
        all.write_lines()?;
        for first in (0..options.clients).step_by(AT_ONCE) {
            let which = first..options.clients.min(first + AT_ONCE);
            for nth in which.clone() {
                let member = Member::new(options.address.connect(nth, deadline)?, options.clients);
                all.poller.add(&member.socket, nth)?;
                all.members.push(member);
            }
            all.join(which, deadline)?;
        }
        // A server keeps each sender's lines in order. So a member that has all lines of this round gets none of the
        // last.
        all.joining = all.lines.clone();
        all.next_round(deadline)?;
        all.joining = Vec::new();
        Ok(all)
    }

    fn join(&mut self, which: std::ops::Range<usize>, deadline: Deadline) -> Result<()> {
        self.waiting = which.len();
        which.clone().try_for_each(|sender| self.send_line(sender))?;
        self.wait_for_all(None, deadline)
    }

    /// Each member sends a line, and gets those of all.
    fn next_round(&mut self, deadline: Deadline) -> Result<Vec<Instant>> {
        self.round += 1;
        self.write_lines()?;
        let count = self.members.len();
        for member in &mut self.members {
            member.seen.fill(0);
            member.missing = count;
        }
        self.waiting = count;
        self.round_begun = Instant::now();
        (0..count).try_for_each(|sender| self.send_line(sender))?;
        let mut got_all = Vec::with_capacity(count);
        self.wait_for_all(Some(&mut got_all), deadline)?;
        Ok(got_all)
    }

    fn write_lines(&mut self) -> Result<()> {
        let round = self.round;
        for (sender, line) in self.lines.chunks_exact_mut(self.line_bytes).enumerate() {
            let mut rest = &mut *line;
            write!(rest, "{sender:0SENDER_DIGITS$} {round:0ROUND_DIGITS$} ")?;
            // Printable, and different for every sender.
            for (nth, byte) in rest.iter_mut().enumerate() {
                *byte = b'!' + ((sender * 31 + nth * 7) % 90) as u8;
            }
            line[self.line_bytes - 1] = b'\n';
        }
        Ok(())
    }

    fn send_line(&self, sender: usize) -> Result<()> {
        let line = self.line(sender);
        match send(&self.members[sender].socket, line, SendFlags::NOSIGNAL) {
            Ok(count) if count == line.len() => Ok(()),
            // There is no earlier part of it.
            Ok(_) | Err(Errno::AGAIN) => Err(Failure::new(format!("there is no room for a line of member {sender}"))),
            Err(error) => Err(error).doing(|| format!("sending for member {sender}")),
        }
    }

    fn line(&self, sender: usize) -> &[u8] {
        &self.lines[sender * self.line_bytes..][..self.line_bytes]
    }

    fn wait_for_all(&mut self, mut got_all: Option<&mut Vec<Instant>>, deadline: Deadline) -> Result<()> {
        while self.waiting > 0 {
            let (round, left) = (self.round, self.waiting);
            let ready = self.poller.wait(deadline).doing(|| format!("{left} members miss lines of round {round}"))?;
            for nth in 0..ready {
                let place = self.poller.place(nth);
                let waiting = self.waiting;
                self.receive(place)?;
                if let (Some(got_all), true) = (&mut got_all, self.waiting < waiting) {
                    got_all.push(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Reads until there is no more, appending to the kept beginning of a line.
    fn receive(&mut self, place: usize) -> Result<()> {
        loop {
            let member = &mut self.members[place];
            let kept = member.part.len();
            self.buffer[..kept].copy_from_slice(&member.part);
            let room = self.buffer.len() - kept;
            let count = match recv(&member.socket, &mut self.buffer[kept..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Failure::new(format!("the server closed the connection of member {place}"))),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| format!("reading for member {place}")),
            };
            let end = kept + count;
            let whole = end / self.line_bytes * self.line_bytes;
            for start in (0..whole).step_by(self.line_bytes) {
                self.line_came(place, start)?;
            }
            let part = &mut self.members[place].part;
            part.clear();
            part.extend_from_slice(&self.buffer[whole..end]);
            if count < room {
                return Ok(());
            }
        }
    }

    fn line_came(&mut self, place: usize, start: usize) -> Result<()> {
        let line = &self.buffer[start..start + self.line_bytes];
        let sender = number(&line[..SENDER_DIGITS]).filter(|sender| *sender < self.members.len());
        let Some(sender) = sender.filter(|sender| self.line(*sender) == line) else {
            if self.joining.chunks_exact(self.line_bytes).nth(sender.unwrap_or(usize::MAX)) == Some(line) {
                return Ok(());
            }
            let (line, round) = (line.escape_ascii(), self.round);
            return Err(Failure::new(format!("member {place} got what nobody has sent in round {round}: {line}")));
        };
        let member = &mut self.members[place];
        let (word, bit) = (sender / 64, 1 << (sender % 64));
        if member.seen[word] & bit != 0 {
            let round = self.round;
            return Err(Failure::new(format!("member {place} got the line of member {sender} twice in round {round}")));
        }
        member.seen[word] |= bit;
        let complete = if self.round == JOINING {
            sender == place
        } else {
            member.missing -= 1;
            member.missing == 0
        };
        self.waiting -= usize::from(complete);
        Ok(())
    }
}

impl Member {
    fn new(socket: OwnedFd, members: usize) -> Self {
        Self { socket, part: Vec::new(), seen: vec![0; members.div_ceil(64)], missing: 0 }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0')))
}

impl Load for Fanout {
    /// A message is a line that one member gets; its latency is the time until that member has all lines of a round.
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        let lines = (self.members.len() * self.members.len()) as u64;
        while turn.may_begin(lines, Instant::now()) {
            let got_all = self.next_round(turn.deadline())?;
            got_all.into_iter().for_each(|when| turn.took(when - self.round_begun));
            turn.done(lines, lines * self.line_bytes as u64);
        }
        Ok(())
    }

    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        end_all(&mut self.poller, self.members.iter().map(|member| &member.socket), deadline)
    }
}
