//! What can be put between a socket and a protocol: the trait [`Filter`], and what its methods are passed.

pub(crate) mod bytes;
pub(crate) mod chain;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use self::bytes::Bytes;
use crate::Address;

/// Something between a socket and a protocol that transforms the bytes in both directions: TLS, compression, a counter.
///
/// A protocol does not know whether there is a filter below it (rule [Y1](crate::guide::rules#y1)): `connection_made`
/// is called when the filter is [ready](Flow::set_ready), and everything else is as without one. A filter is added to
/// each connection that a listener accepts ([`Listen::filter`](crate::Listen::filter)), to an outgoing connection
/// ([`Connect::filter`](crate::Connect::filter)), or in the middle of a stream
/// ([`Transport::set_filter`](crate::Transport::set_filter)). Several form a chain: to each, the one below it is the
/// network, and the one above it the protocol.
///
/// A filter stays with its connection when that is [detached](crate::Transport::detach). If a thread then reads and
/// writes it as a [`BlockingStream`](crate::BlockingStream), the filter is called by that thread.
///
/// A filter has state but no buffers: the loop keeps what it has not taken. It has no socket, no loop and no clock
/// except [`Flow::now`]. Its methods are called when bytes have arrived or can be sent, never from within a method of a
/// transport; a panic ends the connection, like that of a protocol (rule [E1](crate::guide::rules#e1)).
///
/// A method returns how much of what it was given it has taken; 0 means "not yet". The rest is offered again with more
/// behind it, and if a call has taken or passed on something, the loop calls once more. Of what comes from below, 256
/// KiB are kept in this way; leaving more ends the connection with [`Limit::InputBytes`](crate::Limit::InputBytes).
///
/// ```
/// use switchboard::filter::{Filter, Flow};
///
/// /// Masks every byte with a key that both ends know.
/// struct Masked(u8);
///
/// impl Filter for Masked {
///     fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
///         let count = data.len().min(flow.up_room());
///         data[..count].iter_mut().for_each(|byte| *byte ^= self.0);
///         flow.up().push(&data[..count]);
///         count
///     }
///
///     fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
///         let space = flow.down().space(data.len());
///         space.iter_mut().zip(data).for_each(|(to, from)| *to = from ^ self.0);
///         flow.down().commit(data.len());
///         data.len()
///     }
/// }
/// ```
pub trait Filter: AsFilter + Send + 'static {
    /// Called when the connection is established, before anything is received or sent. A side that speaks first does so
    /// here.
    ///
    /// The default implementation is [ready](Flow::set_ready) at once.
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    /// Called when bytes have come from below. Returns how many of them were taken.
    ///
    /// They may be changed in place. Called for as long as the protocol wants input, or this filter is not ready.
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize;

    /// Called when bytes come from above. Returns how many of them were taken.
    ///
    /// At most 64 KiB at a time, when there is room below. Not called before this filter is ready.
    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize;

    /// Called when our half of the stream ends: after everything was sent, and before the end itself is. A filter with
    /// an end marker of its own sends it here. Not called if the connection ends otherwise: by a reset, or before this
    /// filter was ready.
    ///
    /// The default implementation does nothing.
    fn finish(&mut self, flow: &mut Flow<'_>) {
        let _ = flow;
    }

    /// Called when the stream from below has ended.
    ///
    /// The default implementation [ends](Flow::end) the stream to above as well. A filter whose peer has to mark its
    /// end in another way, and did not, [fails](Flow::fail) here: the connection is then lost with
    /// [`CloseReason::Truncated`](crate::CloseReason::Truncated), after all data.
    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        flow.end();
    }
}

/// Lets a filter be found by its type. Implemented for all filters.
pub trait AsFilter {
    #[doc(hidden)]
    fn as_filter(&self) -> &dyn Any;
}

/// For filters whose type is not known at compile time: the box acts as the filter in it.
impl Filter for Box<dyn Filter> {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        (**self).begin(flow);
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        (**self).receive(data, flow)
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        (**self).send(data, flow)
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        (**self).finish(flow);
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        (**self).receive_end(flow);
    }
}

