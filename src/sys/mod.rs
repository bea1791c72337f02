//! The system: sockets, poller and clock.
//!
//! Each kind of object is an enum with one arm for each backend. Today there is mio's, and for the crate's own tests a
//! scripted one that answers what a test tells it to; what is above does not know which it runs on.

mod accept_error;
mod clock;
mod listener;
mod poller;
#[cfg(test)]
pub(crate) mod script;
mod stream;
#[cfg(unix)]
mod unix_stream;

pub(crate) use accept_error::AcceptError;
pub(crate) use clock::{Clock, deadline_after};
pub(crate) use listener::Listener;
pub use poller::Readiness;
pub(crate) use poller::{Events, Poller, Wait, Waker};
pub(crate) use stream::{Blocked, Stream, is_blocked};
