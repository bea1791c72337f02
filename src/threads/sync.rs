//! What `mailbox` and `backlog` use to share data between threads: std's. The model checker in `tests/model`
//! substitutes its own.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
