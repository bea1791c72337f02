//! Access to the loop for other threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::event_loop::Value;
use crate::sys::Waker;
use crate::threads::mailbox::{Mailbox, PostError, Wake};
use crate::time::ns_of;
use crate::{CompletionId, ConnectionId, Context, ListenerId};

/// A handle to a loop for other threads: `Clone + Send + Sync`. It does not keep the loop alive.
///
/// Its methods queue *commands*, which the loop runs in its next turn (rule [G1](crate::guide::rules#g1)):
///
/// - The commands of one thread run in the order it posted them, each exactly once.
/// - No method blocks, except for the moment in which another thread or the loop accesses the queue. At most
///   [`commands_max`](crate::LoopLimits::commands_max) commands are waiting; any further one is returned as
///   [`PostError::Full`]. The limit counts commands, not the bytes that they write.
/// - A sleeping loop is woken, once for everything that is posted until it looks. If the system refuses to wake it,
///   that is logged, the command stays queued, and the loop runs it in its next turn; the next command tries to wake it
///   again.
/// - Commands that are posted before the loop runs wait for it. Commands that are still waiting when the loop is
///   dropped are dropped with it without being run, and counted ([`commands_dropped`](Handle::commands_dropped)); later
///   ones are returned as [`PostError::Gone`].
///
/// A command costs a short lock, and a system call if the loop may be asleep. All methods may also be called on the
/// loop's own thread, from callbacks; the commands then run in a later phase or turn.
///
/// ```
/// use std::thread;
/// use switchboard::EventLoop;
///
/// # fn main() -> std::io::Result<()> {
/// let mut event_loop = EventLoop::new()?;
/// let handle = event_loop.context().handle();
/// let worker = thread::spawn(move || {
///     let answer = 6 * 7;
///     // Runs on the loop's thread, with access to the whole loop.
///     handle.post(move |context| {
///         assert_eq!(answer, 42);
///         context.stop();
///     })
/// });
/// event_loop.run()?;
/// worker.join().expect("it does not panic").expect("the loop is there, and its queue is not full");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Inbox>,
}

/// The state that the loop and its handles share. It holds the loop's only waker, for as long as one of them lives.
pub(crate) struct Inbox {
    pub(crate) mailbox: Mailbox<Command, Waker>,
    stop: AtomicBool,
    pub(crate) drain: Order,
    pub(crate) shutdown: Order,
}

/// A drain or a shutdown that was requested and has not begun: the shortest grace period, in nanoseconds. Only one
/// command is queued for it, however often it is requested.
pub(crate) struct Order {
    grace_ns: AtomicU64,
}

/// No grace period: nothing was requested.
const NOT_ORDERED: u64 = u64::MAX;

impl Order {
    fn new() -> Order {
        Order { grace_ns: AtomicU64::new(NOT_ORDERED) }
    }

    /// Adds a request. Returns whether a command has to be queued for it.
    fn add(&self, grace: Duration) -> bool {
        let grace_ns = ns_of(grace).min(NOT_ORDERED - 1);
        self.grace_ns.fetch_min(grace_ns, Ordering::AcqRel) == NOT_ORDERED
    }

    pub(crate) fn take(&self) -> Duration {
        Duration::from_nanos(self.grace_ns.swap(NOT_ORDERED, Ordering::AcqRel))
    }
}

