//! A small readiness-based event loop: what `select()`, `socketserver` and Twisted's reactor are to Python.

mod address;
mod connection;
mod context;
mod counters;
mod escape;
mod event_loop;
mod handle;
mod ids;
mod limits;
mod listener;
mod output;
mod protocol;
mod reason;
mod source;
mod sys;
#[cfg(test)]
mod tests;
mod timers;
mod transport;

pub use address::Address;
pub use context::{Context, Listening};
pub use counters::Counters;
pub use escape::{Escaped, escape};
pub use event_loop::{EventLoop, PanicPolicy};
pub use handle::Handle;
pub use ids::{AnyId, ConnectionId, ListenerId, SourceId, TimerId};
pub use limits::{Limits, WhenFull};
pub use protocol::Protocol;
pub use reason::{CloseReason, Limit, ListenerError, Timeout};
pub use source::SourceAction;
pub use sys::Readiness;
pub use transport::Transport;
