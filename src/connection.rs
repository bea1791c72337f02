//! The state machine of one connection: owns its socket, reads and writes it.
//!
//! It knows no slab, no poller and no clock, and calls no user code: the loop above asks it to read or to send, tells
//! the protocol what came of it, and tells the connection what the protocol wants.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Instant;

use crate::ids::Id;
use crate::input::Input;
use crate::output::{GATHER_MAX, LARGE_BYTES, OutputQueue, Piece, Pool};
use crate::sys::{Blocked, Readiness, Stream, is_blocked};
use crate::timers::Key;
use crate::{Address, CloseReason, Limits, Protocol};

/// The life of a connection. ARCHITECTURE.md has the table of what leads from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Both halves are open.
    Open,
    /// The peer's end of stream was read; we may go on writing.
    ReadClosed,
    /// `shutdown_write` was asked for: what is queued goes out, then FIN. Reading goes on.
    FinQueued,
    /// FIN was sent. Reading goes on.
    WriteClosed,
    /// A send failed. What had arrived before is still delivered, then the connection is lost.
    Failing,
    /// `close` was asked for: what is queued goes out, then it ends.
    Flushing,
    /// The same, and the peer's end of stream was read.
    FlushingAfterEnd,
    /// All is out and FIN sent; what still comes in is discarded, so that no reset of ours destroys the last answer.
    Lingering,
    /// The socket is closed; `connection_lost` is due.
    Lost,
    /// `connection_lost` was delivered; the slot is freed at the turn's end.
    Gone,
}

/// What is known of an end that has begun.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    /// The deadline of the flush or of the lingering, if one is set.
    pub(crate) timer: Option<Key>,
    /// When the kernel last took a byte.
    pub(crate) progress: Option<Instant>,
    /// How much input was discarded while lingering.
    pub(crate) discarded_bytes: usize,
}

impl Ending {
    fn new(reason: CloseReason) -> Box<Ending> {
        Box::new(Ending { reason, timer: None, progress: None, discarded_bytes: 0 })
    }
}

pub(crate) struct Connection {
    /// None once it is lost.
    socket: Option<Stream>,
    /// None while one of its callbacks runs.
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    pub(crate) peer: Address,
    pub(crate) limits: Rc<Limits>,
    /// The listener that accepted it.
    pub(crate) listener: Option<Id>,
    /// Input that the protocol left, if any.
    input: Option<Box<Input>>,
    /// Output that the kernel has not taken, if any.
    output: Option<Box<OutputQueue>>,
    /// Why and how it ends, once that has begun.
    pub(crate) ending: Option<Box<Ending>>,
    /// No data is delivered before there is this much of it, or the end.
    input_low_bytes: usize,
    state: State,
    /// A read may find something. Cleared by would-block only, or by a short read that says as much.
    readable: bool,
    /// A send may be taken. Cleared by would-block only.
    writable: bool,
    /// An event hinted at something special, so that a short read proves nothing.
    hinted: bool,
    /// An event hinted at an error.
    errored: bool,
    /// `connection_made` was called.
    pub(crate) made: bool,
    /// The user paused reading.
    paused: bool,
    /// The queue went over the high mark and has not come down to the low one.
    over_high: bool,
    /// Kept input is to be offered though nothing new came.
    pub(crate) offer_again: bool,
    /// It stands on the ready list.
    pub(crate) carried_over: bool,
    /// It stands on the list of those that others wrote to.
    pub(crate) written_to: bool,
    /// A timer is set for its next send.
    pub(crate) sends_later: bool,
}

/// A protocol on its way through a callback.
pub(crate) struct Lifted {
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) room: usize,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Read {
    Data(usize),
    Blocked,
    End,
    Failed(io::Error),
}

/// What came of sending.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All is out.
    All,
    /// Some is queued.
    Blocked(Blocked),
    Failed(io::Error),
}

/// Which mark the output queue has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    High,
    Low,
}

