//! Idle, handshake and total timeouts of connections (rules X4 and T5).

use std::time::{Duration, Instant};

use super::timers::{Due, Purpose};
use super::{Core, Parts};
use crate::CloseReason;
use crate::connection::{Connection, Note};
use crate::ids::Id;
use crate::reason::Timeout;
use crate::sys::deadline_after;
use crate::time::idle::Idle;

impl Core {
    /// The timer of an idle timeout has fired: bytes may have come or gone meanwhile, or wait to be read or sent.
    pub(super) fn check_idle(&mut self, id: Id, now: Instant) {
        self.parts.queue_share(id);
        self.parts.time.look_at_clock();
        if let Some(idle) = self.parts.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut()) {
            idle.timer = None;
        }
        let now_ns = self.parts.time.ns(now);
        self.look_for_life(id, now_ns);
        let waited_until_ns = self.parts.time.ns(self.parts.time.turn_began());
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let is_over_by = |ns| is_over(connection, ns);
        // Where the loop was busy when its time was over, it has one wait to speak in.
        let (is_over, has_waited) = (is_over_by(now_ns), connection.queued_bytes() > 0 || is_over_by(waited_until_ns));
        let Some(idle) = connection.idle.as_mut().filter(|_| is_over) else { return self.parts.run_idle(id) };
        if let Some(timer) = idle.timer.take() {
            self.parts.time.remove(timer);
        }
        if !has_waited {
            idle.timer = Some(self.parts.time.set(now, Due::of(Purpose::Idle, id)));
            return;
        }
        idle.touch(now_ns);
        self.tell_timed_out(id, Timeout::Idle);
        self.parts.run_idle(id);
    }

    /// Looks for what no event has told of, before a peer is judged: where output is queued, a send is tried; else, if its time
    /// is over, a read.
    fn look_for_life(&mut self, id: Id, now_ns: u64) {
        let Some(connection) = self.parts.slots.connection_mut(id).filter(|connection| is_judged(connection)) else {
            return;
        };
        if connection.queued_bytes() > 0 {
            connection.look_for_room();
            self.flush_now(id);
        } else if is_over(connection, now_ns) {
            connection.look_for_input();
            self.serve(id);
        }
    }

    /// The time for the handshake is over. What is readable by then is read before that is told, and where the loop was busy
    /// when it was over, the peer has one wait to speak in: what comes may be the end of the handshake.
    pub(super) fn check_handshake(&mut self, id: Id, deadline: Option<Instant>) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        // It stands until it is told: the protocol may take it away meanwhile, or set it again.
        let timer = self.parts.time.set(self.parts.time.now(), Due::of(Purpose::Handshake, id));
        connection.replace_timer(Timeout::Handshake, Some(timer));
        if deadline.is_some_and(|deadline| deadline > self.parts.time.turn_began()) {
            return;
        }
        if let Some(connection) = self.parts.slots.connection_mut(id).filter(|connection| is_judged(connection)) {
            connection.look_for_input();
            self.parts.time.look_at_clock();
            self.serve(id);
        }
        if self.parts.slots.connection_mut(id).and_then(|connection| connection.timer(Timeout::Handshake))
            == Some(timer)
        {
            self.parts.set_fixed_timeout(id, Timeout::Handshake, self.parts.time.now(), None);
            self.tell_timed_out(id, Timeout::Handshake);
        }
    }

    pub(super) fn total_is_over(&mut self, id: Id) {
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            connection.replace_timer(Timeout::Total, None);
        }
        self.tell_timed_out(id, Timeout::Total);
    }

    fn tell_timed_out(&mut self, id: Id, timeout: Timeout) {
        if self.parts.slots.connection(id).is_some_and(is_judged) {
            self.call(id, "timed_out", &mut |protocol, transport| protocol.timed_out(transport, timeout));
            self.flush(id);
        }
    }
}

impl Parts {
    /// Starts the timeouts that a connection's limits give it; before `connection_made`, which may change them.
    pub(super) fn start_timeouts(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        let limits = &connection.settings.limits;
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
        let now = self.time.now();
        let now_ns = self.time.ns(now);
        let Some(connection) = self.slots.alive_mut(id) else { return };
        match timeout {
            Timeout::Close => {
                connection.limits_mut().close_timeout = after.unwrap_or(Duration::MAX);
            }
            // They begin when it is made.
            _ if connection.is_connecting() => {
                let limits = connection.limits_mut();
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
                    self.time.remove(timer);
                }
                self.run_idle(id);
            }
            Timeout::Handshake | Timeout::Total => self.set_fixed_timeout(id, timeout, now, after),
        }
    }

    /// One that nothing resets.
    fn set_fixed_timeout(&mut self, id: Id, timeout: Timeout, now: Instant, after: Option<Duration>) {
        let purpose = if timeout == Timeout::Handshake { Purpose::Handshake } else { Purpose::Total };
        let timer = after.map(|after| self.time.set(deadline_after(now, after), Due::of(purpose, id)));
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if let Some(replaced) = connection.replace_timer(timeout, timer) {
            self.time.remove(replaced);
        }
    }

    /// Sets the timer of an idle timeout, where it runs and has none. With output queued it comes before the deadline, too.
    pub(super) fn run_idle(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id).filter(|connection| is_judged(connection)) else { return };
        let has_output = connection.queued_bytes() > 0;
        let Some(idle) = connection.idle.as_ref().filter(|idle| idle.timer.is_none() && idle.runs(has_output)) else {
            return;
        };
        let after = idle.after();
        let Some(deadline_ns) = connection.idle_deadline_ns() else { return };
        let at = match has_output {
            true => self.time.next_look(self.time.clock_ns(), after, deadline_ns),
            false => self.time.instant(deadline_ns),
        };
        let timer = self.time.set(at, Due::of(Purpose::Idle, id));
        if let Some(idle) = self.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut()) {
            idle.timer = Some(timer);
        }
    }

    /// What a timeout does unless its protocol does something else (X4). Half an answer must not be taken for the whole, so
    /// where some is unsent it is a reset. Otherwise that would only destroy what the kernel still holds for a slow peer.
    pub(crate) fn end_after(&mut self, id: Id, timeout: Timeout) {
        let unsent = self.outbox.waiting_bytes(id);
        let Some(connection) = self.slots.connection(id) else { return };
        let is_whole = unsent + connection.queued_bytes() == 0 && !connection.notes.has(Note::Answering);
        match timeout {
            Timeout::Idle | Timeout::Handshake if is_whole => self.close_for(id, CloseReason::Timeout(timeout)),
            _ => self.finish(id, CloseReason::Timeout(timeout)),
        }
    }
}

/// Whether timeouts mean anything still: one that is closing has a deadline of its own.
fn is_judged(connection: &Connection) -> bool {
    connection.state().is_timed()
}

fn is_over(connection: &Connection, now_ns: u64) -> bool {
    is_judged(connection) && connection.idle_deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns)
}
