//! A datagram socket: what it receives, and what waits to be sent (rule U1).
//!
//! It knows no slab, no poller and no clock, and calls no user code.

pub(crate) mod protocol;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::sys::{self, AcceptError, Received};
use crate::time::heap::Key;
use crate::time::retry::Retry;
use crate::{Address, CloseReason, DatagramError, DatagramProtocol, Limits, Readiness};

pub(crate) struct DatagramSocket {
    /// None once it has ended.
    socket: Option<sys::Datagram>,
    /// None while it runs.
    pub(crate) protocol: Option<Box<dyn DatagramProtocol>>,
    pub(crate) limits: Limits,
    /// Whom it is connected to.
    peer: Option<Address>,
    state: State,
    /// `connection_made` was called.
    pub(crate) made: bool,
    /// There may be something to receive. Cleared by would-block only.
    readable: bool,
    /// Its user wants nothing for now.
    pub(crate) reading_paused: bool,
    /// Receiving goes on failing: it is tried again at this timer.
    backs_off: Option<Key>,
    retry: Retry,
    /// How many receives have failed since one last succeeded.
    failures: u32,
    /// It stands on the ready list.
    pub(crate) carried_over: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    sending: Sending,
    /// How often the first that waits has found no room at its receiver.
    no_room_tries: u32,
    /// An event was asked for, for when a blocked send can go on.
    pub(crate) awaits_event: bool,
    /// A timer is set that tries a blocked send again.
    pub(crate) sends_later: bool,
    /// `pause_writing` was called last, of the two.
    paused: bool,
    /// What `error_received` is to be told.
    errors: Vec<DatagramError>,
    dropped: u64,
}

/// The life of a datagram socket.
enum State {
    Open,
    /// Closed by its user: what is queued goes out, until this timer.
    Closing(Option<Key>, CloseReason),
    /// Its socket is closed.
    Lost,
}

/// Whether the system takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Possible,
    /// It would block; an event was not asked for yet.
    Blocked,
    /// An event, or a timer, will tell.
    Awaited,
}

struct Queued {
    to: Option<Address>,
    data: Vec<u8>,
}

/// What a receive brought.
pub(crate) enum Receive {
    /// This many bytes in the buffer.
    Datagram {
        count: usize,
        from: Address,
        truncated: bool,
    },
    Blocked,
    /// It has noted the error, and the next one may bring something.
    Failed,
    /// It has noted the error, and would fail again if it was done at once.
    KeepsFailing,
    /// The socket is none any more.
    Invalid(io::Error),
}

/// Which callback about the marks is due.
pub(crate) enum Mark {
    Pause,
    Resume,
}

/// What a queued datagram costs beside its bytes, so that tiny ones cannot dodge the marks (W3).
const OVERHEAD_BYTES: usize = 64;

/// So many receives in a row may fail before the next one waits.
const FAILURES_AT_ONCE_MAX: u32 = 16;

/// So often, 10 ms apart, a datagram is tried again whose receiver has no room for it, on systems that say no more of that
/// than of one that it will never have room for.
const NO_ROOM_TRIES_MAX: u32 = 500;

