//! Timers, once and repeating, and what they do.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use super::actions::later;
use super::ledger::{Ledger, PANIC, Phase, with};
use super::program::delay;
use crate::{Context, TimerId, Transport};

pub(super) struct Timer {
    host: usize,
    deadline: Instant,
    id: Option<TimerId>,
    /// In which step it was last set, and its number among all settings.
    step: u64,
    order: u64,
    pub(super) pending: bool,
    /// For a repeating timer: its period, and how many more times it fires.
    period: Option<Duration>,
    ticks_left: u64,
    /// For a protocol's own timer: the connection, which of its protocols has set it, and the key.
    own: Option<(usize, u32, u16)>,
}

impl Ledger {
    fn new_timer(&mut self, host: usize, deadline: Instant, period: Option<Duration>) -> usize {
        let ticks_left = self.random.between(1, 8);
        let (step, order) = (self.step, 0);
        self.timers.push(Timer { host, deadline, id: None, step, order, pending: true, period, ticks_left, own: None });
        let index = self.timers.len() - 1;
        self.set_anew(index, deadline);
        index
    }

    /// Sets a timer again; among equal deadlines it is now the last.
    fn set_anew(&mut self, index: usize, deadline: Instant) {
        self.timers_set += 1;
        let timer = &mut self.timers[index];
        (timer.deadline, timer.step, timer.order) = (deadline, self.step, self.timers_set);
    }

    /// A timer fires, for the first time or again; `missed` of its ticks are reported as skipped.
    fn fires(&mut self, index: usize, now: Instant, missed: u64) {
        let Timer { host, deadline, pending, period, order, own, .. } = self.timers[index];
        self.check(pending, || "a timer that was cancelled, or has fired before".into());
        self.check(now >= deadline, || format!("a timer that is {:?} early", deadline - now));
        let step = self.step;
        let skipped = self.timers.iter().position(|timer| {
            let earlier = (timer.deadline, timer.order) < (deadline, order);
            // Another protocol's own timer may have been cancelled unseen, when its connection ended.
            let is_certain = timer.own.is_none_or(|of| own.is_some_and(|own| (own.0, own.1) == (of.0, of.1)));
            timer.pending && is_certain && timer.host == host && timer.step != step && earlier
        });
        self.check(skipped.is_none(), || format!("timer {index} comes before timer {skipped:?}"));
        let Some(period) = period else {
            self.timers[index].pending = false;
            return self.coverage.hit(if own.is_some() { "own timer" } else { "timer" });
        };
        self.coverage.hit("repeating timer");
        let (mut next, mut skipped) = (deadline + period, 0);
        while next <= now {
            (next, skipped) = (next + period, skipped + 1);
        }
        self.check(missed == skipped, || format!("{missed} ticks missed, not {skipped}"));
        if skipped > 0 {
            self.coverage.hit("missed ticks");
        }
        self.set_anew(index, next);
    }

    /// Returns whether a timer of this host is due and has not been called.
    pub(super) fn has_overdue(&self, host: usize, now: Instant) -> bool {
        self.timers
            .iter()
            .any(|timer| timer.host == host && timer.own.is_none() && timer.pending && timer.deadline <= now)
    }

    /// Returns whether a timer of this connection's present protocol is due and has not been called.
    pub(super) fn has_own_overdue(&self, connection: usize, now: Instant) -> bool {
        let instance = self.connections[connection].instance;
        let of_it = |of: (usize, u32, u16)| (of.0, of.1) == (connection, instance);
        self.timers.iter().any(|timer| timer.own.is_some_and(of_it) && timer.pending && timer.deadline <= now)
    }

    fn own_timer(&self, connection: usize, key: u16) -> Option<usize> {
        let own = Some((connection, self.connections[connection].instance, key));
        self.timers.iter().position(|timer| timer.own == own && timer.pending)
    }

    /// One of a protocol's own timers fires.
    pub(super) fn own_timer_fires(&mut self, connection: usize, key: u16, now: Instant) {
        match self.own_timer(connection, key) {
            Some(timer) => self.fires(timer, now, 0),
            None => self.violated(format!("timer {key} comes, which connection {connection} has not set")),
        }
    }

    /// The loops are dropped, along with their timers.
    pub(super) fn drop_timers(&mut self) {
        self.timers.iter_mut().for_each(|timer| timer.pending = false);
    }
}

pub(super) fn set_timer(ledger: &mut Ledger, context: &mut Context<'_>, connection: usize) {
    let Some(host) = ledger.connections.get(connection).map(|connection| connection.host) else { return };
    let repeats = ledger.random.hits(250);
    ledger.coverage.hit(if repeats { "call_every" } else { "set_timer" });
    let mut delay = delay(ledger);
    if repeats {
        // A timer that ticks in every turn never lets the system rest; nor, for long, does one that ticks all the time.
        delay = delay.max(Duration::from_millis(3));
    }
    let deadline = context.now().checked_add(delay).unwrap_or(context.now() + Duration::from_secs(1 << 33));
    let timer = ledger.new_timer(host, deadline, repeats.then_some(delay));
    let id = match repeats {
        true => context.call_every(delay, move |context, missed| tick(context, timer, connection, missed)),
        false => context.call_later(delay, move |context| tick(context, timer, connection, 0)),
    };
    ledger.timers[timer].id = Some(id);
}

