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

/// The loop as callbacks see it: all of it, but for running, turning or replacing it.
///
/// What a method costs, unless it says otherwise: one that makes, takes in or changes a socket or a source some system calls
/// and, where it is a new one, a slot and a few allocations; one that finds something by its id, or asks for something to be
/// done later, a look at a table; one that ends the loop, O(n) of what it has.
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
    /// Listens on an address, on several, or on sockets that listen already, see [`Listen`]; `factory` makes a protocol for
    /// every peer, or returns `None` to refuse it. What it returns is any [`IntoProtocol`], whose page has what to write where
    /// the compiler cannot tell its type.
    ///
    /// # Errors
    ///
    /// What the system says, such as `AddrInUse`; nothing is left behind then, and sockets that listened are closed. Of a
    /// Unix address, `AddrInUse` where somebody listens there, or where the path is anything else than a socket, which is
    /// left alone, and `InvalidInput` where the path is too long for the system. `InvalidInput` for an empty list.
    /// `NotConnected` while the loop drains or shuts down, `StorageFull` with no slot left.
    pub fn listen<F, P>(&mut self, at: impl Into<Listen>, factory: F) -> io::Result<ListenerId>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        self.core.parts.listen(at.into(), boxed(factory)).map(ListenerId)
    }

    /// Makes a listener without a socket, which is given its connections: by the [`Feeder`], which any thread may hold.
    /// For what somebody else accepts ([`Listener::on_accept`]) and this loop is to serve as a listener of its own would.
    /// `address` is what [`Listener::local_addr`] then says. `backlog` connections at most wait (0 counts as 1); those that
    /// wait when the listener is closed are reset. Not part of the public interface.
    ///
    /// # Errors
    ///
    /// `NotConnected` while the loop drains or shuts down, `StorageFull` with no slot left.
    #[doc(hidden)]
    pub fn listen_fed<F, P>(&mut self, address: Address, backlog: usize, factory: F) -> io::Result<Feeder>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        Feeder::listen(self, address, backlog, boxed(factory))
    }

    /// Begins to connect: to an address, to the first of a list that answers, or to a name and a port; see [`Connect`].
    /// The id names the connection from here on. What is written to it before it stands goes out when it does; closing or
    /// aborting it cancels the connect.
    ///
    /// Comes to [`connection_made`](crate::Protocol::connection_made), or to one
    /// [`connect_failed`](crate::Protocol::connect_failed) and nothing else.
    ///
    /// # Errors
    ///
    /// What fails at once, such as a network that cannot be reached, a Unix path on which nobody listens, or no
    /// descriptor left; of several addresses only if all do. `InvalidInput` for an empty list, `NotConnected` while the
    /// loop shuts down, `StorageFull` with no slot left. The protocol is dropped without a call then.
    pub fn connect(&mut self, target: impl Into<Connect>, protocol: impl IntoProtocol) -> io::Result<ConnectionId> {
        self.core.connect(target.into(), protocol.into_protocol()).map(ConnectionId)
    }

    /// Sets what looks up names, in place of the system's resolver: `(name, port)` to addresses. It is called in threads
    /// of its own, at most [`lookups_max`](crate::LoopLimits::lookups_max) at a time; in a simulated loop, which knows the
    /// names of its network until then, on the loop's thread.
    pub fn set_resolver(
        &mut self,
        resolver: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) {
        self.core.parts.threads.lookups.resolver = Some(std::sync::Arc::new(resolver));
    }

    /// Takes a connection into the loop: a connected [`TcpStream`](std::net::TcpStream) or, on Unix,
    /// [`UnixStream`](std::os::unix::net::UnixStream) that somebody else made, or one that was
    /// [`Detached`]. `connection_made` comes with the next turn; what was left unread follows it, what was unsent goes
    /// out: it counts towards the loop's cap of queued bytes, but is not refused for it, since it was held before. The
    /// socket is given the options that [`Listen`] names. [Filters](crate::filter) that it was detached with come with it, and go
    /// on; what a [`BlockingStream`](crate::BlockingStream) was told of their end or of a failure the protocol is told as well.
    /// A simulated loop takes a `testing::Peer` of its host in place of a stream of the system (feature `testing`).
    ///
    /// # Errors
    ///
    /// What the system says: `NotConnected` where the peer has reset it already, or while the loop shuts down,
    /// `StorageFull` with no slot left. The stream is closed then, by a reset if output was unsent, and the protocol
    /// dropped without a call.
    pub fn attach(&mut self, connection: impl Into<Detached>, protocol: impl IntoProtocol) -> io::Result<ConnectionId> {
        self.core.parts.attach(connection.into(), protocol.into_protocol()).map(ConnectionId)
    }
}

