//! Why a connection ended, and what went wrong with a listener.
//!
//! All errors of the crate keep one rule, which the front page states: the text of an error includes that of the error it
//! wraps, since a log prints it alone, and `source` gives what is below the wrapped one, so that no report of a chain has
//! a text twice. `io::Error` does the same with the errors that it is made of.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Address;

/// How the end of a loop, a server or a pool went that was given some time for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// All that was under way has come to its end.
    Clean,
    /// The time was over before, and something was cut off, or is still at work.
    CutOff,
}

impl Ended {
    /// Returns whether it is [`Clean`](Ended::Clean).
    pub fn is_clean(self) -> bool {
        self == Ended::Clean
    }
}

/// Why a connection ended; handed to [`connection_lost`](crate::Protocol::connection_lost), exactly once (rule
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
///             CloseReason::PeerClosed | CloseReason::Closed => {} // in order
///             CloseReason::Reset => eprintln!("the peer has reset the connection"),
///             CloseReason::Timeout(timeout) => eprintln!("{timeout:?} took too long"),
///             other => eprintln!("lost: {other}"), // more may be added
///         }
///         self.0 = Some(reason);
///     }
/// }
/// ```
pub enum CloseReason {
    /// The peer ended its stream, and we ours.
    PeerClosed,
    /// We closed it ([`close`](crate::Transport::close)), and all that was written went out.
    Closed,
    /// We aborted it ([`abort`](crate::Transport::abort)).
    Aborted,
    /// The peer reset it.
    Reset,
    /// A call on its socket failed: the first error of it. Or a reader did that its output was
    /// [read from](crate::Transport::write_from).
    Io(Arc<io::Error>),
    /// It took too long.
    Timeout(Timeout),
    /// It went over one of its [`Limits`](crate::Limits).
    Limit(Limit),
    /// What the peer sent broke the protocol, as the protocol found ([`close_for`](crate::Transport::close_for)), or a
    /// [filter](crate::filter::Flow::fail).
    Protocol(Arc<dyn Error + Send + Sync>),
    /// The peer ended its stream without the end that a [filter](crate::filter::Filter) of it has to have (TLS:
    /// `close_notify`), or before the filter was ready. What was received may be half of what was meant.
    Truncated,
    /// `data_received` returned that it consumed more than it was given. A bug in the protocol.
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

/// Which wait of a connection took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// It was closed, and its peer took none of what was left for
    /// [`close_timeout`](crate::Limits::close_timeout).
    Close,
    /// No byte came or went for this long. While output is queued, only what the peer takes of it counts, and a peer that
    /// takes 64 KiB within each of these is not idle; while the protocol has paused reading and nothing is queued, the time
    /// does not run. A byte counts as of when it was read or sent, to the millisecond.
    Idle,
    /// No byte came for this long, whatever went out. The time runs only while input is wanted: not while the protocol has
    /// paused reading, nor while [a full queue](crate::Limits::pause_reading_over_high) or a rate keeps the peer from sending,
    /// nor once the peer has ended its stream. What was left when it stopped is left when it goes on.
    ReadIdle,
    /// Its [filters](crate::Limits::filter_timeout) were not ready in time. Or
    /// its protocol has not said for this long that what has to come first is done: a login, a header, a key exchange.
    /// Nothing that comes or goes resets it; the protocol takes it away
    /// ([`set_timeout`](crate::Transport::set_timeout) with `None`) once it is ready, or sets it again for what comes next.
    Handshake,
    /// It has lasted for this long, whatever came or went.
    Total,
    /// One that the protocol keeps by itself, and what it says of it: to [abort](crate::Transport::abort_on_timeout) or to
    /// [end](crate::Transport::end_on_timeout) a connection with. The loop keeps none:
    /// [`set_timeout`](crate::Transport::set_timeout) does nothing with it, and [`set_timer`](crate::Transport::set_timer) is
    /// what such a time is set with.
    Other(&'static str),
}

/// Which limit a connection went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`input_bytes_max`](crate::Limits::input_bytes_max): it left more input unconsumed.
    InputBytes,
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max): a write found more queued for it.
    QueueBytes,
    /// [`loop_queue_bytes_max`](crate::LoopLimits::loop_queue_bytes_max): a write, to whichever connection, found more queued in
    /// the whole loop, and this one hoarded some of it.
    LoopQueueBytes,
    /// A line is longer than its protocol allows (`framing::LineReceiver`).
    LineBytes,
    /// One that the protocol keeps by itself, and what it says of it; see
    /// [`abort_over_limit`](crate::Transport::abort_over_limit).
    Other(&'static str),
}

impl CloseReason {
    /// The reason that an error of a socket gives.
    pub(crate) fn from_error(error: io::Error) -> CloseReason {
        match error.kind() {
            // What Windows says where its own side found the connection broken: a reset that came while data was under way.
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => CloseReason::Reset,
            // What calls say after the one that was told of the reset.
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => CloseReason::Reset,
            _ => CloseReason::Io(Arc::new(error)),
        }
    }

    /// The reason that a protocol gives.
    pub(crate) fn of_protocol(error: Box<dyn Error + Send + Sync>) -> CloseReason {
        CloseReason::Protocol(error.into())
    }

