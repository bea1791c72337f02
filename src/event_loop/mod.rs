//! The owner of everything, and what it is made of: the core that callbacks reach, its turn, and how it serves
//! connections and listeners.

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
mod inspect;
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

/// What happens when a callback panics (rule [E1](crate::guide::rules#e1)). With `panic = "abort"` neither: the process
/// ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It ends its connection, by reset, with [`CloseReason::Panic`](crate::CloseReason::Panic); a listener, a timer or
    /// a source whose call panicked is logged, and the source removed. (Handlers of signals stay, so that SIGTERM is still
    /// heard.) The loop goes on.
    #[default]
    Isolate,
    /// As `Isolate`, but the turn then ends by that panic: it comes out of `turn` and `run`, after all else the turn
    /// had to do, and the loop can still be used. For tests, so that an `assert!` in a callback fails them.
    Propagate,
}

/// The loop: owns listeners, connections, sources and timers, waits for readiness, and calls back.
///
/// One loop is one thread; a program may have many. What it owns is reached through its [`Context`]: from outside by
/// [`context`](EventLoop::context), in callbacks by the one they are handed.
///
/// # A turn
///
/// [`turn`](EventLoop::turn) does the following, once and in this order; what a step causes for itself or for an
/// earlier one waits for the next turn, which then does not sleep. So nobody who keeps making work for himself starves
/// the others (rules [L1](crate::guide::rules#l1) and [L2](crate::guide::rules#l2)).
///
/// 1. **Wait** for events: not at all if work was carried over, else until the next timer or `max_wait`.
/// 2. **Events**: each connection that became ready is read from and written to, each listener accepts, each source's
///    handler is called.
/// 3. **Carried over**: what stopped early in the turn before, by its budget or by a call such as `resume_reading`; and
///    protocols that produce output, each once.
///    Before that, at the beginning of a drain, those are told of it that stand.
/// 4. **Commands** of [`Handle`](crate::Handle)s, up to a limit; the rest is carried over.
/// 5. **Timers** that are due.
/// 6. **Losses**: `connection_lost`, for each connection that ended, or `connect_failed`. Their sockets are closed already.
/// 7. **Flush**: what callbacks wrote to connections other than their own goes out.
/// 8. **Free**: the slots of what is gone.
///
/// Dropping the loop ends every connection with `connection_lost(Shutdown)`; one with output unsent is reset. Commands
/// that are still waiting are dropped unrun before that, and counted in their handles.
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
    /// What the system says, such as having no descriptor left.
    pub fn new() -> io::Result<EventLoop> {
        EventLoop::with_limits(LoopLimits::default())
    }

    /// Makes a loop with limits of its own.
    ///
    /// # Errors
    ///
    /// As [`new`](EventLoop::new).
    pub fn with_limits(limits: impl Into<LoopLimits>) -> io::Result<EventLoop> {
        EventLoop::on(Poller::new()?, Clock::System, limits.into())
    }

    pub(crate) fn on(poller: Poller, clock: Clock, limits: LoopLimits) -> io::Result<EventLoop> {
        let events = poller.events();
        Ok(EventLoop { core: Core::new(poller, clock, limits)?, events })
    }

    /// What callbacks are handed, for use between turns.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(&mut self.core)
    }

    /// Sets what happens when a callback panics.
    pub fn set_panic_policy(&mut self, policy: PanicPolicy) {
        self.core.panics.policy = policy;
    }

    /// Turns until stopped: by [`Context::stop`], [`Handle::stop`](crate::Handle::stop), or a finished
    /// [`Context::drain`] or [`Context::shutdown`]. A stop from before the call counts. Can be called again.
    ///
    /// # Errors
    ///
    /// Only when the poller itself fails; errors of peers end their connections, no more.
    ///
    /// # Panics
    ///
    /// With [`PanicPolicy::Propagate`], when a callback does.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.core.parts.take_stop() {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Like [`run`](EventLoop::run), and also returns when nothing is left to wait for: no listener, connection,
    /// datagram socket, source, timer or completion, those aside that were marked as background ([`Context::set_background`]). Handles do not
    /// count, but commands that they have queued are run before it returns; a drain or a shutdown that has begun is seen
    /// through.
    ///
    /// # Errors
    ///
    /// As [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](EventLoop::run).
    pub fn run_until_idle(&mut self) -> io::Result<()> {
        while !self.core.parts.take_stop() && (self.core.parts.life.is_ending() || !self.core.parts.is_idle()) {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Shuts down, and blocks until all connections and datagram sockets have ended, after `grace` at the latest; see
    /// [`Context::shutdown`], which begins one and returns. Returns [`CutOff`](Ended::CutOff) if some had not ended by then
    /// and were aborted. The loop can be used anew afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](EventLoop::run).
    pub fn shutdown(&mut self, grace: Duration) -> io::Result<Ended> {
        self.core.parts.begin_shutdown(grace, false);
        self.see_the_end()
    }

    /// Drains, and blocks until all connections have ended by themselves, or were closed at the end of `grace`; see
    /// [`Context::drain`], which begins one and returns. Returns [`CutOff`](Ended::CutOff) if some were closed then that the
    /// drain waits for, or if closing what it left took too long. The loop can be used anew afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](EventLoop::run).
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

    /// Does one turn, waiting for at most `max_wait` (`None`: until something happens). May return before without
    /// having done anything.
    ///
    /// For driving the loop from another one: wait for its descriptor ([`AsFd`](std::os::fd::AsFd), where the platform
    /// has one) to be readable or for [`time_to_next`](EventLoop::time_to_next) to pass, then turn with
    /// `Some(Duration::ZERO)`.
    ///
    /// # Errors
    ///
    /// As [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](EventLoop::run).
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        // What is on the ready list now is carried over; what comes on it from here on waits for the next turn.
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

    /// Whether it was asked to stop since this, or [`run`](EventLoop::run), last answered to that: for whoever calls
    /// [`turn`](EventLoop::turn) in a loop of its own.
    #[must_use]
    pub fn take_stop(&mut self) -> bool {
        self.core.parts.take_stop()
    }

    /// How long until the loop needs a turn though no event comes: zero if work was carried over, `None` if only an
    /// event can give it anything to do.
    pub fn time_to_next(&self) -> Option<Duration> {
        self.core.parts.time_to_next()
    }

    /// Whether it stands in memory, on the network of a test (feature `testing`), and not on the system. Then there are no
    /// descriptors: `AsFd` of this panics, and [`Transport::socket`](crate::Transport::socket) returns `None`.
    pub fn is_simulated(&self) -> bool {
        self.core.parts.poller.is_in_memory()
    }
}

/// The poller's descriptor: readable when the loop has events to fetch.
///
/// # Panics
///
/// That of a simulated loop, which has none, and `AsFd` no error to say so by: ask [`is_simulated`](EventLoop::is_simulated)
/// first where a loop may be one.
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