fn tick(context: &mut Context<'_>, index: usize, connection: usize, missed: u64) {
    with(|ledger| {
        ledger.fires(index, context.now(), missed);
        let host = ledger.timers[index].host;
        if ledger.actions > 0 && ledger.random.hits(10) {
            ledger.coverage.hit("panic in a timer");
            ledger.panics[host] += 1;
            // That ends a repeating timer.
            ledger.timers[index].pending = false;
            resume_unwind(Box::new(PANIC));
        }
        let timer = &mut ledger.timers[index];
        timer.ticks_left -= 1;
        if let (Some(_), Some(id), true) = (timer.period, timer.id, timer.ticks_left == 0 || ledger.actions == 0) {
            timer.pending = false;
            ledger.coverage.hit("cancel from its own call");
            let cancelled = context.cancel_timer(id);
            ledger.check(cancelled, || "a repeating timer that runs cannot be cancelled".into());
        }
        later(ledger, context, host, connection);
    });
}

pub(super) fn cancel(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let Some(timer) = some_timer(ledger, host) else { return };
    let pending = std::mem::take(&mut ledger.timers[timer].pending);
    ledger.coverage.hit(if pending { "cancel" } else { "cancel stale" });
    let Some(id) = ledger.timers[timer].id else { return };
    let cancelled = context.cancel_timer(id);
    ledger.check(cancelled == pending, || format!("cancel of timer {timer} answers {cancelled}"));
}

/// Returns whether a protocol may have timers of its own: an end may have begun that was not requested here.
pub(super) fn may_have_own(ledger: &Ledger, transport: &Transport<'_>, connection: usize) -> bool {
    let shown = format!("{transport:?}");
    let is_timed =
        ["Open", "ReadClosed", "FinQueued", "WriteClosed"].iter().any(|state| shown.contains(&format!("({state})")));
    let of = &ledger.connections[connection];
    is_timed && matches!(of.phase, Phase::Made | Phase::Ended) && !of.starting
}

pub(super) fn set_own(ledger: &mut Ledger, transport: &mut Transport<'_>, connection: usize) {
    let (key, delay) = (ledger.random.below(3) as u16, delay(ledger));
    let now = transport.context().now();
    let deadline = now.checked_add(delay).unwrap_or(now + Duration::from_secs(1 << 33));
    let what = match (may_have_own(ledger, transport, connection), ledger.own_timer(connection, key)) {
        (false, _) => "set own timer in vain",
        (true, Some(timer)) => {
            ledger.set_anew(timer, deadline);
            "set own timer again"
        }
        (true, None) => {
            let of = &ledger.connections[connection];
            let (host, instance) = (of.host, of.instance);
            let timer = ledger.new_timer(host, deadline, None);
            ledger.timers[timer].own = Some((connection, instance, key));
            "set own timer"
        }
    };
    ledger.coverage.hit(what);
    transport.set_timer(key, delay);
}

pub(super) fn cancel_own(ledger: &mut Ledger, transport: &mut Transport<'_>, connection: usize) {
    let key = ledger.random.below(3) as u16;
    let timer = ledger.own_timer(connection, key).filter(|_| may_have_own(ledger, transport, connection));
    ledger.coverage.hit(if timer.is_some() { "cancel own timer" } else { "cancel own timer that is not set" });
    if let Some(timer) = timer {
        ledger.timers[timer].pending = false;
    }
    let cancelled = transport.cancel_timer(key);
    ledger.check(cancelled == timer.is_some(), || format!("cancel of timer {key} answers {cancelled}"));
}

pub(super) fn reset(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let Some(timer) = some_timer(ledger, host) else { return };
    let Timer { pending, id: Some(id), .. } = ledger.timers[timer] else { return };
    ledger.coverage.hit(if pending { "reset timer" } else { "reset stale timer" });
    let delay = delay(ledger);
    let deadline = context.now() + delay;
    let set = context.reset_timer(id, delay);
    ledger.check(set == pending, || format!("reset of timer {timer} answers {set}"));
    if set {
        ledger.set_anew(timer, deadline);
    }
}

fn some_timer(ledger: &mut Ledger, host: usize) -> Option<usize> {
    let is_own = |timer: &usize| ledger.timers[*timer].host == host && ledger.timers[*timer].own.is_none();
    let own: Vec<_> = (0..ledger.timers.len()).filter(is_own).collect();
    (!own.is_empty()).then(|| own[ledger.random.below(own.len() as u64) as usize])
}
