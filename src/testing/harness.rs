//! One protocol under test.

use std::fmt;
use std::time::Duration;

use super::network::HostId;
use super::{Faults, Network, Peer};
use crate::ids::Id;
use crate::{CloseReason, ConnectionId, Context, EventLoop, IntoProtocol, LoopLimits, NotReached, Transport};

/// One protocol under test: on a real loop, with a simulated connection whose other end is the test.
///
/// Time passes only in [`advance`](Harness::advance). When a method returns, everything that it causes has happened:
/// the protocol's callbacks, and what they wrote. A panic in a callback propagates out of the call that caused it.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::Harness;
/// use switchboard::{CloseReason, Protocol, Transport};
///
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
///         let id = transport.id();
///         transport.context().call_later(Duration::from_secs(60), move |context| {
///             context.connection(id).map(|mut transport| transport.close());
///         });
///         transport.write(b"hello\n");
///     }
///
///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
///         data.len()
///     }
/// }
///
/// let mut harness = Harness::new(Greeter);
/// assert_eq!(harness.take_written(), b"hello\n");
/// harness.advance(Duration::from_secs(59));
/// assert!(harness.lost().is_none());
/// harness.advance(Duration::from_secs(1));
/// assert!(matches!(harness.lost(), Some(CloseReason::Closed)));
/// ```
pub struct Harness {
    network: Network,
    host: HostId,
    id: Id,
    /// None once the peer has closed or reset the connection.
    peer: Option<Peer>,
    written: Vec<u8>,
    reads: bool,
    saw_end: bool,
    saw_reset: bool,
    lost: Option<CloseReason>,
}

impl Harness {
    /// Makes a connection for the protocol and calls its `connection_made`.
    pub fn new(protocol: impl IntoProtocol) -> Harness {
        Harness::with_limits(protocol, LoopLimits::default())
    }

    /// Like [`new`](Harness::new), in a loop with the given limits.
    pub fn with_limits(protocol: impl IntoProtocol, limits: impl Into<LoopLimits>) -> Harness {
        let mut network = Network::new(0, Faults::none());
        let host = network.host_with_limits(limits);
        let (id, peer) = network.attached(host, protocol.into_protocol());
        let mut harness = Harness {
            network,
            host,
            id,
            peer: Some(peer),
            written: Vec::new(),
            reads: true,
            saw_end: false,
            saw_reset: false,
            lost: None,
        };
        harness.settle();
        harness
    }

    // What the peer does.

