//! The meaning of the errors of system calls.

use std::io;

use super::errno;
use super::habits::Habits;

/// What an error of `accept` means for the listener (rule A1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// No more connections are waiting.
    Drained,
    /// That one connection is gone, or the call was interrupted; the next accept may succeed.
    Skip,
    /// That one connection is gone, and the system has used up its socket: one connection fewer is waiting, as after a
    /// success.
    Gone,
    /// Descriptors or memory ran out. Waiting connections are still waiting.
    Overload,
    /// It is not a socket, or does not listen: it will never accept again.
    Invalid,
    /// Its meaning is unknown.
    Unknown,
}

impl AcceptError {
    /// Returns what an error means on a system with these habits.
    pub(super) fn of_accept(error: &io::Error, habits: &Habits) -> AcceptError {
        // The standard library and mio fail like this for an address without a family; no system call has failed.
        let lacks_address = error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none();
        match lacks_address && habits.accepts_without_address {
            true => AcceptError::Gone,
            false => AcceptError::of(error),
        }
    }

    pub(crate) fn of(error: &io::Error) -> AcceptError {
        match error.kind() {
            io::ErrorKind::WouldBlock => AcceptError::Drained,
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
                AcceptError::Skip
            }
            _ => error.raw_os_error().map_or(AcceptError::Unknown, of_os_error),
        }
    }
}

#[cfg(unix)]
fn of_os_error(code: i32) -> AcceptError {
    match code {
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => AcceptError::Overload,
        libc::EPROTO | libc::EPERM | libc::ENETDOWN | libc::ENOPROTOOPT | libc::EHOSTDOWN => AcceptError::Skip,
        libc::EHOSTUNREACH | libc::EOPNOTSUPP | libc::ENETUNREACH | libc::ETIMEDOUT => AcceptError::Skip,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::ENONET => AcceptError::Skip,
        libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT => AcceptError::Invalid,
        _ => AcceptError::Unknown,
    }
}

#[cfg(not(unix))]
use of_winsock as of_os_error;

/// By Winsock's numbers. (On a system that has neither these nor Unix's, every error is unknown.)
#[allow(dead_code)] // Tests check it on other systems.
fn of_winsock(code: i32) -> AcceptError {
    use errno::winsock::{EBADF, EFAULT, EINVAL, EMFILE, ENETDOWN, ENOBUFS, ENOMEM, ENOTSOCK};
    match code {
        EMFILE | ENOBUFS | ENOMEM => AcceptError::Overload,
        ENETDOWN => AcceptError::Skip,
        EBADF | EFAULT | EINVAL | ENOTSOCK => AcceptError::Invalid,
        _ => AcceptError::Unknown,
    }
}

/// Returns whether an error of `connect` only means that it is in progress.
pub(super) fn is_begun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(errno::EINPROGRESS) || error.kind() == io::ErrorKind::WouldBlock
}

/// Returns whether an error of a send only means that the kernel has no room, and if so, how that ends (rule W6).
pub(crate) fn is_blocked(error: &io::Error) -> Option<Blocked> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Some(Blocked::UntilEvent),
        _ if is_out_of_buffers(error) => Some(Blocked::UntilLater),
        _ => None,
    }
}

/// What unblocks a blocked send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// A writable event.
    UntilEvent,
    /// Only time: the kernel is out of buffers, and no event tells when it has some again.
    UntilLater,
}

/// Returns whether the kernel lacks memory for a call. This passes, and no event tells when it has.
pub(crate) fn is_out_of_buffers(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(errno::ENOBUFS | errno::ENOMEM))
}

/// Returns what the error of a send means. On macOS a send on a connection that is going down may report that its
/// protocol has the wrong type. Another try after a moment reports a broken pipe or, with some VPNs, the same error
/// forever.
pub(crate) fn of_send(error: io::Error) -> io::Error {
    // No other send on a connected stream reports this, on any system.
    match error.raw_os_error() {
        Some(errno::EPROTOTYPE) => io::ErrorKind::ConnectionReset.into(),
        _ => error,
    }
}

/// Returns whether the error of a send may concern an earlier datagram, so that this one was not sent.
pub(crate) fn may_be_of_an_earlier_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_every_error_of_winsocks_accept_has_its_class() {
        use errno::winsock::*;
        let classes = [
            (AcceptError::Unknown, &[EIO, EPERM, EOPNOTSUPP, 0][..]),
            (AcceptError::Skip, &[ENETDOWN]),
            (AcceptError::Overload, &[EMFILE, ENFILE, ENOBUFS, ENOMEM, 8]),
            (AcceptError::Invalid, &[EBADF, EINVAL, ENOTSOCK, EFAULT]),
        ];
        for (class, codes) in classes {
            for &code in codes {
                assert_eq!(of_winsock(code), class, "error {code}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a1_every_error_of_accept_has_its_class() {
        let classes = [
            (AcceptError::Drained, &[libc::EAGAIN, libc::EWOULDBLOCK][..]),
            (
                AcceptError::Skip,
                &[
                    libc::EINTR,
                    libc::ECONNABORTED,
                    libc::EPROTO,
                    libc::EPERM,
                    libc::ENETDOWN,
                    libc::ENOPROTOOPT,
                    libc::EHOSTDOWN,
                    libc::EHOSTUNREACH,
                    libc::EOPNOTSUPP,
                    libc::ENETUNREACH,
                ],
            ),
            (AcceptError::Overload, &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]),
            (AcceptError::Invalid, &[libc::EBADF, libc::EINVAL, libc::ENOTSOCK]),
            (AcceptError::Unknown, &[libc::EIO, libc::ENOSPC]),
        ];
        for (class, codes) in classes {
            for &code in codes {
                assert_eq!(AcceptError::of(&io::Error::from_raw_os_error(code)), class, "error {code}");
            }
        }
    }
}
