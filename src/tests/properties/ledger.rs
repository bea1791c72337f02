//! The reference: what must hold of everything that programs see, recorded callback by callback and byte by byte.
//!
//! It knows nothing of how the loop works. It is a thread local, and is borrowed for as long as a callback runs: a loop
//! that called user code from within user code would find it borrowed (C3).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::coverage::{Coverage, name};
use super::datagrams::{Bound, Sent};
use super::dials::Dial;
use super::own_calls::Call;
use super::producing::Producing;
use super::refusals::REFUSAL;
use super::timers::Timer;
use crate::sys::is_out_of_buffers;
use crate::testing::{Call as SystemCall, Random};
use crate::{CloseReason, ConnectionId, Limits, ListenerId, LoopLimits, Timeout};

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::new(Ledger::new(0, LoopLimits::default()));
}

/// Borrows the thread's ledger.
pub(super) fn with<R>(act: impl FnOnce(&mut Ledger) -> R) -> R {
    LEDGER.with_borrow_mut(act)
}

/// The message of a deliberate panic.
pub(super) const PANIC: &str = "deliberate";

pub(super) struct Ledger {
    pub(super) random: Random,
    pub(super) limits: LoopLimits,
    pub(super) streams: Vec<Stream>,
    by_client: BTreeMap<SocketAddr, usize>,
    pub(super) connections: Vec<Connection>,
    pub(super) ids: BTreeMap<(usize, ConnectionId), usize>,
    pub(super) timers: Vec<Timer>,
    /// How many times timers were set.
    pub(super) timers_set: u64,
    pub(super) listeners: Vec<Listening>,
    pub(super) bound: Vec<Bound>,
    pub(super) sent: Vec<Sent>,
    /// How many times the network delivers a datagram, at most.
    pub(super) copies_max: u32,
    pub(super) violations: Vec<String>,
    pub(super) coverage: Coverage,
    /// Counts the driver's steps: a loop turns at most once in each.
    pub(super) step: u64,
    /// How many deliberate panics each host has had.
    pub(super) panics: [u64; 2],
    /// How many more times a callback may do something other than the plain thing.
    pub(super) actions: usize,
    /// Connections that are ending, with how much is queued for them, and since when that has not changed.
    pub(super) ending_since: BTreeMap<(usize, ConnectionId), (usize, Instant)>,
    /// Whether faults between the hosts may end streams.
    pub(super) fatal: bool,
    /// The calls that are made to fail, with their errors.
    pub(super) failing: Vec<(SystemCall, i32)>,
    /// The host of each read that is made to fail, until a connection has lost its input for that.
    pub(super) unreadable: Vec<usize>,
    /// Whether a connection that was closed is always given the time to finish.
    pub(super) patient: bool,
    /// Whether hosts are shutting down, or gone.
    pub(super) ending: [bool; 2],
    /// The largest write so far.
    pub(super) write_max: usize,
    /// No write is larger: kernel buffers of a few bytes take forever to pass a large one on.
    pub(super) write_bound: usize,
    /// Unsent data of connections that were attached: since it existed before, it is accepted over any cap of the loop.
    pub(super) restored: usize,
    /// How many protocols exist.
    pub(super) protocols: usize,
    /// The values that protocols wait for.
    pub(super) calls: Vec<Call>,
    /// Whose callback is running: its connection, and which of the connection's protocols it is.
    pub(super) inside: Option<(usize, u32)>,
}

/// One TCP connection, named by its client's address; or one that is yet to be established.
pub(super) struct Stream {
    /// What the client sends, and what the server sends.
    pub(super) halves: [Half; 2],
    /// Whether the client is a scripted peer.
    pub(super) scripted: bool,
    /// Whether the client is a scripted peer that still exists, and was neither closed nor reset.
    pub(super) client_stands: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Client,
    Server,
}

