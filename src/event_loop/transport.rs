//! What a protocol writes to.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::Flag;
use crate::connection::output::Piece;
use crate::event_loop::Core;
use crate::event_loop::producing::set_producing;
use crate::ids::Id;
use crate::{
    Address, CloseReason, ConnectionId, ConnectionStats, Context, Detached, IntoProtocol, Limit, Limits, NotReached,
    Rate, RateGroupId, Timeout,
};

/// A connection as callbacks see it: their own, or any other one by its id
/// ([`Context::connection`](Context::connection)).
///
/// None of its methods blocks, fails because of what a peer does, or calls a callback. Once the connection has ended
/// they do nothing.
///
/// Unless a method says otherwise, it costs one or two table lookups. The only methods that make a system call are
/// those that say so, large writes, and [`abort`](Transport::abort) and its variants, which close the socket at once.
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Protocol, Timeout, Transport};
///
/// /// Greets, answers one line, and hangs up.
/// struct Door;
///
/// impl Protocol for Door {
///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
///         transport.set_timeout(Timeout::Total, Some(Duration::from_secs(60)));
///         transport.write(b"who is there?\n");
///     }
///
///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
///         let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
///         transport.write(b"come in, ");
///         transport.write(&data[..=end]);
///         transport.close(); // once all of it has gone out
///         data.len()
///     }
/// }
/// # #[cfg(feature = "testing")]
/// # {
/// # let mut harness = switchboard::testing::Harness::new(Door);
/// # harness.feed(b"Ada\n");
/// # assert_eq!(harness.take_written(), b"who is there?\ncome in, Ada\n");
/// # assert!(harness.saw_end());
/// # }
/// ```
pub struct Transport<'a> {
    pub(super) core: &'a mut Core,
    pub(super) id: Id,
}

impl<'a> Transport<'a> {
    pub(crate) fn new(core: &'a mut Core, id: Id) -> Transport<'a> {
        Transport { core, id }
    }

    pub(super) fn core(&mut self) -> &mut Core {
        self.core
    }

    /// Returns the connection's id in its loop.
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.id)
    }

    /// Returns the rest of the loop, for use within a callback.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(self.core)
    }

    /// Returns another connection by its id; `None` once it has ended. Like [`Context::connection`], for code in which
    /// the [`context`](Transport::context) would not live long enough.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Transport<'_>> {
        self.core.parts.slots.connection(id.0)?.is_alive().then(|| Transport::new(self.core, id.0))
    }

    /// Calls `call` with the protocol of another connection, at once: see [`Context::with_protocol`].
    ///
    /// # Errors
    ///
    /// See [`Context::with_protocol`]; [`Busy`](NotReached::Busy) for the connection whose callback this is.
    ///
    /// # Panics
    ///
    /// If `call` panics.
    pub fn with_protocol<P: 'static, R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut P, &mut Transport<'_>) -> R,
    ) -> Result<R, NotReached> {
        self.context().with_protocol(id, call)
    }

    /// Returns the limits of this connection: those of its listener, its connect or the loop, with any changes made
    /// since for this connection alone. The timeouts and the read rate among them are the initial ones;
    /// [`timeout`](Transport::timeout) and [`read_rate`](Transport::read_rate) return the current ones.
    pub fn limits(&self) -> &Limits {
        let settings = self.core.parts.slots.connection(self.id).map(|connection| &connection.settings);
        &settings.unwrap_or(&self.core.parts.settings).limits
    }

    /// Returns whether the connection has begun to end: it was closed, aborted or detached, sending has failed, or it
    /// has ended. Data written from then on is not sent. After [`shutdown_write`](Transport::shutdown_write) it is not
    /// closing as long as the peer may send.
    pub fn is_closing(&self) -> bool {
        self.core.parts.slots.connection(self.id).is_none_or(crate::connection::Connection::has_begun_to_end)
    }

    /// Returns the connection's statistics: age, bytes, queue.
    pub fn stats(&self) -> ConnectionStats {
        self.core.parts.stats(self.id)
    }

    /// Marks the callback that is passed this transport as one that delivers input.
    #[inline]
    pub(crate) fn delivers_input(&mut self) {
        self.core.parts.outbox.gathered.delivers_input();
    }
}