impl Connection {
    pub(crate) fn new(
        socket: Stream,
        protocol: Box<dyn Protocol>,
        peer: Address,
        limits: Rc<Limits>,
        listener: Option<Id>,
    ) -> Connection {
        Connection {
            socket: Some(socket),
            protocol: Some(protocol),
            peer,
            limits,
            listener,
            input: None,
            output: None,
            ending: None,
            input_low_bytes: 0,
            state: State::Open,
            readable: false,
            writable: true,
            hinted: false,
            errored: false,
            made: false,
            paused: false,
            over_high: false,
            offer_again: false,
            carried_over: false,
            written_to: false,
            sends_later: false,
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn socket(&self) -> Option<&Stream> {
        self.socket.as_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut Stream> {
        self.socket.as_mut()
    }

    /// Whether its socket is still there.
    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, State::Lost | State::Gone)
    }

    /// Notes what an event says. Hints, all of them: what they are worth, only a read or a send tells (R6).
    #[inline]
    pub(crate) fn note(&mut self, readiness: Readiness) {
        let special = readiness.is_read_closed() | readiness.is_error() | readiness.is_priority();
        self.readable |= readiness.is_readable() | special;
        self.writable |= readiness.is_writable() | readiness.is_error();
        self.hinted |= special;
        self.errored |= readiness.is_error();
    }

    /// Looks whether the peer has reset behind its end of stream, if an event hinted at that. Nothing else would tell: a
    /// read finds the end again.
    pub(crate) fn find_reset(&mut self) -> Option<io::Error> {
        if self.state != State::ReadClosed || !std::mem::take(&mut self.errored) {
            return None;
        }
        self.socket.as_ref()?.take_error().unwrap_or_else(Some)
    }

    pub(crate) fn has_error_hint(&self) -> bool {
        self.errored
    }

    /// Takes the protocol out of its slot for a callback, with how much that may gather to be written: no more than
    /// `room`, and no more than fits below the cap (W4).
    #[inline]
    pub(crate) fn lift(&mut self, room: usize) -> Option<Lifted> {
        let room = room.min(self.room());
        Some(Lifted { protocol: self.protocol.take()?, room })
    }

    /// How much may be written before the cap is met.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        match self.can_write() {
            true => self.limits.queue_bytes_max.saturating_sub(self.queued_cost()),
            false => 0,
        }
    }

    // Reading.

    /// Whether something is to be done before it can be read from, which is rare.
    #[inline]
    pub(crate) fn needs_care(&self) -> bool {
        let offers = self.offer_again && self.input.is_some() && self.wants_input();
        !self.made || offers || self.state == State::Lingering
    }

    /// Whether the protocol is to be given input now.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        let open = matches!(self.state, State::Open | State::FinQueued | State::WriteClosed | State::Failing);
        open && self.made && !self.paused && !self.is_held_back()
    }

    /// Whether reading waits until the output has gone down.
    #[inline]
    fn is_held_back(&self) -> bool {
        self.over_high && self.limits.pause_reading_over_high
    }

    /// Whether a read may find something.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let Some(socket) = &mut self.socket else { return Read::Blocked };
        loop {
            match socket.read(buffer) {
                Ok(0) => return Read::End,
                Ok(count) => {
                    if count < buffer.len() && !self.hinted && socket.short_read_empties() {
                        self.readable = false;
                    }
                    return Read::Data(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    self.hinted = false;
                    return Read::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Read::Failed(error),
            }
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) -> bool {
        let changed = self.paused != paused;
        self.paused = paused;
        changed
    }

    /// Reading begins anew: no event will come for what is there already (R2), so it is tried.
    pub(crate) fn retry_reading(&mut self) {
        self.readable = true;
        // Whatever hint came meanwhile is to be found again.
        self.hinted = true;
        self.offer_again = true;
    }

    pub(crate) fn set_input_low_bytes(&mut self, bytes: usize) {
        self.input_low_bytes = bytes;
    }

    /// No data is delivered before there is this much. Never above the limit, or nothing would ever be delivered.
    #[inline]
    pub(crate) fn input_low_bytes(&self) -> usize {
        self.input_low_bytes.min(self.limits.input_bytes_max)
    }

    #[inline]
    pub(crate) fn take_input(&mut self) -> Option<Box<Input>> {
        self.input.take()
    }

    pub(crate) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Whether there is input that only the low mark keeps from the protocol.
    pub(crate) fn withholds_input(&self) -> bool {
        let withheld = |input: &Input| input.rest().len() < self.input_low_bytes();
        self.wants_input() && self.input.as_deref().is_some_and(withheld)
    }

    /// Keeps what the protocol left. Dropped where nothing will be delivered any more.
    pub(crate) fn keep_input(&mut self, mut input: Box<Input>) {
        let delivers = matches!(self.state, State::Open | State::FinQueued | State::WriteClosed | State::Failing);
        if delivers && !input.rest().is_empty() {
            input.trim();
            self.input = Some(input);
        }
    }

    /// The peer's end of stream was read.
    pub(crate) fn peer_ended(&mut self) {
        self.readable = false;
        match self.state {
            State::Open => self.state = State::ReadClosed,
            // Our half is over or about to be: both are.
            State::FinQueued | State::WriteClosed => self.begin_end(true, CloseReason::PeerClosed),
            _ => {}
        }
    }

    // Writing.

    /// Whether what is written now will be sent, and the protocol told of marks.
    #[inline]
    pub(crate) fn can_write(&self) -> bool {
        matches!(self.state, State::Open | State::ReadClosed)
    }

    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// What is queued, as marks and caps count it.
    #[inline]
    pub(crate) fn queued_cost(&self) -> usize {
        self.output.as_ref().map_or(0, |queue| queue.cost())
    }

    /// Puts a piece behind what is queued; the first `skip` bytes of it went out already.
    fn push(&mut self, piece: Piece<'_>, skip: usize, pool: &mut Pool) {
        if skip < piece.bytes().len() {
            self.output.get_or_insert_with(|| pool.take()).push(piece, skip);
        }
    }

    /// Queues a piece; a large one that finds the way free is sent at once, as much of it as goes.
    pub(crate) fn write(&mut self, piece: Piece<'_>, pool: &mut Pool) -> Sent {
        if piece.bytes().len() < LARGE_BYTES {
            self.push(piece, 0, pool);
            return Sent::Blocked(Blocked::UntilEvent);
        }
        if self.output.is_some() {
            self.push(piece, 0, pool);
            return self.send(&[], pool);
        }
        let mut sent = 0;
        let result = self.send_slice(piece.bytes(), &mut sent);
        self.push(piece, sent, pool);
        result
    }

    /// Sends what is queued and then `more`; what the kernel does not take stays queued.
    #[inline]
    pub(crate) fn send(&mut self, more: &[u8], pool: &mut Pool) -> Sent {
        if self.output.is_none() {
            let mut sent = 0;
            let result = self.send_slice(more, &mut sent);
            if sent < more.len() {
                self.push(Piece::Borrowed(more), sent, pool);
            }
            return result;
        }
        self.push(Piece::Borrowed(more), 0, pool);
        let result = self.send_queue();
        if self.output.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.drop_output(pool);
        }
        result
    }

    #[inline]
    fn send_slice(&mut self, bytes: &[u8], sent: &mut usize) -> Sent {
        let Some(socket) = &mut self.socket else { return Sent::All };
        while *sent < bytes.len() {
            if !self.writable {
                return Sent::Blocked(Blocked::UntilEvent);
            }
            match taken(socket.write(&bytes[*sent..])) {
                Taken::Bytes(count) => *sent += count,
                Taken::Nothing(Blocked::UntilEvent) => self.writable = false,
                Taken::Nothing(Blocked::UntilLater) => return Sent::Blocked(Blocked::UntilLater),
                Taken::Failed(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    fn send_queue(&mut self) -> Sent {
        let (Some(socket), Some(queue)) = (&mut self.socket, &mut self.output) else { return Sent::All };
        while !queue.is_empty() {
            if !self.writable {
                return Sent::Blocked(Blocked::UntilEvent);
            }
            let result = if queue.chunks() == 1 {
                socket.write(queue.first())
            } else {
                let mut slices = [IoSlice::new(&[]); GATHER_MAX];
                let count = queue.gather(&mut slices);
                socket.write_vectored(&slices[..count])
            };
            match taken(result) {
                Taken::Bytes(count) => queue.advance(count),
                Taken::Nothing(Blocked::UntilEvent) => self.writable = false,
                Taken::Nothing(Blocked::UntilLater) => return Sent::Blocked(Blocked::UntilLater),
                Taken::Failed(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    fn drop_output(&mut self, pool: &mut Pool) {
        if let Some(queue) = self.output.take() {
            pool.give_back(queue);
        }
    }

    /// Which mark the queue has crossed since the last call (W2): strictly one after the other.
    pub(crate) fn cross_mark(&mut self) -> Option<Mark> {
        if !self.made {
            return None;
        }
        let cost = self.queued_cost();
        let mark = match self.over_high {
            false if cost > self.limits.queue_bytes_high => Mark::High,
            true if cost <= self.limits.low() => Mark::Low,
            _ => return None,
        };
        let was_held_back = self.is_held_back();
        self.over_high = mark == Mark::High;
        if was_held_back && !self.is_held_back() {
            self.retry_reading();
        }
        Some(mark)
    }

    /// Whether nothing is left for the loop to see to after a send: the common case, told quickly.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.output.is_none() && !self.over_high && matches!(self.state, State::Open)
    }

    // Ending.

    /// `close`: what is queued goes out, then it ends. Answers whether this began it.
    pub(crate) fn close(&mut self, reason: CloseReason) -> bool {
        match self.state {
            State::Open | State::FinQueued | State::WriteClosed => self.begin_end(false, reason),
            State::ReadClosed => self.begin_end(true, reason),
            State::Failing
            | State::Flushing
            | State::FlushingAfterEnd
            | State::Lingering
            | State::Lost
            | State::Gone => return false,
        }
        true
    }

    fn begin_end(&mut self, peer_ended: bool, reason: CloseReason) {
        self.state = if peer_ended { State::FlushingAfterEnd } else { State::Flushing };
        self.input = None;
        self.ending = Some(Ending::new(reason));
    }

    /// `shutdown_write`: what is queued goes out, then FIN.
    pub(crate) fn shutdown_write(&mut self) {
        match self.state {
            State::Open => self.state = State::FinQueued,
            State::ReadClosed => self.begin_end(true, CloseReason::PeerClosed),
            _ => {}
        }
    }

    /// Sends FIN, all that was queued being out.
    pub(crate) fn send_fin(&mut self) -> io::Result<()> {
        self.state = match self.state {
            State::FinQueued => State::WriteClosed,
            state => state,
        };
        self.socket.as_ref().map_or(Ok(()), Stream::shutdown_write)
    }

    /// Sending has failed. Answers whether there may be input that is still to be delivered before it is lost (R4).
    pub(crate) fn begin_failing(&mut self, reason: CloseReason, pool: &mut Pool) -> Result<(), CloseReason> {
        self.drop_output(pool);
        // What the mark held back is offered now.
        self.offer_again |= self.is_held_back();
        self.over_high = false;
        match self.state {
            // The first error is the reason, not its echo.
            State::Failing => Ok(()),
            State::Open | State::FinQueued | State::WriteClosed if !self.paused && self.made => {
                self.state = State::Failing;
                self.ending = Some(Ending::new(reason));
                self.readable = true;
                self.hinted = true;
                Ok(())
            }
            _ => Err(reason),
        }
    }

    /// Begins to discard what comes in; `count` bytes have come already. Answers whether that is within the bound.
    pub(crate) fn begin_lingering(&mut self, count: usize) -> bool {
        self.state = State::Lingering;
        self.may_discard(count)
    }

    /// Whether `count` more bytes of input are within what is discarded while lingering.
    pub(crate) fn may_discard(&mut self, count: usize) -> bool {
        let Some(ending) = &mut self.ending else { return false };
        ending.discarded_bytes += count;
        ending.discarded_bytes <= self.limits.linger_bytes_max
    }

    /// Closes the socket, by reset where the reason or unsent output demands it (X5), and notes the reason. Answers what
    /// was known of its end before, for the caller to drop.
    pub(crate) fn lose(&mut self, reason: CloseReason, pool: &mut Pool) -> Option<Box<Ending>> {
        let reset = reason.demands_reset() || self.output.is_some();
        match self.socket.take() {
            Some(socket) if reset => socket.reset(),
            socket => drop(socket),
        }
        self.drop_output(pool);
        self.input = None;
        self.state = State::Lost;
        self.ending.replace(Ending::new(reason))
    }

    pub(crate) fn set_gone(&mut self) {
        self.state = State::Gone;
    }
}

enum Taken {
    Bytes(usize),
    Nothing(Blocked),
    Failed(io::Error),
}

#[inline]
fn taken(result: io::Result<usize>) -> Taken {
    match result {
        // Of a non-empty input (W6).
        Ok(0) => Taken::Failed(io::ErrorKind::WriteZero.into()),
        Ok(count) => Taken::Bytes(count),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Taken::Bytes(0),
        Err(error) => is_blocked(&error).map_or(Taken::Failed(error), Taken::Nothing),
    }
}