#[derive(Default)]
pub(super) struct Half {
    /// Determines its bytes.
    key: u64,
    /// How many bytes its sender's kernel or loop has taken.
    pub(super) written: usize,
    /// How many bytes its receiver has consumed.
    pub(super) received: usize,
    /// Whether its sender has asked for an end after what was written.
    pub(super) end_asked: bool,
    /// Whether some of it was dropped by the code it was handed to.
    pub(super) torn: bool,
    /// Whether its receiver has seen the orderly end.
    pub(super) end_seen: bool,
    /// Whether it ends in the middle of an answer: then no orderly end may be seen.
    pub(super) cut_short: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    New,
    Connecting,
    Made,
    Ended,
    Lost,
}

impl Phase {
    /// Returns whether its end is still to be reported.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Phase::Connecting | Phase::Made | Phase::Ended)
    }
}

pub(super) struct Connection {
    pub(super) host: usize,
    pub(super) side: Side,
    pub(super) stream: Option<usize>,
    pub(super) id: Option<ConnectionId>,
    pub(super) phase: Phase,
    /// Which of its protocols is the present one.
    pub(super) instance: u32,
    /// How many times a protocol was started on it, which inherits nothing.
    pub(super) life: u32,
    /// A protocol was started that has not been told yet that the connection is made.
    pub(super) starting: bool,
    /// Timeouts that were set by a callback, with the life in which that was, or removed.
    pub(super) timeouts: Vec<(Timeout, Option<u32>)>,
    /// Its protocol says that it is in the middle of an answer.
    pub(super) answering: bool,
    /// An end was requested: nothing may be delivered any more.
    pub(super) closing: bool,
    /// Nothing that is written may be accepted any more.
    pub(super) write_shut: bool,
    /// An orderly end of what it sends was requested, whatever comes later.
    pub(super) fin_asked: bool,
    pub(super) paused: bool,
    /// `pause_writing` was the last of the two mark callbacks.
    pub(super) over: bool,
    pub(super) producing: Producing,
    /// It is to be told that its loop drains.
    pub(super) untold_of_drain: bool,
    /// How many bytes it left the last time it was given data.
    pub(super) left: usize,
    pub(super) limits: Limits,
    /// Its limits before they were changed for it alone.
    pub(super) initial: Option<Limits>,
    /// What it connects to, if it does.
    pub(super) dial: Option<Dial>,
    /// How many writes requested from a handle may not have been made yet: no other write may overtake them.
    pub(super) handle_writes: usize,
    pub(super) asked: Asked,
    /// How much the other end had sent when it was closed, and whether all of that had been delivered.
    pub(super) sent_to_it: usize,
    pub(super) was_quiet: bool,
    pub(super) lost_reason: &'static str,
    pub(super) lost_in_step: u64,
}

/// What was done that a reason may name.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) close: bool,
    pub(super) fail: bool,
    pub(super) abort: bool,
    /// By a handle: when it takes effect is not visible.
    pub(super) command: bool,
    pub(super) detach: bool,
    pub(super) panic: bool,
    pub(super) overconsume: bool,
    pub(super) timeout: bool,
}

pub(super) struct Listening {
    pub(super) host: usize,
    pub(super) id: ListenerId,
    /// One address, or several.
    pub(super) at: Vec<SocketAddr>,
    pub(super) limits: Limits,
    pub(super) paused: bool,
    pub(super) closed: bool,
}

/// Returns the byte at a position of a half's stream. No other half has the same bytes there for long.
fn byte(key: u64, at: usize) -> u8 {
    let number = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (at as u64).wrapping_add(number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 56) as u8
}

impl Ledger {
    fn new(seed: u64, limits: LoopLimits) -> Ledger {
        Ledger {
            random: Random::new(seed),
            limits,
            streams: Vec::new(),
            by_client: BTreeMap::new(),
            connections: Vec::new(),
            ids: BTreeMap::new(),
            timers: Vec::new(),
            timers_set: 0,
            listeners: Vec::new(),
            bound: Vec::new(),
            sent: Vec::new(),
            copies_max: 1,
            violations: Vec::new(),
            coverage: Coverage::default(),
            step: 0,
            panics: [0; 2],
            actions: 0,
            ending_since: BTreeMap::new(),
            fatal: false,
            failing: Vec::new(),
            unreadable: Vec::new(),
            patient: false,
            ending: [false; 2],
            write_max: 0,
            write_bound: 0,
            restored: 0,
            protocols: 0,
            calls: Vec::new(),
            inside: None,
        }
    }

