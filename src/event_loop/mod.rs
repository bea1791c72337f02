//! The loop and what it is made of: the core that callbacks reach, its turn, and how it serves connections and
//! listeners.

mod accept;
mod broadcast;
mod commands;
mod completions;
mod confirm;
mod connect;
pub(crate) mod context;
mod core;
#[cfg(feature = "testing")]
mod crashing;
pub(crate) mod datagram_transport;
mod datagrams;
mod filtering;
mod following;
mod guard;
mod hoards;
#[cfg(all(test, feature = "testing"))]
pub(crate) mod inspect;
pub(crate) mod joining;
mod life;
mod listen;
pub(crate) mod listener;
mod lookups;
mod own_timers;
mod parts;
mod producing;
mod quick;
mod rates;
mod receive;
mod send;
mod shutdown;
#[cfg(unix)]
mod simulated;
mod slots;
pub(crate) mod source;
mod timeouts;
pub(crate) mod timers;
pub(crate) mod transport;
mod turn;
mod work;

use std::fmt;
use std::io;
use std::time::Duration;

pub(crate) use self::completions::Value;
pub(crate) use self::core::Core;
pub(crate) use self::parts::Parts;
pub(crate) use self::slots::Tenant;
use crate::sys::{Clock, Events, Poller};
use crate::{Context, Ended, LoopLimits};

/// What happens when a callback panics (rule [E1](crate::guide::rules#e1)). With `panic = "abort"` neither applies: the
/// process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The connection is reset, with [`CloseReason::Panic`](crate::CloseReason::Panic). A panic in the callback of a
    /// listener, a timer or a source is logged, and the source is removed. (Signal handlers stay, so that SIGTERM is
    /// still handled.) The loop goes on.
    #[default]
    Isolate,
    /// Like `Isolate`, but the panic resumes at the end of the turn: it unwinds out of `turn` or `run` after everything
    /// else the turn had to do, and the loop stays usable. For tests, so that an `assert!` in a callback fails them.
    Propagate,
}

/// The loop: owns listeners, connections, sources and timers, waits for readiness, and calls back.
///
/// One loop is one thread; a program may have many. Everything that it owns is reached through its [`Context`]:
/// [`context`](EventLoop::context) returns one for use outside of callbacks, and each callback is passed one.
///
/// # A turn
///
/// [`turn`](EventLoop::turn) does the following, once and in this order. Work that a step causes for itself or for an
/// earlier one waits for the next turn, which then does not sleep, so no peer can starve the others (rules
/// [L1](crate::guide::rules#l1) and [L2](crate::guide::rules#l2)).
///
/// 1. **Wait** for events: not at all if work was carried over, otherwise until the next timer or for `max_wait`.
/// 2. **Events**: each connection that became ready is read from and written to, each listener accepts, each source's
///    handler is called.
/// 3. **Carried over**: what stopped early in the previous turn, because of its budget or a call such as
///    `resume_reading`; and protocols that produce output, each once. At the beginning of a drain, established
///    connections are notified first.
/// 4. **Commands** of [`Handle`](crate::Handle)s, up to a limit; the rest is carried over.
/// 5. **Timers** that are due.
/// 6. **Losses**: `connection_lost` for each connection that ended, or `connect_failed`. Their sockets are closed
///    already.
/// 7. **Flush**: sends what callbacks wrote to connections other than their own.
/// 8. **Free**: frees the slots of everything that has ended.
///
/// Dropping the loop ends every connection with `connection_lost(Shutdown)`; one with unsent output is reset. Commands
/// that are still queued are dropped before that without being run, and counted in their handles.
///
/// ```
/// use std::time::Duration;
/// use switchboard::EventLoop;
///
/// let mut event_loop = EventLoop::new()?;
/// event_loop.context().call_later(Duration::from_millis(10), |context| context.stop());
/// event_loop.run()?; // until it is stopped
///
/// event_loop.context().call_later(Duration::from_millis(10), |_| println!("once"));
/// event_loop.run_until_idle()?; // until nothing is left to wait for
///
/// // One turn, for a program that has a loop of its own. Nothing is waited for: it returns at once.
/// event_loop.turn(Some(Duration::ZERO))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EventLoop {
    pub(crate) core: Core,
    events: Events,
}

impl EventLoop {
    /// Makes a loop with the default [`LoopLimits`].
    ///
    /// # Errors
    ///
    /// Any error of the system, such as running out of descriptors.
    pub fn new() -> io::Result<EventLoop> {
        EventLoop::with_limits(LoopLimits::default())
    }

    /// Makes a loop with the given limits.
    ///
    /// # Errors
    ///
    /// See [`new`](EventLoop::new).
    pub fn with_limits(limits: impl Into<LoopLimits>) -> io::Result<EventLoop> {
        EventLoop::on(Poller::new()?, Clock::System, limits.into())
    }

    pub(crate) fn on(poller: Poller, clock: Clock, limits: LoopLimits) -> io::Result<EventLoop> {
        let events = poller.events();
        Ok(EventLoop { core: Core::new(poller, clock, limits)?, events })
    }

