//! A small readiness-based event loop: what `select()`, `socketserver` and Twisted's reactor are to Python.
//!
//! You write a [`Protocol`] with a few callbacks; an [`EventLoop`] owns listeners and connections, waits until one of
//! them is ready, and calls back. One loop is one thread. There is no `async`, no runtime, no thread that you did not
//! start, and no `unsafe`. It is not an executor and no HTTP framework. TLS is a [filter] in a package of
//! its own, `switchboard-tls`.
//!
//! ```no_run
//! use std::io;
//! use std::net::SocketAddr;
//!
//! use switchboard::{EventLoop, Protocol, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
//!         transport.write(data);
//!         data.len()
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     let address = SocketAddr::from(([127, 0, 0, 1], 1234));
//!     let mut event_loop = EventLoop::new()?;
//!     event_loop.context().listen(address, |_, _| Some(Echo))?;
//!     event_loop.run()
//! }
//! ```
//!
//! A client, a timer, what to write into `Cargo.toml`, and a table of the features are in the README.
//!
//! # What is where
//!
//! The [guide](guide/index.html) explains all of it page by page, and [says](guide/from_python/index.html) what
//! everything is called that Python's `socket`, `socketserver`, `select`, Twisted and asyncio have. (Its pages are in
//! the documentation that is made with all features, as on docs.rs.) The rules that the documentation cites by their
//! numbers are on [a page](guide::rules) of it, with or without features.
//! - [What the compiler says](guide/compiler/index.html) to newcomers, and what to write instead.
//! - [`EventLoop`]: makes, turns and drops a loop; its page says what one turn does, in which order.
//! - [`Protocol`]: what you implement; its page has the order in which callbacks come.
//! - [`Transport`]: the connection that a callback is handed: write, close, pause.
//! - [`Context`]: the rest of the loop, from any callback: listen, timers, other connections by id, other sources.
//! - [`Listen`]: what to listen on, and how: one address or socket, or several as one listener.
//! - [`Connect`] and [`Reconnect`]: what to connect to, and how; again and again.
//! - [`Handle`]: the loop from other threads: post a closure, write, close, stop.
//! - [`LoopLimits`] and [`Limits`]: the bounds of everything, with their defaults.
//! - [`DatagramProtocol`] and [`DatagramTransport`]: the same for UDP and for Unix datagrams.
//! - [`Endpoint`]: where a server listens, as a string of a configuration.
//! - `framing`: protocols by lines, length prefixes and the like, made from a smaller trait.
//! - `proxy`: who is behind the proxy in front of a server (feature `proxy`).
//! - `signals`: signals as events of the loop, and a clean end on SIGTERM (feature `signals`).
//! - `service`: a server run by systemd, and the restart without a gap (feature `service`).
//! - [`CloseReason`]: why a connection ended; it is told exactly once.
//!
//! # What is promised
//!
//! - A callback is never called from within another one, nor from within a method of the loop: so a `RefCell` that is borrowed
//!   across a call into the loop is never found borrowed. It ends at [`with_protocol`](Context::with_protocol), which calls the
//!   closure that it is given, at once: what is borrowed around that must not be borrowed in it.
//! - `connection_lost` comes exactly once for every `connection_made`, and nothing comes after it.
//! - Bytes go out in the order of the writes, or the connection ends and says why; a peer that takes nothing, sends
//!   too much, resets, or sends urgent data costs a bounded amount of memory, and nobody else notices.
//! - Who keeps making work for himself starves nobody: reading, accepting, commands and timers have a budget for each turn, and
//!   what they leave is carried over.
//! - A panic of a callback ends that connection, see [`PanicPolicy`]. With `panic = "abort"` it ends the process.
//! - Errors of peers end their connections; a turn fails only when the poller itself does.
//! - An error's text includes the text of the error that it wraps, and its `source` is what is below that one: each text of a
//!   chain is printed once.
//!
//! # Platforms
//!
//! Developed and tested on Linux, with 64 and 32 bits. As a Windows program it is tested under Wine, and it compiles for macOS,
//! FreeBSD, illumos, Android and a big-endian Linux. It has been run on none of these systems themselves. What they do otherwise
//! is data where it can be, so that it is tested on Linux, and else behind `cfg`.
//!
//! On Windows there are no Unix sockets, and another program may take the address of a listener by `SO_REUSEADDR`: against
//! that the system has an option, `SO_EXCLUSIVEADDRUSE`, which no safe interface sets. Set it on a socket of your own and
//! [hand that over](Listen::at) where programs of others run on the machine.

#![forbid(unsafe_code)]
// docs.rs says of each item which feature brings it: an attribute of nightly's, which only docs.rs asks for.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Companions name the crate as their users do, and `tests/outsider` compiles them: what is private to it fails there.
extern crate self as switchboard;

mod address;
mod connect;
mod connection;
mod datagram;
mod endpoint;
mod escape;
mod event_loop;
pub mod filter;
#[cfg(feature = "framing")]
pub mod framing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod health;
mod ids;
mod limits;
mod listener;
mod protocol;
#[cfg(feature = "proxy")]
pub mod proxy;
mod rate;
mod reason;
#[cfg(feature = "server")]
pub mod server;
#[cfg(all(unix, feature = "service"))]
pub mod service;
#[cfg(all(unix, feature = "signals"))]
pub mod signals;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;
mod threads;
mod time;
#[cfg(feature = "workers")]
pub mod workers;

/// The mio whose [`Interest`](mio::Interest) and [`event::Source`](mio::event::Source) are in the signatures of this crate,
/// as of [`Context::register`]. A source must be one of this mio's; by this name a program has it, whatever mio it depends on
/// itself, or if it depends on none.
#[doc(no_inline)]
pub use ::mio;
pub use address::Address;
#[cfg(unix)]
pub use address::UnixAddress;
pub use connect::Connect;
pub use connect::backoff::Backoff;
pub use connect::reconnect::{Reconnect, Reconnecting};
pub use connection::blocking::BlockingStream;
pub use connection::detached::{Detached, DetachedParts};
pub use datagram::protocol::{DatagramError, DatagramProtocol};
pub use endpoint::{Endpoint, EndpointError};
pub use escape::{Escaped, escape};
pub use event_loop::context::Context;
pub use event_loop::datagram_transport::DatagramTransport;
pub use event_loop::joining::{NotJoined, Relay};
pub use event_loop::listener::Listener;
pub use event_loop::source::SourceAction;
pub use event_loop::transport::Transport;
pub use event_loop::{EventLoop, PanicPolicy};
pub use health::counters::{Counters, Losses};
pub use health::{ConnectionStats, Health};
pub use ids::{AnyId, CompletionId, ConnectionId, DatagramId, ListenerId, SourceId, TimerId};
pub use limits::{Limits, LoopLimits, WhenFull};
#[doc(hidden)]
pub use listener::feeder::Feeder;
pub use listener::listen::Listen;
pub use protocol::{Inner, IntoProtocol, Protocol};
pub use rate::{Rate, RateGroupId};
pub use reason::{CloseReason, ConnectError, Ended, Limit, ListenerError, LoopError, NotReached, Timeout};
pub use sys::Readiness;
#[cfg(unix)]
pub use sys::remove_stale_socket;
pub use threads::completion::Completion;
pub use threads::handle::Handle;
pub use threads::mailbox::PostError;

// What companions need beside the public names. Nothing is promised of these; they may change or go at any time.
#[cfg(feature = "workers")]
#[doc(hidden)]
pub use listener::feeder::SharedBacklog;
#[doc(hidden)]
pub use reason::{ConnectionEnd, Followed};
