//! A TCP relay: whoever connects is connected on to another server, and both hear each other.
//!
//! Run `cargo run --example relay 127.0.0.1:1234 127.0.0.1:1235` beside `cargo run --example echo_server`, then
//! `telnet 127.0.0.1 1235`: the first address is the one that it connects to, and may be a name. What you type comes
//! back, by way of both.
//!
//! A side that does not read holds up the other one and nobody else: while more than 64 KiB wait for it, the other is not
//! read from. So a pair costs at most that and one read (64 KiB) for each direction, whatever it is sent.
//!
//! A pair of which a side has neither sent nor taken a byte for ten minutes, or `--timeout SECONDS`, is reset, also where one
//! side has ended its half: peers that say nothing must not keep others out. `--per-peer N` limits the connections of one
//! address. There are as many pairs as there are descriptors for; clients that come later wait in the backlog.

#[path = "support/bounds.rs"]
mod bounds;
#[path = "support/client.rs"]
#[allow(dead_code)] // It also has what clients need that do not listen.
mod client;
mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bounds::Bounds;
use switchboard::{Context, EventLoop, Limits, ListenerId, Protocol, Relay, Timeout, Transport};

/// How long a side may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// So much of one side is read before it is looked at how much waits for the other.
const READ_BYTES: usize = 64 * 1024;

/// Descriptors for the loop, for looking up names, and for sides whose other side is gone already.
#[cfg(unix)]
const OTHER_DESCRIPTORS: usize = 24;

/// A side that is to be connected on: to a name or an address, and a port, which is looked up anew for each.
struct Onward {
    target: (String, u16),
    timeout: Duration,
}

impl Protocol for Onward {
    /// What comes before the other side is established waits in the kernel.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        let mut context = transport.context();
        match context.connect(self.target.clone(), Relay::new(id)) {
            Ok(other) => {
                context.join(id, other).expect("neither is closing");
                // The timeouts of the loop's limits are for those that it accepts.
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
        0 // It has another protocol by then.
    }
}

/// How many pairs there may be. Without a second descriptor, a client could only be reset.
#[cfg(unix)]
fn pairs_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(current, _)| usize::try_from(current).ok());
    pairs_of(descriptors.unwrap_or(usize::MAX))
}

/// For how many pairs there are descriptors.
#[cfg(unix)]
fn pairs_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(1, Limits::default().connections_max)
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
fn pairs_max() -> usize {
    Limits::default().connections_max
}

/// What the loop allows its connections.
fn limits(bounds: &Bounds, pairs_max: usize) -> Limits {
    bounds.limits().with_read_bytes_per_turn_max(READ_BYTES).with_connections_max(pairs_max)
}

/// Listens, and connects each client on to the target.
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
