//! Notifications to the service manager.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::rc::Rc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

use super::environment;
use switchboard::{Context, TimerId};

const SOCKET: &str = "NOTIFY_SOCKET";

/// The service manager, if there is one that can be notified.
#[derive(Debug)]
pub(super) struct Manager(Option<Line>);

/// The manager's address, and the socket to send from.
#[derive(Debug)]
struct Line {
    address: SocketAddr,
    /// Open from the start: later, clients may hold all descriptors, and a manager that hears nothing from the watchdog
    /// ends the service.
    sender: UnixDatagram,
}

impl Manager {
    /// Logs once if there is a manager that cannot be notified.
    pub(super) fn from_env() -> Manager {
        let Some(name) = env::var_os(SOCKET) else { return Manager(None) };
        let address = environment::address(&name);
        if let Err(error) = &address {
            log::error!("{SOCKET}={name:?} is not supported, so the service manager is not notified: {error}");
        }
        let Ok(address) = address else { return Manager(None) };
        match open() {
            Ok(sender) => Manager(Some(Line { address, sender })),
            Err(error) => {
                log::error!("the service manager is not notified, since no socket can be opened: {error}");
                Manager(None)
            }
        }
    }

    /// Notifies the service manager, if there is one. A failure is logged.
    ///
    /// `sd_notify` formats the message, but does not send it: it would block the loop on a manager that does not read,
    /// and does not support abstract names.
    pub(super) fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(Line { address, sender }) = &self.0 else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = sender.send_to_addr(message.as_bytes(), address) {
            log::warn!("cannot tell the service manager {message:?}: {error}");
        }
    }

    /// Tells the manager that a reload has begun; systemd wants the time as well.
    pub(super) fn reloading(&self) {
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => {
                let now = microseconds(now.tv_sec(), now.tv_nsec());
                self.notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
            }
            Err(error) => log::warn!("cannot read the monotonic clock: {error}"),
        }
    }

    /// Tells the service manager, twice in the time that it asks for, that the loop is turning.
    pub(super) fn start_watchdog(self: &Rc<Manager>, context: &mut Context<'_>) -> Option<TimerId> {
        self.0.as_ref()?;
        let limit = environment::watchdog(&|name| env::var_os(name), process::id()).unwrap_or_else(|error| {
            log::error!("the service manager hears nothing from the watchdog: {error}");
            None
        })?;
        let period = (limit / 2).max(Duration::from_millis(1));
        let manager = self.clone();
        let timer = context.call_every(period, move |_, _| manager.notify(&[NotifyState::Watchdog]));
        context.set_background(timer, true);
        Some(timer)
    }
}

fn open() -> io::Result<UnixDatagram> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    Ok(sender)
}

/// `sd_notify` multiplies in the system's own integer type; 32 bits hold only 35 minutes and 47 seconds in
/// microseconds.
fn microseconds(seconds: impl Into<i128>, nanoseconds: impl Into<i128>) -> i128 {
    seconds.into() * 1_000_000 + nanoseconds.into() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_tells_the_time_of_a_machine_that_is_up_for_long() {
        // One second more than 32 bits hold in microseconds, and the most seconds that they hold.
        for (seconds, expected) in [(2_148, 2_148_000_005), (i32::MAX, 2_147_483_647_000_005)] {
            assert_eq!(microseconds(seconds, 5_999), expected);
        }
    }
}
