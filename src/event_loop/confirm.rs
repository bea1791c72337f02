//! Short reads that most probably have left nothing, confirmed later (rule R6).
//!
//! Of a Unix stream only would-block tells that nothing is left: a read stops short behind a message that carried
//! descriptors, and no event tells of what follows it. To read twice for each message costs a system call each; so the
//! second read is put off. While messages come, the next one brings what was left; where none comes for a moment, the
//! read is done.

use std::time::Duration;

use super::Core;
use super::timing::Due;
use crate::connection::Connection;
use crate::ids::Id;
use crate::sys::PutOff;

/// A short read is confirmed if nothing has come for so long, or up to twice that: what a peer sent behind descriptors, and
/// nothing after it, is late by as much. With 10 ms, half of the messages of 1,000 busy connections cost a second read.
const MOMENT: Duration = Duration::from_millis(50);

/// The list of those that are put off keeps room for so many.
const KEPT: usize = 1024;

impl Core {
    /// Whether the read that would confirm a short one is put off.
    pub(super) fn confirms_later(&mut self, id: Id) -> bool {
        let Some(before) = self.slots.connection_mut(id).and_then(Connection::put_off_reading) else { return false };
        if before == PutOff::No {
            if self.unconfirmed.is_empty() {
                self.wait_a_moment();
            }
            self.unconfirmed.push(id);
        }
        true
    }

    fn wait_a_moment(&mut self) {
        self.timers.insert(self.deadline_after(MOMENT), Due::Confirm);
    }

    /// A moment is over: who has been quiet is read from in the next turn.
    pub(super) fn confirm_reads(&mut self) {
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        unconfirmed.retain(|&id| {
            let before = self.slots.connection_mut(id).map_or(PutOff::No, Connection::pass_put_off);
            if before == PutOff::Waits {
                self.carry_over(id);
            }
            before == PutOff::Renewed
        });
        unconfirmed.shrink_to(KEPT);
        if !unconfirmed.is_empty() {
            self.wait_a_moment();
        }
        self.unconfirmed = unconfirmed;
    }
}
