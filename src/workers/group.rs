//! Loops on several threads.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::{GroupError, LoopFailure, cannot_start_thread};
use super::group_handle::{GroupHandle, GroupState};
use super::listen::{self, GroupListen, GroupListener, Make};
use super::member::{self, Plan, Start, WhenLoopFails};
use switchboard::{Address, Context, Counters, IntoProtocol, LoopLimits, PanicPolicy};

/// Event loops on several threads, to use more than one core: one loop per thread, with the connections of the group's
/// listeners spread among them.
///
/// A connection stays with its loop, so protocols need not be `Send`, and loops share only what the program makes them
/// share; to reach another loop's connections, post to its [`Handle`](crate::Handle).
/// [`Distribution`](super::Distribution) says how connections are spread. Threads are not pinned: the system decides
/// which core each runs on.
///
/// All loops start and end together. They end when one of them is stopped, by [`stop`](EventLoopGroup::stop) or by its
/// own [`Context::stop`], when they are shut down by [`shutdown`](EventLoopGroup::shutdown), or when one of them fails
/// (see [`WhenLoopFails`]). A loop's own [`Context::shutdown`] drains that loop alone, and stops the others when it is
/// done. Dropping the group stops it and waits for its threads, so it waits for callbacks to return.
///
/// ```
/// use std::num::NonZeroUsize;
/// use switchboard::workers::EventLoopGroup;
/// use switchboard::{Protocol, Transport};
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
/// # fn main() -> std::io::Result<()> {
/// let group = EventLoopGroup::new(NonZeroUsize::new(2).expect("it is not zero"))?;
/// let address: std::net::SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
/// let listener = group.listen(address, |_, _| Some(Echo))?;
/// println!("listening on {}", listener.local_addr());
/// # group.stop();
/// let counters = group.join()?; // until it is stopped
/// println!("{} connections", counters.connections_made);
/// # Ok(())
/// # }
/// ```
pub struct EventLoopGroup {
    handle: GroupHandle,
    /// Empty once they were joined.
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// Configures a group; created by [`EventLoopGroup::builder`].
#[must_use]
pub struct GroupBuilder {
    loops: NonZeroUsize,
    name: String,
    plan: Plan,
}

impl EventLoopGroup {
    /// Starts a group of this many loops, with the defaults of [`builder`](EventLoopGroup::builder). For one loop per
    /// core, use [`std::thread::available_parallelism`].
    ///
    /// # Errors
    ///
    /// Those of [`GroupBuilder::start`].
    pub fn new(loops: NonZeroUsize) -> Result<EventLoopGroup, GroupError> {
        EventLoopGroup::builder(loops).start()
    }

    /// Returns a builder for a group of this many loops. By default it has the default [`LoopLimits`], isolates panics,
    /// and stops all loops when one fails.
    pub fn builder(loops: NonZeroUsize) -> GroupBuilder {
        GroupBuilder {
            loops,
            name: "event-loop".to_owned(),
            plan: Plan {
                limits: LoopLimits::default(),
                panic_policy: PanicPolicy::default(),
                when_loop_fails: WhenLoopFails::default(),
                setup: Box::new(|_, _| Ok(())),
            },
        }
    }

