//! Reads whose result does not prove that nothing is left, and is not believed at once (rule R6).
//!
//! The first case is a short read of a Unix stream. There only would-block proves that nothing is left: a read stops
//! short behind a message that carried descriptors, and no event announces what follows it. Reading twice for each
//! message would cost a system call each, so the second read is postponed. While messages keep coming, the next one
//! brings what was left; if none comes for a moment, the read is done: 2.02 system calls a message instead of 3.02.
//!
//! The second is a read that would block after urgent data has been hinted at: `connection/urgent.rs` explains why.

use std::time::Duration;

use super::timers::{Due, Purpose};
use super::{Core, Parts};
use crate::CloseReason;
use crate::connection::{Ask, Connection, State};
use crate::ids::Id;
use crate::sys::PutOff;

/// A short read is confirmed if nothing has come for this long, or up to twice as long: data that a peer sends behind
/// descriptors, with nothing after it, is delayed by as much. With 10 ms, half of the messages of 1,000 busy
/// connections cost a second read.
const MOMENT: Duration = Duration::from_millis(50);

impl Core {
    /// A read would block, and that is not believed: asks the poller to report again what there is. Its event comes
    /// with the next wait, and hints at urgent data for as long as some is unread.
    #[cold]
    pub(super) fn confirm_would_block(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if connection.state() == State::Failing {
            // It was confirmed as well as it can be: perhaps no more events come.
            return self.end_failing(id);
        }
        match connection.doubt_would_block() {
            Ask::Now => self.have_told_again(id),
            Ask::Later => drop(self.parts.time.set_after(MOMENT, Due::of(Purpose::Ask, id))),
            Ask::Not => {}
        }
    }

    /// A moment has passed: asks the poller once more.
    pub(super) fn ask_again(&mut self, id: Id) {
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            connection.set_asked();
            self.have_told_again(id);
        }
    }

    fn have_told_again(&mut self, id: Id) {
        let Some(socket) = self.parts.slots.connection_mut(id).and_then(Connection::socket_mut) else { return };
        if let Err(error) = socket.tell_again(&self.parts.poller, id.token()) {
            self.fail_reading(id, CloseReason::from_error(error));
        }
    }
}

impl Parts {
    /// Returns whether the read that would confirm a short one is postponed.
    pub(super) fn confirms_later(&mut self, id: Id) -> bool {
        let Some(before) = self.slots.connection_mut(id).and_then(Connection::put_off_reading) else { return false };
        if before == PutOff::No && self.work.put_off(id) {
            self.time.set_after(MOMENT, Due::Confirm);
        }
        true
    }

    /// A moment has passed: connections that have been quiet are read in the next turn.
    pub(super) fn confirm_reads(&mut self) {
        let mut unconfirmed = self.work.take_unconfirmed();
        unconfirmed.retain(|&id| {
            let before = self.slots.connection_mut(id).map_or(PutOff::No, Connection::pass_put_off);
            if before == PutOff::Waits {
                self.carry_over(id);
            }
            before == PutOff::Renewed
        });
        if self.work.put_off_again(unconfirmed) {
            self.time.set_after(MOMENT, Due::Confirm);
        }
    }
}