/// # Writing
impl Transport<'_> {
    /// Writes all of `data`, in the order of the calls, as long as the connection lasts.
    ///
    /// Data that a callback writes to its own connection is sent in one go when the callback returns; data for other
    /// connections is sent before the loop sleeps. If others have written to the callback's own connection in the same
    /// turn, its writes may wait and go out with theirs. What the kernel does not take is queued; see
    /// [`pause_writing`](crate::Protocol::pause_writing) for the marks, and
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max) for the cap. Send errors are reported as
    /// [`connection_lost`](crate::Protocol::connection_lost). After [`close`](Transport::close),
    /// [`shutdown_write`](Transport::shutdown_write) or the end this does nothing, and is counted
    /// ([`Counters::late_writes`](crate::Counters::late_writes)).
    ///
    /// Costs a copy. From 16 KiB on the data is sent at once, behind what the callback wrote before, and what the
    /// kernel takes is not copied.
    #[inline]
    pub fn write(&mut self, data: &[u8]) {
        if !self.core.parts.outbox.gathered.gather(self.id, data) {
            self.core.parts.write_borrowed(self.id, data);
        }
    }

    /// Like [`write`](Transport::write), but does not copy from 16 KiB on. What a callback passes for its own
    /// connection is held until it returns, like small pieces, and sent with them in one system call; it is sent at
    /// once if it exceeds 256 KiB or a cap is near.
    pub fn write_owned(&mut self, data: Vec<u8>) {
        if !self.core.parts.outbox.gathered.gather(self.id, &data) {
            self.core.parts.write(self.id, Piece::Owned(data));
        }
    }

    /// Like [`write_owned`](Transport::write_owned), for one payload that is sent to many connections.
    pub fn write_shared(&mut self, data: Arc<[u8]>) {
        if !self.core.parts.outbox.gathered.gather(self.id, &data) {
            self.core.parts.write_shared(self.id, data);
        }
    }

    /// Returns how many written bytes the kernel has not taken yet.
    ///
    /// To write for as long as there is room, use [`produce`](crate::Protocol::produce). A protocol that stops writing
    /// because of this figure alone may wait for ever: `resume_writing` comes only after a `pause_writing`, and neither
    /// comes if the kernel then takes everything.
    pub fn queued_bytes(&self) -> usize {
        let queued = self.core.parts.slots.connection(self.id).map_or(0, crate::connection::Connection::queued_bytes);
        queued + self.core.parts.outbox.waiting_bytes(self.id)
    }

    /// Returns the write marks of this connection, in bytes, in the order in which
    /// [`set_write_marks`](Transport::set_write_marks) takes them: the high one, and the low one in effect.
    pub fn write_marks(&self) -> (usize, usize) {
        self.limits().marks()
    }

    /// Sets the write marks of this connection, in bytes, and checks the queue against both (rule
    /// [W2](crate::guide::rules#w2)). A low mark above the high one is lowered to that.
    pub fn set_write_marks(&mut self, high_bytes: usize, low_bytes: usize) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            let limits = connection.limits_mut();
            limits.queue_bytes_high = high_bytes;
            limits.queue_bytes_low = low_bytes;
            self.core.parts.mark_written_to(self.id);
        }
    }

    /// Makes the loop call [`produce`](crate::Protocol::produce) whenever there is room for output, from the next turn
    /// on: not before `connection_made`, and not after [`close`](Transport::close) or
    /// [`shutdown_write`](Transport::shutdown_write). Does nothing if it is producing already.
    ///
    /// This belongs to the protocol: [`set_protocol`](Transport::set_protocol) and
    /// [`start_protocol`](Transport::start_protocol) end it, and a start after either of them applies to the new one.
    pub fn start_producing(&mut self) {
        set_producing(&mut self.core.parts, self.id, true);
    }

    /// Undoes [`start_producing`](Transport::start_producing).
    pub fn stop_producing(&mut self) {
        set_producing(&mut self.core.parts, self.id, false);
    }

    /// Reads once from `reader` and writes the result, at most 64 KiB and no more than fills the queue up to its high
    /// mark. Returns the number of bytes: 0 at the end of the reader, or, without reading, if nothing can be written
    /// any more.
    ///
    /// To send a file piece by piece, as fast as the peer takes it:
    ///
    /// ```
    /// use std::fs::File;
    /// use switchboard::{Protocol, Transport};
    ///
    /// struct Sender(File);
    ///
    /// impl Protocol for Sender {
    ///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
    ///         transport.start_producing();
    ///     }
    ///
    ///     fn produce(&mut self, transport: &mut Transport<'_>) {
    ///         if transport.write_from(&mut self.0) == 0 {
    ///             transport.close();
    ///         }
    ///     }
    ///
    ///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         data.len()
    ///     }
    /// }
    /// ```
    ///
    /// Reading a file blocks the loop: for microseconds if the system has it in memory, otherwise for as long as a slow
    /// disk takes; a source that may block for long should be read on another thread. An error of the reader, including
    /// `WouldBlock`, resets the connection with [`CloseReason::Io`], so that the peer does not take half a file for the
    /// whole.
    pub fn write_from(&mut self, reader: &mut dyn io::Read) -> usize {
        let waiting = self.core.parts.outbox.waiting_bytes(self.id);
        let mut piece = match self.core.parts.slots.connection(self.id) {
            Some(connection) if connection.can_write() => vec![0; connection.piece_bytes_max(waiting)],
            _ => return 0,
        };
        loop {
            match reader.read(&mut piece) {
                Ok(count) => {
                    piece.truncate(count);
                    self.write_owned(piece);
                    return count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.core.parts.finish(self.id, CloseReason::Io(error.into()));
                    return 0;
                }
            }
        }
    }
}

