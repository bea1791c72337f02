//! Idle, handshake and total timeouts of connections (rules X4 and T5).

use std::time::{Duration, Instant};

use super::timers::{Due, Purpose, earlier};
use super::{Core, Parts};
use crate::CloseReason;
use crate::connection::{Connection, Fixed, Note};
use crate::ids::Id;
use crate::reason::Timeout;
use crate::sys::deadline_after;

impl Core {
    /// Handles the timer of an idle timeout: bytes may have come or gone meanwhile, or wait to be read or sent.
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
        let is_read = !is_over(connection, Timeout::Idle, now_ns);
        let timeout = if is_read { Timeout::ReadIdle } else { Timeout::Idle };
        // If the loop was busy when the timeout expired, the peer gets one more wait in which to send something.
        let has_waited = !is_read && connection.queued_bytes() > 0 || is_over(connection, timeout, waited_until_ns);
        let is_over = is_over(connection, timeout, now_ns);
        let idle = match &mut connection.idle {
            Some(idle) if is_over => idle,
            _ => return self.parts.run_idle(id),
        };
        self.parts.time.cancel(idle.timer.take());
        if !has_waited {
            idle.timer = Some(self.parts.time.set(now, Due::of(Purpose::Idle, id)));
            return;
        }
        match is_read {
            true => connection.touch_read_idle(now_ns),
            false => connection.touch_idle_by_output(now_ns),
        }
        self.tell_timed_out(id, timeout);
        self.parts.run_idle(id);
    }

    /// Checks for activity that no event has reported, before a peer is judged: if output is queued, tries a send; if
    /// the peer is judged by what it sends, and the timeout has expired, tries a read.
    fn look_for_life(&mut self, id: Id, now_ns: u64) {
        let Some(connection) = self.parts.slots.judged_mut(id) else { return };
        let has_output = connection.queued_bytes() > 0;
        if has_output {
            connection.look_for_room();
            self.flush_now(id);
        }
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        let is_idle = !has_output && is_over(connection, Timeout::Idle, now_ns);
        if is_idle || is_over(connection, Timeout::ReadIdle, now_ns) {
            connection.look_for_input();
            self.serve(id);
        }
    }

    /// The time for the handshake has expired. Whatever is readable by then is read before that is reported, and if the
    /// loop was busy when it expired, the peer gets one more wait: what arrives may be the end of the handshake.
    pub(super) fn check_handshake(&mut self, id: Id, deadline: Option<Instant>) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        // The timer stays set until the timeout is reported: the protocol may remove it meanwhile, or set it again.
        let timer = self.parts.time.set(self.parts.time.now(), Due::of(Purpose::Handshake, id));
        connection.move_timer(Timeout::Handshake, timer);
        if deadline.is_some_and(|deadline| deadline > self.parts.time.turn_began()) {
            return;
        }
        if let Some(connection) = self.parts.slots.judged_mut(id) {
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
        if self.parts.slots.judged_mut(id).is_some() {
            self.call(id, "timed_out", &mut |protocol, transport| protocol.timed_out(transport, timeout));
            self.flush(id);
        }
    }
}

impl Parts {
    /// Starts the timeouts of a connection's limits; called before `connection_made`, which may change them.
    pub(super) fn start_timeouts(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        let limits = &connection.settings.limits;
        let (idle, read_idle) = (limits.idle_timeout, limits.read_idle_timeout);
        let (handshake, total) = (limits.handshake_timeout, limits.total_timeout);
        if idle.is_some() {
            self.set_timeout(id, Timeout::Idle, idle);
        }
        if read_idle.is_some() {
            self.set_timeout(id, Timeout::ReadIdle, read_idle);
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
            // They begin with `connection_made`.
            _ if connection.is_to_be_made() => {
                let limits = connection.limits_mut();
                match timeout {
                    Timeout::Idle => limits.idle_timeout = after,
                    Timeout::ReadIdle => limits.read_idle_timeout = after,
                    Timeout::Handshake => limits.handshake_timeout = after,
                    Timeout::Total => limits.total_timeout = after,
                    Timeout::Close | Timeout::Other(_) => {}
                }
            }
            Timeout::Idle | Timeout::ReadIdle => {
                let replaced = connection.set_idle_timeout(timeout, after, now_ns);
                self.time.cancel(replaced);
                self.run_idle(id);
            }
            Timeout::Handshake | Timeout::Total => self.set_fixed_timeout(id, timeout, now, after),
            Timeout::Other(_) => {}
        }
    }

    /// Sets a timeout that nothing resets.
    fn set_fixed_timeout(&mut self, id: Id, timeout: Timeout, now: Instant, after: Option<Duration>) {
        let purpose = if timeout == Timeout::Handshake { Purpose::Handshake } else { Purpose::Total };
        let due = |after| deadline_after(now, after);
        let fixed = after.map(|after| Fixed { timer: self.time.set(due(after), Due::of(purpose, id)), after });
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let replaced = connection.replace_timer(timeout, fixed);
        self.time.cancel(replaced);
    }

    /// Sets the timer of the idle timeouts, if one of them runs and the timer is not set. With output queued it also
    /// fires before the deadline.
    pub(super) fn run_idle(&mut self, id: Id) {
        let Some(connection) = self.slots.judged_mut(id) else { return };
        let read_at = connection.read_idle_deadline_ns().map(|deadline_ns| self.time.instant(deadline_ns));
        let (deadline_ns, has_output) = (connection.idle_deadline_ns(), connection.queued_bytes() > 0);
        let Some(idle) = &mut connection.idle else { return };
        match (idle.timer, read_at) {
            // The timer was set when only the other one ran.
            (Some(timer), Some(read_at)) => self.time.bring_nearer(timer, read_at),
            (Some(_), None) => {}
            (None, _) => {
                let at = deadline_ns.map(|deadline_ns| match has_output {
                    true => self.time.next_look(self.time.clock_ns(), idle.after(), deadline_ns),
                    false => self.time.instant(deadline_ns),
                });
                idle.timer = earlier(at, read_at).map(|at| self.time.set(at, Due::of(Purpose::Idle, id)));
            }
        }
    }

    /// The default action of a timeout (X4). Half an answer must not be taken for the whole, so this is a reset if some
    /// of it is unsent. Otherwise a reset would only destroy what the kernel still holds for a slow peer.
    pub(crate) fn end_after(&mut self, id: Id, timeout: Timeout) {
        let unsent = self.outbox.waiting_bytes(id);
        let Some(connection) = self.slots.connection(id) else { return };
        let is_whole = unsent + connection.queued_bytes() == 0 && !connection.notes.has(Note::Answering);
        match timeout {
            Timeout::Idle | Timeout::ReadIdle | Timeout::Handshake | Timeout::Other(_) if is_whole => {
                self.close_for(id, CloseReason::Timeout(timeout));
            }
            _ => self.finish(id, CloseReason::Timeout(timeout)),
        }
    }
}

/// Returns whether an idle timeout has expired.
fn is_over(connection: &Connection, timeout: Timeout, now_ns: u64) -> bool {
    let deadline_ns = match timeout {
        Timeout::Idle => connection.idle_deadline_ns(),
        _ => connection.read_idle_deadline_ns(),
    };
    connection.state().is_timed() && deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns)
}
