//! Commands from handles on other threads (rule G1).

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use super::lookups::Lookups;
use crate::connection::output::Piece;
use crate::ids::Id;
use crate::threads::backlog::Wake;
use crate::threads::handle::{Command, Inbox};
use crate::{Context, Handle, ListenerId};

/// The list of a phase keeps room for this many commands; memory that a burst has added beyond that is freed at once.
const KEPT_COMMANDS: usize = 1024;

/// The parts of the loop that other threads reach, and what waits for them.
pub(crate) struct Threads {
    inbox: Arc<Inbox>,
    /// The batch that a commands phase runs; empty outside of it.
    batch: VecDeque<Command>,
    /// How many commands a phase runs.
    commands_per_turn_max: usize,
    pub(super) lookups: Lookups,
}

impl Threads {
    pub(super) fn new(inbox: Inbox, commands_per_turn_max: usize, lookups: Lookups) -> Threads {
        let commands_per_turn_max = commands_per_turn_max.max(1);
        Threads { inbox: Arc::new(inbox), batch: VecDeque::new(), commands_per_turn_max, lookups }
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(self.inbox.clone())
    }

    /// Returns a function that makes the loop look at a listener again, callable from any thread.
    pub(crate) fn wake_of(&self, listener: Id) -> Wake {
        let handle = self.handle();
        Arc::new(move || handle.look_again(ListenerId(listener)))
    }

    /// Returns whether commands are waiting. Costs one load, and takes no lock.
    #[inline]
    pub(super) fn has_commands(&self) -> bool {
        self.inbox.mailbox.is_occupied()
    }

    fn take_batch(&mut self) -> VecDeque<Command> {
        let mut batch = std::mem::take(&mut self.batch);
        self.inbox.mailbox.take(&mut batch, self.commands_per_turn_max);
        batch
    }

    /// Puts the emptied batch back, to reuse its memory for the next one.
    fn reuse_batch(&mut self, emptied: VecDeque<Command>) {
        if emptied.capacity() <= KEPT_COMMANDS {
            self.batch = emptied;
        }
    }

    /// Takes a request to stop, if there is one.
    pub(super) fn take_stop(&self) -> bool {
        self.inbox.take_stop()
    }

    /// Refuses commands from here on. Returns those that are waiting.
    fn close(&self) -> VecDeque<Command> {
        self.inbox.mailbox.close()
    }

    #[cfg(test)]
    pub(crate) fn batch_capacity(&self) -> usize {
        self.batch.capacity()
    }
}

impl Core {
    /// Phase: commands. Runs those that were queued before it began, up to a limit.
    #[inline]
    pub(super) fn run_commands(&mut self) {
        if self.parts.threads.has_commands() {
            self.run_batch_of_commands();
        }
    }

    #[cold]
    fn run_batch_of_commands(&mut self) {
        let mut batch = self.parts.threads.take_batch();
        while let Some(command) = batch.pop_front() {
            self.parts.counters.commands_run += 1;
            self.run_command(command);
        }
        self.parts.threads.reuse_batch(batch);
    }

    fn run_command(&mut self, command: Command) {
        match command {
            Command::Call(call) => self.guard_call("a posted closure", call),
            Command::Write(id, data) => self.parts.write(id.0, Piece::Owned(data)),
            Command::Close(id) => {
                if let Some(mut transport) = Context::new(self).connection(id) {
                    transport.close();
                }
            }
            Command::Completed(id, value) => self.completed(id.0, value),
            Command::LookAgain(id) => self.parts.look_at_listener(id.0),
            Command::Drain => {
                let grace = self.parts.threads.inbox.drain.take();
                self.parts.begin_drain(grace, true);
            }
            Command::ShutDown => {
                let grace = self.parts.threads.inbox.shutdown.take();
                self.parts.begin_shutdown(grace, true);
            }
            Command::Abort(id) => {
                if let Some(mut transport) = Context::new(self).connection(id) {
                    transport.abort();
                }
            }
        }
    }

    /// Drops the waiting commands together with the loop, each separately and guarded.
    pub(super) fn drop_commands(&mut self) {
        for command in self.parts.threads.close() {
            self.drop_guarded(command);
        }
    }
}