    /// Listens on one or more addresses, see [`GroupListen`]. `factory` makes a protocol for each peer, on the thread
    /// of the loop that serves it, or returns `None` to refuse the peer. All loops share the one `factory`; for state
    /// per loop see [`listen_each`](EventLoopGroup::listen_each).
    ///
    /// Waits until every loop has its listener, so at least until each has returned from the callback that it is in. No
    /// connection is accepted before all listen.
    ///
    /// # Errors
    ///
    /// Those of [`Context::listen`] and [`GroupListen`]; nothing listens then. `NotConnected` if the group has ended,
    /// `WouldBlock` if the queue of a loop is full, `Deadlock` on the thread of a loop of this group.
    pub fn listen<F, P>(&self, target: impl Into<GroupListen>, factory: F) -> io::Result<GroupListener>
    where
        F: Fn(&mut Context<'_>, &Address) -> Option<P> + Send + Sync + 'static,
        P: IntoProtocol,
    {
        let factory = Arc::new(factory);
        self.listen_each(target, move |_, _| {
            let factory = factory.clone();
            move |context: &mut Context<'_>, peer: &Address| factory(context, peer)
        })
    }

    /// Like [`listen`](EventLoopGroup::listen), with a factory for each loop: `make` is called once on each loop's
    /// thread, with the loop's index, and the factory that it returns stays there. So the protocols of a loop can share
    /// an `Rc`:
    ///
    /// ```
    /// # use std::{cell::Cell, net::SocketAddr, num::NonZeroUsize, rc::Rc};
    /// # use switchboard::{Protocol, Transport, workers::EventLoopGroup};
    /// # struct Counting(Rc<Cell<u64>>);
    /// # impl Protocol for Counting {
    /// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         self.0.set(self.0.get() + 1);
    /// #         data.len()
    /// #     }
    /// # }
    /// # let address = SocketAddr::from(([127, 0, 0, 1], 0));
    /// # let group = EventLoopGroup::new(NonZeroUsize::MIN)?;
    /// group.listen_each(address, |_loop_index, _context| {
    ///     let received = Rc::new(Cell::new(0));
    ///     move |_context, _peer| Some(Counting(received.clone()))
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`listen`](EventLoopGroup::listen). If `make` panics, the loop handles that as any panic, and this
    /// returns an error.
    pub fn listen_each<M, F, P>(&self, target: impl Into<GroupListen>, make: M) -> io::Result<GroupListener>
    where
        M: Fn(usize, &mut Context<'_>) -> F + Send + Sync + 'static,
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        if self.is_on_this_thread() {
            let why = "called on a thread of the group, which would wait for itself";
            return Err(io::Error::new(io::ErrorKind::Deadlock, why));
        }
        let make: Make = Arc::new(move |index, context| {
            let mut factory = make(index, context);
            Box::new(move |context, peer| factory(context, peer).map(P::into_protocol))
        });
        listen::listen(&self.handle, target.into(), make)
    }

    /// Returns a handle for other threads and for callbacks.
    pub fn handle(&self) -> &GroupHandle {
        &self.handle
    }

    /// Stops all loops; see [`GroupHandle::stop`]. [`join`](EventLoopGroup::join) waits until they have ended.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Drains all loops within one deadline; see [`GroupHandle::drain`]. [`join`](EventLoopGroup::join) waits until
    /// they have ended.
    pub fn drain(&self, grace: Duration) {
        self.handle.drain(grace);
    }

    /// Shuts all loops down within one deadline; see [`GroupHandle::shutdown`]. [`join`](EventLoopGroup::join) waits
    /// until they have ended.
    pub fn shutdown(&self, grace: Duration) {
        self.handle.shutdown(grace);
    }

    /// Waits until all loops have ended, and returns the sum of their counters. Does not stop them.
    ///
    /// # Errors
    ///
    /// A loop has failed. If several have, this is the one with the lowest index, and the others are logged.
    pub fn join(mut self) -> Result<Counters, GroupError> {
        self.join_all()
    }

    fn join_all(&mut self) -> Result<Counters, GroupError> {
        let mut failed: Option<GroupError> = None;
        for (index, thread) in self.threads.drain(..).enumerate() {
            if thread.thread().id() == thread::current().id() {
                // It would wait for itself.
                continue;
            }
            let cause = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => LoopFailure::Io(error),
                Err(payload) => LoopFailure::of_panic(payload),
            };
            let error = GroupError::new(index, cause);
            match &failed {
                None => failed = Some(error),
                Some(_) => log::error!("{error}"),
            }
        }
        let counters = self.handle.shared.counters_of_ended();
        match failed {
            None => Ok(counters),
            Some(error) => Err(error.with_counters(counters)),
        }
    }

    fn is_on_this_thread(&self) -> bool {
        self.threads.iter().any(|thread| thread.thread().id() == thread::current().id())
    }
}

