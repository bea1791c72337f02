//! The poller: waits for readiness, and tells of it by token.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use super::memory::{self, InMemory};
use super::{Clock, Datagram, Listener, Stream};
use crate::Address;
#[cfg(unix)]
use crate::UnixAddress;

/// What an event said a source is ready for. Hints, all of them: only trying tells (rule R6).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(2);
    pub(crate) const READ_CLOSED: Readiness = Readiness(4);
    pub(crate) const ERROR: Readiness = Readiness(8);
    pub(crate) const PRIORITY: Readiness = Readiness(16);
    pub(crate) const WRITE_CLOSED: Readiness = Readiness(32);

    /// There may be something to read or to accept.
    pub fn is_readable(self) -> bool {
        self.has(Readiness::READABLE)
    }

    /// There may be room to write.
    pub fn is_writable(self) -> bool {
        self.has(Readiness::WRITABLE)
    }

    /// The peer may have ended its stream.
    pub fn is_read_closed(self) -> bool {
        self.has(Readiness::READ_CLOSED)
    }

    /// Nothing that is written may arrive any more.
    pub fn is_write_closed(self) -> bool {
        self.has(Readiness::WRITE_CLOSED)
    }

    /// There may be an error to fetch.
    pub fn is_error(self) -> bool {
        self.has(Readiness::ERROR)
    }

    /// There may be urgent data.
    pub fn is_priority(self) -> bool {
        self.has(Readiness::PRIORITY)
    }

    /// Whether it says more than readable and writable.
    #[inline]
    pub(crate) fn is_special(self) -> bool {
        self.0 & !(Readiness::READABLE.0 | Readiness::WRITABLE.0) != 0
    }

    #[cfg(feature = "testing")]
    pub(super) fn without(self, hints: Readiness) -> Readiness {
        Readiness(self.0 & !hints.0)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0 as u16
    }

    fn has(self, hint: Readiness) -> bool {
        self.0 & hint.0 != 0
    }

    #[inline]
    fn from_mio(event: &mio::event::Event) -> Readiness {
        // Asked in this order the questions are next to no work, and most events are of this kind.
        if !event.is_error() && !event.is_priority() && !event.is_write_closed() {
            let plain = Readiness(u8::from(event.is_readable()) | u8::from(event.is_writable()) << 1);
            if !event.is_read_closed() {
                return plain;
            }
            return plain | Readiness::READ_CLOSED;
        }
        Readiness::from_special(event)
    }

    #[cold]
    fn from_special(event: &mio::event::Event) -> Readiness {
        Readiness(
            u8::from(event.is_readable())
                | u8::from(event.is_writable()) << 1
                | u8::from(event.is_read_closed()) << 2
                | u8::from(event.is_error()) << 3
                | u8::from(event.is_priority()) << 4
                | u8::from(event.is_write_closed()) << 5,
        )
    }
}

impl std::ops::BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["readable", "writable", "read closed", "error", "priority", "write closed"];
        f.debug_set().entries((0..names.len()).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| names[bit])).finish()
    }
}

/// How many events one wait brings at most; what is ready beyond comes with the next wait (rule L6).
const EVENTS_MAX: usize = 1024;

/// The token of the waker; no slot has it.
const WAKE: usize = usize::MAX;

pub(crate) enum Poller {
    Mio(mio::Poll),
    #[allow(dead_code)] // Only what is in memory makes one.
    Memory(memory::Boxed<dyn memory::Poller>),
}

