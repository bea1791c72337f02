//! Idle, handshake and total timeouts of connections (rules X4 and T5).

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Core;
use super::timing::{Due, Purpose};
use crate::connection::{Connection, State};
use crate::ids::Id;
use crate::reason::Timeout;
use crate::sys::deadline_after;
use crate::timeouts::Idle;

impl Core {
    /// Starts the timeouts that a connection's limits give it; before `connection_made`, which may change them.
    pub(super) fn start_timeouts(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        let limits = &connection.terms.limits;
        let (idle, handshake, total) = (limits.idle_timeout, limits.handshake_timeout, limits.total_timeout);
        if idle.is_some() {
            self.set_timeout(id, Timeout::Idle, idle);
        }
        if handshake.is_some() {
            self.set_timeout(id, Timeout::Handshake, handshake);
        }
        if total.is_some() {
            self.set_timeout(id, Timeout::Total, total);
        }
    }

    pub(crate) fn set_timeout(&mut self, id: Id, timeout: Timeout, after: Option<Duration>) {
        let now = self.clock.now();
        let now_ns = self.ns(now);
        let Some(connection) = self.slots.connection_mut(id).filter(|connection| connection.is_alive()) else { return };
        match timeout {
            Timeout::Close => {
                Rc::make_mut(&mut connection.terms).limits.close_timeout = after.unwrap_or(Duration::MAX);
            }
            // They begin when it is made.
            _ if connection.is_connecting() => {
                let limits = &mut Rc::make_mut(&mut connection.terms).limits;
                match timeout {
                    Timeout::Idle => limits.idle_timeout = after,
                    Timeout::Handshake => limits.handshake_timeout = after,
                    Timeout::Total => limits.total_timeout = after,
                    Timeout::Close => {}
                }
            }
            Timeout::Idle => {
                let is_paused = connection.is_paused();
                let set = after.map(|after| Box::new(Idle::new(after, now_ns, is_paused)));
                if let Some(timer) = std::mem::replace(&mut connection.idle, set).and_then(|idle| idle.timer) {
                    self.timers.remove(timer);
                }
                self.run_idle(id);
            }
            Timeout::Handshake => self.set_fixed_timeout(id, Purpose::Handshake, now, after),
            Timeout::Total => self.set_fixed_timeout(id, Purpose::Total, now, after),
        }
    }

    /// One that nothing resets.
    fn set_fixed_timeout(&mut self, id: Id, purpose: Purpose, now: Instant, after: Option<Duration>) {
        if let Some(timer) = self.fixed_timeouts.remove(&(id, purpose)) {
            self.timers.remove(timer);
        }
        if let Some(after) = after {
            let timer = self.timers.insert(deadline_after(now, after), Due::of(purpose, id));
            self.fixed_timeouts.insert((id, purpose), timer);
        }
    }

    /// The connection has ended: nothing of this is left.
    #[cold]
    pub(super) fn drop_fixed_timeouts(&mut self, id: Id) {
        for purpose in [Purpose::Handshake, Purpose::Total] {
            if let Some(timer) = self.fixed_timeouts.remove(&(id, purpose)) {
                self.timers.remove(timer);
            }
        }
    }

    /// Sets the timer of an idle timeout, where it runs and has none.
    pub(super) fn run_idle(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id).filter(|connection| is_judged(connection)) else { return };
        let has_output = connection.queued_bytes() > 0;
        let Some(idle) = connection.idle.as_mut().filter(|idle| idle.timer.is_none() && idle.runs(has_output)) else {
            return;
        };
        let deadline = idle.deadline_ns().and_then(|ns| self.made.checked_add(Duration::from_nanos(ns)));
        if let Some(deadline) = deadline {
            idle.timer = Some(self.timers.insert(deadline, Due::of(Purpose::Idle, id)));
        }
    }

    /// The kernel would take no more, so that from here on the peer is judged by what it takes.
    pub(super) fn judge_by_output(&mut self, id: Id) {
        let now_ns = self.ns(self.clock.now());
        let Some(idle) = self.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut()) else { return };
        if idle.timer.is_none() {
            idle.touch(now_ns);
            self.run_idle(id);
        }
    }

    /// The timer of an idle timeout has fired: bytes may have come or gone meanwhile, or wait to be read.
    pub(super) fn check_idle(&mut self, id: Id, now: Instant) {
        let now_ns = self.ns(now);
        self.settle(id);
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if let Some(idle) = &mut connection.idle {
            idle.timer = None;
        }
        if is_over(connection, now_ns) && connection.queued_bytes() == 0 {
            // Whatever is readable by now is read before it is judged; no event need have told of it yet.
            connection.retry_reading();
            self.turn_began_ns = now_ns;
            self.serve(id);
        }
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if is_over(connection, now_ns) {
            if let Some(idle) = &mut connection.idle {
                idle.touch(now_ns);
            }
            self.tell_timed_out(id, Timeout::Idle);
        }
        self.run_idle(id);
    }

    pub(super) fn fixed_timeout_is_over(&mut self, id: Id, purpose: Purpose, timeout: Timeout) {
        self.fixed_timeouts.remove(&(id, purpose));
        self.tell_timed_out(id, timeout);
    }

    fn tell_timed_out(&mut self, id: Id, timeout: Timeout) {
        if self.slots.connection(id).is_some_and(is_judged) {
            self.call(id, "timed_out", |protocol, transport| protocol.timed_out(transport, timeout));
            self.flush(id);
        }
    }
}

/// Whether timeouts mean anything still: one that is closing has a deadline of its own.
fn is_judged(connection: &Connection) -> bool {
    match connection.state() {
        State::Open | State::ReadClosed | State::FinQueued | State::WriteClosed => true,
        State::Connecting | State::ConnectingFinQueued => false,
        State::Failing | State::Flushing | State::FlushingAfterEnd | State::Detaching => false,
        State::Lingering | State::Lost | State::Gone => false,
    }
}

fn is_over(connection: &Connection, now_ns: u64) -> bool {
    let over = |idle: &Idle| {
        idle.runs(connection.queued_bytes() > 0) && idle.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns)
    };
    is_judged(connection) && connection.idle.as_deref().is_some_and(over)
}
