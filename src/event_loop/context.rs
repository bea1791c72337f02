//! The loop as callbacks see it.

use std::any::TypeId;
use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::event::Source;

use crate::event_loop::source::SourceAction;
use crate::event_loop::timers::Due;
use crate::event_loop::{Core, Tenant};
use crate::protocol::boxed;
use crate::rate::TokenBucket;
use crate::sys::{Datagram, Readiness};
use crate::{
    Address, AnyId, CompletionId, Connect, ConnectionId, Counters, DatagramId, DatagramProtocol, DatagramTransport,
    Detached, Feeder, Handle, Health, IntoProtocol, Listen, Listener, ListenerId, LoopLimits, NotReached, Rate,
    RateGroupId, SourceId, TimerId, Transport,
};

/// The loop as callbacks see it: all of it, except for running, turning or replacing it.
///
/// Unless a method says otherwise: making, adopting or changing a socket or a source costs some system calls, and for a
/// new one also a slot and a few allocations; finding something by its id, or asking for something to be done later,
/// costs a table lookup; ending the loop costs O(n) of what it holds.
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
/// use switchboard::{EventLoop, Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
///         transport.write(data);
///         data.len()
///     }
/// }
///
/// let mut event_loop = EventLoop::new()?;
/// let mut context = event_loop.context();
/// let listener = context.listen(SocketAddr::from(([127, 0, 0, 1], 0)), |_, _| Some(Echo))?;
/// context.call_every(Duration::from_secs(60), |context, _| println!("{} connections", context.connection_count()));
/// context.call_later(Duration::from_millis(10), move |context| {
///     if let Some(mut listener) = context.listener(listener) {
///         listener.close();
///     }
///     context.shutdown(Duration::from_secs(5));
/// });
/// event_loop.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Context<'a> {
    pub(crate) core: &'a mut Core,
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut Core) -> Context<'a> {
        Context { core }
    }
}

/// # Listening and connecting
impl Context<'_> {
    /// Listens on one or several addresses, or on sockets that listen already, see [`Listen`]; `factory` makes a
    /// protocol for every peer, or returns `None` to refuse it. It returns any [`IntoProtocol`], whose page shows what
    /// to write where the compiler cannot infer the type.
    ///
    /// # Errors
    ///
    /// Any error of the system, such as `AddrInUse`; nothing is left behind then, and sockets that were passed in are
    /// closed. For a Unix address, `AddrInUse` if another process listens there, or if the path exists and is not a
    /// socket, which is left alone, and `InvalidInput` if the path is too long for the system. `InvalidInput` for an
    /// empty list, `NotConnected` while the loop drains or shuts down, `StorageFull` if no slot is left.
    pub fn listen<F, P>(&mut self, at: impl Into<Listen>, factory: F) -> io::Result<ListenerId>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        self.core.parts.listen(at.into(), boxed(factory)).map(ListenerId)
    }

    /// Makes a listener without a socket, which is fed its connections through the [`Feeder`], from any thread: for
    /// connections that are accepted elsewhere ([`Listener::on_accept`]) and served by this loop as if by a listener of
    /// its own. [`Listener::local_addr`] then returns `address`. At most `backlog` connections wait (0 counts as 1);
    /// those still waiting when the listener is closed are reset. Not part of the public interface.
    ///
    /// # Errors
    ///
    /// `NotConnected` while the loop drains or shuts down, `StorageFull` if no slot is left.
    #[doc(hidden)]
    pub fn listen_fed<F, P>(&mut self, address: Address, backlog: usize, factory: F) -> io::Result<Feeder>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        Feeder::listen(self, address, backlog, boxed(factory))
    }

    /// Begins to connect: to an address, to the first of a list that accepts, or to a name and a port; see [`Connect`].
    /// The id identifies the connection from here on. Data written before it is established is sent once it is; closing
    /// or aborting it cancels the connect.
    ///
    /// Results in [`connection_made`](crate::Protocol::connection_made), or in one
    /// [`connect_failed`](crate::Protocol::connect_failed) and nothing else.
    ///
    /// # Errors
    ///
    /// Any failure that is known at once, such as an unreachable network, a Unix path on which nobody listens, or no
    /// descriptor left; for several addresses only if all of them fail. `InvalidInput` for an empty list,
    /// `NotConnected` while the loop shuts down, `StorageFull` if no slot is left. The protocol is then dropped without
    /// a call.
    pub fn connect(&mut self, target: impl Into<Connect>, protocol: impl IntoProtocol) -> io::Result<ConnectionId> {
        self.core.connect(target.into(), protocol.into_protocol()).map(ConnectionId)
    }

    /// Sets the function that resolves names, from `(name, port)` to addresses, in place of the system's resolver. It
    /// is called on separate threads, at most [`lookups_max`](crate::LoopLimits::lookups_max) at a time; in a simulated
    /// loop, which resolves the names of its network until this is set, it is called on the loop's thread.
    pub fn set_resolver(
        &mut self,
        resolver: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) {
        self.core.parts.threads.lookups.resolver = Some(std::sync::Arc::new(resolver));
    }

    /// Adopts a connection: a connected [`TcpStream`](std::net::TcpStream) or, on Unix,
    /// [`UnixStream`](std::os::unix::net::UnixStream) that was made elsewhere, or one that was [`Detached`].
    /// `connection_made` comes in the next turn, followed by the unread input; unsent output is sent. It counts towards
    /// the loop's cap of queued bytes, but is not refused because of it, since the program held it before. The socket
    /// gets the options that [`Listen`] names. [Filters](crate::filter) that it was detached with stay in place; their
    /// end or failure, if a [`BlockingStream`](crate::BlockingStream) was told of it, is reported to the protocol as
    /// well. A simulated loop takes a `testing::Peer` of its host in place of a system stream (feature `testing`).
    ///
    /// # Errors
    ///
    /// Any error of the system: `NotConnected` if the peer has reset the connection already, or while the loop shuts
    /// down, `StorageFull` if no slot is left. The stream is then closed, by a reset if output was unsent, and the
    /// protocol dropped without a call.
    pub fn attach(&mut self, connection: impl Into<Detached>, protocol: impl IntoProtocol) -> io::Result<ConnectionId> {
        self.core.parts.attach(connection.into(), protocol.into_protocol()).map(ConnectionId)
    }
}

