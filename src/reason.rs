//! Why a connection ended, and what went wrong with a listener.
//!
//! All errors of the crate follow one rule, which the front page states: the text of an error includes that of the
//! error it wraps, since a log prints it alone, and `source` returns what is below the wrapped one, so that a report of
//! the whole chain has no text twice. `io::Error` does the same with the errors that it is made from.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Address;

/// How a loop, a server or a pool ended that was given a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Everything that was under way has finished.
    Clean,
    /// The time ran out first: something was cut off, or is still running.
    CutOff,
}

impl Ended {
    /// Returns whether it is [`Clean`](Ended::Clean).
    pub fn is_clean(self) -> bool {
        self == Ended::Clean
    }
}

/// Why a connection ended; passed to [`connection_lost`](crate::Protocol::connection_lost), exactly once (rule
/// [C7](crate::guide::rules#c7)). It can be kept and passed on: clones share the error.
#[derive(Clone, Debug)]
#[non_exhaustive]
///
/// ```
/// use switchboard::{CloseReason, Protocol, Transport};
///
/// /// Remembers how its connection has ended.
/// #[derive(Default)]
/// struct Last(Option<CloseReason>);
///
/// impl Protocol for Last {
///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
///         data.len()
///     }
///
///     fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
///         match &reason {
///             CloseReason::PeerClosed | CloseReason::Closed => {} // orderly
///             CloseReason::Reset => eprintln!("the peer has reset the connection"),
///             CloseReason::Timeout(timeout) => eprintln!("{timeout:?} took too long"),
///             other => eprintln!("lost: {other}"), // more may be added
///         }
///         self.0 = Some(reason);
///     }
/// }
/// ```
pub enum CloseReason {
    /// The peer ended its stream, and we ended ours.
    PeerClosed,
    /// We closed it ([`close`](crate::Transport::close)), and everything written was sent.
    Closed,
    /// We aborted it ([`abort`](crate::Transport::abort)).
    Aborted,
    /// The peer reset it.
    Reset,
    /// A call on its socket failed; this is the first such error. Or the reader failed from which its output was
    /// [read](crate::Transport::write_from).
    Io(Arc<io::Error>),
    /// It took too long.
    Timeout(Timeout),
    /// It exceeded one of its [`Limits`](crate::Limits).
    Limit(Limit),
    /// The peer violated the protocol, as reported by the protocol ([`close_for`](crate::Transport::close_for)) or by a
    /// [filter](crate::filter::Flow::fail).
    Protocol(Arc<dyn Error + Send + Sync>),
    /// The peer ended its stream without the end marker that a [filter](crate::filter::Filter) requires (TLS:
    /// `close_notify`), or before the filter was ready. The data received may be incomplete.
    Truncated,
    /// `data_received` returned that it consumed more than it was given. This is a bug in the protocol.
    Overconsumed {
        /// How many bytes it returned.
        consumed: usize,
        /// How many it was given.
        given: usize,
    },
    /// A callback of its protocol panicked with this message.
    Panic(String),
    /// It was taken out of the loop ([`detach`](crate::Transport::detach)), its socket still open.
    Detached,
    /// The loop was shut down or dropped.
    Shutdown,
}

/// Which timeout of a connection has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// The connection was closed, and its peer took none of the remaining output for
    /// [`close_timeout`](crate::Limits::close_timeout).
    Close,
    /// No byte was received or sent for this long. While output is queued, only what the peer takes of it counts, and a
    /// peer that takes 64 KiB within each such period is not idle; while the protocol has paused reading and nothing is
    /// queued, the timeout does not run. A byte counts from when it was read or sent, to the millisecond.
    Idle,
    /// No byte was received for this long, whatever was sent. The timeout runs only while input is wanted: not while
    /// the protocol has paused reading, nor while [a full queue](crate::Limits::pause_reading_over_high) or a rate
    /// keeps the peer from sending, nor once the peer has ended its stream. When it resumes, it continues with the time
    /// that was left.
    ReadIdle,
    /// Its [filters](crate::Limits::filter_timeout) were not ready in time. Or its protocol has not reported within
    /// this time that its first step is done: a login, a header, a key exchange. No traffic resets this timeout; the
    /// protocol removes it ([`set_timeout`](crate::Transport::set_timeout) with `None`) once it is ready, or sets it
    /// again for the next step.
    Handshake,
    /// The connection has lasted for this long, whatever was received or sent.
    Total,
    /// A timeout that the protocol keeps by itself, with a description: for
    /// [aborting](crate::Transport::abort_on_timeout) or [ending](crate::Transport::end_on_timeout) a connection. The
    /// loop keeps no such timeout: [`set_timeout`](crate::Transport::set_timeout) does nothing with it. Use
    /// [`set_timer`](crate::Transport::set_timer) to set one.
    Other(&'static str),
}

