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
/// None of its methods blocks, fails for what a peer does, or calls a callback. Once the connection has ended they do
/// nothing.
///
/// What a method costs, unless it says otherwise: one or two looks at the loop's table. No method makes a system call but
/// those that say so, a write that is large, and [`abort`](Transport::abort) with its like, which close the socket there
/// and then.
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

    /// The connection's name in its loop.
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.id)
    }

    /// The rest of the loop, from within a callback.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(self.core)
    }

    /// Another connection, by its id; `None` once it has ended. As [`Context::connection`], where the
    /// [`context`](Transport::context) would not live for long enough.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Transport<'_>> {
        self.core.parts.slots.connection(id.0)?.is_alive().then(|| Transport::new(self.core, id.0))
    }

    /// Calls `call` with the protocol of another connection, at once: see [`Context::with_protocol`].
    ///
    /// # Errors
    ///
    /// As of [`Context::with_protocol`]; [`Busy`](NotReached::Busy) for the connection whose callback this is.
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

    /// Returns the limits of this connection: those of its listener, of its connect or of the loop, with what was set for
    /// it alone since. The timeouts and the read rate among them are those that it begins with;
    /// [`timeout`](Transport::timeout) and [`read_rate`](Transport::read_rate) return what holds now.
    pub fn limits(&self) -> &Limits {
        let settings = self.core.parts.slots.connection(self.id).map(|connection| &connection.settings);
        &settings.unwrap_or(&self.core.parts.settings).limits
    }

    /// Returns whether the end of the connection has begun: it was closed, aborted or detached, sending has failed, or it
    /// has ended. What is written from then on is not sent. After [`shutdown_write`](Transport::shutdown_write) it is not
    /// closing as long as the peer may send.
    pub fn is_closing(&self) -> bool {
        self.core.parts.slots.connection(self.id).is_none_or(crate::connection::Connection::has_begun_to_end)
    }

    /// What the connection has been through: age, bytes, queue.
    pub fn stats(&self) -> ConnectionStats {
        self.core.parts.stats(self.id)
    }

    /// The callback that is handed this is one that delivers input.
    #[inline]
    pub(crate) fn delivers_input(&mut self) {
        self.core.parts.outbox.gathered.delivers_input();
    }
}