/// # Datagrams
impl Context<'_> {
    /// Binds a datagram socket: to an Internet address for UDP, or, on Unix, to a [`UnixAddress`](crate::UnixAddress):
    /// a path, an abstract name, or none. A stale socket file, which no process has open any more, is replaced; that
    /// blocks for 50 ms. The path is removed again on close, and anything else at the path is left alone.
    /// `connection_made` comes in the next turn.
    ///
    /// Port 0 lets the system choose one, see [`DatagramTransport::local_addr`]. An IPv6 address serves only IPv6,
    /// unless it is an IPv4-mapped one.
    ///
    /// # Errors
    ///
    /// Any error of the system, such as `AddrInUse`. `NotConnected` while the loop shuts down, `StorageFull` if no slot
    /// is left. The protocol is then dropped without a call.
    pub fn bind_datagram(
        &mut self,
        address: impl Into<Address>,
        protocol: impl DatagramProtocol,
    ) -> io::Result<DatagramId> {
        let socket =
            self.core.parts.life.check_open().and_then(|()| Datagram::bind(&self.core.parts.poller, &address.into()));
        self.core.parts.add_datagram(socket, None, Box::new(protocol)).map(DatagramId)
    }

    /// Makes a datagram socket, with an address chosen by the system, and connects it to a peer, like
    /// [`DatagramTransport::connect`].
    ///
    /// # Errors
    ///
    /// See [`bind_datagram`](Context::bind_datagram); also fails if there is no route to the peer.
    pub fn connect_datagram(
        &mut self,
        peer: impl Into<Address>,
        protocol: impl DatagramProtocol,
    ) -> io::Result<DatagramId> {
        let peer = peer.into();
        let socket = self
            .core
            .parts
            .life
            .check_open()
            .and_then(|()| Datagram::bind(&self.core.parts.poller, &peer.any_of_its_kind()));
        self.core.parts.add_datagram(socket, Some(peer), Box::new(protocol)).map(DatagramId)
    }

    /// Adopts a UDP socket that was made elsewhere, for example to set options before binding it. It is made
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// See [`bind_datagram`](Context::bind_datagram); the socket is then closed.
    pub fn attach_datagram(
        &mut self,
        socket: std::net::UdpSocket,
        protocol: impl DatagramProtocol,
    ) -> io::Result<DatagramId> {
        let peer = socket.peer_addr().ok().map(Address::of_socket);
        let socket =
            self.core.parts.life.check_open().and_then(|()| Datagram::from_std(&self.core.parts.poller, socket));
        self.core.parts.add_datagram(socket, peer, Box::new(protocol)).map(DatagramId)
    }

    /// Returns a datagram socket by its id; `None` once it has ended.
    pub fn datagram(&mut self, id: DatagramId) -> Option<DatagramTransport<'_>> {
        self.core.parts.slots.datagram(id.0)?.is_alive().then(|| DatagramTransport::new(self.core, id.0))
    }
}

