//! Timers of protocols, which are named by keys and reported through `timer` (rules C1, C7, and T1 to T3).

use std::time::Duration;

use super::slots::Slots;
use super::timers::Due;
use crate::connection::Connection;
use crate::ids::Id;
use crate::time::deadlines::Deadlines;

impl Slots {
    /// Removes a timer of a connection's protocol that is due. Returns whether the protocol is to be told.
    pub(super) fn take_due(&mut self, id: Id, key: u16) -> bool {
        let Some(connection) = self.connection_mut(id) else { return false };
        if let Some(extras) = &mut connection.extras {
            extras.own.timers.take(key);
        }
        connection.may_wait()
    }
}

impl Deadlines<Due> {
    /// Sets a timer of a connection's protocol, replacing the one with the same key.
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

    /// Cancels the timer with this key. Returns whether there was one that would have fired.
    pub(super) fn cancel_own(&mut self, connection: &mut Connection, key: u16) -> bool {
        let timer = connection.extras.as_mut().and_then(|extras| extras.own.timers.take(key));
        timer.is_some_and(|timer| self.remove(timer).is_some()) && connection.may_wait()
    }
}
