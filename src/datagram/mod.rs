//! A datagram socket: what it receives, and what waits to be sent (rule U1).
//!
//! Knows no slab, no poller and no clock, and calls no user code.

pub(crate) mod protocol;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::sys::{self, AcceptError, Received};
use crate::time::heap::Key;
use crate::time::retry::Retry;
use crate::{Address, CloseReason, DatagramError, DatagramProtocol, Limits, Readiness};

pub(crate) struct DatagramSocket {
    /// `None` once it has ended.
    socket: Option<sys::Datagram>,
    /// `None` while one of its callbacks runs.
    pub(crate) protocol: Option<Box<dyn DatagramProtocol>>,
    pub(crate) limits: Limits,
    /// The peer that it is connected to.
    peer: Option<Address>,
    state: State,
    /// Whether `connection_made` was called.
    pub(crate) made: bool,
    /// Whether there may be something to receive. Cleared only when receiving would block.
    readable: bool,
    /// Whether its user has paused receiving.
    pub(crate) reading_paused: bool,
    /// Set while receiving keeps failing: it is tried again at this timer.
    backs_off: Option<Key>,
    retry: Retry,
    /// How many receives have failed since the last success.
    failures: u32,
    /// Whether it is on the ready list.
    pub(crate) carried_over: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    sending: Sending,
    /// How often the receiver had no room for the first queued datagram.
    no_room_tries: u32,
    /// Whether an event was requested for when a blocked send can continue.
    pub(crate) awaits_event: bool,
    /// Whether a timer is set that retries a blocked send.
    pub(crate) sends_later: bool,
    /// Whether `pause_writing` was called, and `resume_writing` not since.
    paused: bool,
    /// The errors to pass to `error_received`.
    errors: Vec<DatagramError>,
    dropped: u64,
}

/// The life of a datagram socket.
enum State {
    Open,
    /// Closed by its user: what is queued is sent, until this timer.
    Closing(Option<Key>, CloseReason),
    /// Its socket is closed.
    Lost,
}

/// Whether the system accepts datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Possible,
    /// Sending would block; no event was requested yet.
    Blocked,
    /// Sending would block; an event or a timer will say when to continue.
    Awaited,
}

struct Queued {
    to: Option<Address>,
    data: Vec<u8>,
}

/// The result of a receive.
pub(crate) enum Receive {
    /// This many bytes are in the buffer.
    Datagram {
        count: usize,
        from: Address,
        truncated: bool,
    },
    Blocked,
    /// The error was noted, and the next receive may succeed.
    Failed,
    /// The error was noted, and the next receive would fail as well if it was made at once.
    KeepsFailing,
    /// The socket is no longer valid.
    Invalid(io::Error),
}

/// Which callback about the marks is due.
pub(crate) enum Mark {
    Pause,
    Resume,
}

/// What a queued datagram costs in addition to its bytes, so that tiny ones cannot dodge the marks (W3).
const OVERHEAD_BYTES: usize = 64;

/// How many receives in a row may fail before the next one waits.
const FAILURES_AT_ONCE_MAX: u32 = 16;

/// How often, 10 ms apart, a datagram is retried whose receiver has no room for it, on systems that report this no
/// differently from a datagram for which there will never be room.
const NO_ROOM_TRIES_MAX: u32 = 500;

/// How many errors are kept until they are reported.
const ERRORS_MAX: usize = 64;

impl DatagramSocket {
    pub(crate) fn new(
        socket: sys::Datagram,
        peer: Option<Address>,
        protocol: Box<dyn DatagramProtocol>,
        limits: Limits,
    ) -> DatagramSocket {
        DatagramSocket {
            socket: Some(socket),
            protocol: Some(protocol),
            limits,
            peer,
            state: State::Open,
            made: false,
            readable: false,
            reading_paused: false,
            backs_off: None,
            retry: Retry::default(),
            failures: 0,
            carried_over: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sending: Sending::Possible,
            no_room_tries: 0,
            awaits_event: false,
            sends_later: false,
            paused: false,
            errors: Vec::new(),
            dropped: 0,
        }
    }

    // State.