/// What a handle asks the loop for.
pub(crate) enum Command {
    Call(Box<dyn FnOnce(&mut Context<'_>) + Send>),
    Write(ConnectionId, Vec<u8>),
    Close(ConnectionId),
    Abort(ConnectionId),
    /// A thread has provided the value that a call waits for, or has given up.
    Completed(CompletionId, Value),
    /// A listener was fed, or the one that feeds others may continue.
    LookAgain(ListenerId),
    Drain,
    ShutDown,
}

impl Wake for Waker {
    fn wake(&self) -> bool {
        let result = Waker::wake(self);
        if let Err(error) = &result {
            log::error!("cannot wake the loop: {error}");
        }
        result.is_ok()
    }
}

impl Inbox {
    pub(crate) fn new(waker: Waker, commands_max: usize) -> Inbox {
        Inbox {
            mailbox: Mailbox::new(commands_max, waker),
            stop: AtomicBool::new(false),
            drain: Order::new(),
            shutdown: Order::new(),
        }
    }

    /// Takes a request to stop, if there is one.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::Acquire)
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Inbox>) -> Handle {
        Handle { shared }
    }

    /// Makes the loop run `call` once, on its thread, with everything that callbacks have access to.
    ///
    /// A panic in it is logged and counted, and the loop goes on; see [`PanicPolicy`](crate::PanicPolicy).
    ///
    /// # Errors
    ///
    /// Returns `call` if the queue is full or the loop is gone.
    pub fn post<F>(&self, call: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut Context<'_>) + Send + 'static,
    {
        self.shared.mailbox.push(call, |call| Command::Call(Box::new(call)))
    }

    /// Writes to a connection, like [`Transport::write_owned`](crate::Transport::write_owned). Writing to one that has
    /// ended does nothing and is counted ([`late_writes`](crate::Counters::late_writes)).
    ///
    /// # Errors
    ///
    /// Returns the data if the queue is full or the loop is gone.
    pub fn write(&self, id: ConnectionId, data: impl Into<Vec<u8>>) -> Result<(), PostError<Vec<u8>>> {
        self.shared.mailbox.push(data.into(), |data| Command::Write(id, data))
    }

    /// Closes a connection, like [`Transport::close`](crate::Transport::close): everything written before is sent
    /// first. Does nothing if it has already ended.
    ///
    /// # Errors
    ///
    /// Returns `id` if the queue is full or the loop is gone.
    pub fn close(&self, id: ConnectionId) -> Result<(), PostError<ConnectionId>> {
        self.ask(id, Command::Close)
    }

    /// Aborts a connection, like [`Transport::abort`](crate::Transport::abort): by a reset, dropping what is queued.
    /// Does nothing if it has already ended.
    ///
    /// # Errors
    ///
    /// Returns `id` if the queue is full or the loop is gone.
    pub fn abort(&self, id: ConnectionId) -> Result<(), PostError<ConnectionId>> {
        self.ask(id, Command::Abort)
    }

    fn ask(&self, id: ConnectionId, command: fn(ConnectionId) -> Command) -> Result<(), PostError<ConnectionId>> {
        self.shared.mailbox.push(id, command)
    }

    /// Makes [`run`](crate::EventLoop::run) return after its current turn, or at once when it is called next.
    /// Connections stay open, and the next `run` continues with them. Stopping twice before it returns is the same as
    /// stopping once.
    ///
    /// Never fails and is not queued: it overtakes commands that are waiting, which then wait for the next `run`. To
    /// stop after them, post a closure that calls [`Context::stop`].
    pub fn stop(&self) {
        // The flag is set before the loop is woken, so that the loop finds it.
        if !self.shared.stop.swap(true, Ordering::Release) && !Wake::wake(self.shared.mailbox.waker()) {
            self.shared.stop.store(false, Ordering::Release);
        }
    }

    /// Shuts the loop down like [`Context::shutdown`]. Never fails and does not block: the request is queued even if
    /// the queue is full, and only once until it begins, however often this is called. The shortest `grace` of these
    /// calls applies, counted from then. Does nothing if the loop is gone.
    pub fn shutdown(&self, grace: Duration) {
        if self.shared.shutdown.add(grace) {
            self.order(Command::ShutDown);
        }
    }

    /// Drains the loop like [`Context::drain`]; everything else is as for [`shutdown`](Handle::shutdown).
    pub fn drain(&self, grace: Duration) {
        if self.shared.drain.add(grace) {
            self.order(Command::Drain);
        }
    }

    /// Queues a command whose number is limited in another way.
    fn order(&self, command: Command) {
        // A loop that is gone has already ended, and its calls and listeners with it.
        let _ = self.shared.mailbox.push_below(usize::MAX, command, |command| command);
    }

    /// Returns whether the loop was dropped, so that every command is returned.
    pub fn is_closed(&self) -> bool {
        self.shared.mailbox.is_closed()
    }

    /// Returns whether another handle is for the same loop.
    pub fn same_loop(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Ends the loop's wait, so that it has a turn, and queues nothing: for programs that run the turns themselves
    /// ([`turn`](crate::EventLoop::turn)) and look at something of their own in between. Never fails; if the system
    /// refuses, that is logged.
    pub fn wake(&self) {
        Wake::wake(self.shared.mailbox.waker());
    }

    /// Provides a value that a call waits for; returns it if the loop is gone.
    pub(crate) fn complete<T: Send + 'static>(&self, id: CompletionId, value: T) -> Result<(), T> {
        let completed = |value| Command::Completed(id, Some(Box::new(value)));
        self.shared.mailbox.push_below(usize::MAX, value, completed).map_err(PostError::into_inner)
    }

    /// Tells a call that no value will come.
    pub(crate) fn complete_without(&self, id: CompletionId) {
        self.order(Command::Completed(id, None));
    }

    /// Tells a listener that it was fed, or that it may continue to feed others. Not subject to the limit on commands:
    /// there is at most one for each listener.
    pub(crate) fn look_again(&self, id: ListenerId) {
        self.order(Command::LookAgain(id));
    }

    /// Returns how many commands were waiting when the loop was dropped, and so were not run. 0 while it lives.
    pub fn commands_dropped(&self) -> usize {
        self.shared.mailbox.dropped()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
