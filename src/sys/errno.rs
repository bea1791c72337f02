//! The error numbers of system calls, by their Unix names.
//!
//! Winsock's numbers are in every build: on other systems, tests check how they are classified.

#[cfg(unix)]
#[allow(unused_imports)] // Not every build needs all of them.
pub(crate) use libc::{
    EADDRINUSE, EADDRNOTAVAIL, EAGAIN, ECONNABORTED, ECONNREFUSED, ECONNRESET, EDESTADDRREQ, EINPROGRESS, EINTR,
    EINVAL, EIO, EMFILE, EMSGSIZE, ENETDOWN, ENFILE, ENOBUFS, ENOENT, ENOMEM, ENOPROTOOPT, ENOTCONN, ENOTSUP,
    EOPNOTSUPP, EPERM, EPIPE, EPROTO, EPROTOTYPE, ETIMEDOUT,
};

#[cfg(not(unix))]
#[allow(unused_imports)]
pub(crate) use self::winsock::*;

/// Winsock's numbers; the nearest one if it has none of that name.
#[allow(dead_code)] // As above: not every build needs all of them.
pub(crate) mod winsock {
    // ERROR_FILE_NOT_FOUND and ERROR_NOT_ENOUGH_MEMORY, which is WSA_NOT_ENOUGH_MEMORY.
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const ENOMEM: i32 = 8;
    pub(crate) const EINTR: i32 = 10004;
    pub(crate) const EBADF: i32 = 10009;
    pub(crate) const EPERM: i32 = 10013;
    pub(crate) const EFAULT: i32 = 10014;
    pub(crate) const EINVAL: i32 = 10022;
    pub(crate) const EMFILE: i32 = 10024;
    pub(crate) const ENFILE: i32 = EMFILE;
    pub(crate) const EAGAIN: i32 = 10035;
    /// The result of a connect that is in progress.
    pub(crate) const EINPROGRESS: i32 = EAGAIN;
    pub(crate) const ENOTSOCK: i32 = 10038;
    pub(crate) const EDESTADDRREQ: i32 = 10039;
    pub(crate) const EMSGSIZE: i32 = 10040;
    pub(crate) const EPROTOTYPE: i32 = 10041;
    pub(crate) const ENOPROTOOPT: i32 = 10042;
    pub(crate) const EOPNOTSUPP: i32 = 10045;
    pub(crate) const ENOTSUP: i32 = EOPNOTSUPP;
    pub(crate) const EADDRINUSE: i32 = 10048;
    pub(crate) const EADDRNOTAVAIL: i32 = 10049;
    pub(crate) const ENETDOWN: i32 = 10050;
    /// A connection broke on this side: retransmissions ran out, or the interface is gone.
    pub(crate) const ECONNABORTED: i32 = 10053;
    pub(crate) const ECONNRESET: i32 = 10054;
    pub(crate) const EPIPE: i32 = ECONNRESET;
    pub(crate) const ENOBUFS: i32 = 10055;
    pub(crate) const ENOTCONN: i32 = 10057;
    pub(crate) const ESHUTDOWN: i32 = 10058;
    pub(crate) const ETIMEDOUT: i32 = 10060;
    pub(crate) const ECONNREFUSED: i32 = 10061;
    // ERROR_IO_DEVICE and ERROR_INTERNAL_ERROR.
    pub(crate) const EIO: i32 = 1117;
    pub(crate) const EPROTO: i32 = 1359;
}
