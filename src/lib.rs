//! A small readiness-based event loop: what `select()`, `socketserver` and Twisted's reactor are to Python.
//!
//! You write a [`Protocol`] with a few callbacks; an [`EventLoop`] owns listeners and connections, waits until one of
//! them is ready, and calls back. One loop is one thread. There is no `async`, no runtime, no thread that you did not
//! start, and no `unsafe`. It is neither an executor nor an HTTP framework. TLS is a [filter] in a separate package,
//! `switchboard-tls`.
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
//! The README shows what to write into `Cargo.toml`, has a table of the features, and links to a client and a timer.
//!
//! # What is where
//!
//! The [guide](guide/index.html) explains all of it page by page, and [lists](guide/from_python/index.html) the
//! counterparts of what Python's `socket`, `socketserver`, `select`, Twisted and asyncio offer. (Its pages are part of
//! the documentation built with all features, as on docs.rs.) The rules that the documentation cites by number are on
//! [one of its pages](guide::rules), which is built with or without features.
//! - [What the compiler says](guide/compiler/index.html) to newcomers, and what to write instead.
//! - [`EventLoop`]: makes, turns and drops a loop; its page lists what one turn does, in order.
//! - [`Protocol`]: what you implement; its page has the order in which callbacks come.
//! - [`Transport`]: the connection that is passed to a callback: write, close, pause.
//! - [`Context`]: the rest of the loop, from any callback: listen, timers, other connections by id, other sources.
//! - [`Listen`]: what to listen on, and how: one address or socket, or several as one listener.
//! - [`Connect`] and [`Reconnect`]: what to connect to, and how, once or repeatedly.
//! - [`Handle`]: the loop from other threads: post a closure, write, close, stop.
//! - [`LoopLimits`] and [`Limits`]: every limit, with its default.
//! - [`DatagramProtocol`] and [`DatagramTransport`]: the same for UDP and Unix datagrams.
//! - [`Endpoint`]: where a server listens, as a string in a configuration file.
//! - `framing`: protocols based on lines, length prefixes and the like, built from a smaller trait.
//! - `proxy`: the real client behind a proxy in front of a server (feature `proxy`).
//! - `signals`: signals as events of the loop, and a clean exit on SIGTERM (feature `signals`).
//! - `service`: a server run by systemd, and restarts without a gap (feature `service`).
//! - [`CloseReason`]: why a connection ended; reported exactly once.
//!
//! # What is promised
//!
//! In short; the [rules](guide::rules) say it in full.
//!
//! - `connection_lost` is called exactly once for every `connection_made`, and nothing is called after it
//!   ([C1](guide::rules#c1)).
//! - A callback is never called from within another one, nor from within a method of the loop, so a `RefCell` may be
//!   borrowed across such a call. [`with_protocol`](Context::with_protocol) is the exception ([C3](guide::rules#c3)).
//! - Bytes are sent in the order of the writes, or the connection ends and reports why. A peer that reads nothing, sends
//!   too much, resets, or sends urgent data costs a bounded amount of memory, and does not affect other connections.
//! - No peer can starve the others: reading, accepting, commands and timers have a budget for each turn, and the rest
//!   is carried over to the next.
//! - A panic in a callback ends that connection, and no other ([E1](guide::rules#e1)); see [`PanicPolicy`].
//! - Errors of peers end their connections; a turn fails only if the poller itself does.
//! - An error's text includes the text of the error that it wraps, and its `source` is the one below that, so each text
//!   of a chain is printed once.
//!
//! # Platforms
//!
//! Developed and tested on Linux, and tested on Windows only under Wine; the README lists what it compiles for. Where
//! systems behave differently, the difference is data if possible, so that it is tested on Linux, and behind `cfg`
//! otherwise.
//!
//! On Windows there are no Unix sockets, and another program can take over the address of a listener by means of
//! `SO_REUSEADDR`. The system's protection against that, `SO_EXCLUSIVEADDRUSE`, cannot be set through any safe
//! interface: where untrusted programs run on the machine, set it on a socket of your own and
//! [listen on that](Listen::at).

#![forbid(unsafe_code)]
// docs.rs shows for each item which feature enables it; the attribute is nightly-only, and only docs.rs asks for it.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Companions name the crate as users do, and `tests/outsider` compiles them, so using a private item fails there.
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

/// The mio whose [`Interest`](mio::Interest) and [`event::Source`](mio::event::Source) appear in the signatures of this
/// crate, such as [`Context::register`]. A source must implement the trait of this mio; the re-export provides it to
/// programs that depend on another version of mio, or on none.
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

// What companions need beside the public names. These items carry no stability guarantee: they may change or go at any
// time.
#[cfg(feature = "workers")]
#[doc(hidden)]
pub use listener::feeder::SharedBacklog;
#[doc(hidden)]
pub use reason::{ConnectionEnd, Followed};
