//! What can stand between a socket and a protocol: the trait [`Filter`], and what one is handed.

pub(crate) mod bytes;
pub(crate) mod chain;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use self::bytes::Bytes;
use crate::Address;

/// Something between a socket and a protocol that changes the bytes on their way, in both directions: TLS, compression, a
/// counter.
///
/// A protocol does not know whether there is one below it (rule [Y1](crate::guide::rules#y1)): `connection_made` comes when
/// the filter is [ready](Flow::set_ready), and everything else as without. It is put in for each connection that a listener
/// accepts ([`Listen::filter`](crate::Listen::filter)), for one that is begun ([`Connect::filter`](crate::Connect::filter)),
/// or in the middle of a stream ([`Transport::set_filter`](crate::Transport::set_filter)). Several form a chain: each knows
/// the one below it as the network, and the one above it as the protocol.
///
/// It goes with its connection where that is [detached](crate::Transport::detach), and is called by a thread then, if it is one
/// that reads and writes it as a [`BlockingStream`](crate::BlockingStream).
///
/// A filter has state and no buffers: the loop keeps what it has not taken. It has no socket, no loop and no clock but
/// [`Flow::now`]. Its methods are called when bytes have come or can go out, never from within a method of a transport; a
/// panic ends the connection, as that of a protocol does (rule [E1](crate::guide::rules#e1)).
///
/// Of what it is given a method answers how much it has taken. The rest is offered again with more behind it; where a call
/// has taken or given something the loop calls once more, and 0 means "not yet". Of what comes from below 256 KiB are kept so;
/// leaving more ends the connection, by [`Limit::InputBytes`](crate::Limit::InputBytes).
///
/// ```
/// use switchboard::filter::{Filter, Flow};
///
/// /// Hides every byte behind a key, which both ends know.
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
    /// The connection is established, and nothing has come or gone yet: who has something to say first says it here.
    ///
    /// The default implementation is [ready](Flow::set_ready) at once.
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    /// Bytes have come from below. Returns how many of them were taken.
    ///
    /// They may be changed in place. Called for as long as the protocol wants input, or this filter is not ready.
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize;

    /// Bytes come from above. Returns how many of them were taken.
    ///
    /// At most 64 KiB at a time, when there is room below. Not called before this filter is ready.
    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize;

    /// Our half of the stream ends: behind all that was sent, and before its end goes out. What has an end of its own to say
    /// says it here. Not called where the connection ends otherwise: by a reset, or before this filter was ready.
    ///
    /// The default implementation does nothing.
    fn finish(&mut self, flow: &mut Flow<'_>) {
        let _ = flow;
    }

    /// The stream from below has ended.
    ///
    /// The default implementation [ends](Flow::end) the stream to above as well. A filter whose peer has to say its end in
    /// another way, and did not, [fails](Flow::fail) here: the connection is then lost by
    /// [`CloseReason::Truncated`](crate::CloseReason::Truncated), behind all data.
    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        flow.end();
    }
}

/// What every filter has beside its methods: it can be asked for by its type. Implemented for all of them.
pub trait AsFilter {
    #[doc(hidden)]
    fn as_filter(&self) -> &dyn Any;
}

/// For where the type is not known before: the box stands for what is in it.
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

/// Looks for a filter by its type.
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

/// How much a filter puts up in one call at most, and is given from above.
pub(crate) const STEP_BYTES_MAX: usize = 64 * 1024;

/// What a method of a [`Filter`] is handed: where its bytes go, and what it says beside them.
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
    /// What goes up: to the protocol, or to the filter above.
    pub fn up(&mut self) -> &mut Bytes {
        self.up
    }

    /// What goes down: to the network, or to the filter below. Whatever a call puts there goes out, in this order.
    pub fn down(&mut self) -> &mut Bytes {
        self.down
    }

    /// Returns how many bytes one call should put up at most, so that little input cannot become much at once; the loop calls
    /// again where more are wanted. At least 1 in [`receive`](Filter::receive).
    pub fn up_room(&self) -> usize {
        STEP_BYTES_MAX.saturating_sub(self.up.len())
    }

    /// From here on bytes are taken from above: the handshake, if there is one, is done.
    pub fn set_ready(&mut self) {
        self.said().ready = true;
    }

    /// The peer has said its end, properly. Nothing that is put up afterwards is delivered.
    pub fn end(&mut self) {
        self.said().ended = true;
    }

    /// The connection must end: what the peer sent broke the rules, or it is not whom it should be. What is in
    /// [`down`](Flow::down), such as an alert, still goes out; what was written and not yet filtered does not.
    ///
    /// The protocol is told [`CloseReason::Protocol`](crate::CloseReason::Protocol) with this error.
    pub fn fail(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.said().failure.get_or_insert_with(|| error.into());
    }

    /// The filter has done its work: it is dropped, and what it has not taken goes by as it is from here on.
    pub fn leave(&mut self) {
        self.said().ready = true;
        self.said().leaves = true;
    }

    /// From here on the peer is somebody beyond the one whose socket it is; see
    /// [`Transport::set_peer_addr`](crate::Transport::set_peer_addr).
    pub fn set_peer_addr(&mut self, peer: Address) {
        self.said().peer = Some(peer);
    }

    /// Returns what time it is: the loop's, which is virtual in a simulation. In a thread that blocks, the system's.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Few calls say anything.
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

/// What makes the filter of a connection that a listener has accepted; none turns it away.
#[derive(Clone)]
pub(crate) struct AcceptFilter(pub(crate) Arc<MakeForPeer>);

pub(crate) type MakeForPeer = dyn Fn(&Address) -> Option<Box<dyn Filter>> + Send + Sync;

/// What makes the filter of a connection that we begin.
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