/// Finds a filter by its type.
pub(crate) fn find<T: Filter>(filter: &dyn Filter) -> Option<&T> {
    let any = filter.as_filter();
    match any.downcast_ref::<Box<dyn Filter>>() {
        Some(boxed) => find(&**boxed),
        None => any.downcast_ref(),
    }
}

impl<T: Filter> AsFilter for T {
    fn as_filter(&self) -> &dyn Any {
        self
    }
}

/// How much a filter may pass up in one call, and how much it is given from above.
pub(crate) const STEP_BYTES_MAX: usize = 64 * 1024;

/// What a method of a [`Filter`] is passed: where its bytes go, and what else it can say.
pub struct Flow<'a> {
    up: &'a mut Bytes,
    down: &'a mut Bytes,
    said: &'a mut Option<Box<Said>>,
    now: Instant,
}

/// What a filter has said in a call.
#[derive(Default)]
pub(crate) struct Said {
    ready: bool,
    ended: bool,
    leaves: bool,
    failure: Option<Box<dyn Error + Send + Sync>>,
    peer: Option<Address>,
}

impl Flow<'_> {
    /// Returns the bytes that go up: to the protocol, or to the filter above.
    pub fn up(&mut self) -> &mut Bytes {
        self.up
    }

    /// Returns the bytes that go down: to the network, or to the filter below. Whatever a call puts there is sent, in
    /// this order.
    pub fn down(&mut self) -> &mut Bytes {
        self.down
    }

    /// Returns how many bytes one call should pass up at most, so that little input cannot become much output at once;
    /// the loop calls again if more are wanted. At least 1 in [`receive`](Filter::receive).
    pub fn up_room(&self) -> usize {
        STEP_BYTES_MAX.saturating_sub(self.up.len())
    }

    /// Says that the filter is ready: the handshake, if there is one, is done, and bytes are taken from above from here
    /// on.
    pub fn set_ready(&mut self) {
        self.said().ready = true;
    }

    /// Says that the peer has ended its stream properly. Nothing that is passed up afterwards is delivered.
    pub fn end(&mut self) {
        self.said().ended = true;
    }

    /// Ends the connection, because the peer broke the rules or is not the one it should be. What is in
    /// [`down`](Flow::down), such as an alert, is still sent; what was written and not yet filtered is not.
    ///
    /// The protocol is told [`CloseReason::Protocol`](crate::CloseReason::Protocol) with this error.
    pub fn fail(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.said().failure.get_or_insert_with(|| error.into());
    }

    /// Removes the filter, which has done its work: it is dropped, and what it has not taken passes unchanged from here
    /// on.
    pub fn leave(&mut self) {
        self.said().ready = true;
        self.said().leaves = true;
    }

    /// Says that the actual peer is not the one at the other end of the socket, but one behind it; see
    /// [`Transport::set_peer_addr`](crate::Transport::set_peer_addr).
    pub fn set_peer_addr(&mut self, peer: Address) {
        self.said().peer = Some(peer);
    }

    /// Returns the current time: the loop's, which is virtual in a simulation, or the system's in a thread that blocks.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Cold, since few calls say anything.
    #[cold]
    fn said(&mut self) -> &mut Said {
        self.said.get_or_insert_default()
    }
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("up", &self.up).field("down", &self.down).finish_non_exhaustive()
    }
}

/// Makes the filter of an accepted connection; `None` turns the peer away.
#[derive(Clone)]
pub(crate) struct AcceptFilter(pub(crate) Arc<MakeForPeer>);

pub(crate) type MakeForPeer = dyn Fn(&Address) -> Option<Box<dyn Filter>> + Send + Sync;

/// Makes the filter of an outgoing connection.
#[derive(Clone)]
pub(crate) struct ConnectFilter(pub(crate) Arc<dyn Fn() -> Box<dyn Filter> + Send + Sync>);

impl fmt::Debug for AcceptFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptFilter(..)")
    }
}

impl fmt::Debug for ConnectFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectFilter(..)")
    }
}
