//! The poller: sockets register with it, and it waits until some are ready, which it reports by token.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Interest, Token};

use super::memory::{self, InMemory};
use super::names::Answer;
use super::{Clock, Readiness};

/// The maximum number of events that one wait returns; the next one returns the rest (rule L6).
const EVENTS_MAX: usize = 1024;

/// The token of the waker; no slot has it.
const WAKE: usize = usize::MAX;

pub(crate) enum Poller {
    Mio(mio::Poll),
    #[allow(dead_code)] // Only objects in memory make one.
    Memory(memory::Boxed<dyn memory::Poller>),
}

impl Poller {
    /// Returns whether an event is the waker's, which concerns no socket. Only called for tokens that belong to no
    /// connection, so that the events of connections, which are nearly all, do not pay for it.
    pub(crate) fn is_wake(&self, token: usize) -> bool {
        match self {
            Poller::Mio(_) => token == WAKE,
            // Waking it raises no event.
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
    /// An interrupted wait continues for the time that is left (rule L3). Each try counts in `polls`.
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

    /// Returns a number for the loop that it is made for: the next one in the process, or in memory that of its host.
    pub(crate) fn loop_number(&self) -> u64 {
        static LOOPS: AtomicUsize = AtomicUsize::new(0);
        match self {
            Poller::Mio(_) => LOOPS.fetch_add(1, Ordering::Relaxed) as u64,
            Poller::Memory(poller) => poller.loop_number(),
        }
    }

    /// Returns whether its sockets are in memory: then nothing may depend on other threads.
    pub(crate) fn is_in_memory(&self) -> bool {
        !matches!(self, Poller::Mio(_))
    }

    /// Picks how much time some work of a pool takes, if that time passes in memory.
    pub(crate) fn pick_work_time(&self) -> Duration {
        match self {
            Poller::Mio(_) => Duration::ZERO,
            Poller::Memory(poller) => poller.pick_work_time(),
        }
    }

    /// Looks up a name among those that are known in memory. Only called for a poller in memory.
    pub(crate) fn look_up(&self, name: &str, port: u16, answer: Answer) {
        if let Poller::Memory(poller) = self {
            poller.look_up(name, port, answer);
        }
    }

    /// Tells the test kit why a connection ended.
    #[cfg(feature = "testing")]
    pub(crate) fn note_loss(&self, token: usize, reason: &crate::CloseReason) {
        if let Poller::Memory(poller) = self {
            poller.note_loss(token, reason.clone());
        }
    }

    /// Returns the poller that sockets in memory register with.
    pub(super) fn memory(&self) -> io::Result<&dyn memory::Poller> {
        match self {
            Poller::Mio(_) => Err(io::ErrorKind::Unsupported.into()),
            Poller::Memory(poller) => Ok(poller.as_ref()),
        }
    }

    /// Registers a source of mio.
    pub(super) fn register(&self, source: &mut dyn Source, token: usize, interest: Interest) -> io::Result<()> {
        self.registry()?.register(source, Token(token), interest)
    }

    pub(super) fn reregister(&self, source: &mut dyn Source, token: usize, interest: Interest) -> io::Result<()> {
        self.registry()?.reregister(source, Token(token), interest)
    }

    pub(super) fn deregister(&self, source: &mut dyn Source) -> io::Result<()> {
        self.registry()?.deregister(source)
    }

    /// Registers a user's source.
    pub(crate) fn register_source<S: Source + 'static>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Poller::Mio(poll) => poll.registry().register(source, Token(token), interest),
            Poller::Memory(poller) => poller.register_source(source, token),
        }
    }

    pub(crate) fn reregister_source<S: Source + 'static>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Poller::Mio(poll) => poll.registry().reregister(source, Token(token), interest),
            Poller::Memory(poller) => poller.reregister_source(source),
        }
    }

    pub(crate) fn deregister_source<S: Source + 'static>(&self, source: &mut S) -> io::Result<()> {
        match self {
            Poller::Mio(poll) => poll.registry().deregister(source),
            Poller::Memory(poller) => poller.deregister_source(source),
        }
    }

    /// Returns what the test of a simulated loop sends signals of these kinds by.
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(crate) fn signals(&self, signals: &[i32], nameless: &crate::Address) -> io::Result<Box<dyn std::any::Any>> {
        self.memory()?.signals(signals, nameless)
    }

    /// Returns the registry of all other sockets.
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
    /// Only check, without waiting.
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
    /// Returns the events of the batch, by token. The waker's own may be among them: see [`Poller::is_wake`].
    pub(crate) fn iter(&self) -> EventIter<'_> {
        match self {
            Events::Mio(events) => EventIter::Mio(events.iter()),
            Events::Memory(events) => EventIter::Memory(memory::iter(events)),
        }
    }
}

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
    Memory(InMemory<Arc<dyn memory::Waker>>),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Mio(waker) => waker.wake(),
            Waker::Memory(waker) => waker.wake(),
        }
    }
}
