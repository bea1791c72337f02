//! How a loop of the test kit crashes: nobody is told of anything.

use super::EventLoop;
use super::slots::Slots;
use crate::ids::Range;

impl EventLoop {
    /// Drops the loop as the end of its process does. Of what is the user's only destructors run, where a process would not
    /// even come to those. The sockets are to be gone before.
    pub(crate) fn crash(mut self) {
        drop(std::mem::replace(&mut self.core.parts.slots, Slots::new(Range::of(0))));
        // What has ended already, and nobody was told of.
        drop(self.core.parts.work.take_lost());
        // What is left when the loop is dropped can call nobody: commands, timers, and what waits to be dropped.
    }
}