impl Poller {
    /// Whether an event was the waker's, which says nothing of anybody. Asked only of a token that may name nobody: so
    /// the events of connections, which are nearly all, do not pay for it.
    pub(crate) fn is_wake(&self, token: usize) -> bool {
        match self {
            Poller::Mio(_) => token == WAKE,
            // Its wakes are no events.
            Poller::Memory(_) => false,
        }
    }

    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller::Mio(mio::Poll::new()?))
    }

    pub(crate) fn events(&self) -> Events {
        match self {
            Poller::Mio(_) => Events::Mio(mio::Events::with_capacity(EVENTS_MAX)),
            Poller::Memory(poller) => Events::Memory(poller.events()),
        }
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        match self {
            Poller::Mio(poll) => Ok(Waker::Mio(mio::Waker::new(poll.registry(), Token(WAKE))?)),
            Poller::Memory(poller) => Ok(Waker::Memory(poller.waker())),
        }
    }

    /// Waits until something is ready, until `deadline`, or until woken.
    ///
    /// An interrupted wait goes on with the time that is left (rule L3). Each try counts in `polls`.
    pub(crate) fn wait(&mut self, events: &mut Events, wait: Wait, clock: &Clock, polls: &mut u64) -> io::Result<()> {
        let mut timeout = wait.timeout();
        loop {
            *polls += 1;
            let result = match (&mut *self, &mut *events) {
                (Poller::Mio(poll), Events::Mio(events)) => poll.poll(events, timeout),
                (Poller::Memory(poller), Events::Memory(events)) => poller.poll(events, timeout),
                _ => unreachable!("poller and events are of one backend"),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => timeout = wait.timeout_left(clock.now()),
                result => return result,
            }
        }
    }

    /// Binds and listens. An IPv6 address serves IPv6 alone; on Unix an address is free again at once after a restart.
    pub(crate) fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<Listener> {
        match self {
            Poller::Mio(_) => Listener::bind(address, backlog),
            Poller::Memory(poller) => poller.listen(address, backlog.max(1)).map(Listener::Memory),
        }
    }

    /// Binds and listens on a Unix socket (rule N1).
    #[cfg(unix)]
    pub(crate) fn listen_unix(&self, address: &UnixAddress, mode: Option<u32>, backlog: u32) -> io::Result<Listener> {
        self.registry()?;
        super::unix_listener::UnixListener::bind(address, mode, backlog).map(Listener::Unix)
    }

    /// Takes a listener that somebody else made.
    pub(crate) fn listen_on(&self, listener: std::net::TcpListener) -> io::Result<Listener> {
        self.registry()?;
        Listener::from_std(listener)
    }

    /// The same, of a Unix socket.
    #[cfg(unix)]
    pub(crate) fn listen_on_unix(&self, listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        self.registry()?;
        super::unix_listener::UnixListener::from_std(listener).map(Listener::Unix)
    }

    /// Begins to connect, from a local address where one is given. Whether it stands is told by the first writable event
    /// (rule K1).
    pub(crate) fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        match self {
            Poller::Mio(_) => Stream::connect(address, local),
            Poller::Memory(poller) => poller.connect(address, local).map(Stream::Memory),
        }
    }

    /// Connects to a Unix socket. On most systems that stands at once or fails; no event tells that it does.
    #[cfg(unix)]
    pub(crate) fn connect_unix(&self, address: &UnixAddress) -> io::Result<Stream> {
        self.registry()?;
        super::unix_stream::UnixStream::connect(address).map(Stream::Unix)
    }

    /// Whether what is on it is in memory, and so must not depend on other threads.
    pub(crate) fn is_in_memory(&self) -> bool {
        !matches!(self, Poller::Mio(_))
    }

    /// Binds a datagram socket. An IPv6 address serves IPv6 alone.
    pub(crate) fn bind_datagram(&self, address: &Address) -> io::Result<Datagram> {
        match (self, address) {
            (Poller::Mio(_), &Address::Inet(address)) => Datagram::bind(address),
            #[cfg(unix)]
            (Poller::Mio(_), Address::Unix(address)) => {
                super::unix_datagram::UnixDatagram::bind(address).map(Datagram::Unix)
            }
            (Poller::Memory(poller), &Address::Inet(address)) => poller.bind_datagram(address).map(Datagram::Memory),
            #[cfg(unix)]
            (Poller::Memory(_), Address::Unix(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes a datagram socket that somebody else made.
    pub(crate) fn take_datagram(&self, socket: std::net::UdpSocket) -> io::Result<Datagram> {
        self.registry()?;
        Datagram::from_std(socket)
    }

    /// Tells the test kit why a connection ended.
    #[cfg(feature = "testing")]
    pub(crate) fn note_loss(&self, token: usize, reason: impl FnOnce() -> String) {
        if let Poller::Memory(poller) = self {
            poller.note_loss(token, reason());
        }
    }

    /// Where sockets in memory are registered.
    pub(super) fn memory(&self) -> io::Result<&dyn memory::Poller> {
        match self {
            Poller::Mio(_) => Err(io::ErrorKind::Unsupported.into()),
            Poller::Memory(poller) => Ok(poller.as_ref()),
        }
    }

    /// Where sources of mio's kind are registered.
    pub(crate) fn registry(&self) -> io::Result<&mio::Registry> {
        match self {
            Poller::Mio(poll) => Ok(poll.registry()),
            Poller::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// How long to wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Only look.
    Not,
    /// From the first of these to the second.
    Until(Instant, Instant),
    /// Until something happens.
    Forever,
}

impl Wait {
    fn timeout(self) -> Option<Duration> {
        match self {
            Wait::Not => Some(Duration::ZERO),
            Wait::Until(now, deadline) => Some(deadline.saturating_duration_since(now)),
            Wait::Forever => None,
        }
    }

    fn timeout_left(self, now: Instant) -> Option<Duration> {
        match self {
            Wait::Until(_, deadline) => Wait::Until(now, deadline).timeout(),
            wait => wait.timeout(),
        }
    }
}

/// One batch of events.
pub(crate) enum Events {
    Mio(mio::Events),
    Memory(InMemory<memory::Batch>),
}

impl Events {
    /// The events of the batch, by token; wake-ups are left out.
    pub(crate) fn iter(&self) -> EventIter<'_> {
        match self {
            Events::Mio(events) => EventIter::Mio(events.iter()),
            Events::Memory(events) => EventIter::Memory(memory::iter(events)),
        }
    }
}

/// The waker's own event is among them, with a token that no slot has: see [`Poller::is_wake`].
pub(crate) enum EventIter<'a> {
    Mio(mio::event::Iter<'a>),
    Memory(InMemory<std::slice::Iter<'a, (usize, Readiness)>>),
}

impl Iterator for EventIter<'_> {
    type Item = (usize, Readiness);

    fn next(&mut self) -> Option<(usize, Readiness)> {
        match self {
            EventIter::Mio(events) => events.next().map(|event| (event.token().0, Readiness::from_mio(event))),
            EventIter::Memory(events) => events.next().copied(),
        }
    }
}

/// Ends a wait from another thread.
#[derive(Debug)]
pub(crate) enum Waker {
    Mio(mio::Waker),
    Memory(memory::Boxed<dyn memory::Waker>),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Mio(waker) => waker.wake(),
            Waker::Memory(waker) => waker.wake(),
        }
    }
}

/// What every stream is registered for, once: no further call is needed to write or to stop (edge-triggered).
pub(super) fn stream_interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // Urgent data raises no readable edge of its own, and a read stops short at its mark (rule R6).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}
