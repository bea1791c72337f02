//! Work in other threads, and loops in several (feature `workers`).
//!
//! [`WorkerPool`] runs what would block the loop. [`EventLoopGroup`] runs one loop on each of some threads, for more than
//! one core, and shares what it listens on among them.

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