/// Stops the group, and waits for its threads. A failure is logged. On the thread of one of its own loops, that thread
/// is not waited for.
impl Drop for EventLoopGroup {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop();
            if let Err(error) = self.join_all() {
                log::error!("{error}");
            }
        }
    }
}

impl fmt::Debug for EventLoopGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoopGroup").field("loops", &self.threads.len()).finish_non_exhaustive()
    }
}

impl GroupBuilder {
    /// Sets the name of the threads; each adds its loop's index: `name-0`. Default `event-loop`.
    pub fn name(mut self, name: impl Into<String>) -> GroupBuilder {
        self.name = name.into();
        self
    }

    /// Sets the limits of each loop. Loop-wide limits also hold for each loop, not for their sum.
    pub fn limits(mut self, limits: impl Into<LoopLimits>) -> GroupBuilder {
        self.plan.limits = limits.into();
        self
    }

    /// Sets what happens when a callback panics. Under [`PanicPolicy::Propagate`] its loop fails, see
    /// [`when_loop_fails`](GroupBuilder::when_loop_fails).
    pub fn panic_policy(mut self, policy: PanicPolicy) -> GroupBuilder {
        self.plan.panic_policy = policy;
        self
    }

    /// Sets what happens to the other loops when one fails.
    pub fn when_loop_fails(mut self, what: WhenLoopFails) -> GroupBuilder {
        self.plan.when_loop_fails = what;
        self
    }

    /// Sets a function that is called once on each loop's thread, with the loop's index, before any of the loops runs:
    /// for timers and sources of each loop.
    pub fn setup(
        mut self,
        setup: impl Fn(usize, &mut Context<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> GroupBuilder {
        self.plan.setup = Box::new(setup);
        self
    }

    /// Starts the threads and their loops; returns when every setup has returned.
    ///
    /// # Errors
    ///
    /// A thread cannot be started, no descriptor is left, or a setup fails or panics; `InvalidInput` if the
    /// [name](GroupBuilder::name) contains a NUL. Loops that had started have ended by then.
    pub fn start(self) -> Result<EventLoopGroup, GroupError> {
        if self.name.contains('\0') {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a thread name must not contain NUL");
            return Err(GroupError::new(0, LoopFailure::Io(error)));
        }
        let GroupBuilder { loops, name, plan } = self;
        let shared = Arc::new(GroupState::new(loops.get()));
        let plan = Arc::new(plan);
        let (started, all) = mpsc::channel();
        let mut group = EventLoopGroup { handle: GroupHandle { shared }, threads: Vec::new() };
        let mut begin = Vec::new();
        let mut not_spawned = None;
        for index in 0..loops.get() {
            let (begin_one, all_started) = mpsc::channel();
            let start = Start { index, shared: group.handle.shared.clone(), started: started.clone(), all_started };
            let thread_plan = plan.clone();
            let thread = thread::Builder::new().name(format!("{name}-{index}"));
            match thread.spawn(move || member::run(&thread_plan, start)) {
                Ok(thread) => group.threads.push(thread),
                Err(error) => {
                    not_spawned = Some(GroupError::new(index, LoopFailure::Io(cannot_start_thread(error))));
                    break;
                }
            }
            begin.push(begin_one);
        }
        drop(started);
        let mut handles: Vec<_> = all.iter().collect();
        if handles.len() < loops.get() {
            // Dropping the senders tells the loops that have started to end.
            drop(begin);
            let joined = group.join_all();
            let unknown = || GroupError::new(0, LoopFailure::Io(io::ErrorKind::Other.into()));
            return Err(joined.err().or(not_spawned).unwrap_or_else(unknown));
        }
        handles.sort_by_key(|(index, _)| *index);
        group.handle.shared.set_handles(handles.into_iter().map(|(_, handle)| handle).collect());
        for begin_one in begin {
            let _ = begin_one.send(());
        }
        Ok(group)
    }
}

impl fmt::Debug for GroupBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("loops", &self.loops)
            .field("name", &self.name)
            .field("limits", &self.plan.limits)
            .field("panic_policy", &self.plan.panic_policy)
            .field("when_loop_fails", &self.plan.when_loop_fails)
            .finish_non_exhaustive()
    }
}