/// # Reading
impl Transport<'_> {
    /// Stops delivering data until [`resume_reading`](Transport::resume_reading), even data that was read already.
    ///
    /// The peer's end of stream is not delivered either. Pausing twice is the same as pausing once.
    ///
    /// The socket is not read meanwhile, so a peer's end of stream or reset goes unnoticed until reading resumes or a
    /// send fails. [`Timeout::ReadIdle`] does not run, nor does [`Timeout::Idle`] unless output is queued;
    /// [`Timeout::Total`], [`Timeout::Handshake`] and timers run on.
    pub fn pause_reading(&mut self) {
        self.core.parts.pause_reading(self.id);
    }

    /// Undoes [`pause_reading`](Transport::pause_reading): from the loop's next turn on, buffered input is delivered
    /// first, then what has arrived meanwhile.
    pub fn resume_reading(&mut self) {
        self.core.parts.resume_reading(self.id);
    }

    /// Returns whether the protocol would be given data now: the connection is established, reading is neither paused
    /// nor held back by queued output, and the callback under way has not replaced its protocol.
    ///
    /// For protocols that handle several frames in one call: check after each, and if this returns `false`, return what
    /// was consumed so far. The rest is offered when it is wanted again, to the protocol that is in place by then. Costs
    /// a few instructions as long as `data_received` has done nothing but write a little.
    #[inline]
    pub fn is_reading(&self) -> bool {
        self.core.parts.outbox.gathered.is_undisturbed(self.id) || self.core.parts.wants_input(self.id)
    }

    /// Returns the maximum rate at which this connection is read; `None` if it is unlimited. The rate of a group does
    /// not count.
    pub fn read_rate(&self) -> Option<Rate> {
        self.core.parts.slots.connection(self.id)?.read_rate()
    }

    /// Makes the loop deliver data only once there are at least `bytes` of it, or in
    /// [`eof_received`](crate::Protocol::eof_received), so that a protocol does not check an incomplete frame again and
    /// again. 0 and 1 deliver data as it comes; values above [`input_bytes_max`](crate::Limits::input_bytes_max) count
    /// as that.
    pub fn set_input_low_bytes(&mut self, bytes: usize) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_input_low_bytes(bytes);
            // A protocol in its own data_received has just seen what there is, and that is not buffered meanwhile.
            if connection.has_input() {
                connection.flags.set(Flag::OfferAgain, true);
                self.core.parts.carry_over(self.id);
            }
        }
    }

    /// Sets how many bytes this connection's protocol may leave unconsumed.
    pub fn set_input_bytes_max(&mut self, bytes: usize) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.limits_mut().input_bytes_max = bytes;
        }
    }

    /// Returns how many bytes this connection's protocol may leave unconsumed; 0 once it has ended.
    pub fn input_bytes_max(&self) -> usize {
        self.core.parts.slots.connection(self.id).map_or(0, |connection| connection.settings.limits.input_bytes_max)
    }

    /// Sets the maximum rate at which this connection is read, in place of the one in its [`Limits`](crate::Limits);
    /// `None` is no limit.
    ///
    /// TCP itself holds the peer back, as with [`pause_reading`](Transport::pause_reading); meanwhile an idle timeout
    /// does not run. A timer resumes reading, at most a hundred times a second.
    pub fn set_read_rate(&mut self, rate: Option<Rate>) {
        self.core.parts.set_read_rate(self.id, rate);
    }

    /// Makes this connection share the read rate of a group, in addition to its own; `None` removes it from its group.
    pub fn set_rate_group(&mut self, group: Option<RateGroupId>) {
        self.core.parts.set_rate_group(self.id, group);
    }
}

