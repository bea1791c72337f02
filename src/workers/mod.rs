//! Worker threads, and event loops on several threads (feature `workers`).
//!
//! [`WorkerPool`] runs work that would block a loop. [`EventLoopGroup`] runs several loops, each on a thread of its
//! own, to use more than one core, and spreads the connections of its listeners among them.

mod error;
mod group;
mod group_handle;
mod listen;
mod member;
mod pool;
mod simulated;

pub use error::{GroupError, LoopFailure, WorkError};
pub use group::{EventLoopGroup, GroupBuilder};
pub use group_handle::GroupHandle;
pub use listen::{Distribution, GroupListen, GroupListener};
pub use member::WhenLoopFails;
pub use pool::{Job, WorkerPool};
