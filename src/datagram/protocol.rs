//! The trait that users implement for datagram sockets.

use std::error::Error;
use std::fmt;
use std::io;

use crate::reason::write_caused;
use crate::{Address, CloseReason, DatagramTransport};

/// The callbacks of a datagram socket (rule [U1](crate::guide::rules#u1)), with asyncio's names and in its order.
///
/// ```text
/// connection_made (datagram_received | datagram_truncated | error_received | pause_writing | resume_writing)* connection_lost
/// ```
///
/// where `pause_writing` and `resume_writing` alternate. `connection_lost` is called exactly once for every
/// `connection_made`, and is the last callback. No method of the loop calls a callback: the callbacks that result come
/// later in the same turn or in the next one.
///
/// Datagrams may be lost, duplicated and reordered, and most errors end nothing: they are passed to
/// [`error_received`](DatagramProtocol::error_received), and the socket stays open. It ends by
/// [`close`](DatagramTransport::close), by a callback's panic (see [`PanicPolicy`](crate::PanicPolicy); what that
/// callback has already sent is sent), or with the loop.
///
/// ```
/// use switchboard::{Address, DatagramProtocol, DatagramTransport};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
///         transport.send_to(data, from);
///     }
/// }
/// ```
///
/// The source of a datagram can be forged. One datagram that names another such server as its source is sent back and
/// forth between the two for ever, so an echo is for tests only: on an open network, reply only to requests, only with
/// what is not itself a request, and with no more bytes than were received.
pub trait DatagramProtocol: 'static {
    /// Called when the socket is bound, before anything is received from it.
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// Called when a whole datagram was received; it may be empty. `data` is a slice of the loop's own buffer, without
    /// a copy.
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address);

    /// Called when a datagram was received that is longer than
    /// [`datagram_bytes_max`](crate::Limits::datagram_bytes_max); `data` is its beginning, and the rest is lost. The
    /// default implementation drops it, so that a part is not taken for the whole.
    fn datagram_truncated(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        let _ = (transport, data, from);
    }

    /// Called when something has gone wrong. The socket stays open, and other datagrams are still sent.
    ///
    /// A receive that keeps failing because the system lacks memory is reported as [`Socket`](DatagramError::Socket)
    /// once for each time that it is tried: after 10 ms at first, then after twice as long each time, up to a second.
    ///
    /// When the socket ends, errors that were not reported yet are reported before
    /// [`connection_lost`](DatagramProtocol::connection_lost): those that occurred since it was closed, and as
    /// [`Dropped`](DatagramError::Dropped) how many datagrams were still queued.
    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        let _ = (transport, error);
    }

    /// Called when more than [`queue_bytes_high`](crate::Limits::queue_bytes_high) is queued: the system takes
    /// datagrams more slowly than they are sent.
    fn pause_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// Called when the queue has shrunk to [`queue_bytes_low`](crate::Limits::queue_bytes_low), always after a
    /// `pause_writing`.
    fn resume_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// Called when the socket is closed.
    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, reason: CloseReason) {
        let _ = (transport, reason);
    }
}

/// What went wrong with a datagram socket that stays open.
#[derive(Debug)]
#[non_exhaustive]
pub enum DatagramError {
    /// A datagram was not sent: it is too long (65,507 bytes fit into one over IPv4), its address is of another kind,
    /// or there is no route. `to` is `None` if it was for the peer that the socket is connected to.
    Send {
        /// Its destination.
        to: Option<Address>,
        /// The system's error.
        error: io::Error,
    },
    /// An error was returned to the socket. On a connected one, `ConnectionRefused` means that nobody received a
    /// datagram that was sent before.
    Socket(io::Error),
    /// This many datagrams were not sent, and no other error reports them: the queue was over
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max) or
    /// [`loop_queue_bytes_max`](crate::LoopLimits::loop_queue_bytes_max), errors occurred faster than they were
    /// reported, or the socket ended before they could be sent.
    Dropped(u64),
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, error) = match self {
            DatagramError::Send { to: Some(to), error } => {
                return fmt::write(f, format_args!("cannot send to {to}: {error}"));
            }
            DatagramError::Send { to: None, error } => ("cannot send", error),
            DatagramError::Socket(error) => ("socket error", error),
            DatagramError::Dropped(count) => return fmt::write(f, format_args!("{count} datagrams dropped unsent")),
        };
        write_caused(f, text, error)
    }
}

impl Error for DatagramError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DatagramError::Send { error, .. } | DatagramError::Socket(error) => error.source(),
            DatagramError::Dropped(_) => None,
        }
    }
}