/// # What there is, by id
impl Context<'_> {
    /// Returns a connection by its id; `None` once it has ended.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Transport<'_>> {
        self.core.parts.slots.connection(id.0)?.is_alive().then(|| Transport::new(self.core, id.0))
    }

    /// Calls `call` with the protocol of a connection, at once, and returns its result. This is how one connection, or
    /// code outside of all callbacks, accesses the state of another. `P` is the type of the protocol, or of anything
    /// that it wraps ([`inner`](crate::Protocol::inner)): a handler of lines, for instance, or the receiver around it.
    /// The outermost one of that type is used.
    ///
    /// This also works for a connection that is not established yet. Data that `call` writes is sent before the loop
    /// sleeps.
    ///
    /// This is the only method that calls user code, and it calls nothing but `call`. A `RefCell` that is borrowed
    /// around it must not be borrowed by `call` as well.
    ///
    /// # Errors
    ///
    /// [`Gone`](NotReached::Gone) if the connection has ended. [`Busy`](NotReached::Busy) if this is called from within
    /// that very protocol: by its callback, or by a closure that `with_protocol` calls with it.
    /// [`OtherType`](NotReached::OtherType) if the protocol is not a `P` and wraps none. `call` is then dropped.
    ///
    /// # Panics
    ///
    /// If `call` panics. That ends the connection, and the panic unwinds into the caller: if that is a callback, its
    /// own connection ends as well.
    ///
    /// ```
    /// use switchboard::{ConnectionId, Protocol, Transport};
    ///
    /// struct Member {
    ///     name: String,
    ///     neighbour: Option<ConnectionId>,
    /// }
    ///
    /// impl Protocol for Member {
    ///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         if let Some(id) = self.neighbour {
    ///             let name = transport.with_protocol(id, |neighbour: &mut Member, _| neighbour.name.clone());
    ///             let name = name.unwrap_or_else(|why| why.to_string());
    ///             transport.write(name.as_bytes());
    ///         }
    ///         data.len()
    ///     }
    /// }
    /// ```
    pub fn with_protocol<P: 'static, R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut P, &mut Transport<'_>) -> R,
    ) -> Result<R, NotReached> {
        let (mut call, mut result) = (Some(call), None);
        self.reach(id.0, TypeId::of::<P>(), &mut |found, transport| {
            if let (Some(found), Some(call)) = (found.downcast_mut(), call.take()) {
                result = Some(call(found, transport));
            }
        })?;
        Ok(result.expect("it was found by its type"))
    }

    /// Writes `data` to each of these connections, like one [`Transport::write`] after the other, with the same order,
    /// marks and limits, but sends it to all of them before the loop sleeps. Returns the number of connections written
    /// to: those that have ended are left out, and so are those that are closing
    /// ([`Counters::late_writes`](crate::Counters::late_writes)).
    ///
    /// The payload is copied once for all; each connection's share of a turn is sent from that copy, in one call, and
    /// only what the kernel does not take is copied per connection. The first payload of a turn costs some 400
    /// instructions per connection, with its send, and each further one some ten. From 16 KiB on the data is sent at
    /// once, and what the kernel does not take is kept once for all.
    ///
    /// # Panics
    ///
    /// If the iterator `ids` panics; the connections before that have been written to.
    pub fn broadcast<I>(&mut self, ids: I, data: &[u8]) -> usize
    where
        I: IntoIterator,
        I::Item: Borrow<ConnectionId>,
    {
        self.core.parts.broadcast(ids.into_iter().map(|id| id.borrow().0), data)
    }

    /// Returns a listener by its id; `None` once it is closed.
    pub fn listener(&mut self, id: ListenerId) -> Option<Listener<'_>> {
        self.core.parts.slots.listener(id.0)?;
        Some(Listener { core: self.core, id: id.0 })
    }

    /// Returns how many connections the loop has, including those that are not established yet and those whose
    /// `connection_lost` is still to come.
    pub fn connection_count(&self) -> usize {
        self.core.parts.slots.connections()
    }

    /// Returns the ids of all connections that have not ended, in no particular order. Costs O(n) of the loop's slots.
    pub fn connection_ids(&self) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        for (id, tenant) in self.core.parts.slots.iter() {
            if matches!(tenant, Tenant::Connection(connection) if connection.is_alive()) {
                ids.push(ConnectionId(id));
            }
        }
        ids
    }

    /// Sets whether something counts as background, which [`run_until_idle`](crate::EventLoop::run_until_idle) does not
    /// wait for. By default nothing does. Returns `false` if it is gone already.
    pub fn set_background(&mut self, id: impl Into<AnyId>, background: bool) -> bool {
        self.core.parts.set_background(id.into(), background)
    }
}

