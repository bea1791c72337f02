//! Short reads that most probably have left nothing, confirmed later (rule R6).
//!
//! Of a Unix stream only would-block tells that nothing is left: a read stops short behind a message that carried
//! descriptors, and no event tells of what follows it. To read twice for each message costs a system call each; so the
//! second read is put off. While messages come, the next event brings it; else it is done after a moment, once for all
//! that have come meanwhile.

use std::time::Duration;

use super::Core;
use super::core::reuse;
use super::timing::Due;
use crate::connection::Connection;
use crate::ids::Id;

/// After so long a short read is confirmed: what a peer sent behind descriptors, and nothing after it, is late by that.
const CONFIRMED_AFTER: Duration = Duration::from_millis(10);

/// The list of those that are put off keeps room for so many.
const KEPT: usize = 1024;

impl Core {
    /// Whether the read that would confirm a short one is put off.
    pub(super) fn confirms_later(&mut self, id: Id) -> bool {
        let Some(is_new) = self.slots.connection_mut(id).and_then(Connection::put_off_reading) else { return false };
        if is_new {
            if self.unconfirmed.is_empty() {
                self.timers.insert(self.deadline_after(CONFIRMED_AFTER), Due::Confirm);
            }
            self.unconfirmed.push(id);
        }
        true
    }

    /// The moment is over: all that are put off are read from in the next turn.
    pub(super) fn confirm_reads(&mut self) {
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        for id in unconfirmed.drain(..) {
            if self.slots.connection_mut(id).is_some_and(Connection::is_to_be_confirmed) {
                self.carry_over(id);
            }
        }
        unconfirmed.shrink_to(KEPT);
        reuse(&mut self.unconfirmed, unconfirmed);
    }
}
