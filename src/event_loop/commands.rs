//! What handles in other threads ask for (rule G1).

use std::collections::VecDeque;

use super::Core;
use crate::Context;
use crate::connection::output::Piece;
use crate::threads::handle::Command;

/// The list of a phase keeps room for so many commands; what a burst has made of it beyond is given back at once.
const KEPT_COMMANDS: usize = 1024;

impl Core {
    /// Whether commands are waiting. One load, and no lock.
    #[inline]
    pub(super) fn has_commands(&self) -> bool {
        self.shared.mailbox.is_occupied()
    }

    /// Phase: commands. Those that were queued before it began, up to a limit.
    #[inline]
    pub(super) fn run_commands(&mut self) {
        if self.has_commands() {
            self.run_batch_of_commands();
        }
    }

    #[cold]
    fn run_batch_of_commands(&mut self) {
        let mut batch = std::mem::take(&mut self.commands);
        self.shared.mailbox.take(&mut batch, self.terms.limits.commands_per_turn_max.max(1));
        while let Some(command) = batch.pop_front() {
            self.counters.commands_run += 1;
            self.run_command(command);
        }
        if batch.capacity() <= KEPT_COMMANDS {
            self.commands = batch;
        }
    }

    fn run_command(&mut self, command: Command) {
        match command {
            Command::Call(call) => {
                self.guard("a posted closure", |core| call(&mut Context::new(core)));
            }
            Command::Write(id, data) => self.write(id.0, Piece::Owned(data)),
            Command::Close(id) => {
                if let Some(mut transport) = Context::new(self).connection(id) {
                    transport.close();
                }
            }
            Command::LookedUp(id, found) => self.looked_up(id.0, found),
            Command::Completed(id, value) => self.completed(id.0, value),
            Command::LookAgain(id) => self.look_at_listener(id.0),
            Command::Abort(id) => {
                if let Some(mut transport) = Context::new(self).connection(id) {
                    transport.abort();
                }
            }
        }
    }

    /// The loop is being dropped: what is waiting is dropped with it, each by itself and guarded.
    pub(super) fn drop_commands(&mut self) {
        let waiting: VecDeque<Command> = self.shared.mailbox.close();
        for command in waiting {
            self.drop_guarded(command);
        }
    }
}
