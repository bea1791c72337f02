//! What users implement for datagrams.

use std::error::Error;
use std::fmt;
use std::io;

use crate::reason::write_caused;
use crate::{Address, CloseReason, DatagramTransport};

/// What is done when something happens to a datagram socket (rule [U1](crate::guide::rules#u1)): asyncio's names, in
/// its order.
///
/// ```text
/// connection_made (datagram_received | datagram_truncated | error_received | pause_writing | resume_writing)* connection_lost
/// ```
///
/// where `pause_writing` and `resume_writing` alternate. `connection_lost` comes exactly once for every
/// `connection_made`, and nothing comes after it. No method of the loop calls a callback: what they cause comes later in
/// the turn or in the next.
///
/// Datagrams may be lost, doubled and reordered, and most of what goes wrong ends nothing: it is told as
/// [`error_received`](DatagramProtocol::error_received), and the socket lives. It ends by
/// [`close`](DatagramTransport::close), by a callback's panic (see [`PanicPolicy`](crate::PanicPolicy); what that
/// callback has sent before is sent), and with the loop.
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
/// The source of a datagram can be forged. One datagram that names another such server as its source is sent back and forth
/// between the two for ever, so an echo is for tests: on an open network, reply only to what is a request, with what is none,
/// and with no more bytes than came.
pub trait DatagramProtocol: 'static {
    /// The socket is bound. Nothing was received from it yet.
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// A datagram is there, whole; it may be empty. `data` is a slice of the loop's own buffer: no copy was made.
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address);

    /// A datagram is there that is longer than [`datagram_bytes_max`](crate::Limits::datagram_bytes_max); `data` is how it
    /// begins, and the rest is lost. The default implementation drops it, so that nobody takes a part for the whole.
    fn datagram_truncated(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        let _ = (transport, data, from);
    }

    /// Something has gone wrong. The socket lives, and what else was sent goes out.
    ///
    /// A receive that goes on failing, since the system lacks memory, is told as
    /// [`Socket`](DatagramError::Socket) once for each time that it is tried: after 10 ms at first, then after twice as long
    /// each time, up to a second.
    ///
    /// When the socket ends, what was not told yet comes before [`connection_lost`](DatagramProtocol::connection_lost): errors
    /// that were met since it was closed, and as [`Dropped`](DatagramError::Dropped) how many datagrams were still queued.
    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        let _ = (transport, error);
    }

    /// More than [`queue_bytes_high`](crate::Limits::queue_bytes_high) is queued: the system takes less than is sent.
    fn pause_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// The queue has gone down to [`queue_bytes_low`](crate::Limits::queue_bytes_low). Comes strictly after a
    /// `pause_writing`.
    fn resume_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        let _ = transport;
    }

    /// The socket is closed.
    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, reason: CloseReason) {
        let _ = (transport, reason);
    }
}

/// What went wrong with a datagram socket that lives on.
#[derive(Debug)]
#[non_exhaustive]
pub enum DatagramError {
    /// A datagram was not sent: it is too long (65,507 bytes go into one over IPv4), its address is of another kind,
    /// there is no route. `to` is `None` where it was for the peer that the socket is connected to.
    Send {
        /// Where it was to go.
        to: Option<Address>,
        /// What the system says.
        error: io::Error,
    },
    /// An error has come back to the socket. On a connected one `ConnectionRefused` says that nobody was there for a
    /// datagram which was sent before.
    Socket(io::Error),
    /// So many datagrams were not sent, and no other error tells of them: the queue was over
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max) or
    /// [`loop_queue_bytes_max`](crate::LoopLimits::loop_queue_bytes_max), errors came faster than they were told, or the socket
    /// has ended before they could go out.
    Dropped(u64),
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, error) = match self {
            DatagramError::Send { to: Some(to), error } => {
                return fmt::write(f, format_args!("cannot send to {to}: {error}"));
            }
            DatagramError::Send { to: None, error } => ("cannot send", error),
            DatagramError::Socket(error) => ("error of the socket", error),
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
