//! Time as data: which timer is due first, how long a connection has been idle, how long to wait before another try.
//!
//! Nothing here reads a clock: `now` is an argument.

pub(crate) mod heap;
pub(crate) mod idle;
pub(crate) mod retry;