/// Which limit a connection has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`input_bytes_max`](crate::Limits::input_bytes_max): it left more input unconsumed.
    InputBytes,
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max): a write found more than this queued for it.
    QueueBytes,
    /// [`loop_queue_bytes_max`](crate::LoopLimits::loop_queue_bytes_max): a write, to any connection, found more than
    /// this queued in the whole loop, and this connection hoarded some of it.
    LoopQueueBytes,
    /// A line was longer than its protocol allows (`framing::LineReceiver`).
    LineBytes,
    /// A limit that the protocol keeps by itself, with a description; see
    /// [`abort_over_limit`](crate::Transport::abort_over_limit).
    Other(&'static str),
}

impl CloseReason {
    /// Returns the reason for an error of a socket.
    pub(crate) fn from_error(error: io::Error) -> CloseReason {
        match error.kind() {
            // Reported by Windows if its own side found the connection broken: a reset that arrived while data was
            // under way.
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => CloseReason::Reset,
            // Reported by the calls after the one that reported the reset.
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => CloseReason::Reset,
            _ => CloseReason::Io(Arc::new(error)),
        }
    }

    /// Returns the reason for an error that a protocol reports.
    pub(crate) fn of_protocol(error: Box<dyn Error + Send + Sync>) -> CloseReason {
        CloseReason::Protocol(error.into())
    }

    /// Returns whether the peer must see a reset, since after an orderly end it could take half an answer for the whole
    /// (rule X5). If there is unsent output, it must see one in any case.
    pub(crate) fn demands_reset(&self) -> bool {
        match self {
            CloseReason::Aborted
            | CloseReason::Io(_)
            | CloseReason::Timeout(_)
            | CloseReason::Limit(_)
            | CloseReason::Truncated
            | CloseReason::Overconsumed { .. }
            | CloseReason::Panic(_) => true,
            CloseReason::PeerClosed
            | CloseReason::Closed
            | CloseReason::Reset
            | CloseReason::Protocol(_)
            | CloseReason::Detached
            | CloseReason::Shutdown => false,
        }
    }
}

/// What the follower of a connection is told. Not part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The connection is established. Reported once at most, before its protocol is told.
    Made,
    /// The connection has ended, and its protocol was told. Reported once, and nothing after it.
    Ended(ConnectionEnd),
}

/// How a connection with a follower has ended. Not part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// It was not established.
    Failed,
    /// It was closed or aborted before it was established.
    Cancelled,
    /// It was established, and was lost.
    Lost,
    /// It was taken out of its loop.
    Detached,
    /// It ended together with its loop.
    ShutDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::PeerClosed => "closed by the peer",
            CloseReason::Closed => "closed by us",
            CloseReason::Aborted => "aborted by us",
            CloseReason::Reset => "reset by the peer",
            CloseReason::Io(error) => return write_caused(f, "I/O error", error),
            CloseReason::Timeout(Timeout::Close) => "the peer did not take the remaining output in time",
            CloseReason::Timeout(Timeout::Idle) => "idle for too long",
            CloseReason::Timeout(Timeout::ReadIdle) => "silent for too long",
            CloseReason::Timeout(Timeout::Handshake) => "the handshake took too long",
            CloseReason::Timeout(Timeout::Total) => "connected for too long",
            CloseReason::Limit(Limit::InputBytes) => "too much input left unconsumed",
            CloseReason::Limit(Limit::QueueBytes) => "too much output queued",
            CloseReason::Limit(Limit::LoopQueueBytes) => "too much output queued in the whole loop",
            CloseReason::Limit(Limit::LineBytes) => "line too long",
            CloseReason::Limit(Limit::Other(what)) | CloseReason::Timeout(Timeout::Other(what)) => what,
            CloseReason::Protocol(error) => return write_caused(f, "protocol error", error),
            CloseReason::Truncated => "the stream was truncated",
            CloseReason::Overconsumed { consumed, given } => {
                return fmt::write(f, format_args!("data_received reported {consumed} bytes consumed of {given}"));
            }
            CloseReason::Panic(message) => return write_caused(f, "a callback panicked", message),
            CloseReason::Detached => "detached from the loop",
            CloseReason::Shutdown => "the loop was shut down",
        })
    }
}

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CloseReason::Io(error) => error.source(),
            CloseReason::Protocol(error) => error.source(),
            _ => None,
        }
    }
}