/// # Writing
impl Transport<'_> {
    /// Writes `data`: all of it, in the order of the calls, as far as the connection lasts.
    ///
    /// Writes of a callback go out together when it returns, those to other connections before the loop sleeps. Where
    /// others have written to the callback's own connection in the same turn, its writes may wait to go out with theirs.
    /// What the kernel does not take is queued; see [`pause_writing`](crate::Protocol::pause_writing) for the marks, and
    /// [`queue_bytes_max`](crate::Limits::queue_bytes_max) for the cap. Errors of sending arrive as
    /// [`connection_lost`](crate::Protocol::connection_lost). After [`close`](Transport::close),
    /// [`shutdown_write`](Transport::shutdown_write) or the end it does nothing, and is counted
    /// ([`Counters::late_writes`](crate::Counters::late_writes)).
    ///
    /// Costs a copy; from 16 KiB on it goes out at once, behind what its callback wrote before, and what the kernel takes is
    /// not copied.
    #[inline]
    pub fn write(&mut self, data: &[u8]) {
        if !self.core.parts.outbox.gathered.gather(self.id, data) {
            self.core.parts.write_borrowed(self.id, data);
        }
    }

    /// Like [`write`](Transport::write), without a copy from 16 KiB on. What a callback hands over to its own connection waits
    /// for its return, as small pieces do, and goes out with them in one system call; once it is more than 256 KiB, or a cap
    /// is near, it waits no longer.
    pub fn write_owned(&mut self, data: Vec<u8>) {
        if !self.core.parts.outbox.gathered.gather(self.id, &data) {
            self.core.parts.write(self.id, Piece::Owned(data));
        }
    }

    /// Like [`write_owned`](Transport::write_owned), of one payload for many connections.
    pub fn write_shared(&mut self, data: Arc<[u8]>) {
        if !self.core.parts.outbox.gathered.gather(self.id, &data) {
            self.core.parts.write_shared(self.id, data);
        }
    }

    /// How many written bytes the kernel has not taken yet.
    ///
    /// To write for as long as there is room is what [`produce`](crate::Protocol::produce) is for. Who stops writing by this
    /// figure alone may wait for ever: `resume_writing` comes only behind a `pause_writing`, and neither does where the
    /// kernel then takes all.
    pub fn queued_bytes(&self) -> usize {
        let queued = self.core.parts.slots.connection(self.id).map_or(0, crate::connection::Connection::queued_bytes);
        queued + self.core.parts.outbox.waiting_bytes(self.id)
    }

    /// Returns the marks of this connection, in bytes, in the order in which
    /// [`set_write_marks`](Transport::set_write_marks) takes them: the high one, and the low one that holds.
    pub fn write_marks(&self) -> (usize, usize) {
        self.limits().marks()
    }

    /// Sets the marks of this connection, in bytes, and checks both (rule [W2](crate::guide::rules#w2)). A low mark
    /// above the high one counts as that.
    pub fn set_write_marks(&mut self, high_bytes: usize, low_bytes: usize) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            let limits = connection.limits_mut();
            limits.queue_bytes_high = high_bytes;
            limits.queue_bytes_low = low_bytes;
            self.core.parts.mark_written_to(self.id);
        }
    }

    /// From the next turn on has [`produce`](crate::Protocol::produce) called whenever there is room for output: not before
    /// `connection_made`, and not after [`close`](Transport::close) or [`shutdown_write`](Transport::shutdown_write). Does
    /// nothing if it is called already.
    ///
    /// It belongs to the protocol: [`set_protocol`](Transport::set_protocol) and
    /// [`start_protocol`](Transport::start_protocol) end it, and a start behind them is for the new one.
    pub fn start_producing(&mut self) {
        set_producing(&mut self.core.parts, self.id, true);
    }

    /// Takes [`start_producing`](Transport::start_producing) back.
    pub fn stop_producing(&mut self) {
        set_producing(&mut self.core.parts, self.id, false);
    }

    /// Reads once from `reader` and writes what that brings, at most 64 KiB and no more than takes the queue to its high
    /// mark. Returns the number of bytes: 0 at the end, and without a read once nothing can be written any more.
    ///
    /// For a file, piece by piece as the peer takes it:
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
    /// Reading a file blocks the loop, for microseconds if the system has it in memory, and for as long as a slow disk
    /// takes otherwise; what may block for long is read by a thread. An error of the reader, one that says that it would
    /// block included, resets the connection with [`CloseReason::Io`] as its reason: the peer must not take half a file
    /// for the whole.
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
    /// No data is delivered until [`resume_reading`](Transport::resume_reading), also none that was read already.
    ///
    /// Neither is the peer's end of stream. Pausing twice is pausing once.
    ///
    /// The socket is not read meanwhile, so the peer's end or a reset is not seen until reading goes on or a send fails.
    /// [`Timeout::ReadIdle`] does not run, nor does [`Timeout::Idle`] unless output is queued; [`Timeout::Total`],
    /// [`Timeout::Handshake`] and timers run on.
    pub fn pause_reading(&mut self) {
        self.core.parts.pause_reading(self.id);
    }

    /// Takes [`pause_reading`](Transport::pause_reading) back: what was kept is delivered first, then what has come
    /// meanwhile, beginning with the loop's next turn.
    pub fn resume_reading(&mut self) {
        self.core.parts.resume_reading(self.id);
    }

    /// Whether the protocol would be given data now: the connection stands, reading is neither paused nor held back by
    /// what is queued, and the callback under way has not replaced its protocol.
    ///
    /// For protocols that take several frames in one call: ask after each, and where the answer is no, return what was
    /// consumed. The rest is offered when it is wanted again, to whom it is meant for. Costs a few instructions as long as
    /// `data_received` has done nothing but write a little.
    #[inline]
    pub fn is_reading(&self) -> bool {
        self.core.parts.outbox.gathered.is_undisturbed(self.id) || self.core.parts.wants_input(self.id)
    }

    /// Returns how fast this connection is read from at most; `None` if that is not limited. The rate of a group is not
    /// counted.
    pub fn read_rate(&self) -> Option<Rate> {
        self.core.parts.slots.connection(self.id)?.read_rate()
    }

    /// From now on data is delivered only once there are `bytes` of it, or in
    /// [`eof_received`](crate::Protocol::eof_received). It keeps protocols from looking again and again at a frame that is not
    /// complete. 0 and 1 deliver as it comes; more than [`input_bytes_max`](crate::Limits::input_bytes_max) counts as
    /// that.
    pub fn set_input_low_bytes(&mut self, bytes: usize) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_input_low_bytes(bytes);
            // Its own data_received has just seen what there is, and that is not kept meanwhile.
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

    /// How many bytes this connection's protocol may leave unconsumed; 0 once it has ended.
    pub fn input_bytes_max(&self) -> usize {
        self.core.parts.slots.connection(self.id).map_or(0, |connection| connection.settings.limits.input_bytes_max)
    }

    /// Sets how fast this connection is read from, in place of what its [`Limits`](crate::Limits) say; `None` is no limit.
    ///
    /// The peer is held back by TCP itself, as by [`pause_reading`](Transport::pause_reading); meanwhile an idle timeout
    /// does not run. Reading goes on by a timer, at most a hundred times a second.
    pub fn set_read_rate(&mut self, rate: Option<Rate>) {
        self.core.parts.set_read_rate(self.id, rate);
    }

    /// Has this connection share the read rate of a group, beside its own; `None` lets it leave.
    pub fn set_rate_group(&mut self, group: Option<RateGroupId>) {
        self.core.parts.set_rate_group(self.id, group);
    }
}

