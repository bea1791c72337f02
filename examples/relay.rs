//! A TCP relay: connects each client to another server, and forwards data both ways.
//!
//! Run `cargo run --example relay 127.0.0.1:1234 127.0.0.1:1235` beside `cargo run --example echo_server`, then
//! `telnet 127.0.0.1 1235`. The first address is the one it connects to, and may be a name. What you type comes back
//! through both.
//!
//! A side that does not read blocks only its other side: while more than 64 KiB are queued for it, the other side is
//! not read from. So a pair needs at most that plus one read (64 KiB) per direction, however much it is sent.
//!
//! A pair is reset if one side has neither sent nor received a byte for ten minutes, or `--timeout SECONDS`, even if
//! one direction is already closed: silent peers must not keep others out. `--per-peer N` limits the connections of one
//! address. The number of pairs is limited by the number of descriptors; further clients wait in the backlog.

#[path = "support/bounds.rs"]
mod bounds;
#[path = "support/client.rs"]
#[allow(dead_code)] // Some of it is for clients that do not listen.
mod client;
mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bounds::Bounds;
use switchboard::{Context, EventLoop, Limits, ListenerId, Protocol, Relay, Timeout, Transport};

/// How long a side may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Descriptors for the loop, for name lookups, and for sides whose other side is already gone.
#[cfg(unix)]
const OTHER_DESCRIPTORS: usize = 24;

/// A client that is about to be connected to the target: a name or an address, and a port. The name is looked up again
/// for each client.
struct Onward {
    target: (String, u16),
    timeout: Duration,
}

impl Protocol for Onward {
    /// Data that arrives before the other side is established waits in the kernel.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        let mut context = transport.context();
        match context.connect(self.target.clone(), Relay::new(id)) {
            Ok(other) => {
                context.join(id, other).expect("neither is closing");
                // The timeouts in the loop's limits apply to accepted connections only.
                let other = context.connection(other);
                other.into_iter().for_each(|mut other| other.set_timeout(Timeout::Idle, Some(self.timeout)));
            }
            Err(error) => {
                log::warn!("cannot connect to {}:{}: {error}", self.target.0, self.target.1);
                transport.abort();
            }
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0 // Never called: the connection has another protocol by then.
    }
}

/// The maximum number of pairs. A client for which there is no second descriptor could only be reset.
#[cfg(unix)]
fn pairs_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(current, _)| usize::try_from(current).ok());
    pairs_of(descriptors.unwrap_or(usize::MAX))
}

/// Returns how many pairs fit into that many descriptors.
#[cfg(unix)]
fn pairs_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(1, Limits::default().connections_max)
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn pairs_max() -> usize {
    Limits::default().connections_max
}

/// The limits of the loop.
fn limits(bounds: &Bounds, pairs_max: usize) -> Limits {
    bounds.limits().with_connections_max(pairs_max)
}

/// Listens, and connects each client to the target.
fn listen(
    context: &mut Context<'_>,
    address: SocketAddr,
    target: (String, u16),
    timeout: Duration,
) -> io::Result<ListenerId> {
    context.listen(address, move |_, _| Some(Onward { target: target.clone(), timeout }))
}

fn main() -> Result<(), support::Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, IDLE_TIMEOUT)?;
    let target = arguments.first().cloned().unwrap_or_default();
    let address = support::listening_address_in(arguments.into_iter().skip(1), &bounds::FLAGS)?;
    let usage = |wrong| io::Error::other(format!("{wrong}; then the address to listen on"));
    let target = client::name_and_port(&target).map_err(usage)?;
    let mut event_loop = EventLoop::with_limits(limits(&bounds, pairs_max()))?;
    let listener = listen(&mut event_loop.context(), address, target, bounds.timeout);
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
#[path = "relay/tests.rs"]
mod tests;