    /// Returns the [`Context`] that callbacks are passed, for use between turns.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(&mut self.core)
    }

    /// Sets what happens when a callback panics.
    pub fn set_panic_policy(&mut self, policy: PanicPolicy) {
        self.core.panics.policy = policy;
    }

    /// Runs turns until stopped by [`Context::stop`], [`Handle::stop`](crate::Handle::stop), or the end of a
    /// [`Context::drain`] or [`Context::shutdown`]. A stop requested before the call counts. Can be called again.
    ///
    /// # Errors
    ///
    /// Only if the poller itself fails; errors of peers merely end their connections.
    ///
    /// # Panics
    ///
    /// With [`PanicPolicy::Propagate`], if a callback panics.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.core.parts.take_stop() {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Like [`run`](EventLoop::run), and also returns when nothing is left to wait for: no listener, connection,
    /// datagram socket, source, timer or completion, except those marked as background ([`Context::set_background`]).
    /// Handles do not count, but commands that they have queued are run before it returns; a drain or a shutdown that
    /// has begun is completed.
    ///
    /// # Errors
    ///
    /// See [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// See [`run`](EventLoop::run).
    pub fn run_until_idle(&mut self) -> io::Result<()> {
        while !self.core.parts.take_stop() && (self.core.parts.life.is_ending() || !self.core.parts.is_idle()) {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Shuts down, and blocks until all connections and datagram sockets have ended, for at most `grace`; see
    /// [`Context::shutdown`], which begins a shutdown without blocking. Returns [`CutOff`](Ended::CutOff) if some had
    /// not ended by then and were aborted. The loop can be used again afterwards.
    ///
    /// # Errors
    ///
    /// See [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// See [`run`](EventLoop::run).
    pub fn shutdown(&mut self, grace: Duration) -> io::Result<Ended> {
        self.core.parts.begin_shutdown(grace, false);
        self.see_the_end()
    }

    /// Drains, and blocks until all connections have ended by themselves, or were closed at the end of `grace`; see
    /// [`Context::drain`], which begins a drain without blocking. Returns [`CutOff`](Ended::CutOff) if connections that
    /// the drain waits for had to be closed then, or if closing the remaining ones took too long. The loop can be used
    /// again afterwards.
    ///
    /// # Errors
    ///
    /// See [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// See [`run`](EventLoop::run).
    pub fn drain(&mut self, grace: Duration) -> io::Result<Ended> {
        self.core.parts.begin_drain(grace, false);
        self.see_the_end()
    }

    fn see_the_end(&mut self) -> io::Result<Ended> {
        while self.core.parts.life.is_ending() {
            self.turn(None)?;
        }
        Ok(self.core.parts.life.ended())
    }

    /// Does one turn, waiting for at most `max_wait` (`None`: until something happens). May return early without having
    /// done anything.
    ///
    /// To drive the loop from another one, wait for its descriptor ([`AsFd`](std::os::fd::AsFd), where the platform has
    /// one) to become readable or for [`time_to_next`](EventLoop::time_to_next) to pass, then call this with
    /// `Some(Duration::ZERO)`.
    ///
    /// # Errors
    ///
    /// See [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// See [`run`](EventLoop::run).
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        // What is on the ready list now is carried over; what is added from here on waits for the next turn.
        let carried_over = self.core.parts.work.carried_over();
        let untold_of_drain = self.core.parts.work.untold_of_drain();
        self.core.parts.wait(&mut self.events, max_wait)?;
        self.core.dispatch(&self.events);
        if untold_of_drain > 0 {
            self.core.tell_of_drain(untold_of_drain);
        }
        self.core.serve_carried_over(carried_over);
        self.core.run_commands();
        self.core.fire_timers();
        self.core.deliver_losses();
        self.core.flush_written_to();
        self.core.free_slots();
        #[cfg(test)]
        self.core.parts.check_sums();
        self.core.parts.watch.note_turn(self.core.parts.time.turn_began(), self.core.parts.time.now());
        self.core.panics.rethrow();
        Ok(())
    }

    /// Returns whether a stop was requested since this method or [`run`](EventLoop::run) last reported one, and resets
    /// that. For programs that call [`turn`](EventLoop::turn) in a loop of their own.
    #[must_use]
    pub fn take_stop(&mut self) -> bool {
        self.core.parts.take_stop()
    }

    /// Returns how long until the loop needs a turn even if no event arrives: zero if work was carried over, `None` if
    /// only an event can give it anything to do.
    pub fn time_to_next(&self) -> Option<Duration> {
        self.core.parts.time_to_next()
    }

    /// Returns whether the loop runs in memory, on the simulated network of a test (feature `testing`), rather than on
    /// the system. Such a loop has no descriptors: its `AsFd` panics, and
    /// [`Transport::socket`](crate::Transport::socket) returns `None`.
    pub fn is_simulated(&self) -> bool {
        self.core.parts.poller.is_in_memory()
    }
}

/// The poller's descriptor: readable when the loop has events to fetch.
///
/// # Panics
///
/// If the loop is simulated: it has no descriptor, and `AsFd` cannot return an error. Check
/// [`is_simulated`](EventLoop::is_simulated) first where a loop may be one.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
    target_vendor = "apple"
))]
impl std::os::fd::AsFd for EventLoop {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let registry = self.core.parts.poller.registry();
        let registry =
            registry.expect("a simulated loop has no descriptor to wait for: its network or harness runs it");
        std::os::fd::AsFd::as_fd(registry)
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.core.end_all();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("connections", &self.core.parts.slots.connections())
            .field("counters", &self.core.parts.counters)
            .finish_non_exhaustive()
    }
}