/// # Datagrams
impl Context<'_> {
    /// Binds a datagram socket: to an Internet address for UDP, or, on Unix, to a [`UnixAddress`](crate::UnixAddress):
    /// a path, an abstract name, or none. On a path a socket that nobody has open any more is replaced, for which this
    /// blocks 50 ms, nothing else is, and it is removed again on close. `connection_made` comes with the next turn.
    ///
    /// Port 0 lets the system choose one, see [`DatagramTransport::local_addr`]. An IPv6 address serves IPv6 alone,
    /// unless it is one that IPv4 is mapped to.
    ///
    /// # Errors
    ///
    /// What the system says, such as `AddrInUse`. `NotConnected` while the loop shuts down, `StorageFull` with no slot
    /// left. The protocol is dropped without a call then.
    pub fn bind_datagram(
        &mut self,
        address: impl Into<Address>,
        protocol: impl DatagramProtocol,
    ) -> io::Result<DatagramId> {
        let socket =
            self.core.parts.life.check_open().and_then(|()| Datagram::bind(&self.core.parts.poller, &address.into()));
        self.core.parts.add_datagram(socket, None, Box::new(protocol)).map(DatagramId)
    }

    /// Makes a datagram socket with an address of the system's choice, and connects it to a peer, as
    /// [`DatagramTransport::connect`] does.
    ///
    /// # Errors
    ///
    /// As [`bind_datagram`](Context::bind_datagram), and where there is no way to the peer.
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

    /// Takes a UDP socket into the loop that somebody else made, as to set options before it is bound. It is made
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// As [`bind_datagram`](Context::bind_datagram); the socket is closed then.
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

    /// A datagram socket, by its id; `None` once it has ended.
    pub fn datagram(&mut self, id: DatagramId) -> Option<DatagramTransport<'_>> {
        self.core.parts.slots.datagram(id.0)?.is_alive().then(|| DatagramTransport::new(self.core, id.0))
    }
}

/// # What there is, by id
impl Context<'_> {
    /// A connection, by its id; `None` once it has ended.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Transport<'_>> {
        self.core.parts.slots.connection(id.0)?.is_alive().then(|| Transport::new(self.core, id.0))
    }

    /// Calls `call` with the protocol of a connection, at once, and returns what it returns. That is how one connection
    /// reaches what another one knows, or code outside of all callbacks does. `P` is the type of the protocol, or of
    /// anything that it wraps ([`inner`](crate::Protocol::inner)): a handler of lines, for instance, or the receiver
    /// around it. The outermost that has the type is found.
    ///
    /// A connection that is not established yet is reached, too. What `call` writes goes out before the loop sleeps.
    ///
    /// This is the one method that calls something, and it calls nothing but `call`. A `RefCell` that is borrowed around it
    /// must not be borrowed by `call` as well.
    ///
    /// # Errors
    ///
    /// [`Gone`](NotReached::Gone) if the connection has ended. [`Busy`](NotReached::Busy) if this is called from within
    /// that very protocol: by its callback, or by what `with_protocol` calls with it. [`OtherType`](NotReached::OtherType)
    /// if it is no `P` and wraps none. `call` is dropped then.
    ///
    /// # Panics
    ///
    /// If `call` panics. That ends the connection, and unwinding goes on into the caller: a callback, whose own connection
    /// it ends as well.
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

    /// Writes `data` to each of these connections, as [`Transport::write`] to one after the other would, with the same
    /// order, marks and limits, but before the loop sleeps to all of them. Returns to how many: those that have ended are
    /// left out, and those that are closing ([`Counters::late_writes`](crate::Counters::late_writes)).
    ///
    /// The payload is copied once for all; what a turn has for one of them is sent from where it stands, in one call, and
    /// only what the kernel does not take is copied for it. Costs each some ten instructions. From 16 KiB on it is sent at
    /// once, and what the kernel does not take is kept once for all.
    ///
    /// # Panics
    ///
    /// Where `ids` does; those that came before have been written to.
    pub fn broadcast<I>(&mut self, ids: I, data: &[u8]) -> usize
    where
        I: IntoIterator,
        I::Item: Borrow<ConnectionId>,
    {
        self.core.parts.broadcast(ids.into_iter().map(|id| id.borrow().0), data)
    }

    /// A listener, by its id; `None` once it is closed.
    pub fn listener(&mut self, id: ListenerId) -> Option<Listener<'_>> {
        self.core.parts.slots.listener(id.0)?;
        Some(Listener { core: self.core, id: id.0 })
    }

    /// How many connections the loop has, those included that do not stand yet, or whose `connection_lost` is still to
    /// come.
    pub fn connection_count(&self) -> usize {
        self.core.parts.slots.connections()
    }

    /// The ids of all connections that have not ended, in no order. Costs O(n) of the loop's slots.
    pub fn connection_ids(&self) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        for (id, tenant) in self.core.parts.slots.iter() {
            if matches!(tenant, Tenant::Connection(connection) if connection.is_alive()) {
                ids.push(ConnectionId(id));
            }
        }
        ids
    }

    /// Says whether something is background: [`run_until_idle`](crate::EventLoop::run_until_idle) waits for what is not, as all
    /// is at first. Returns `false` where it is gone already.
    pub fn set_background(&mut self, id: impl Into<AnyId>, background: bool) -> bool {
        self.core.parts.set_background(id.into(), background)
    }
}

