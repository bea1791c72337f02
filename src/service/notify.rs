//! What a service manager is told.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::{Context, TimerId};

const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells the service manager, where there is one; that this fails is logged.
///
/// `sd_notify` spells the message, but does not send it: it would wait for a manager that does not read, and with it the
/// loop; and it knows no abstract names.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os(SOCKET) else { return };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(socket.as_bytes(), message.as_bytes()) {
        log::warn!("cannot tell the service manager {message:?}: {error}");
    }
}

fn send(socket: &[u8], message: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    match socket {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            let address = <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?;
            sender.send_to_addr(message, &address)?;
        }
        [b'/', ..] => {
            sender.send_to(message, std::ffi::OsStr::from_bytes(socket))?;
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{SOCKET} is no path and no abstract name"),
            ));
        }
    }
    Ok(())
}

/// Says that a reload has begun, which systemd wants to know the time of.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("cannot read the monotonic clock: {error}"),
    }
}

/// Has the service manager told twice in the time it asks for that the loop turns.
pub(super) fn start_watchdog(context: &mut Context<'_>) -> Option<TimerId> {
    env::var_os(SOCKET)?;
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())?;
    let period = (limit / 2).max(Duration::from_millis(1));
    let timer = context.call_every(period, |_, _| notify(&[NotifyState::Watchdog]));
    context.unref(timer);
    Some(timer)
}