/// # Timeouts and timers
impl Transport<'_> {
    /// Sets one of this connection's timeouts, counted from now, in place of the one in its [`Limits`](crate::Limits);
    /// `None` removes it. [`timed_out`](crate::Protocol::timed_out) is called when it expires, and [`Timeout`]
    /// describes each of them; [`Timeout::Close`] calls nothing, but aborts.
    ///
    /// Costs O(log n). An idle timeout adds no more than a store or two to each message.
    pub fn set_timeout(&mut self, timeout: Timeout, after: Option<Duration>) {
        self.core.parts.set_timeout(self.id, timeout, after);
    }

    /// Returns the duration of one of this connection's timeouts; `None` if it has none of that kind, or if it has
    /// expired and nothing can restart it, as with [`Timeout::Handshake`] and [`Timeout::Total`]. Before
    /// [`connection_made`](crate::Protocol::connection_made), returns the one that the connection will begin with.
    pub fn timeout(&self, timeout: Timeout) -> Option<Duration> {
        self.core.parts.slots.connection(self.id)?.timeout(timeout)
    }

    /// Sets a timer of this connection's protocol: [`timer`](crate::Protocol::timer) is called with `key` once `after`
    /// has passed. A timer with the same key is replaced, so a protocol needs to remember no id; a timer that is to
    /// repeat is set again in `timer`.
    ///
    /// The timers belong to the protocol: [`set_protocol`](Transport::set_protocol),
    /// [`start_protocol`](Transport::start_protocol), [`close`](Transport::close), [`abort`](Transport::abort),
    /// [`detach`](Transport::detach) and the end of the connection cancel them. One that is set after `set_protocol` in
    /// the same callback belongs to the new protocol. Before [`connection_made`](crate::Protocol::connection_made), and
    /// once the connection is closing, this does nothing. Keys from `0xff00` on are reserved for adapters, which wrap
    /// other protocols.
    ///
    /// Input does not postpone it; for deadlines that the peer must meet, use [`set_timeout`](Transport::set_timeout).
    /// Costs O(log n) in the timers of the loop, and O(n) in those of the connection when one with a new key is set.
    pub fn set_timer(&mut self, key: u16, after: Duration) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            self.core.parts.time.set_own(self.id, connection, key, after);
        }
    }

    /// Cancels the timer with this key. Returns whether there was one: `false` if it has fired or was cancelled
    /// already, or once the connection is closing.
    pub fn cancel_timer(&mut self, key: u16) -> bool {
        let Some(connection) = self.core.parts.slots.connection_mut(self.id) else { return false };
        self.core.parts.time.cancel_own(connection, key)
    }
}

/// # Another protocol
impl Transport<'_> {
    /// Replaces the protocol, as an upgrade does.
    ///
    /// The new one gets no `connection_made` (the connection was made once); unconsumed input is offered to it at once.
    /// The old one is dropped at the end of the turn.
    pub fn set_protocol(&mut self, protocol: impl IntoProtocol) {
        self.core.parts.set_protocol(self.id, protocol.into_protocol());
    }

    /// Replaces the protocol with one that starts from the beginning:
    /// [`connection_made`](crate::Protocol::connection_made) is called in the next turn, before anything else, and it
    /// then has its own life up to [`connection_lost`](crate::Protocol::connection_lost). It inherits nothing that was
    /// set before this call: no timeout, no pause, no read rate, no marks or limits; those of its
    /// [`Limits`](crate::Limits) start again. For what precedes a protocol, such as a proxy header. Unconsumed input is
    /// offered to it right after `connection_made`.
    ///
    /// The old one gets no more callbacks and is dropped at the end of the turn. If the peer has ended its stream
    /// already, only the old one was told. If the connection is closing or over, the new one is dropped without a call,
    /// and the old one stays.
    pub fn start_protocol(&mut self, protocol: impl IntoProtocol) {
        self.core.parts.start_protocol(self.id, protocol.into_protocol());
    }
}

