//! How a loop of the test kit crashes: no callback is told of anything.

use super::EventLoop;
use super::slots::Slots;
use crate::ids::Range;

impl EventLoop {
    /// Drops the loop as the end of its process would. Of user code only destructors run; in a process not even those
    /// would. The sockets must be gone before.
    pub(crate) fn crash(mut self) {
        drop(std::mem::replace(&mut self.core.parts.slots, Slots::new(Range::of(0))));
        // Losses that no callback was told of.
        drop(self.core.parts.work.take_lost());
        // The rest cannot call user code when the loop is dropped: commands, timers, and values waiting to be dropped.
    }
}
