//! What a read says of what is left, where it is not believed at once (rule R6).
//!
//! A short read of a Unix stream. There only would-block tells that nothing is left: a read stops short behind a message
//! that carried descriptors, and no event tells of what follows it. To read twice for each message costs a system call
//! each; so the second read is put off. While messages come, the next one brings what was left; where none comes for a
//! moment, the read is done.
//!
//! A read that would block, urgent data having been hinted at: `connection/urgent.rs` has the reason.

use std::time::Duration;

use super::timers::{Due, Purpose};
use super::{Core, Parts};
use crate::CloseReason;
use crate::connection::{Ask, Connection, State};
use crate::ids::Id;
use crate::sys::PutOff;

/// A short read is confirmed if nothing has come for so long, or up to twice that: what a peer sent behind descriptors, and
/// nothing after it, is late by as much. With 10 ms, half of the messages of 1,000 busy connections cost a second read.
const MOMENT: Duration = Duration::from_millis(50);

impl Core {
    /// A read would block, and that is not believed: the poller is asked to tell again what there is. Its event comes with
    /// the next wait, and hints at urgent data for as long as some is unread.
    #[cold]
    pub(super) fn confirm_would_block(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if connection.state() == State::Failing {
            // It was confirmed as well as it can be: perhaps no event comes any more.
            return self.end_failing(id);
        }
        match connection.doubt_would_block() {
            Ask::Now => self.have_told_again(id),
            Ask::Later => drop(self.parts.time.set_after(MOMENT, Due::of(Purpose::Ask, id))),
            Ask::Not => {}
        }
    }

    /// A moment is over: the poller is asked once more.
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
    /// Whether the read that would confirm a short one is put off.
    pub(super) fn confirms_later(&mut self, id: Id) -> bool {
        let Some(before) = self.slots.connection_mut(id).and_then(Connection::put_off_reading) else { return false };
        if before == PutOff::No && self.work.put_off(id) {
            self.time.set_after(MOMENT, Due::Confirm);
        }
        true
    }

    /// A moment is over: who has been quiet is read from in the next turn.
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