/// # Timeouts and timers
impl Transport<'_> {
    /// Sets one of this connection's timeouts, from now on, in place of the one that its [`Limits`](crate::Limits) gave
    /// it; `None` takes it away. [`timed_out`](crate::Protocol::timed_out) is called once it is over, and
    /// [`Timeout`] says what each of them is; that of [`Timeout::Close`] calls nothing, but aborts.
    ///
    /// Costs O(log n). An idle timeout costs each message a store or two, and no more.
    pub fn set_timeout(&mut self, timeout: Timeout, after: Option<Duration>) {
        self.core.parts.set_timeout(self.id, timeout, after);
    }

    /// Returns how long one of this connection's timeouts is; `None` if it has none of that kind, or if it is over and
    /// nothing can start it again, as that of [`Timeout::Handshake`] and [`Timeout::Total`]. Before
    /// [`connection_made`](crate::Protocol::connection_made) it is what the connection is going to begin with.
    pub fn timeout(&self, timeout: Timeout) -> Option<Duration> {
        self.core.parts.slots.connection(self.id)?.timeout(timeout)
    }

    /// Sets a timer of this connection's protocol: [`timer`](crate::Protocol::timer) is called with `key` after so long.
    /// One that has the same key already is replaced, so a protocol needs to remember no id, and only a timer that is to
    /// repeat is set again in `timer`.
    ///
    /// The timers belong to the protocol: [`set_protocol`](Transport::set_protocol),
    /// [`start_protocol`](Transport::start_protocol), [`close`](Transport::close), [`abort`](Transport::abort),
    /// [`detach`](Transport::detach) and the end of the connection cancel them. One that is set after `set_protocol` in the
    /// same callback is the new protocol's. Before [`connection_made`](crate::Protocol::connection_made), and once the
    /// connection is closing, this does nothing. Keys from `0xff00` on are for adapters, which wrap other protocols.
    ///
    /// No input puts it off; for what the peer must do in time there is [`set_timeout`](Transport::set_timeout). Costs
    /// O(log n) among the timers of the loop, and O(n) among those of the connection when one with a new key is set.
    pub fn set_timer(&mut self, key: u16, after: Duration) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            self.core.parts.time.set_own(self.id, connection, key, after);
        }
    }

    /// Cancels the timer with this key. Returns whether there was one: not if it has come or was cancelled already, nor
    /// once the connection is closing.
    pub fn cancel_timer(&mut self, key: u16) -> bool {
        let Some(connection) = self.core.parts.slots.connection_mut(self.id) else { return false };
        self.core.parts.time.cancel_own(connection, key)
    }
}