    /// Starts over.
    pub(super) fn begin(seed: u64, limits: LoopLimits) {
        with(|ledger| *ledger = Ledger::new(seed, limits));
    }

    pub(super) fn violated(&mut self, what: impl Into<String>) {
        if self.violations.len() < 5 {
            self.violations.push(what.into());
        }
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(what());
        }
    }

    // Streams and their bytes.

    /// Returns the stream of a client's address.
    pub(super) fn stream_of(&mut self, client: SocketAddr) -> usize {
        match self.by_client.get(&client) {
            Some(&stream) => stream,
            None => {
                let stream = self.new_stream();
                self.by_client.insert(client, stream);
                stream
            }
        }
    }

    /// Makes a stream whose client has no address yet.
    pub(super) fn new_stream(&mut self) -> usize {
        let key = 2 * self.streams.len() as u64 + 1;
        let halves = [key, key + 1].map(|key| Half { key, ..Half::default() });
        self.streams.push(Stream { halves, scripted: false, client_stands: false });
        self.streams.len() - 1
    }

    /// Gives a client that may have written already its address, which its server may have seen before.
    pub(super) fn name_stream(&mut self, index: usize, client: SocketAddr) {
        let Some(before) = self.connections[index].stream else {
            self.connections[index].stream = Some(self.stream_of(client));
            return;
        };
        let stream = *self.by_client.entry(client).or_insert(before);
        if stream != before {
            let written = std::mem::take(&mut self.streams[before].halves[0]);
            let half = std::mem::replace(&mut self.streams[stream].halves[0], written);
            self.check(half.received == 0, || format!("stream {stream}: its client has sent before it was made"));
        }
        self.connections[index].stream = Some(stream);
    }

    pub(super) fn bytes(&self, stream: usize, side: Side, from: usize, count: usize) -> Vec<u8> {
        let key = self.streams[stream].halves[side as usize].key;
        (from..from + count).map(|at| byte(key, at)).collect()
    }

    /// Returns how many bytes have arrived in all.
    pub(super) fn received(&self) -> usize {
        self.streams.iter().flat_map(|stream| &stream.halves).map(|half| half.received).sum()
    }

    /// Checks the bytes from a position on.
    pub(super) fn compare(&mut self, stream: usize, side: Side, from: usize, bytes: &[u8]) {
        if self.is_refusal(stream, side, from, bytes) {
            return;
        }
        let key = self.streams[stream].halves[side as usize].key;
        let wrong = bytes.iter().enumerate().position(|(n, &found)| found != byte(key, from + n));
        if let Some(at) = wrong {
            self.violated(format!("stream {stream}, from the {side:?}: another byte at {}", from + at));
        }
        let written = self.streams[stream].halves[side as usize].written;
        self.check(from + bytes.len() <= written, || format!("stream {stream}: more from the {side:?} than it sent"));
    }

    /// The receiver of a half has seen its orderly end, after this many bytes in all.
    pub(super) fn ended(&mut self, stream: usize, side: Side, bytes: usize) {
        let half = &mut self.streams[stream].halves[side as usize];
        let again = std::mem::replace(&mut half.end_seen, true);
        let (written, asked, torn, cut_short) = (half.written, half.end_asked, half.torn, half.cut_short);
        // A full listener closes newcomers, and a connect closes the attempts that it does not need.
        let scripted = side == Side::Client && self.streams[stream].scripted;
        let held = scripted || self.holds(stream, side);
        let asked = asked || !held;
        self.check(!again, || format!("stream {stream}: the end of the {side:?} comes twice"));
        self.check(!cut_short, || {
            format!("stream {stream}: an orderly end of the {side:?} in the middle of an answer")
        });
        self.check(asked, || format!("stream {stream}: the {side:?} has not ended, and that it has is seen"));
        self.check(bytes == written || torn || !held && bytes == REFUSAL.len(), || {
            format!("stream {stream}: an orderly end of the {side:?} after {bytes} of {written} bytes")
        });
    }

    /// Returns whether both ends of a stream are established in loops, and the client reads no matter what it has to
    /// send: then what the server sends arrives, and after that what the client sends.
    pub(super) fn is_pair(&self, stream: usize) -> bool {
        let stands = |side, reads: bool| {
            let fits = |of: &&Connection| of.stream == Some(stream) && of.side == side && of.phase == Phase::Made;
            let mut of_it = self.connections.iter().filter(fits);
            of_it.any(|of| !of.closing && !of.asked.command && (!reads || !of.limits.pause_reading_over_high))
        };
        stands(Side::Client, true) && stands(Side::Server, false)
    }

    // Connections.

    pub(super) fn connect(&mut self, host: usize, side: Side, stream: Option<usize>) -> usize {
        self.connections.push(Connection {
            host,
            side,
            stream,
            id: None,
            phase: Phase::New,
            instance: 0,
            life: 0,
            starting: false,
            timeouts: Vec::new(),
            answering: false,
            closing: false,
            write_shut: false,
            fin_asked: false,
            paused: false,
            over: false,
            producing: Producing::default(),
            untold_of_drain: false,
            left: 0,
            limits: self.limits.each.clone(),
            initial: None,
            dial: None,
            handle_writes: 0,
            asked: Asked::default(),
            sent_to_it: 0,
            was_quiet: false,
            lost_reason: "",
            lost_in_step: 0,
        });
        self.connections.len() - 1
    }

    /// Returns which side sends to this connection.
    pub(super) fn sender(&self, index: usize) -> Side {
        match self.connections[index].side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    pub(super) fn made(&mut self, index: usize, instance: u32, id: ConnectionId) {
        let connection = &mut self.connections[index];
        let (phase, present) = (connection.phase, connection.instance);
        let fits = match std::mem::take(&mut connection.starting) {
            // The protocol before it may have been told of the end of the peer's stream.
            true => matches!(phase, Phase::Made | Phase::Ended),
            false => {
                connection.phase = Phase::Made;
                matches!((phase, connection.dial.is_some()), (Phase::New, false) | (Phase::Connecting, true))
            }
        };
        self.check(fits, || format!("connection_made of a connection that is {phase:?}"));
        self.check(instance == present, || "made with a protocol that was replaced".into());
        self.named(index, id);
    }

    /// Records the id of a connection.
    pub(super) fn named(&mut self, index: usize, id: ConnectionId) {
        let host = self.connections[index].host;
        self.connections[index].id = Some(id);
        let before = self.ids.insert((host, id), index);
        self.check(before.is_none_or(|before| before == index), || format!("{id} was somebody else's"));
    }

    /// A callback of a protocol is called.
    pub(super) fn enters(&mut self, index: usize, instance: u32, what: &'static str) {
        self.coverage.hit(what);
        let connection = &self.connections[index];
        let (phase, present, starting) = (connection.phase, connection.instance, connection.starting);
        self.check(!starting, || format!("{what} before it was told that it is started"));
        self.check(matches!(phase, Phase::Made | Phase::Ended), || format!("{what} of a connection that is {phase:?}"));
        self.check(instance == present, || format!("{what} for a protocol that was replaced"));
    }

    pub(super) fn data(&mut self, index: usize, data: &[u8], failing: bool) {
        let connection = &self.connections[index];
        let Connection { phase, closing, write_shut, paused, over, left, .. } = *connection;
        let pauses = connection.limits.pause_reading_over_high;
        let Some(stream) = connection.stream else { return };
        self.check(phase != Phase::Ended, || "data behind the end".into());
        self.check(!closing, || "data after close".into());
        self.check(!paused, || "data while reading is paused".into());
        let held_back = over && pauses && !failing && !write_shut;
        self.check(!held_back, || "data while the output is over the mark".into());
        self.check(!data.is_empty(), || "data that is empty".into());
        self.check(data.len() >= left, || format!("{} bytes where {left} were left", data.len()));
        let side = self.sender(index);
        let from = self.streams[stream].halves[side as usize].received;
        self.compare(stream, side, from, data);
    }

    /// Records what a call of `data_received` did with its data; a deliberate panic consumes nothing.
    pub(super) fn consumed(&mut self, index: usize, given: usize, consumed: usize) {
        let side = self.sender(index);
        let connection = &mut self.connections[index];
        let Some(stream) = connection.stream else { return };
        let consumed = consumed.min(given);
        connection.left = given - consumed;
        self.streams[stream].halves[side as usize].received += consumed;
    }

    pub(super) fn eof(&mut self, index: usize, rest: &[u8]) {
        let connection = &mut self.connections[index];
        let Connection { phase, closing, paused, left, .. } = *connection;
        connection.phase = Phase::Ended;
        let Some(stream) = connection.stream else { return };
        connection.left = 0;
        // The end of both halves: nothing more is delivered, and nothing accepted.
        connection.closing |= connection.write_shut;
        self.check(phase == Phase::Made, || format!("the end comes to a connection that is {phase:?}"));
        self.check(!closing, || "the end after close".into());
        self.check(!paused, || "the end while reading is paused".into());
        self.check(rest.len() >= left, || format!("the end with {} bytes where {left} were left", rest.len()));
        let side = self.sender(index);
        let half = &mut self.streams[stream].halves[side as usize];
        let from = half.received;
        half.received += rest.len();
        self.compare(stream, side, from, rest);
        self.ended(stream, side, from + rest.len());
    }

    pub(super) fn mark(&mut self, index: usize, high: bool, queued: usize) {
        let connection = &mut self.connections[index];
        let Connection { closing, over, .. } = *connection;
        let (mark, low) = (connection.limits.queue_bytes_high, connection.limits.queue_bytes_low);
        connection.over = high;
        self.check(!closing, || "a mark after close".into());
        self.check(over != high, || format!("twice the same mark, high: {high}"));
        // What each piece counts besides its bytes.
        let overhead = 64 * (2 * (queued / (16 * 1024)) + 3);
        self.check(!high || queued + overhead > mark, || format!("pause_writing at {queued} bytes, of {mark}"));
        let low = low.min(mark);
        self.check(high || queued <= low, || format!("resume_writing at {queued} bytes, of {low}"));
    }

    /// A timeout is reported: one of the limits, or one that was set in the connection's present life.
    pub(super) fn timed_out(&mut self, index: usize, timeout: Timeout) {
        let Connection { closing, life, ref timeouts, ref limits, .. } = self.connections[index];
        let of_limits = match timeout {
            Timeout::Idle => limits.idle_timeout,
            Timeout::ReadIdle => limits.read_idle_timeout,
            Timeout::Handshake => limits.handshake_timeout,
            _ => limits.total_timeout,
        };
        let set = timeouts.iter().find(|(of, set)| *of == timeout && *set == Some(life));
        let fits = of_limits.is_some() || set.is_some();
        self.check(!closing, || "a timeout after close".into());
        self.check(fits, || format!("a timeout of a protocol before: {timeout:?}"));
        let &Connection { phase, paused, over, write_shut, ref limits, .. } = &self.connections[index];
        let held_back = over && limits.pause_reading_over_high && !write_shut;
        let wanted = phase == Phase::Made && !paused && !held_back;
        self.check(timeout != Timeout::ReadIdle || wanted, || "silence is told though no input is wanted".into());
    }

    /// A connection has ended whose protocol was started, but not told of it.
    pub(super) fn lost_untold(&mut self, index: usize) {
        self.coverage.hit("lost while starting");
        self.connections[index].phase = Phase::Lost;
        self.connections[index].lost_in_step = self.step;
        self.end_of_sending(index);
    }

    pub(super) fn lost(&mut self, index: usize, reason: &CloseReason) {
        let connection = &mut self.connections[index];
        connection.phase = Phase::Lost;
        connection.lost_reason = name(reason);
        connection.lost_in_step = self.step;
        let Connection { host, side, stream, .. } = *connection;
        let asked = &connection.asked;
        let reset = matches!(reason, CloseReason::Reset | CloseReason::Io(_));
        let fits = match reason {
            CloseReason::PeerClosed => stream.is_some_and(|stream| {
                let sender = if side == Side::Client { Side::Server } else { Side::Client };
                self.streams[stream].halves[sender as usize].end_seen
            }),
            CloseReason::Closed => asked.close,
            CloseReason::Protocol(_) => asked.fail,
            CloseReason::Aborted => asked.abort,
            CloseReason::Overconsumed { .. } => asked.overconsume,
            CloseReason::Panic(message) => asked.panic && message == PANIC,
            CloseReason::Detached => asked.detach,
            CloseReason::Shutdown => self.ending[host],
            CloseReason::Timeout(crate::Timeout::Close) => connection.closing || asked.close,
            CloseReason::Timeout(_) => asked.timeout,
            // A signal and a lack of memory pass.
            CloseReason::Io(error) => !is_out_of_buffers(error) && error.kind() != std::io::ErrorKind::Interrupted,
            _ => true,
        };
        // What ends a connection from the other side: the peer's end, or faults in between.
        let stands = side == Side::Server && stream.is_some_and(|stream| self.streams[stream].client_stands);
        self.check(fits, || format!("lost for a reason that nobody gave: {reason}"));
        self.check(!reset || !stands || self.fatal, || format!("lost though the peer stands: {reason}"));
        self.coverage.hit(name(reason));
        self.end_of_sending(index);
        let Connection { side, stream, answering, fin_asked, ref asked, .. } = self.connections[index];
        let fin_asked = fin_asked || asked.close || asked.fail || asked.command;
        let cut_short = matches!(reason, CloseReason::Timeout(_) | CloseReason::Shutdown) && answering && !fin_asked;
        if let Some(stream) = stream.filter(|_| cut_short) {
            self.coverage.hit("cut short");
            self.streams[stream].halves[side as usize].cut_short = true;
        }
    }

    /// From here on an orderly end of what it sent may be seen.
    pub(super) fn end_of_sending(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.write_shut = true;
        let detached = connection.lost_reason == "detached";
        let (side, handle_writes) = (connection.side, connection.handle_writes);
        if let (Some(stream), false) = (connection.stream, detached) {
            let half = &mut self.streams[stream].halves[side as usize];
            half.end_asked = true;
            // Writes requested from a handle may come too late.
            half.torn |= handle_writes > 0;
        }
    }

    /// It is closed, or will be: nothing is delivered from here on.
    pub(super) fn closes(&mut self, index: usize) {
        let sender = self.sender(index);
        let connection = &mut self.connections[index];
        if !std::mem::replace(&mut connection.closing, true) {
            if let Some(stream) = connection.stream {
                let half = &self.streams[stream].halves[sender as usize];
                connection.sent_to_it = half.written;
                connection.was_quiet = half.received + connection.left == half.written;
            }
        }
        self.end_of_sending(index);
    }

    /// Returns one of a host's connections that have not ended, or of those that have.
    pub(super) fn some_connection(&mut self, host: usize, lost: bool) -> Option<usize> {
        let fits = |connection: &Connection| {
            let ended = connection.phase == Phase::Lost && connection.lost_in_step < self.step;
            connection.host == host && if lost { ended } else { connection.phase.is_live() }
        };
        let fitting: Vec<_> = (0..self.connections.len()).filter(|&index| fits(&self.connections[index])).collect();
        (!fitting.is_empty()).then(|| fitting[self.random.below(fitting.len() as u64) as usize])
    }
}