/// # Timers
impl Context<'_> {
    /// Calls `call` once `delay` has passed: never early, counted from the real now. Costs O(log n).
    ///
    /// Equal deadlines are called in the order they were set. A timer that is set by a timer is not called in the same
    /// turn, however short it is.
    pub fn call_later(&mut self, delay: Duration, call: impl FnOnce(&mut Context<'_>) + 'static) -> TimerId {
        TimerId(self.core.parts.time.set_after(delay, Due::once(Box::new(call))))
    }

    /// Like [`call_later`](Context::call_later), at a time; one that has passed counts as now.
    pub fn call_at(&mut self, deadline: Instant, call: impl FnOnce(&mut Context<'_>) + 'static) -> TimerId {
        // One that has passed counts as now: nothing is set before the time of the phase that may be under way.
        let deadline = deadline.max(self.now());
        TimerId(self.core.parts.time.set(deadline, Due::once(Box::new(call))))
    }

    /// Calls `call` each time that `period` has passed, beginning after the first. Costs O(log n) a call.
    ///
    /// Ticks are counted from the time that each was due, not from when it was called, so that they do not drift. Those
    /// that have passed when it is called are skipped: how many, it gets as its second argument, and the next call comes
    /// with the next tick that lies ahead. A period of zero means once in every turn, and keeps the loop from sleeping.
    ///
    /// It goes on until it is cancelled, which `call` itself may do, or until `call` panics: that is logged, and ends it.
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

    /// Sets a timer anew, to be called once `delay` has passed from the real now, earlier or later than it would have
    /// been; its id stays. Among equal deadlines it counts as set now. `false` where it was called or cancelled already;
    /// a repeating one may do it from its own call. Costs O(log n), less than cancelling it and setting another.
    pub fn reset_timer(&mut self, id: TimerId, delay: Duration) -> bool {
        self.core.parts.time.reset(id.0, self.core.parts.time.after(delay))
    }

    /// Cancels a timer; `false` where it was called or cancelled already. Costs O(log n), and gives its memory back; its
    /// closure is dropped at the turn's end.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.core.parts.cancel(id)
    }

    /// The time, read from the loop's clock now.
    pub fn now(&self) -> Instant {
        self.core.parts.time.now()
    }
}

/// # Sources
impl Context<'_> {
    /// Waits for anything that mio can wait for, by the types of [`switchboard::mio`](crate::mio). `handler` is called when it is ready, with the source, and answers
    /// whether to wait for the next event, to be called again, or to be removed.
    ///
    /// Events are edge-triggered: a handler reads until would-block, or answers [`SourceAction::Again`] where it
    /// stopped early.
    ///
    /// # Errors
    ///
    /// What the system says; `NotConnected` while the loop shuts down, `StorageFull` with no slot left.
    pub fn register<S, H>(&mut self, source: S, interest: Interest, handler: H) -> io::Result<SourceId>
    where
        S: Source + 'static,
        H: FnMut(&mut Context<'_>, &mut S, Readiness) -> SourceAction + 'static,
    {
        self.core.parts.register(source, interest, handler).map(SourceId)
    }

    /// Changes what a source is waited for. Whatever it is ready for already is told of again. From within its own
    /// handler this takes effect when that returns.
    ///
    /// # Errors
    ///
    /// `NotFound` where it is gone, and what the system says; from within its own handler that is logged instead.
    pub fn reregister(&mut self, id: SourceId, interest: Interest) -> io::Result<()> {
        self.core.parts.reregister(id.0, interest)
    }

    /// Removes a source and drops it with its handler; `false` where it is gone already.
    pub fn deregister(&mut self, id: SourceId) -> bool {
        self.core.parts.deregister(id.0)
    }
}

