//! How well a loop keeps up: its longest callback, and its lag.
//!
//! Pure data: no clock, times are arguments.

pub(crate) mod counters;
pub(crate) mod report;

use std::fmt;
use std::time::{Duration, Instant};

use crate::LoopLimits;
use crate::health::report::Report;
use crate::ids::Id;

/// How well a loop keeps up, returned by [`Context::health`](crate::Context::health).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The longest callback so far, during which nothing else was served. Zero if callbacks are not timed; see
    /// [`LoopLimits::times_callbacks`](crate::LoopLimits::times_callbacks).
    pub longest_callback: Duration,
    /// Its name, such as `"data_received"`; empty if there was none yet.
    pub longest_callback_name: &'static str,
    /// How long the last turn worked after its wait. Connections that became ready meanwhile waited for that long at
    /// most.
    pub lag: Duration,
    /// The longest that any turn has worked so far.
    pub lag_max: Duration,
    /// How many callbacks or, if those are not timed, turns took longer than
    /// [`LoopLimits::slow_callback_after`](crate::LoopLimits::slow_callback_after).
    pub slow_callbacks: u64,
}

/// The statistics of one connection, returned by [`Transport::stats`](crate::Transport::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// How long it has been in the loop.
    pub age: Duration,
    /// Bytes read from its socket.
    pub bytes_received: u64,
    /// Bytes that were passed to the kernel.
    pub bytes_sent: u64,
    /// Bytes that were written and not yet passed to the kernel.
    pub queued_bytes: usize,
}

/// What a callback was about.
#[derive(Clone, Copy)]
pub(crate) enum About {
    Connection(Id),
    /// The name alone says it.
    Nobody,
}

/// Watches how long callbacks take.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Anything that takes longer is logged as a warning.
    slow: Option<Duration>,
    times_callbacks: bool,
    report: Report,
    /// Warnings about what peers do.
    warnings: Report,
    pub(crate) health: Health,
}

impl Watch {
    pub(crate) fn new(limits: &LoopLimits) -> Watch {
        Watch { slow: limits.slow_callback_after, times_callbacks: limits.times_callbacks, ..Watch::default() }
    }

    #[inline]
    pub(crate) fn times_callbacks(&self) -> bool {
        self.times_callbacks
    }

    /// Notes that a callback has returned.
    #[inline]
    pub(crate) fn note(&mut self, name: &'static str, about: About, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        if took > self.health.longest_callback {
            self.note_longest(name, took);
        }
        if self.slow.is_some_and(|slow| took > slow) {
            self.note_slow(name, about, took, ended);
        }
    }

    #[cold]
    fn note_longest(&mut self, name: &'static str, took: Duration) {
        self.health.longest_callback = took;
        self.health.longest_callback_name = name;
    }

    /// Warns, at most once a second.
    #[cold]
    fn note_slow(&mut self, name: &'static str, about: About, took: Duration, now: Instant) {
        self.health.slow_callbacks += 1;
        let Some(withheld) = self.report.ask(now) else { return };
        let others = if withheld > 0 { format!(" ({withheld} earlier ones were slow too)") } else { String::new() };
        log::warn!("{name}{about} took {} ms; nothing else was served meanwhile{others}", took.as_millis());
    }

    /// Warns about what a peer did, at most once a second.
    pub(crate) fn warn(&mut self, what: &dyn fmt::Display, now: Instant) {
        match self.warnings.ask(now) {
            Some(0) => log::warn!("{what}"),
            Some(withheld) => log::warn!("{what} ({withheld} earlier warnings were withheld)"),
            None => {}
        }
    }

    /// Notes the end of a turn, with the time when it began to work.
    pub(crate) fn note_turn(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.health.lag = took;
        self.health.lag_max = self.health.lag_max.max(took);
        if !self.times_callbacks && self.slow.is_some_and(|slow| took > slow) {
            self.note_slow("a turn", About::Nobody, took, ended);
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Connection(id) => fmt::write(f, format_args!(" of connection {id}")),
            About::Nobody => Ok(()),
        }
    }
}
