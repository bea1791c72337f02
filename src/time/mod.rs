//! Time as data: which timer is due first, how long a connection has been idle, how long to wait before another try.
//!
//! Only `deadlines`, which is the loop's time, reads a clock: elsewhere `now` is an argument.

pub(crate) mod deadlines;
pub(crate) mod heap;
pub(crate) mod idle;
pub(crate) mod retry;
