//! What other threads use to reach a loop: handles, and the queues between them and it.

pub(crate) mod backlog;
pub(crate) mod completion;
pub(crate) mod handle;
pub(crate) mod mailbox;
mod sync;