    /// Sends bytes from the peer. Bytes that find no room, because the protocol has paused reading, are sent later.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.with_peer(|peer| peer.queue(bytes));
    }

    /// Sends one urgent byte from the peer, unless bytes that were fed before still wait for room.
    pub fn feed_urgent(&mut self, byte: u8) {
        self.with_peer(|peer| {
            peer.send_urgent(byte);
        });
    }

    /// Ends the peer's stream, after everything that was fed.
    pub fn end(&mut self) {
        self.with_peer(Peer::end);
    }

    /// Closes both halves of the peer's end; anything that the protocol writes afterwards is answered with a reset.
    pub fn hang_up(&mut self) {
        self.peer = None;
        self.settle();
    }

    /// Resets the connection from the peer's end.
    pub fn reset(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.reset();
        }
        self.settle();
    }

    /// Sets whether the peer reads what is written; it does by default. If it does not, what is written fills the
    /// buffers of both kernels and then the protocol's queue.
    pub fn set_reading(&mut self, reads: bool) {
        self.reads = reads;
        self.settle();
    }

    fn with_peer(&mut self, act: impl FnOnce(&mut Peer)) {
        if let Some(peer) = &mut self.peer {
            act(peer);
        }
        self.settle();
    }

    // What the protocol did.

    /// Takes what the protocol wrote and the peer has read since the last call.
    pub fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    /// Returns whether the peer has read the end of the stream.
    pub fn saw_end(&self) -> bool {
        self.saw_end
    }

    /// Returns whether the peer has seen a reset.
    pub fn saw_reset(&self) -> bool {
        self.saw_reset
    }

    /// Returns why the connection ended, once `connection_lost` was called.
    pub fn lost(&self) -> Option<&CloseReason> {
        self.lost.as_ref()
    }

    // Time, and the loop.

    /// Lets virtual time pass.
    pub fn advance(&mut self, time: Duration) {
        self.network.run_for(time);
        self.settle();
    }

    /// Sets how long each job that the loop hands to a pool of workers (feature `workers`) takes from now on, in
    /// virtual time. Jobs take no time by default; those that have begun are not changed.
    pub fn set_work_time(&mut self, time: Duration) {
        self.network.set_faults(Faults::none().with_work_min(time).with_work_max(time));
    }

    /// Returns how long until the loop has something to do by itself: the next timer, the protocol's or one of its own.
    /// Returns `None` if no timer is set.
    pub fn time_to_next(&mut self) -> Option<Duration> {
        self.event_loop().time_to_next()
    }

    /// Returns the connection's id.
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.id)
    }

    /// Returns the connection as callbacks see it, or `None` once it has ended. What is done to it takes effect by the
    /// end of the next call of another method.
    pub fn transport(&mut self) -> Option<Transport<'_>> {
        let id = self.id;
        let connection = self.event_loop().core.parts.slots.connection(id)?;
        connection.is_alive().then(|| Transport::new(&mut self.network.event_loop(self.host).core, id))
    }

    /// Calls `call` with the protocol, or with what it wraps: a way to look at a protocol's state without an
    /// `Rc<RefCell<_>>` that it shares with its test. See [`Context::with_protocol`]. When it returns, everything that
    /// `call` causes has happened.
    ///
    /// # Errors
    ///
    /// Those of [`Context::with_protocol`], except that the protocol is never busy here.
    ///
    /// # Panics
    ///
    /// If `call` panics, or a callback that it causes.
    ///
    /// ```
    /// use switchboard::testing::Harness;
    /// use switchboard::{NotReached, Protocol, Transport};
    ///
    /// struct Counts(usize);
    ///
    /// impl Protocol for Counts {
    ///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         self.0 += data.len();
    ///         data.len()
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Counts(0));
    /// harness.feed(b"hello");
    /// let count = harness.with_protocol(|counts: &mut Counts, transport| {
    ///     transport.close();
    ///     counts.0
    /// });
    /// assert_eq!(count, Ok(5));
    /// assert!(harness.saw_end());
    /// harness.end();
    /// assert_eq!(harness.with_protocol(|_: &mut Counts, _| ()), Err(NotReached::Gone));
    /// ```
    pub fn with_protocol<P: 'static, R>(
        &mut self,
        call: impl FnOnce(&mut P, &mut Transport<'_>) -> R,
    ) -> Result<R, NotReached> {
        let id = self.id();
        let result = self.context().with_protocol(id, call);
        self.settle();
        result
    }

    /// Returns the loop as callbacks see it.
    pub fn context(&mut self) -> Context<'_> {
        self.network.context(self.host)
    }

    /// Returns the loop.
    pub fn event_loop(&mut self) -> &mut EventLoop {
        self.network.event_loop(self.host)
    }

    /// Runs the loop until nothing more can happen without time passing.
    pub fn settle(&mut self) {
        loop {
            self.network.run_until_rest();
            for (_, token, reason) in self.network.take_losses() {
                if token == self.id.token() {
                    self.lost = Some(reason);
                }
            }
            let Some(peer) = &mut self.peer else { return };
            let read = if self.reads { peer.read() } else { Vec::new() };
            self.written.extend_from_slice(&read);
            self.saw_end |= peer.saw_end() && peer.error().is_none();
            self.saw_reset |= peer.error().is_some();
            if read.is_empty() && self.network.is_at_rest() {
                return;
            }
        }
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("id", &self.id()).field("lost", &self.lost).finish_non_exhaustive()
    }
}
