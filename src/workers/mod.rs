//! Work in other threads.

mod pool;

pub use pool::{Job, WorkError, WorkerPool};