/// # Timers
impl Context<'_> {
    /// Calls `call` once `delay` has passed, counted from the actual time of this call, and never early. Costs O(log
    /// n).
    ///
    /// Timers with equal deadlines are called in the order in which they were set. A timer that is set by a timer is
    /// not called in the same turn, however short its delay.
    pub fn call_later(&mut self, delay: Duration, call: impl FnOnce(&mut Context<'_>) + 'static) -> TimerId {
        TimerId(self.core.parts.time.set_after(delay, Due::once(Box::new(call))))
    }

    /// Like [`call_later`](Context::call_later), at the given time; a time in the past counts as now.
    pub fn call_at(&mut self, deadline: Instant, call: impl FnOnce(&mut Context<'_>) + 'static) -> TimerId {
        // A time in the past counts as now: nothing is set before the time of the phase that may be under way.
        let deadline = deadline.max(self.now());
        TimerId(self.core.parts.time.set(deadline, Due::once(Box::new(call))))
    }

    /// Calls `call` every `period`, for the first time after one `period`. Costs O(log n) a call.
    ///
    /// Ticks are counted from when each was due, not from when it was called, so they do not drift. Ticks that were
    /// missed are skipped: their number is passed as the second argument, and the next call comes at the next tick that
    /// lies ahead. A period of zero means once in every turn, and keeps the loop from sleeping.
    ///
    /// It repeats until it is cancelled, which `call` itself may do, or until `call` panics, which is logged.
    /// [`reset_timer`](Context::reset_timer) moves its next tick, and with it those that follow.
    ///
    /// ```
    /// # let mut event_loop = switchboard::EventLoop::new()?;
    /// # let mut context = event_loop.context();
    /// use std::time::Duration;
    /// let mut seconds = 0;
    /// context.call_every(Duration::from_secs(1), move |_, missed| {
    ///     seconds += 1 + missed;
    ///     println!("up for {seconds} s");
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn call_every(&mut self, period: Duration, call: impl FnMut(&mut Context<'_>, u64) + 'static) -> TimerId {
        TimerId(self.core.parts.time.set_after(period, Due::every(period, Box::new(call))))
    }

    /// Restarts a timer, to be called once `delay` has passed from the actual time of this call, earlier or later than
    /// before; its id stays. Among equal deadlines it counts as set now. Returns `false` if it was called or cancelled
    /// already; a repeating timer may be reset from its own call. Costs O(log n), less than cancelling it and setting
    /// another.
    pub fn reset_timer(&mut self, id: TimerId, delay: Duration) -> bool {
        self.core.parts.time.reset(id.0, self.core.parts.time.after(delay))
    }

    /// Cancels a timer. Returns `false` if it was called or cancelled already. Costs O(log n), and frees its memory;
    /// its closure is dropped at the end of the turn.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.core.parts.cancel(id)
    }

    /// Returns the current time of the loop's clock.
    pub fn now(&self) -> Instant {
        self.core.parts.time.now()
    }
}

/// # Sources
impl Context<'_> {
    /// Registers any other event source, using the types of [`switchboard::mio`](crate::mio). `handler` is called with
    /// the source when it is ready, and returns whether to wait for the next event, to be called again, or to be
    /// removed.
    ///
    /// Events are edge-triggered: a handler must read until it would block, or return [`SourceAction::Again`] if it
    /// stops early.
    ///
    /// # Errors
    ///
    /// Any error of the system; `NotConnected` while the loop shuts down, `StorageFull` if no slot is left.
    pub fn register<S, H>(&mut self, source: S, interest: Interest, handler: H) -> io::Result<SourceId>
    where
        S: Source + 'static,
        H: FnMut(&mut Context<'_>, &mut S, Readiness) -> SourceAction + 'static,
    {
        self.core.parts.register(source, interest, handler).map(SourceId)
    }

    /// Changes the interest of a source. Anything that it is ready for already is reported again. If called from its
    /// own handler, this takes effect when the handler returns.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is gone, and any error of the system; if called from its own handler, the latter is logged
    /// instead.
    pub fn reregister(&mut self, id: SourceId, interest: Interest) -> io::Result<()> {
        self.core.parts.reregister(id.0, interest)
    }

    /// Removes a source and drops it with its handler. Returns `false` if it is gone already.
    pub fn deregister(&mut self, id: SourceId) -> bool {
        self.core.parts.deregister(id.0)
    }
}

/// # Rates for several connections
impl Context<'_> {
    /// Makes a group of connections that together are read from no faster than `rate`. Connections join it with
    /// [`Transport::set_rate_group`]; those that find the budget used up take turns in order. An empty group costs
    /// nothing, and stays until it is removed.
    pub fn add_rate_group(&mut self, rate: Rate) -> RateGroupId {
        let bucket = TokenBucket::new(rate, self.now());
        self.core.parts.rate_groups.add(bucket)
    }

    /// Removes a group; its connections are no longer held back by it. Returns `false` if it is gone already.
    pub fn remove_rate_group(&mut self, group: RateGroupId) -> bool {
        self.core.parts.remove_rate_group(group)
    }
}