/// # Another protocol
impl Transport<'_> {
    /// Puts another protocol in this one's place, as an upgrade does.
    ///
    /// It gets no `connection_made` (the connection was made once); what was left unconsumed is offered to it at once.
    /// The old one is dropped at the turn's end.
    pub fn set_protocol(&mut self, protocol: impl IntoProtocol) {
        self.core.parts.set_protocol(self.id, protocol.into_protocol());
    }

    /// Puts another protocol in this one's place that begins at the beginning: it is told
    /// [`connection_made`](crate::Protocol::connection_made), next turn and before anything else, and then has its own life up
    /// to [`connection_lost`](crate::Protocol::connection_lost). It inherits nothing of what was set before this call: no timeout,
    /// no pause, no read rate, no marks or limits; those of its [`Limits`](crate::Limits) begin anew with it. For what comes
    /// before a protocol, such as the header of a proxy. What was left unconsumed is offered to it as soon as it is told.
    ///
    /// The old one gets no callback any more and is dropped at the turn's end. Where the peer has ended its stream
    /// already, that was told to the old one. Where the connection is closing or over, the new one is dropped without a
    /// call, and the old one stays.
    pub fn start_protocol(&mut self, protocol: impl IntoProtocol) {
        self.core.parts.start_protocol(self.id, protocol.into_protocol());
    }
}

/// # Ending
impl Transport<'_> {
    /// Ends our half once all that was written has gone out: the peer reads an end of stream, and we go on reading.
    /// Where the peer has ended its half already, the connection ends.
    pub fn shutdown_write(&mut self) {
        self.core.parts.shutdown_write(self.id);
    }

    /// Ends the connection once all that was written has gone out.
    ///
    /// No data is delivered any more. Where the peer takes nothing for
    /// [`close_timeout`](crate::Limits::close_timeout), it is aborted. Where the peer is still sending, what comes is
    /// read and discarded for a while ([`linger_timeout`](crate::Limits::linger_timeout),
    /// [`linger_bytes_max`](crate::Limits::linger_bytes_max)): closing at once would make the kernel send a reset, which
    /// can destroy the answer before the peer has read it.
    pub fn close(&mut self) {
        self.core.parts.close(self.id);
    }

    /// Like [`close`](Transport::close), reported as [`CloseReason::Protocol`]: the peer broke the protocol. What was
    /// written before, such as an error message, still goes out.
    pub fn close_for(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.core.parts.close_for(self.id, CloseReason::of_protocol(error.into()));
    }

    /// Ends the connection now, by a reset: what is queued is dropped, and the peer gets an error. Upgrades a
    /// [`close`](Transport::close) that is still under way.
    ///
    /// The kernel resets a connection when the last descriptor of its socket is closed. While a duplicate is open, such
    /// as in a process that was forked, the peer sees nothing of it. (A shutdown before would be seen: as an end of
    /// stream behind half an answer.)
    pub fn abort(&mut self) {
        self.core.parts.finish(self.id, CloseReason::Aborted);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Protocol`]: the peer broke the protocol in a way that
    /// leaves nothing to say to it; [`close_for`](Transport::close_for) lets what was written go out. One that is closing already
    /// is only aborted.
    pub fn abort_for(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        let is_closing =
            self.core.parts.slots.connection(self.id).is_some_and(crate::connection::Connection::is_closing);
        let reason = if is_closing { CloseReason::Aborted } else { CloseReason::of_protocol(error.into()) };
        self.core.parts.finish(self.id, reason);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Limit`]: the peer went over a limit that the protocol
    /// keeps, as [`Limit::Other`] where the loop has no name for it.
    pub fn abort_over_limit(&mut self, limit: Limit) {
        self.core.parts.finish(self.id, CloseReason::Limit(limit));
    }

    /// What [`timed_out`](crate::Protocol::timed_out) does unless a protocol does something else; reported as
    /// [`CloseReason::Timeout`] in any case.
    ///
    /// [Aborts](Transport::abort) where output is queued, where the protocol is in the middle of an answer
    /// ([`set_answering`](Transport::set_answering)), and for [`Timeout::Total`]: no peer may take half an answer for the
    /// whole. Otherwise, after an idle or a handshake timeout or one of the protocol's own, [closes](Transport::close) in
    /// order: the kernel may still hold some of the answer for a peer that reads slowly, and goes on sending it, as long as
    /// the peer takes some within each [`orphan_timeout`](crate::Limits::orphan_timeout).
    pub fn end_on_timeout(&mut self, timeout: Timeout) {
        self.core.parts.end_after(self.id, timeout);
    }

    /// Like [`abort`](Transport::abort), reported as [`CloseReason::Timeout`].
    pub fn abort_on_timeout(&mut self, timeout: Timeout) {
        self.core.parts.finish(self.id, CloseReason::Timeout(timeout));
    }

    /// Says whether the protocol is in the middle of an answer of which it has not written all: one that it makes piece by
    /// piece, or waits for. While it is, a timeout aborts the connection, and so does the end of a
    /// [shutdown](crate::Context::shutdown), so that the peer sees a reset, and does not take what it has for the whole.
    /// [`close`](Transport::close) does not look at it, and once the connection is closing this does nothing. Nothing sets it
    /// back but this and [`start_protocol`](Transport::start_protocol).
    pub fn set_answering(&mut self, answering: bool) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_answering(answering);
        }
    }

    /// Takes the connection out of the loop, without closing its socket: to give it to a thread, to another loop
    /// ([`Context::attach`]), or to code that wants a plain stream.
    ///
    /// Once the callback has returned, what is queued goes out as far as the kernel takes it at once,
    /// [`connection_lost`](crate::Protocol::connection_lost) comes with [`CloseReason::Detached`], and then `receiver` is called
    /// with the socket, the input that was not consumed and the output that was not sent. From here on nothing is
    /// delivered, and writing does nothing.
    ///
    /// Its [filters](crate::filter) go with it, and with them what is between them: what goes out is filtered as far as the
    /// kernel takes it.
    ///
    /// `false`, and `receiver` dropped without a call, where the connection does not stand yet, is closing already, its write half
    /// was shut down, one of its filters is not ready, or it is gone. The same becomes of `receiver` where the connection ends
    /// before it is out, as by a failing send or a panic: `connection_lost` says so.
    pub fn detach(&mut self, receiver: impl FnOnce(&mut Context<'_>, Detached) + 'static) -> bool {
        self.core.parts.detach(self.id, Box::new(receiver))
    }
}

