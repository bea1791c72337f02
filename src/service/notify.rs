//! What a service manager is told.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

use crate::{Context, TimerId};

const SOCKET: &str = "NOTIFY_SOCKET";

/// Where the service manager listens, if there is one: a path, or an abstract name.
///
/// sd_notify(3) has a third kind, `vsock:`, by which the first process of a virtual machine tells its host; a service in one
/// has a socket of that process. No connecting to a host within a callback is worth it.
fn manager() -> Option<io::Result<SocketAddr>> {
    let socket = env::var_os(SOCKET)?;
    Some(match socket.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(&socket),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract name")),
    })
}

/// Says in the log, once, that a service manager cannot be told anything: it is at an address of another kind.
pub(super) fn complain_of_address() {
    if let (Some(Err(error)), Some(socket)) = (manager(), env::var_os(SOCKET)) {
        log::error!("{SOCKET}={socket:?} is not supported, so the service manager is told nothing: {error}");
    }
}

/// Tells the service manager, where there is one; that this fails is logged.
///
/// `sd_notify` spells the message, but does not send it: it would wait for a manager that does not read, and with it the
/// loop; and it knows no abstract names.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    // Of an address that is none `complain_of_address` has said so.
    let Some(Ok(manager)) = manager() else { return };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(&manager, message.as_bytes()) {
        log::warn!("cannot tell the service manager {message:?}: {error}");
    }
}

fn send(manager: &SocketAddr, message: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message, manager)?;
    Ok(())
}

/// Says that a reload has begun, which systemd wants to know the time of.
pub(super) fn reloading() {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(now) => {
            let now = microseconds(now.tv_sec(), now.tv_nsec());
            notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
        }
        Err(error) => log::warn!("cannot read the monotonic clock: {error}"),
    }
}

/// `sd_notify` multiplies in the system's own number, which on 32 bits holds 35 minutes and 47 seconds of these.
fn microseconds(seconds: impl Into<i128>, nanoseconds: impl Into<i128>) -> i128 {
    seconds.into() * 1_000_000 + nanoseconds.into() / 1_000
}

/// Has the service manager told twice in the time it asks for that the loop turns.
pub(super) fn start_watchdog(context: &mut Context<'_>) -> Option<TimerId> {
    manager()?.ok()?;
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())?;
    let period = (limit / 2).max(Duration::from_millis(1));
    let timer = context.call_every(period, |_, _| notify(&[NotifyState::Watchdog]));
    context.unref(timer);
    Some(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_tells_the_time_of_a_machine_that_is_up_for_long() {
        // A second more than 32 bits hold, and what else they hold of seconds.
        for (seconds, expected) in [(2_148, 2_148_000_005), (i32::MAX, 2_147_483_647_000_005)] {
            assert_eq!(microseconds(seconds, 5_999), expected);
        }
    }
}
