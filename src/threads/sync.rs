//! What `mailbox` shares between threads is made of: std's. The model checker under `tests/model` puts its own here.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
