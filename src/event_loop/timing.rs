//! What the loop does by the clock: timers, waits, deadlines.

use std::fmt;
use std::time::{Duration, Instant};

use super::Core;
use super::core::Discarded;
use crate::ids::Id;
use crate::reason::Timeout;
use crate::sys::{Wait, deadline_after};
use crate::{CloseReason, Context, TimerId};

/// What a timer is for.
pub(super) enum Due {
    /// The user's.
    Call { call: Box<dyn FnOnce(&mut Context<'_>)>, background: bool },
    /// A closing connection has waited long enough for its peer, unless that has taken something meanwhile.
    Close(Id),
    /// A lingering connection has discarded input for long enough.
    Linger(Id),
    /// A connection may have been idle for long enough.
    Idle(Id),
    /// A connection has lasted for long enough.
    Total(Id),
    /// A send that only time unblocks is tried again.
    Send(Id),
    /// A listener that failed accepts again.
    Accept(Id),
    /// The grace of a shutdown is over.
    Shutdown,
    /// Buffers that are out of use are given back.
    Decay,
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Due::Call { .. } => "Call",
            Due::Close(_) => "Close",
            Due::Linger(_) => "Linger",
            Due::Idle(_) => "Idle",
            Due::Total(_) => "Total",
            Due::Send(_) => "Send",
            Due::Accept(_) => "Accept",
            Due::Shutdown => "Shutdown",
            Due::Decay => "Decay",
        })
    }
}

/// How long until a send is tried again for which the kernel had no buffers.
const SEND_RETRY: Duration = Duration::from_millis(10);

/// Buffers that were out of use for this long are given back (W3): after a burst, within twice this time.
const DECAY: Duration = Duration::from_secs(1);

impl Core {
    /// The time after `delay` from the real now (T3): the time of the last poll would make a timer that is set after
    /// slow work early.
    pub(super) fn deadline_after(&self, delay: Duration) -> Instant {
        deadline_after(self.clock.now(), delay)
    }

    pub(crate) fn call_later(&mut self, delay: Duration, call: Box<dyn FnOnce(&mut Context<'_>)>) -> TimerId {
        self.set_timer(self.deadline_after(delay), call)
    }

    pub(crate) fn call_at(&mut self, deadline: Instant, call: Box<dyn FnOnce(&mut Context<'_>)>) -> TimerId {
        // One that has passed counts as now: nothing is set before the time of the phase that may be under way.
        self.set_timer(deadline.max(self.clock.now()), call)
    }

    fn set_timer(&mut self, deadline: Instant, call: Box<dyn FnOnce(&mut Context<'_>)>) -> TimerId {
        self.timers_waited_for += 1;
        TimerId(self.timers.insert(deadline, Due::Call { call, background: false }))
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let Some(due) = self.timers.remove(id.0) else { return false };
        if let Due::Call { background: false, .. } = due {
            self.timers_waited_for -= 1;
        }
        self.discarded.push(Discarded::Timer(due));
        true
    }

    pub(super) fn unref_timer(&mut self, id: TimerId) -> bool {
        let Some(Due::Call { background, .. }) = self.timers.get_mut(id.0) else { return false };
        if !std::mem::replace(background, true) {
            self.timers_waited_for -= 1;
        }
        true
    }

    /// How long the next poll may wait.
    pub(super) fn next_wait(&self, max_wait: Option<Duration>) -> Wait {
        if self.has_work() || max_wait == Some(Duration::ZERO) {
            return Wait::Not;
        }
        match (self.timers.next_deadline(), max_wait) {
            (None, None) => Wait::Forever,
            (timer, max_wait) => {
                let now = self.clock.now();
                let limit = max_wait.map(|wait| deadline_after(now, wait));
                let deadline = timer.into_iter().chain(limit).min().expect("one of them is there");
                Wait::Until(now, deadline)
            }
        }
    }

    pub(super) fn time_to_next(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        self.timers.next_deadline().map(|deadline| deadline.saturating_duration_since(self.clock.now()))
    }

    /// Phase: timers. Those that were set before it began.
    pub(super) fn fire_timers(&mut self) {
        if self.timers.next_deadline().is_none() {
            return;
        }
        let now = self.clock.now();
        let mark = self.timers.mark();
        while let Some(due) = self.timers.pop_due(now, mark) {
            self.fire(due, now);
        }
    }

    fn fire(&mut self, due: Due, now: Instant) {
        match due {
            Due::Call { call, background } => {
                self.timers_waited_for -= usize::from(!background);
                self.counters.timers_fired += 1;
                self.guard("a timer", |core| call(&mut Context::new(core)));
            }
            Due::Close(id) => self.check_close_deadline(id),
            Due::Linger(id) => self.finish_begun(id),
            Due::Idle(id) => self.check_idle(id, now),
            Due::Total(id) => self.total_is_over(id),
            Due::Send(id) => self.send_again(id),
            Due::Accept(id) => self.accept_again(id),
            Due::Shutdown => self.abandon_connections(),
            Due::Decay => self.decay(),
        }
    }

    // Deadlines of connections.

    /// The kernel has no buffers for a send, and will not tell when it has: time must (W6).
    pub(super) fn send_later(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if !std::mem::replace(&mut connection.sends_later, true) {
            self.timers.insert(self.deadline_after(SEND_RETRY), Due::Send(id));
        }
    }

    fn send_again(&mut self, id: Id) {
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.sends_later = false;
            self.mark_written_to(id);
        }
    }

    /// A closing connection could not send all: it waits for its peer, for so long (X1).
    pub(super) fn set_close_deadline(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let Some(ending) = &mut connection.ending else { return };
        if ending.timer.is_none() {
            let deadline = deadline_after(self.clock.now(), connection.limits.close_timeout);
            ending.timer = Some(self.timers.insert(deadline, Due::Close(id)));
        }
    }

    /// The deadline began anew with every byte that the kernel took. The timer did not: it is set again here.
    fn check_close_deadline(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let Some(ending) = &mut connection.ending else { return };
        let now = self.clock.now();
        let deadline = ending.progress.map(|progress| deadline_after(progress, connection.limits.close_timeout));
        match deadline {
            Some(deadline) if deadline > now => {
                ending.timer = Some(self.timers.insert(deadline, Due::Close(id)));
            }
            _ => {
                ending.timer = None;
                self.finish(id, CloseReason::Timeout(Timeout::Close));
            }
        }
    }

    /// A closed connection whose peer is still sending: what comes is discarded, for so long (X1).
    pub(super) fn set_linger_deadline(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let deadline = deadline_after(self.clock.now(), connection.limits.linger_timeout);
        let Some(ending) = &mut connection.ending else { return };
        if let Some(timer) = ending.timer.take() {
            self.timers.remove(timer);
        }
        let timer = self.timers.insert(deadline, Due::Linger(id));
        ending.timer = Some(timer);
        self.lingering.insert(timer, id);
    }

    /// Gives the oldest lingering connection up; `false` where there is none.
    pub(super) fn give_up_lingering(&mut self) -> bool {
        let Some((_, id)) = self.lingering.pop_first() else { return false };
        self.finish_begun(id);
        true
    }

    // Buffers.

    /// Has buffers given back after a while, if there are any that could be.
    pub(super) fn start_decay(&mut self) {
        let holds_memory = self.pool.holds_memory() || self.own.holds_memory();
        if holds_memory && !std::mem::replace(&mut self.decaying, true) {
            self.timers.insert(self.deadline_after(DECAY), Due::Decay);
        }
    }

    fn decay(&mut self) {
        self.decaying = false;
        self.pool.decay();
        self.own.decay();
        self.start_decay();
    }
}