/// # Ending
impl Transport<'_> {
    /// Closes our half of the connection once all written data has been sent: the peer reads an end of stream, and we
    /// go on reading. If the peer has closed its half already, the connection ends.
    pub fn shutdown_write(&mut self) {
        self.core.parts.shutdown_write(self.id);
    }

    /// Ends the connection once all written data has been sent.
    ///
    /// No more data is delivered. If the peer takes nothing for [`close_timeout`](crate::Limits::close_timeout), the
    /// connection is aborted. If the peer is still sending, its data is read and discarded for a while
    /// ([`linger_timeout`](crate::Limits::linger_timeout), [`linger_bytes_max`](crate::Limits::linger_bytes_max)):
    /// closing at once would make the kernel send a reset, which can destroy the answer before the peer has read it.
    /// What has arrived tells whether it is. To refuse a request before the rest of it has come, call
    /// [`shutdown_write`](Transport::shutdown_write) and read on for a while, as the example `http_server` does.
    pub fn close(&mut self) {
        self.core.parts.close(self.id);
    }

    /// Like [`close`](Transport::close), reported as [`CloseReason::Protocol`]: the peer broke the protocol. What was
    /// written before, such as an error message, is still sent.
    pub fn close_for(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.core.parts.close_for(self.id, CloseReason::of_protocol(error.into()));
    }

    /// Ends the connection at once, by a reset: queued output is dropped, and the peer gets an error. Overrides a
    /// [`close`](Transport::close) that is still under way.
    ///
    /// The kernel resets a connection when the last descriptor of its socket is closed. While a duplicate is open, for
    /// example in a forked process, the peer sees nothing. (A shutdown first would be seen, as an end of stream behind
    /// half an answer.)
    pub fn abort(&mut self) {
        self.core.parts.finish(self.id, CloseReason::Aborted);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Protocol`]: the peer broke the protocol in a way
    /// that no reply can help; [`close_for`](Transport::close_for) still sends written data. A connection that is
    /// closing already is only aborted.
    pub fn abort_for(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        let is_closing =
            self.core.parts.slots.connection(self.id).is_some_and(crate::connection::Connection::is_closing);
        let reason = if is_closing { CloseReason::Aborted } else { CloseReason::of_protocol(error.into()) };
        self.core.parts.finish(self.id, reason);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Limit`]: the peer exceeded a limit that the
    /// protocol enforces, [`Limit::Other`] if the loop has no name for it.
    pub fn abort_over_limit(&mut self, limit: Limit) {
        self.core.parts.finish(self.id, CloseReason::Limit(limit));
    }

    /// Does what [`timed_out`](crate::Protocol::timed_out) does by default; always reported as
    /// [`CloseReason::Timeout`].
    ///
    /// [Aborts](Transport::abort) if output is queued, if the protocol is in the middle of an answer
    /// ([`set_answering`](Transport::set_answering)), and for [`Timeout::Total`], so that no peer takes half an answer
    /// for the whole. Otherwise, after an idle or a handshake timeout or one of the protocol's own,
    /// [closes](Transport::close) gracefully: the kernel may still hold part of the answer for a peer that reads
    /// slowly, and goes on sending it, as long as the peer takes some within each
    /// [`orphan_timeout`](crate::Limits::orphan_timeout).
    pub fn end_on_timeout(&mut self, timeout: Timeout) {
        self.core.parts.end_after(self.id, timeout);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Timeout`].
    pub fn abort_on_timeout(&mut self, timeout: Timeout) {
        self.core.parts.finish(self.id, CloseReason::Timeout(timeout));
    }

    /// Sets whether the protocol is in the middle of an answer that is not completely written yet, because it is
    /// produced piece by piece or waits for something. Meanwhile a timeout or the end of a
    /// [shutdown](crate::Context::shutdown) aborts the connection, so that the peer sees a reset and does not take the
    /// part that it has for the whole. [`close`](Transport::close) ignores this, and once the connection is closing
    /// this does nothing. Only this method and [`start_protocol`](Transport::start_protocol) reset it.
    pub fn set_answering(&mut self, answering: bool) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_answering(answering);
        }
    }

    /// Takes the connection out of the loop, without closing its socket: to give it to a thread, to another loop
    /// ([`Context::attach`]), or to code that wants a plain stream.
    ///
    /// Once the callback has returned, queued output is sent as far as the kernel takes it at once,
    /// [`connection_lost`](crate::Protocol::connection_lost) comes with [`CloseReason::Detached`], and then `receiver`
    /// is called with the socket, the unconsumed input and the unsent output. From here on nothing is delivered, and
    /// writing does nothing.
    ///
    /// Its [filters](crate::filter) go with it, along with the data between them: queued output is filtered only
    /// as far as the kernel takes it.
    ///
    /// Returns `false`, and drops `receiver` without a call, if the connection is not established yet, is closing, has
    /// its write half shut down, has a filter that is not ready, or is gone. `receiver` is also dropped if the
    /// connection ends before it is taken out, for example by a failed send or a panic; `connection_lost` reports that.
    pub fn detach(&mut self, receiver: impl FnOnce(&mut Context<'_>, Detached) + 'static) -> bool {
        self.core.parts.detach(self.id, Box::new(receiver))
    }
}

/// # Addresses and options
impl Transport<'_> {
    /// Returns the peer's address, as of when the connection was made, or as [set](Transport::set_peer_addr) since;
    /// `None` before.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.core.parts.slots.connection(self.id)?.peer()
    }

    /// Sets the peer's address to that of the client on whose behalf the other end of the socket speaks, such as the
    /// one that a proxy has announced: from here on [`peer_addr`](Transport::peer_addr), the log and
    /// [`Detached::peer_addr`] use it. Connections per peer are still counted by the socket's address. Does nothing
    /// before the connection is established.
    pub fn set_peer_addr(&mut self, peer: Address) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_peer(peer);
        }
    }

    /// Returns our own address; makes a system call.
    ///
    /// # Errors
    ///
    /// `NotConnected` once the socket is closed, and any error of the system.
    pub fn local_addr(&self) -> io::Result<Address> {
        let connection = self.core.parts.slots.connection(self.id);
        let socket = connection.and_then(|connection| connection.socket());
        socket.ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// Returns the socket, for options that have no method here (`socket2::SockRef::from(&fd)` has all of them). `None`
    /// once it is closed, as in `connection_lost` and after [`abort`](Transport::abort), and if it is simulated.
    ///
    /// The kernel detects a peer that has vanished silently if `set_keepalive` is enabled; [`Timeout::Idle`] does in
    /// any case.
    ///
    /// For the peer of a Unix socket (process, user, group), see `rustix::net::sockopt::socket_peercred`.
    ///
    /// Reading, writing, closing or shutting down through it goes behind the loop's back. With `SO_LINGER` set, closing
    /// it blocks the loop.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.core.parts.slots.connection(self.id)?.socket()?.as_fd()
    }

    /// Returns the socket, for options that have no method here (`socket2::SockRef::from(&socket)` has all of them).
    /// `None` once it is closed, as in `connection_lost` and after [`abort`](Transport::abort), and if it is simulated.
    ///
    /// Reading, writing, closing or shutting down through it goes behind the loop's back. With `SO_LINGER` set, closing
    /// it blocks the loop.
    #[cfg(windows)]
    pub fn socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        self.core.parts.slots.connection(self.id)?.socket()?.as_socket()
    }
}

/// [`Transport::write`] for `write!` and the like: takes all of the data, never fails.
impl io::Write for Transport<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Transport::write(self, data);
        Ok(data.len())
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        Transport::write(self, data);
        Ok(())
    }

    /// Does nothing: written data is sent when the callback returns.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Transport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = self.core.parts.slots.connection(self.id);
        f.debug_struct("Transport")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("state", &connection.map(crate::connection::Connection::state))
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