/// # Addresses and options
impl Transport<'_> {
    /// The peer's address, as it was when the connection was made, or as it was [set](Transport::set_peer_addr) since;
    /// `None` before.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.core.parts.slots.connection(self.id)?.peer()
    }

    /// Sets the peer's address to that of somebody for whom the one at the other end of the socket speaks, as a proxy
    /// that has told it: from here on [`peer_addr`](Transport::peer_addr), the log and
    /// [`Detached::peer_addr`] give this one. Connections per peer are counted by the socket's as before. Does nothing
    /// before the connection stands.
    pub fn set_peer_addr(&mut self, peer: Address) {
        if let Some(connection) = self.core.parts.slots.connection_mut(self.id) {
            connection.set_peer(peer);
        }
    }

    /// Our own address; a system call.
    ///
    /// # Errors
    ///
    /// `NotConnected` once the socket is closed, and what the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        let connection = self.core.parts.slots.connection(self.id);
        let socket = connection.and_then(|connection| connection.socket());
        socket.ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// The socket, for options that have no method here (`socket2::SockRef::from(&fd)` has all of them). `None` once it
    /// is closed, as it is in `connection_lost` and after [`abort`](Transport::abort), and where it is simulated.
    ///
    /// A peer that has vanished without a word is found out by the kernel where `set_keepalive` has it look, and by
    /// [`Timeout::Idle`] in any case.
    ///
    /// Who the peer on a Unix socket is (process, user, group), `rustix::net::sockopt::socket_peercred` tells of it.
    ///
    /// Reading, writing, closing or shutting down through it goes behind the loop's back. With `SO_LINGER` set, closing
    /// it blocks the loop.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.core.parts.slots.connection(self.id)?.socket()?.as_fd()
    }

    /// The socket, for options that have no method here (`socket2::SockRef::from(&socket)` has all of them). `None` once
    /// it is closed, as it is in `connection_lost` and after [`abort`](Transport::abort), and where it is simulated.
    ///
    /// Reading, writing, closing or shutting down through it goes behind the loop's back. With `SO_LINGER` set, closing
    /// it blocks the loop.
    #[cfg(windows)]
    pub fn socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        self.core.parts.slots.connection(self.id)?.socket()?.as_socket()
    }
}

/// [`Transport::write`] for `write!` and the like: takes all of it, never fails.
impl io::Write for Transport<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Transport::write(self, data);
        Ok(data.len())
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        Transport::write(self, data);
        Ok(())
    }

    /// Does nothing: what was written goes out when the callback returns.
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