/// How many errors are kept until they are told.
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

    // Looking.

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

    /// How large a buffer it needs: for the longest datagram that it receives whole, and one byte more.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let most = self.socket.as_ref().map_or(0, sys::Datagram::datagram_bytes_max);
        self.limits.datagram_bytes_max.min(most) + 1
    }

    /// Receives one datagram into the buffer, which is as large as it needs, or larger.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Receive {
        let most = self.buffer_bytes().min(buffer.len()) - 1;
        // All of the buffer is offered, whatever the limit: one byte more than comes whole tells a longer one, since the system's
        // own flag is out of reach of safe code, and some systems call a datagram that is longer an error.
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

    /// A receive has failed. Most errors are those of a datagram that was sent before, and are told once: what has arrived
    /// stands behind them. One for lack of memory comes again.
    fn has_failed(&mut self, error: io::Error) -> Receive {
        self.failures = self.failures.saturating_add(1);
        let keeps_failing = sys::is_out_of_buffers(&error) || self.failures > FAILURES_AT_ONCE_MAX;
        self.note_error(DatagramError::Socket(error));
        if keeps_failing { Receive::KeepsFailing } else { Receive::Failed }
    }

    /// Whether it waits before it receives again, since that goes on failing.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn backs_off(&self) -> bool {
        self.backs_off.is_some()
    }

    /// How long to wait before it receives again.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.retry.next_delay()
    }

    /// It receives nothing before this timer; `None` where that is over.
    pub(crate) fn set_backs_off(&mut self, timer: Option<Key>) {
        self.backs_off = timer;
    }

    // Sending.

    /// Connects it: it hears nobody else from here on.
    pub(crate) fn connect(&mut self, to: &Address) -> io::Result<()> {
        self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?.connect(to)?;
        self.peer = Some(to.clone());
        Ok(())
    }

    /// Sends a datagram, or queues it behind what waits already; `room` says whether the loop's queues may grow.
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

    /// Nothing waits any more: what did is dropped.
    pub(crate) fn drop_queued(&mut self) {
        self.dropped += self.queue.len() as u64;
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }

    /// Sends what waits, up to `most` of it. Returns whether it goes on at once.
    pub(crate) fn flush(&mut self, most: usize) -> bool {
        for _ in 0..most {
            if self.sending != Sending::Possible {
                return false;
            }
            let Some(Queued { to, data }) = self.queue.pop_front() else {
                // Its memory is given back (W3).
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

    /// `false` where it must wait. Whatever else goes wrong concerns this datagram alone, and is noted.
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
                // Told by this call, it has kept this datagram from being tried.
                Err(error) if earlier.is_none() && sys::may_be_of_an_earlier_one(&error) => earlier = Some(error),
                Err(error) => {
                    // Twice the same: it was this one's.
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

    /// What blocked may be over.
    pub(crate) fn try_again(&mut self) {
        self.sending = Sending::Possible;
    }

    pub(crate) fn sending(&self) -> Sending {
        self.sending
    }

    /// Nothing waits any more, and an event would tell that it need not.
    pub(crate) fn needs_no_event(&self) -> bool {
        self.awaits_event && self.queue.is_empty()
    }

    pub(crate) fn set_awaited(&mut self) {
        self.sending = Sending::Awaited;
    }

    // What is to be told.

    fn note_error(&mut self, error: DatagramError) {
        push_error(&mut self.errors, &mut self.dropped, error);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.is_open() && (self.errors() > 0 || self.mark().is_some())
    }

    /// How many errors are to be told, the number of those that were dropped among them.
    pub(crate) fn errors(&self) -> usize {
        self.errors.len() + usize::from(self.dropped > 0)
    }

    /// The next error that is to be told.
    pub(crate) fn take_error(&mut self) -> Option<DatagramError> {
        if !self.errors.is_empty() {
            return Some(self.errors.remove(0));
        }
        // Its memory is given back.
        self.errors = Vec::new();
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then_some(DatagramError::Dropped(dropped))
    }

    /// The callback about the marks that is due (W2).
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

    /// Ends reading at once; what is queued may still go out.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.is_open() {
            self.state = State::Closing(None, reason);
        }
    }

    pub(crate) fn is_flushed(&self) -> bool {
        matches!(self.state, State::Closing(..)) && self.queue.is_empty()
    }

    /// It is closing, and nothing bounds for how long yet.
    pub(crate) fn needs_deadline(&self) -> bool {
        matches!(self.state, State::Closing(None, _))
    }

    pub(crate) fn set_deadline(&mut self, timer: Key) {
        if let State::Closing(deadline, _) = &mut self.state {
            *deadline = Some(timer);
        }
    }

    /// Closes the socket; what is queued counts as dropped. Where its end had begun, that reason stands unless another one is
    /// given. Returns the reason, and the timers that are to be removed.
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

/// Keeps an error for `error_received`; of more than a few at a time only the number.
fn push_error(errors: &mut Vec<DatagramError>, dropped: &mut u64, error: DatagramError) {
    if errors.len() < ERRORS_MAX {
        errors.push(error);
    } else if let DatagramError::Send { .. } = error {
        *dropped += 1;
    }
}
