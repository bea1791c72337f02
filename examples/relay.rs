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
use std::time::Duration;

use bounds::Bounds;
use switchboard::{
    Address, CloseReason, ConnectError, ConnectionId, Context, EventLoop, Limits, Protocol, Timeout, Transport,
};

/// How long a side may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Descriptors for the loop, for looking up names, and for sides whose other side is gone already.
#[cfg(unix)]
const OTHER_DESCRIPTORS: usize = 24;

/// A name or an address, and a port: looked up anew for each pair.
type Target = (String, u16);

/// One side of a pair.
struct Side {
    other: Option<ConnectionId>,
    /// Where the other side is to be connected to; none for the side that was.
    target: Option<Target>,
    timeout: Duration,
}

impl Side {
    /// Does something to the other side, if that is still there.
    fn with_other(&self, transport: &mut Transport<'_>, act: impl FnOnce(&mut Transport<'_>)) {
        let mut context = transport.context();
        if let Some(mut other) = self.other.and_then(|other| context.connection(other)) {
            act(&mut other);
        }
    }
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let Some(target) = self.target.take() else {
            // The timeouts of the loop's limits are for those that it accepts.
            transport.set_timeout(Timeout::Idle, Some(self.timeout));
            return self.with_other(transport, |other| other.resume_reading());
        };
        // What it sends before the other side stands waits in the kernel.
        transport.pause_reading();
        let onward = Side { other: Some(transport.id()), target: None, timeout: self.timeout };
        match transport.context().connect(target.clone(), onward) {
            Ok(id) => self.other = Some(id),
            Err(error) => {
                log::warn!("cannot connect to {}:{}: {error}", target.0, target.1);
                transport.abort();
            }
        }
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.with_other(transport, |other| other.write(data));
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.with_other(transport, |other| other.shutdown_write());
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        self.with_other(transport, |other| other.pause_reading());
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.with_other(transport, |other| other.resume_reading());
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        log::warn!("{error}");
        self.with_other(transport, |other| other.abort());
    }

    /// Both sides are reset: neither has ended, and what one has of the other may be a part.
    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        transport.abort_on_timeout(timeout);
    }

    /// An end in order is one for the other side too; anything else must not look like one.
    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.with_other(transport, |other| match reason {
            CloseReason::PeerClosed | CloseReason::Closed | CloseReason::Shutdown => other.close(),
            _ => other.abort(),
        });
    }
}

/// How many pairs there may be. Without a second descriptor, a client could only be reset.
#[cfg(unix)]
fn pairs_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(current, _)| usize::try_from(current).ok());
    let pairs = descriptors.unwrap_or(usize::MAX).saturating_sub(OTHER_DESCRIPTORS) / 2;
    pairs.clamp(1, Limits::default().connections_max)
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
fn pairs_max() -> usize {
    Limits::default().connections_max
}

fn main() -> Result<(), support::Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, IDLE_TIMEOUT)?;
    let target = arguments.first().cloned().unwrap_or_default();
    let address = support::listening_address_in(arguments.into_iter().skip(1), &bounds::FLAGS)?;
    let usage = |wrong| io::Error::other(format!("{wrong}; then the address to listen on"));
    let target = client::name_and_port(&target).map_err(usage)?;
    // Each side waits for the other one already; waiting for itself as well could end in both waiting.
    let limits = bounds.limits().with_pause_reading_over_high(false).with_connections_max(pairs_max());
    let mut event_loop = EventLoop::with_limits(limits)?;
    let factory = move |_: &mut Context<'_>, _: &Address| {
        let side = Side { other: None, target: Some(target.clone()), timeout: bounds.timeout };
        Some(side)
    };
    let listener = event_loop.context().listen(address, factory).map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