    /// Whether the peer must see a reset, since an orderly end would let it take half an answer for the whole (rule
    /// X5). Where output is unsent it must in any case.
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
    /// It is established. Comes once at most, before its protocol is told.
    Made,
    /// It has ended, and its protocol was told. Comes once, and nothing after it.
    Ended(ConnectionEnd),
}

/// How a connection with a follower has ended. Not part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// It was not established.
    Failed,
    /// The same, since it was closed or aborted before.
    Cancelled,
    /// It was established, and is lost.
    Lost,
    /// It was taken out of its loop.
    Detached,
    /// With its loop.
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
            CloseReason::Timeout(Timeout::Close) => "the peer did not take what was left in time",
            CloseReason::Timeout(Timeout::Idle) => "idle for too long",
            CloseReason::Timeout(Timeout::ReadIdle) => "silent for too long",
            CloseReason::Timeout(Timeout::Handshake) => "the handshake took too long",
            CloseReason::Timeout(Timeout::Total) => "connected for too long",
            CloseReason::Limit(Limit::InputBytes) => "too much input left unconsumed",
            CloseReason::Limit(Limit::QueueBytes) => "too much output queued",
            CloseReason::Limit(Limit::LoopQueueBytes) => "too much output queued in the whole loop",
            CloseReason::Limit(Limit::LineBytes) => "too long a line",
            CloseReason::Limit(Limit::Other(what)) | CloseReason::Timeout(Timeout::Other(what)) => what,
            CloseReason::Protocol(error) => return write_caused(f, "protocol error", error),
            CloseReason::Truncated => "cut off before the end that it has to have",
            CloseReason::Overconsumed { consumed, given } => {
                return fmt::write(f, format_args!("data_received answered {consumed} bytes consumed of {given}"));
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

/// Why a connection never came to stand; handed to [`connect_failed`](crate::Protocol::connect_failed), once.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address answered: each that was tried, in that order, with its error. A socket that met itself counts as
    /// refused (rule [K4](crate::guide::rules#k4)).
    Failed(Vec<(Address, io::Error)>),
    /// It took longer than it may (rule [K2](crate::guide::rules#k2)). What had become of each address until then; none
    /// where the name was still being looked up.
    Timeout(Vec<(Address, io::Error)>),
    /// The name was not found, or could not be looked up.
    Lookup(io::Error),
    /// It was established, but its [filter](crate::Connect::filter) did not come to be ready, for this reason: what it
    /// found ([`Protocol`](CloseReason::Protocol)), or what became of the connection meanwhile.
    Filter(CloseReason),
    /// It was ended before it stood, for this reason: `Closed`, `Aborted` and the like, if by a call; `Limit`, if by a
    /// write over a cap; `Shutdown`.
    Cancelled(CloseReason),
}

impl ConnectError {
    /// Of one whose filters were not ready when it ended for this reason.
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
            ConnectError::Lookup(error) => return write_caused(f, "cannot look the name up", error),
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
            // There may be several.
            ConnectError::Failed(_) | ConnectError::Timeout(_) => None,
        }
    }
}

/// What went wrong with a listener; told to the hook of [`on_error`](crate::Listener::on_error).
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerError {
    /// Descriptors or memory ran out (rule [A2](crate::guide::rules#a2)). It goes on by itself: after a delay that
    /// doubles from 10 ms to 1 s, and whenever this loop has closed a descriptor.
    Overloaded(io::Error),
    /// `accept` failed for an unknown reason. It goes on by itself in the same way.
    Failed(io::Error),
    /// Its socket is of no more use: it was closed.
    Closed(io::Error),
    /// A connection of it ended before its [filters](crate::Listen::filter) were ready: whose, and why. Told once a second at
    /// most; [`handshakes_failed`](crate::Counters::handshakes_failed) counts all of them.
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

/// Why [`with_protocol`](crate::Context::with_protocol) has called nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReached {
    /// The connection has ended.
    Gone,
    /// The caller is inside that protocol: its callback runs, or another `with_protocol` of it.
    Busy,
    /// Neither the protocol nor what it wraps has the type that was asked for.
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

/// Writes what happened, and why: compiled once for all that say so.
pub(crate) fn write_caused(f: &mut fmt::Formatter<'_>, text: &str, cause: &dyn fmt::Display) -> fmt::Result {
    fmt::write(f, format_args!("{text}: {cause}"))
}

/// Why the loop itself refused something, as `listen`, `connect` and `attach` do: it is inside the [`io::Error`] that they
/// return, where what the system says has none.
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
    /// It shuts down. The error's kind is [`NotConnected`](io::ErrorKind::NotConnected).
    ShuttingDown,
    /// It drains, and takes no listeners. The kind is [`NotConnected`](io::ErrorKind::NotConnected).
    Draining,
    /// It has no slot left. The kind is [`StorageFull`](io::ErrorKind::StorageFull).
    Full,
}

impl LoopError {
    /// Returns the loop's refusal that an error is made of, if it is one.
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

/// The error of a thread that cannot be started, with what the system says.
pub(crate) fn cannot_start_thread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// The message of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "(not a message)".to_owned()
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
}