    pub(crate) fn socket(&self) -> Option<&sys::Datagram> {
        self.socket.as_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut sys::Datagram> {
        self.socket.as_mut()
    }

    pub(crate) fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.socket.is_some()
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(crate) fn queued_cost(&self) -> usize {
        self.queued_bytes + OVERHEAD_BYTES * self.queue.len()
    }

    // Receiving.

    pub(crate) fn note(&mut self, readiness: Readiness) {
        // An error is fetched by a receive; a hint of any other kind costs a receive that would block.
        self.readable |= readiness.is_readable() || readiness.is_error() || readiness.is_read_closed();
        if readiness.is_writable() {
            self.try_again();
        }
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.readable && !self.reading_paused && self.is_open() && self.backs_off.is_none()
    }

    /// Returns how large a buffer it needs: for the longest datagram that it receives whole, and one byte more.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let most = self.socket.as_ref().map_or(0, sys::Datagram::datagram_bytes_max);
        self.limits.datagram_bytes_max.min(most) + 1
    }

    /// Receives one datagram into the buffer, which must be at least as large as needed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Receive {
        let most = self.buffer_bytes().min(buffer.len()) - 1;
        // The whole buffer is offered, whatever the limit: one byte more than the limit shows that a datagram is too
        // long, since safe code cannot read the system's own flag, and some systems report an error for a datagram that
        // is longer than the buffer.
        let Some(socket) = &self.socket else { return Receive::Blocked };
        loop {
            match socket.recv_from(buffer) {
                Ok(Received { count, from }) => {
                    self.has_received();
                    return Receive::Datagram { count: count.min(most), from, truncated: count > most };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_received();
                    self.readable = false;
                    return Receive::Blocked;
                }
                Err(error) if AcceptError::of(&error) == AcceptError::Invalid => return Receive::Invalid(error),
                Err(error) => return self.has_failed(error),
            }
        }
    }

    fn has_received(&mut self) {
        self.failures = 0;
        self.retry.reset();
    }

    /// Notes a failed receive. Most errors are about a datagram that was sent before, and are reported once: received
    /// datagrams are queued behind them. An error for lack of memory comes again.
    fn has_failed(&mut self, error: io::Error) -> Receive {
        self.failures = self.failures.saturating_add(1);
        let keeps_failing = sys::is_out_of_buffers(&error) || self.failures > FAILURES_AT_ONCE_MAX;
        self.note_error(DatagramError::Socket(error));
        if keeps_failing { Receive::KeepsFailing } else { Receive::Failed }
    }

    /// Returns whether it waits before it receives again, since receiving keeps failing.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn backs_off(&self) -> bool {
        self.backs_off.is_some()
    }

    /// Returns how long to wait before receiving again.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.retry.next_delay()
    }

    /// Stops receiving until this timer, or resumes with `None`.
    pub(crate) fn set_backs_off(&mut self, timer: Option<Key>) {
        self.backs_off = timer;
    }

    // Sending.

    /// Connects the socket: from here on it receives from no other peer.
    pub(crate) fn connect(&mut self, to: &Address) -> io::Result<()> {
        self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?.connect(to)?;
        self.peer = Some(to.clone());
        Ok(())
    }

    /// Sends a datagram, or queues it behind those that wait already; `room` says whether the loop's queues may grow.
    pub(crate) fn send(&mut self, data: &[u8], to: Option<&Address>, room: bool) {
        if self.queue.is_empty() && self.sending == Sending::Possible && self.send_now(data, to) {
            return;
        }
        if !room || self.queued_cost() > self.limits.queue_bytes_max {
            self.dropped += 1;
            return;
        }
        self.queued_bytes += data.len();
        self.queue.push_back(Queued { to: to.cloned(), data: data.to_vec() });
    }

    /// Drops everything that is queued.
    pub(crate) fn drop_queued(&mut self) {
        self.dropped += self.queue.len() as u64;
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }

    /// Sends what is queued, up to `most` datagrams. Returns whether to continue at once.
    pub(crate) fn flush(&mut self, most: usize) -> bool {
        for _ in 0..most {
            if self.sending != Sending::Possible {
                return false;
            }
            let Some(Queued { to, data }) = self.queue.pop_front() else {
                // Releases its memory (W3).
                self.queue = VecDeque::new();
                return false;
            };
            if self.send_now(&data, to.as_ref()) {
                self.queued_bytes -= data.len();
            } else {
                self.queue.push_front(Queued { to, data });
            }
        }
        !self.queue.is_empty()
    }

    /// Sends a datagram. Returns `false` if it must wait. Any other error concerns this datagram alone, and is noted.
    fn send_now(&mut self, data: &[u8], to: Option<&Address>) -> bool {
        let Some(socket) = &self.socket else { return true };
        let mut earlier = None;
        let sent = loop {
            let result = match to {
                Some(to) => socket.send_to(data, to),
                None => socket.send(data),
            };
            match result {
                Ok(_) => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sending = Sending::Blocked;
                    break false;
                }
                Err(error)
                    if sys::is_out_of_buffers(&error)
                        && socket.full_receiver_lacks_buffers()
                        && self.no_room_tries < NO_ROOM_TRIES_MAX =>
                {
                    self.no_room_tries += 1;
                    self.sending = Sending::Blocked;
                    break false;
                }
                // The error may be an earlier datagram's: by reporting it, this call has not tried to send this one.
                Err(error) if earlier.is_none() && sys::may_be_of_an_earlier_one(&error) => earlier = Some(error),
                Err(error) => {
                    // The same error twice: it was this datagram's.
                    let earlier = earlier.take().filter(|earlier| earlier.kind() != error.kind());
                    let sent = DatagramError::Send { to: to.cloned(), error };
                    for error in earlier.map(DatagramError::Socket).into_iter().chain([sent]) {
                        push_error(&mut self.errors, &mut self.dropped, error);
                    }
                    break true;
                }
            }
        };
        if sent {
            self.no_room_tries = 0;
        }
        if let Some(error) = earlier {
            self.note_error(DatagramError::Socket(error));
        }
        sent
    }

    /// Notes that a blocked send may succeed now.
    pub(crate) fn try_again(&mut self) {
        self.sending = Sending::Possible;
    }

    pub(crate) fn sending(&self) -> Sending {
        self.sending
    }

    /// Returns whether nothing is queued any more, but an event is still requested.
    pub(crate) fn needs_no_event(&self) -> bool {
        self.awaits_event && self.queue.is_empty()
    }

    pub(crate) fn set_awaited(&mut self) {
        self.sending = Sending::Awaited;
    }

    // Reporting.

    fn note_error(&mut self, error: DatagramError) {
        push_error(&mut self.errors, &mut self.dropped, error);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.is_open() && (self.errors() > 0 || self.mark().is_some())
    }

    /// Returns how many errors are to be reported; all dropped datagrams together count as one.
    pub(crate) fn errors(&self) -> usize {
        self.errors.len() + usize::from(self.dropped > 0)
    }

    /// Takes the next error to report.
    pub(crate) fn take_error(&mut self) -> Option<DatagramError> {
        if !self.errors.is_empty() {
            return Some(self.errors.remove(0));
        }
        // Releases its memory.
        self.errors = Vec::new();
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then_some(DatagramError::Dropped(dropped))
    }

    /// Returns the callback about the marks that is due (W2).
    fn mark(&self) -> Option<Mark> {
        let cost = self.queued_cost();
        match self.paused {
            false if cost > self.limits.queue_bytes_high => Some(Mark::Pause),
            true if cost <= self.limits.low() => Some(Mark::Resume),
            _ => None,
        }
    }

    pub(crate) fn take_mark(&mut self) -> Option<Mark> {
        if !self.is_open() {
            return None;
        }
        let mark = self.mark()?;
        self.paused = matches!(mark, Mark::Pause);
        Some(mark)
    }

    // Ending.

    /// Stops receiving at once; what is queued may still be sent.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.is_open() {
            self.state = State::Closing(None, reason);
        }
    }

    pub(crate) fn is_flushed(&self) -> bool {
        matches!(self.state, State::Closing(..)) && self.queue.is_empty()
    }

    /// Returns whether it is closing, and has no deadline yet.
    pub(crate) fn needs_deadline(&self) -> bool {
        matches!(self.state, State::Closing(None, _))
    }

    pub(crate) fn set_deadline(&mut self, timer: Key) {
        if let State::Closing(deadline, _) = &mut self.state {
            *deadline = Some(timer);
        }
    }

    /// Closes the socket; what is queued counts as dropped. If it was closing already, that reason remains unless
    /// another one is given. Returns the reason, and the timers to remove.
    pub(crate) fn end(&mut self, reason: Option<CloseReason>) -> (CloseReason, [Option<Key>; 2]) {
        self.socket = None;
        self.drop_queued();
        let (timer, begun) = match std::mem::replace(&mut self.state, State::Lost) {
            State::Closing(timer, begun) => (timer, begun),
            _ => (None, CloseReason::Closed),
        };
        (reason.unwrap_or(begun), [timer, self.backs_off.take()])
    }
}

/// Keeps an error for `error_received`. Once [`ERRORS_MAX`] are kept, failed sends are only counted.
fn push_error(errors: &mut Vec<DatagramError>, dropped: &mut u64, error: DatagramError) {
    if errors.len() < ERRORS_MAX {
        errors.push(error);
    } else if let DatagramError::Send { .. } = error {
        *dropped += 1;
    }
}