/// Why a connection was not established; passed to [`connect_failed`](crate::Protocol::connect_failed), once.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address could be connected to: each that was tried, in that order, with its error. A socket that connected to
    /// itself counts as refused (rule [K4](crate::guide::rules#k4)).
    Failed(Vec<(Address, io::Error)>),
    /// Connecting took longer than allowed (rule [K2](crate::guide::rules#k2)). Lists what had become of each address
    /// by then; empty if the name was still being looked up.
    Timeout(Vec<(Address, io::Error)>),
    /// The name was not found, or could not be looked up.
    Lookup(io::Error),
    /// The connection was established, but its [filter](crate::Connect::filter) did not become ready, for this reason:
    /// an error that it reported ([`Protocol`](CloseReason::Protocol)), or the end of the connection meanwhile.
    Filter(CloseReason),
    /// The connection was ended before it was established, for this reason: `Closed`, `Aborted` and the like if by a
    /// call; `Limit` if by a write over a cap; `Shutdown`.
    Cancelled(CloseReason),
}

impl ConnectError {
    /// Returns the error of a connection whose filters were not ready when it ended for this reason.
    pub(crate) fn of_filter(reason: CloseReason) -> ConnectError {
        match reason {
            CloseReason::Closed | CloseReason::Aborted | CloseReason::Limit(_) | CloseReason::Shutdown => {
                ConnectError::Cancelled(reason)
            }
            reason => ConnectError::Filter(reason),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, tried) = match self {
            ConnectError::Failed(tried) => ("cannot connect", tried),
            ConnectError::Timeout(tried) => ("connecting took too long", tried),
            ConnectError::Lookup(error) => return write_caused(f, "cannot look up the name", error),
            ConnectError::Filter(reason) => return write_caused(f, "the handshake failed", reason),
            ConnectError::Cancelled(reason) => return write_caused(f, "ended before it was connected", reason),
        };
        f.write_str(text)?;
        let mut before = ": ";
        for (address, error) in tried {
            fmt::write(f, format_args!("{before}{address}: {error}"))?;
            before = "; ";
        }
        Ok(())
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ConnectError::Lookup(error) => error.source(),
            ConnectError::Filter(reason) | ConnectError::Cancelled(reason) => reason.source(),
            // There may be several errors.
            ConnectError::Failed(_) | ConnectError::Timeout(_) => None,
        }
    }
}

/// What went wrong with a listener; passed to the hook of [`on_error`](crate::Listener::on_error).
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerError {
    /// Descriptors or memory ran out (rule [A2](crate::guide::rules#a2)). The listener resumes by itself: after a delay
    /// that doubles from 10 ms to 1 s, and whenever this loop has closed a descriptor.
    Overloaded(io::Error),
    /// `accept` failed for an unknown reason. The listener resumes by itself in the same way.
    Failed(io::Error),
    /// Its socket failed permanently, and the listener was closed.
    Closed(io::Error),
    /// A connection ended before its [filters](crate::Listen::filter) were ready: its peer, and why it ended. Reported
    /// at most once a second; [`handshakes_failed`](crate::Counters::handshakes_failed) counts all of them.
    Handshake(Address, CloseReason),
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, error) = match self {
            ListenerError::Handshake(peer, reason) => {
                return fmt::write(f, format_args!("the handshake with {peer} failed: {reason}"));
            }
            ListenerError::Overloaded(error) => ("cannot accept now, trying again", error),
            ListenerError::Failed(error) => ("accept failed, trying again", error),
            ListenerError::Closed(error) => ("the listener failed permanently and was closed", error),
        };
        write_caused(f, text, error)
    }
}

impl Error for ListenerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ListenerError::Overloaded(error) | ListenerError::Failed(error) | ListenerError::Closed(error) => {
                error.source()
            }
            ListenerError::Handshake(_, reason) => reason.source(),
        }
    }
}

