//! Socket options, and further arguments of calls: flags, lengths.

use std::io;
use std::time::Duration;

use mio::Interest;
use socket2::SockRef;

use super::errno;
use super::habits::{HERE, Habits};

/// Suppresses SIGPIPE, whatever the embedding program does with that signal (rule W7). Apple's systems have a socket
/// option for this instead of a flag.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(super) const SEND_FLAGS: i32 = 0;

/// Does with an option what [`SEND_FLAGS`] do on other systems.
#[cfg(target_vendor = "apple")]
pub(super) fn set_no_sigpipe(socket: &SockRef<'_>) -> io::Result<()> {
    if_supported(socket.set_nosigpipe(true))
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn set_no_sigpipe(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

/// Adds hints at urgent data, on systems that have them.
pub(super) fn with_urgent_data(interest: Interest) -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

/// Converts a backlog to what listen(2) takes. The meaning of 0 there differs between systems.
pub(super) fn backlog_length(backlog: u32) -> i32 {
    i32::try_from(backlog.max(1)).unwrap_or(i32::MAX)
}

/// Sets the options of every TCP stream of ours: no SIGPIPE, no delay for small writes, urgent data in line with the
/// rest. An accepted stream inherits from its listener, where the listener has these options: on Linux both, which
/// saves two calls per connection, and on macOS the first one, which can no longer be set once the peer has reset.
pub(super) fn set_tcp_options(socket: &SockRef<'_>) -> io::Result<()> {
    set_all(&[&|| set_no_sigpipe(socket), &|| if_supported(socket.set_tcp_nodelay(true)), &|| {
        if_supported(socket.set_out_of_band_inline(true))
    }])
}

/// Sets the options of every Unix stream. On Linux an accepted stream inherits none of them from its listener (measured
/// with 6.18).
#[allow(dead_code)] // Not every system has these sockets.
pub(super) fn set_unix_options(socket: &SockRef<'_>) -> io::Result<()> {
    set_all(&[
        &|| set_no_sigpipe(socket),
        // Only these systems have urgent bytes on Unix sockets.
        &|| if HERE.tells_urgent_data { if_supported(socket.set_out_of_band_inline(true)) } else { Ok(()) },
    ])
}

/// Sets each of these, even if an earlier one fails, and returns the first error.
fn set_all(options: &[&dyn Fn() -> io::Result<()>]) -> io::Result<()> {
    let mut result = Ok(());
    for set in options {
        result = result.and(set());
    }
    result
}

/// Returns the result of setting an option. An error is ignored if the socket does not support the option (MPTCP has no
/// urgent data, and a Unix socket no delay), or if the connection is over: its unread data, or its error, tells more.
pub(super) fn if_supported(set: io::Result<()>) -> io::Result<()> {
    if_needed(set, &HERE)
}

fn if_needed(set: io::Result<()>, habits: &Habits) -> io::Result<()> {
    match set {
        Err(error) if is_unsupported(&error) || is_over(&error, habits) => Ok(()),
        set => set,
    }
}

/// Returns whether an option cannot be set because the connection is over. FreeBSD reports a reset in that case.
fn is_over(error: &io::Error, habits: &Habits) -> bool {
    match error.kind() {
        io::ErrorKind::InvalidInput => habits.invalid_once_over,
        kind => kind == io::ErrorKind::ConnectionReset,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    const CODES: [i32; 3] = [errno::ENOPROTOOPT, errno::EOPNOTSUPP, errno::ENOTSUP];
    let code = error.raw_os_error();
    CODES.iter().any(|of| code == Some(*of))
}

/// Returns whether a socket in TCP's type is a TCP socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn is_tcp(socket: &SockRef<'_>) -> bool {
    matches!(socket.protocol(), Ok(Some(socket2::Protocol::TCP)))
}

/// Nothing depends on it on other systems.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn is_tcp(_: &SockRef<'_>) -> bool {
    true
}

/// Limits how long the kernel keeps the unsent data of a closed TCP socket while the peer takes none of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn limit_orphan(socket: &SockRef<'_>, timeout: Duration) {
    // Zero would mean the system's default, and the kernel counts milliseconds in an `i32`.
    let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_millis(i32::MAX as u64));
    // If the option cannot be set, there is nothing left to limit.
    let _ = socket.set_tcp_user_timeout(Some(timeout));
}

/// Other systems have no such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn limit_orphan(_: &SockRef<'_>, _: Duration) {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn r6_only_an_option_that_is_not_supported_is_left_out() {
        for code in [errno::ENOPROTOOPT, errno::EOPNOTSUPP] {
            assert!(if_supported(Err(io::Error::from_raw_os_error(code))).is_ok());
        }
        for code in [errno::EINVAL, errno::ENOTCONN, errno::EPERM, errno::ENOBUFS] {
            assert!(if_needed(Err(io::Error::from_raw_os_error(code)), &Habits::LINUX).is_err());
        }
    }

    #[test]
    fn r4_an_option_that_cannot_be_set_since_the_connection_is_over_ends_nothing() {
        let (invalid, reset) = (errno::EINVAL, errno::ECONNRESET);
        for (code, habits) in [(invalid, &Habits::APPLE), (invalid, &Habits::SOLARISH), (reset, &Habits::BSD)] {
            assert!(if_needed(Err(io::Error::from_raw_os_error(code)), habits).is_ok());
        }
        assert!(if_needed(Err(io::Error::from_raw_os_error(errno::EPERM)), &Habits::APPLE).is_err());
    }

    #[test]
    fn w7_an_option_that_fails_leaves_none_of_the_others_unset() {
        let set = Cell::new(0);
        let fails = |kind: io::ErrorKind| move || Err(kind.into());
        let sets = || {
            set.set(set.get() + 1);
            Ok(())
        };
        let (first, later) = (fails(io::ErrorKind::PermissionDenied), fails(io::ErrorKind::NotFound));
        let result = set_all(&[&sets, &first, &sets, &later, &sets]);
        assert_eq!((result.unwrap_err().kind(), set.get()), (io::ErrorKind::PermissionDenied, 3));
    }
}
