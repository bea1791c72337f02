//! Timers of protocols, which name them by keys and are told by `timer` (rules C1, C7, and T1 to T3).

use std::time::Duration;

use super::Core;
use super::timers::Due;
use crate::connection::Connection;
use crate::ids::Id;
use crate::time::deadlines::Deadlines;

impl Core {
    pub(super) fn own_timer_is_due(&mut self, id: Id, key: u16) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if let Some(extras) = &mut connection.extras {
            extras.own.timers.take(key);
        }
        if connection.may_wait() {
            self.parts.counters.timers_fired += 1;
            self.parts.time.look_at_clock_anyway();
            self.call(id, "timer", &mut |protocol, transport| protocol.timer(transport, key));
            self.flush(id);
        }
    }
}

impl Deadlines<Due> {
    /// Sets the timer of a connection's protocol that has this key, in place of the one that had it.
    pub(super) fn set_own(&mut self, id: Id, connection: &mut Connection, key: u16, after: Duration) {
        if !connection.may_wait() {
            return;
        }
        let deadline = self.after(after);
        let timers = &mut connection.extras_mut().own.timers;
        match timers.find(key) {
            Ok(timer) => _ = self.reset(timer, deadline),
            Err(place) => timers.insert(place, key, self.set(deadline, Due::Own(key, id.slot, id.generation))),
        }
    }

    /// Returns whether there was one that would have come.
    pub(super) fn cancel_own(&mut self, connection: &mut Connection, key: u16) -> bool {
        let timer = connection.extras.as_mut().and_then(|extras| extras.own.timers.take(key));
        timer.is_some_and(|timer| self.remove(timer).is_some()) && connection.may_wait()
    }
}
