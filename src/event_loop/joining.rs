//! Joining two connections: what arrives on one is sent on the other (rules J1 to J3).

use std::error::Error;
use std::fmt;

use super::Parts;
use crate::connection::{Connection, State};
use crate::ids::Id;
use crate::{CloseReason, ConnectError, ConnectionId, Context, Protocol, Timeout, Transport};

/// The protocol that [`Context::join`] gives to a connection: one end of a pair, which passes everything on to the
/// other end.
///
/// - Input is written to the other end, and the peer's end of stream closes our half of the other end behind it.
/// - While more than the high mark is queued on the other end, this one is not read.
/// - A timeout resets both ends, and so does a failed connect, so that no peer takes a part for the whole.
/// - If the other end was [closed by its peer](CloseReason::PeerClosed), closed or shut down, this one is closed,
///   behind its queued output; if it was lost in any other way, this one is reset.
///
/// A connection that is made for a pair can have it from the start, as in the example of [`Context::join`]. To change
/// part of its behaviour, replace it after the join with a protocol that [wraps](Protocol::inner) one.
#[derive(Debug)]
pub struct Relay {
    other: ConnectionId,
}

impl Relay {
    /// Makes a relay that passes everything on to `other`. By itself that is only part of a [join](Context::join).
    pub fn new(other: ConnectionId) -> Relay {
        Relay { other }
    }

    /// Returns whether an end for this reason closes the other end gracefully.
    pub(super) fn is_in_order(reason: &CloseReason) -> bool {
        matches!(reason, CloseReason::PeerClosed | CloseReason::Closed | CloseReason::Shutdown)
    }

    /// Returns the other end, if it still exists.
    fn other<'a>(&self, transport: &'a mut Transport<'_>) -> Option<Transport<'a>> {
        transport.connection(self.other)
    }
}

impl Protocol for Relay {
    /// The other end may have waited for this.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.resume_writing(transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let is_over_high = self.other(transport).is_some_and(|mut other| {
            other.write(data);
            other.queued_bytes() > other.write_marks().0
        });
        // `pause_writing` is called only at the end of the turn, if the other end is still over its mark then. A note of an
        // earlier read, which nobody has asked for, is replaced.
        transport.core.parts.work.set_read_enough(is_over_high.then_some(transport.id));
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        if let Some(mut other) = self.other(transport) {
            other.write(rest);
            other.shutdown_write();
        }
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        if let Some(mut other) = self.other(transport) {
            other.pause_reading();
        }
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        if let Some(mut other) = self.other(transport) {
            other.resume_reading();
        }
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        transport.abort_on_timeout(timeout);
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        transport.context().warn(format_args!("cannot relay: {error}"));
        if let Some(mut other) = self.other(transport) {
            other.abort();
        }
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        let Some(mut other) = self.other(transport) else { return };
        match Relay::is_in_order(&reason) {
            true => other.close(),
            false => other.abort(),
        }
    }
}

/// Why two connections were not [joined](Context::join). Nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotJoined {
    /// One of them has ended.
    Gone,
    /// One of them is closing, or our half of it was shut down.
    Closing,
    /// Both are the same.
    Itself,
}

impl fmt::Display for NotJoined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotJoined::Gone => "the connection has ended",
            NotJoined::Closing => "the connection is closing",
            NotJoined::Itself => "a connection cannot be joined to itself",
        })
    }
}

impl Error for NotJoined {}

/// # Joining two connections
impl Context<'_> {
    /// Joins two connections: from here on what arrives on either is sent on the other. Their protocols are each
    /// replaced by a [`Relay`], get no more callbacks and are dropped at the end of the turn (rules
    /// [J1](crate::guide::rules#j1) to [J3](crate::guide::rules#j3)).
    ///
    /// - Input that the protocols have not consumed is passed on first. That includes input of the callback under way,
    ///   which returns how much of it it consumed itself. An end of stream that was read before is passed on, too; what
    ///   [`eof_received`](Protocol::eof_received) was passed with it must be written by the protocol, before the join.
    /// - While more than the high mark is queued on one of them, the other is not read; output queued before counts.
    ///   Neither is held back by its own queue any more
    ///   ([`pause_reading_over_high`](crate::Limits::pause_reading_over_high)), since two ends that each wait for both
    ///   would wait for ever, and an earlier pause of reading is lifted.
    /// - Ends of stream are passed on separately, so each direction lasts as long as its peers want; a reset, a timeout
    ///   or a failed connect resets the other end.
    /// - If one is not established yet, the other is not read until it is.
    /// - Timeouts, read rates and all other limits stay as they are.
    ///
    /// They may be of different kinds, such as TCP and a Unix socket. If one was joined before, its former partner goes
    /// on writing to it until the partner gets another protocol or ends.
    ///
    /// ```
    /// use switchboard::{Protocol, Relay, Transport};
    ///
    /// /// Relays each connection to a server.
    /// struct Onward;
    ///
    /// impl Protocol for Onward {
    ///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
    ///         let id = transport.id();
    ///         let mut context = transport.context();
    ///         let joined = match context.connect(("server.example", 80), Relay::new(id)) {
    ///             Ok(other) => context.join(id, other).is_ok(),
    ///             Err(_) => false,
    ///         };
    ///         if !joined {
    ///             transport.abort();
    ///         }
    ///     }
    ///
    ///     fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
    ///         unreachable!("it has another protocol by then")
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotJoined`]: one of them has ended, is closing, or has its write half shut down, or both are the same.
    pub fn join(&mut self, a: ConnectionId, b: ConnectionId) -> Result<(), NotJoined> {
        join(&mut self.core.parts, a.0, b.0)
    }
}

/// Handles a connection that ended without its protocol being told. If that is a relay, the other end is told all the
/// same.
pub(super) fn pass_untold_end_on(parts: &mut Parts, protocol: &mut dyn Protocol, is_in_order: bool) {
    match protocol.as_any().downcast_ref::<Relay>() {
        Some(relay) if is_in_order => parts.close(relay.other.0),
        Some(relay) => parts.finish(relay.other.0, CloseReason::Aborted),
        None => {}
    }
}

fn join(parts: &mut Parts, a: Id, b: Id) -> Result<(), NotJoined> {
    if a == b {
        return Err(NotJoined::Itself);
    }
    let pairs = [(a, b), (b, a)];
    for &(id, _) in &pairs {
        let connection = match parts.slots.connection(id) {
            Some(connection) if connection.is_alive() => connection,
            _ => return Err(NotJoined::Gone),
        };
        // One whose send has failed will be lost soon, and the other one is told so.
        if !connection.can_write() && connection.state() != State::Failing {
            return Err(NotJoined::Closing);
        }
    }
    for &(id, other) in &pairs {
        parts.set_protocol(id, Box::new(Relay::new(ConnectionId(other))));
        if parts.slots.connection_mut(id).is_some_and(Connection::begin_relaying) {
            parts.carry_over(id);
        }
        match parts.slots.connection(other).is_some_and(Connection::holds_relay_up) {
            true => parts.pause_reading(id),
            false => parts.resume_reading(id),
        }
    }
    for &(id, other) in &pairs {
        if parts.slots.connection(id).is_some_and(|connection| connection.state() == State::ReadClosed) {
            parts.shutdown_write(other);
        }
    }
    Ok(())
}