/// # Rates for several connections
impl Context<'_> {
    /// Makes a group of connections that are read from no faster than this together. Connections join it by
    /// [`Transport::set_rate_group`], and those that find nothing left have their turns in order. It costs nothing while it
    /// is empty, and stays until it is removed.
    pub fn add_rate_group(&mut self, rate: Rate) -> RateGroupId {
        let bucket = TokenBucket::new(rate, self.now());
        self.core.parts.rate_groups.add(bucket)
    }

    /// Removes a group; its connections are held back by it no more. `false` where it is gone already.
    pub fn remove_rate_group(&mut self, group: RateGroupId) -> bool {
        self.core.parts.remove_rate_group(group)
    }
}

/// # Other threads
impl Context<'_> {
    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.core.parts.threads.handle()
    }

    /// Cancels a call that waits for another thread; `false` where it was made or cancelled already. The value, should it
    /// still come, is dropped.
    pub fn cancel_completion(&mut self, id: CompletionId) -> bool {
        self.core.parts.cancel_completion(id.0)
    }
}

/// # The end of the loop
impl Context<'_> {
    /// Lets [`run`](crate::EventLoop::run) return after this turn. Connections stay, and the next `run` goes on with
    /// them.
    pub fn stop(&mut self) {
        self.core.parts.life.request_stop();
    }

    /// Begins to shut down: listeners are closed, connections and datagram sockets too, each after its output has gone
    /// out; after `grace` what is left is aborted. Once all have ended, [`run`](crate::EventLoop::run) returns. Meanwhile
    /// `listen`, `connect`, `attach`, `register` and their like for datagrams are refused. Called again, it can only
    /// bring the deadline nearer.
    pub fn shutdown(&mut self, grace: Duration) {
        self.core.parts.begin_shutdown(grace, true);
    }

    /// Begins to drain: listeners are closed, connections go on until they end by themselves. Once no connection is left,
    /// or after `grace`, what there still is is closed as [`shutdown`](Context::shutdown) does it, with the loop's
    /// [`close_timeout`](crate::Limits::close_timeout) as its grace; then [`run`](crate::EventLoop::run) returns. So no answer is
    /// cut that its protocol gives within `grace`.
    ///
    /// - Who waits in a listener's backlog is reset by the system, unless another process has that socket too.
    /// - Each connection is told, with the next turn ([`draining`](crate::Protocol::draining)).
    /// - A protocol that would keep its connection after an answer asks [`is_draining`](Context::is_draining), and closes
    ///   it then; one that idles meanwhile is closed at the end.
    /// - It does not wait for connections that were marked as background ([`set_background`](Context::set_background)), nor for those that
    ///   were detached.
    /// - Datagram sockets stay open until no connection is left.
    /// - `listen` and its like are refused. `connect`, `attach`, `register` and those for datagrams are not, since an answer
    ///   may need them.
    ///
    /// Called again, it can only bring the deadline nearer. [`shutdown`](Context::shutdown) meanwhile closes all at once,
    /// and never later than the drain would have been over.
    pub fn drain(&mut self, grace: Duration) {
        self.core.parts.begin_drain(grace, true);
    }

    /// Whether the loop drains or shuts down.
    pub fn is_draining(&self) -> bool {
        self.core.parts.life.is_ending()
    }
}

/// # Looking at the loop
impl Context<'_> {
    /// How well the loop keeps up.
    pub fn health(&self) -> Health {
        self.core.parts.watch.health
    }

    /// Returns the limits that the loop was made with.
    pub fn limits(&self) -> &LoopLimits {
        &self.core.parts.limits
    }

    /// What the loop has counted since it was made.
    pub fn counters(&self) -> Counters {
        self.core.parts.counters
    }

    /// Whether the loop stands in memory, as [`EventLoop::is_simulated`](crate::EventLoop::is_simulated) does.
    pub fn is_simulated(&self) -> bool {
        self.core.parts.poller.is_in_memory()
    }

    /// Picks how much virtual time some work takes that a simulated loop has a pool do. Not part of the public interface.
    #[doc(hidden)]
    pub fn pick_work_time(&mut self) -> Duration {
        self.core.parts.poller.pick_work_time()
    }

    /// Logs a warning of what a peer did, at most once a second for the whole loop, so that no peer can fill the log: the
    /// next one says how many were withheld. It is shown as it is: [`escape`](crate::escape) what comes from a peer.
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