/// # Other threads
impl Context<'_> {
    /// Returns a handle for other threads.
    pub fn handle(&self) -> Handle {
        self.core.parts.threads.handle()
    }

    /// Cancels a call that waits for another thread. Returns `false` if it was made or cancelled already. A value that
    /// still arrives is dropped.
    pub fn cancel_completion(&mut self, id: CompletionId) -> bool {
        self.core.parts.cancel_completion(id.0)
    }
}

/// # The end of the loop
impl Context<'_> {
    /// Makes [`run`](crate::EventLoop::run) return after this turn. Connections stay, and the next `run` goes on with
    /// them.
    pub fn stop(&mut self) {
        self.core.parts.life.request_stop();
    }

    /// Begins to shut down: closes listeners, connections and datagram sockets, the latter two once their output has
    /// been sent; what is left after `grace` is aborted. Once all have ended, [`run`](crate::EventLoop::run) returns.
    /// Meanwhile `listen`, `connect`, `attach`, `register` and their datagram counterparts are refused. Calling it
    /// again can only bring the deadline nearer.
    pub fn shutdown(&mut self, grace: Duration) {
        self.core.parts.begin_shutdown(grace, true);
    }

    /// Begins to drain: closes listeners, while connections go on until they end by themselves. Once no connection is
    /// left, or after `grace`, whatever is left is closed as by [`shutdown`](Context::shutdown), with the loop's
    /// [`close_timeout`](crate::Limits::close_timeout) as its grace; then [`run`](crate::EventLoop::run) returns. So an
    /// answer that its protocol gives within `grace` is never cut off.
    ///
    /// - Connections still in a listener's backlog are reset by the kernel, unless another process shares the socket.
    /// - Each connection is notified in the next turn ([`draining`](crate::Protocol::draining)).
    /// - A protocol that would keep its connection open after an answer checks [`is_draining`](Context::is_draining)
    ///   and closes it instead; one that idles meanwhile is closed at the end.
    /// - Connections marked as background ([`set_background`](Context::set_background)) and those that were detached
    ///   are not waited for.
    /// - Datagram sockets stay open until no connection is left.
    /// - `listen` and its like are refused. `connect`, `attach`, `register` and those for datagrams are not, since an
    ///   answer may need them.
    ///
    /// Calling it again can only bring the deadline nearer. Calling [`shutdown`](Context::shutdown) meanwhile closes
    /// everything at once, and never later than the end of the drain.
    pub fn drain(&mut self, grace: Duration) {
        self.core.parts.begin_drain(grace, true);
    }

    /// Returns whether the loop drains or shuts down.
    pub fn is_draining(&self) -> bool {
        self.core.parts.life.is_ending()
    }
}

/// # Looking at the loop
impl Context<'_> {
    /// Returns how well the loop keeps up.
    pub fn health(&self) -> Health {
        self.core.parts.watch.health
    }

    /// Returns the limits that the loop was made with.
    pub fn limits(&self) -> &LoopLimits {
        &self.core.parts.limits
    }

    /// Returns what the loop has counted since it was made.
    pub fn counters(&self) -> Counters {
        self.core.parts.counters
    }

    /// Returns whether the loop runs in memory, see [`EventLoop::is_simulated`](crate::EventLoop::is_simulated).
    pub fn is_simulated(&self) -> bool {
        self.core.parts.poller.is_in_memory()
    }

    /// Picks how much virtual time a piece of work takes that a simulated loop hands to a pool. Not part of the public
    /// interface.
    #[doc(hidden)]
    pub fn pick_work_time(&mut self) -> Duration {
        self.core.parts.poller.pick_work_time()
    }

    /// Logs a warning about a peer, at most once a second for the whole loop, so that no peer can fill the log: the
    /// next one says how many were suppressed. It is logged unchanged: [`escape`](crate::escape) anything that comes
    /// from a peer.
    pub fn warn(&mut self, what: impl fmt::Display) {
        let now = self.core.parts.time.now();
        self.core.parts.watch.warn(&what, now);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("connections", &self.connection_count()).finish_non_exhaustive()
    }
}