/// Why [`with_protocol`](crate::Context::with_protocol) did not call its closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReached {
    /// The connection has ended.
    Gone,
    /// The caller is inside that protocol: one of its callbacks is running, or another `with_protocol` for it.
    Busy,
    /// Neither the protocol nor what it wraps has the requested type.
    OtherType,
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotReached::Gone => "the connection has ended",
            NotReached::Busy => "the protocol is in use already",
            NotReached::OtherType => "the protocol has another type",
        })
    }
}

impl Error for NotReached {}

/// Writes what happened, and why. Compiled once for all callers.
pub(crate) fn write_caused(f: &mut fmt::Formatter<'_>, text: &str, cause: &dyn fmt::Display) -> fmt::Result {
    fmt::write(f, format_args!("{text}: {cause}"))
}

/// Why the loop itself refused a call such as `listen`, `connect` or `attach`. It is the inner error of the
/// [`io::Error`] that they return; errors of the system have none.
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
/// use switchboard::{EventLoop, LoopError, Protocol};
///
/// # fn main() -> std::io::Result<()> {
/// let mut event_loop = EventLoop::new()?;
/// let mut context = event_loop.context();
/// context.drain(Duration::from_secs(1));
/// let address = SocketAddr::from(([127, 0, 0, 1], 0));
/// let refused = context.listen(address, |_, _| None::<Box<dyn Protocol>>).expect_err("no listeners any more");
/// assert_eq!(LoopError::of(&refused), Some(LoopError::Draining));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopError {
    /// The loop is shutting down. The error's kind is [`NotConnected`](io::ErrorKind::NotConnected).
    ShuttingDown,
    /// The loop is draining, and accepts no new listeners. The kind is [`NotConnected`](io::ErrorKind::NotConnected).
    Draining,
    /// The loop has no slot left. The kind is [`StorageFull`](io::ErrorKind::StorageFull).
    Full,
}

impl LoopError {
    /// Returns the loop's refusal that an error contains, if any.
    pub fn of(error: &io::Error) -> Option<LoopError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for LoopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoopError::ShuttingDown => "the loop is shutting down",
            LoopError::Draining => "the loop is draining",
            LoopError::Full => "the loop has no slot left",
        })
    }
}

impl Error for LoopError {}

impl From<LoopError> for io::Error {
    fn from(error: LoopError) -> io::Error {
        let kind = match error {
            LoopError::ShuttingDown | LoopError::Draining => io::ErrorKind::NotConnected,
            LoopError::Full => io::ErrorKind::StorageFull,
        };
        io::Error::new(kind, error)
    }
}

/// Returns the error for a thread that cannot be started, with the system's message.
pub(crate) fn cannot_start_thread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// Returns the message of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "(no message)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_each_refusal_is_found_in_its_error_and_nothing_in_those_of_the_system() {
        let all = [
            (LoopError::ShuttingDown, io::ErrorKind::NotConnected),
            (LoopError::Draining, io::ErrorKind::NotConnected),
            (LoopError::Full, io::ErrorKind::StorageFull),
        ];
        for (refusal, kind) in all {
            let error = io::Error::from(refusal);
            assert_eq!((LoopError::of(&error), error.kind()), (Some(refusal), kind));
            assert_eq!(error.to_string(), refusal.to_string());
            assert_eq!(LoopError::of(&kind.into()), None);
        }
    }

    /// An error with a cause.
    #[derive(Debug)]
    struct Outer;

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&LoopError::Full)
        }
    }

    #[test]
    fn c6_an_error_names_what_it_is_about_and_its_source_is_what_caused_that() {
        let io = || io::Error::other(Outer);
        let reason = || CloseReason::Io(Arc::new(io()));
        let all: [(Box<dyn Error>, bool); 9] = [
            (Box::new(reason()), true),
            (Box::new(CloseReason::Protocol(Arc::new(Outer))), true),
            (Box::new(ConnectError::Lookup(io())), true),
            (Box::new(ConnectError::Filter(reason())), true),
            (Box::new(ConnectError::Cancelled(reason())), true),
            (Box::new(ListenerError::Overloaded(io())), true),
            (Box::new(ListenerError::Failed(io())), true),
            (Box::new(ListenerError::Closed(io())), true),
            (Box::new(CloseReason::Truncated), false),
        ];
        for (error, has_source) in all {
            assert_eq!(error.to_string().contains("outer"), has_source, "{error}");
            let source = error.source().and_then(|source| source.downcast_ref::<LoopError>());
            assert_eq!(source, has_source.then_some(&LoopError::Full), "{error}");
        }
    }
}
