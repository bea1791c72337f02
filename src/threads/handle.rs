//! The loop as other threads see it.

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
/// What it is asked for is queued as a *command*, which the loop runs in its next turn (rule
/// [G1](crate::guide::rules#g1)):
///
/// - The commands of one thread run in the order it posted them, each exactly once.
/// - No method waits, but for the moment in which another thread or the loop touches the queue. At most
///   [`commands_max`](crate::LoopLimits::commands_max) commands are waiting; one more is given back, as
///   [`PostError::Full`]. The bound counts commands, not the bytes of what they write.
/// - A loop that sleeps is woken, once for all that is posted until it looks. Should the system refuse to wake it, that
///   is logged, the command stays queued, and the loop runs it when it next has a turn; the next command tries again.
/// - Commands that were posted before the loop runs wait for it. What is still waiting when the loop is dropped is
///   dropped with it, unrun, and counted ([`commands_dropped`](Handle::commands_dropped)); what comes later is given
///   back, as [`PostError::Gone`].
///
/// A command costs a short lock, and a system call where the loop may be asleep; all of them may be called on the
/// loop's own thread too, from callbacks, and are then run in a later phase or turn.
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
///     // Runs on the loop's thread, with all of the loop in its hands.
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

/// What the loop and its handles share. It holds the loop's only waker, for as long as one of them lives.
pub(crate) struct Inbox {
    pub(crate) mailbox: Mailbox<Command, Waker>,
    stop: AtomicBool,
    pub(crate) drain: Order,
    pub(crate) shutdown: Order,
}

/// A drain or a shutdown that was asked for and has not begun: the least grace, in nanoseconds. One command waits for
/// it, however often it is asked for.
pub(crate) struct Order {
    grace_ns: AtomicU64,
}

/// No grace: nothing was asked for.
const NOT_ORDERED: u64 = u64::MAX;

impl Order {
    fn new() -> Order {
        Order { grace_ns: AtomicU64::new(NOT_ORDERED) }
    }

    /// Returns whether a command is to be queued for it.
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
    /// A thread has given what a call waits for, or given up.
    Completed(CompletionId, Value),
    /// A listener was fed, or the one that feeds others may go on.
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

    /// Has the loop call `call` once, in its thread, with all that callbacks reach.
    ///
    /// A panic of it is logged and counted, and the loop goes on; see [`PanicPolicy`](crate::PanicPolicy).
    ///
    /// # Errors
    ///
    /// With `call` given back: the queue is full, or the loop is gone.
    pub fn post<F>(&self, call: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut Context<'_>) + Send + 'static,
    {
        self.shared.mailbox.push(call, |call| Command::Call(Box::new(call)))
    }

    /// Writes to a connection, like [`Transport::write_owned`](crate::Transport::write_owned). To one that has ended it
    /// does nothing and is counted ([`late_writes`](crate::Counters::late_writes)).
    ///
    /// # Errors
    ///
    /// With the data given back: the queue is full, or the loop is gone.
    pub fn write(&self, id: ConnectionId, data: impl Into<Vec<u8>>) -> Result<(), PostError<Vec<u8>>> {
        self.shared.mailbox.push(data.into(), |data| Command::Write(id, data))
    }

    /// Closes a connection, like [`Transport::close`](crate::Transport::close): all that was written before goes out
    /// first. One that has ended already is left at that.
    ///
    /// # Errors
    ///
    /// With `id` given back: the queue is full, or the loop is gone.
    pub fn close(&self, id: ConnectionId) -> Result<(), PostError<ConnectionId>> {
        self.ask(id, Command::Close)
    }

    /// Aborts a connection, like [`Transport::abort`](crate::Transport::abort): by a reset, and what is queued is
    /// dropped. One that has ended already is left at that.
    ///
    /// # Errors
    ///
    /// With `id` given back: the queue is full, or the loop is gone.
    pub fn abort(&self, id: ConnectionId) -> Result<(), PostError<ConnectionId>> {
        self.ask(id, Command::Abort)
    }

    fn ask(&self, id: ConnectionId, command: fn(ConnectionId) -> Command) -> Result<(), PostError<ConnectionId>> {
        self.shared.mailbox.push(id, command)
    }

    /// Lets [`run`](crate::EventLoop::run) return after its current turn, or at once when it is called next.
    /// Connections stay, and the `run` after goes on with them. Stopping twice before it returns is stopping once.
    ///
    /// It never fails and does not queue: it overtakes commands that are waiting, which then wait for the next `run`.
    /// To stop behind them, post a closure that calls [`Context::stop`].
    pub fn stop(&self) {
        // The flag is set before the waker is: the loop that is woken finds it.
        if !self.shared.stop.swap(true, Ordering::Release) && !Wake::wake(self.shared.mailbox.waker()) {
            self.shared.stop.store(false, Ordering::Release);
        }
    }

    /// Shuts the loop down as [`Context::shutdown`] does. It never fails and does not wait: it is queued beyond the bound
    /// of commands, once until it begins, however often it is called, and then with the least `grace`, which counts from
    /// there. A loop that is gone is left at that.
    pub fn shutdown(&self, grace: Duration) {
        if self.shared.shutdown.add(grace) {
            self.order(Command::ShutDown);
        }
    }

    /// Drains the loop as [`Context::drain`] does; otherwise as [`shutdown`](Handle::shutdown).
    pub fn drain(&self, grace: Duration) {
        if self.shared.drain.add(grace) {
            self.order(Command::Drain);
        }
    }

    /// Queues what is bounded otherwise.
    fn order(&self, command: Command) {
        // A loop that is gone has ended already, and its calls and listeners with it.
        let _ = self.shared.mailbox.push_below(usize::MAX, command, |command| command);
    }

    /// Whether the loop was dropped, so that every command is given back.
    pub fn is_closed(&self) -> bool {
        self.shared.mailbox.is_closed()
    }

    /// Whether another handle is one to the same loop.
    pub fn same_loop(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Ends the loop's wait, so that it has a turn, and queues nothing: for programs that turn it
    /// ([`turn`](crate::EventLoop::turn)) and looks at something of his own between turns. Never fails; where the system
    /// refuses, that is logged.
    pub fn wake(&self) {
        Wake::wake(self.shared.mailbox.waker());
    }

    /// A value that a call waits for; given back where the loop is gone.
    pub(crate) fn complete<T: Send + 'static>(&self, id: CompletionId, value: T) -> Result<(), T> {
        let completed = |value| Command::Completed(id, Some(Box::new(value)));
        self.shared.mailbox.push_below(usize::MAX, value, completed).map_err(PostError::into_inner)
    }

    /// No value will come.
    pub(crate) fn complete_without(&self, id: CompletionId) {
        self.order(Command::Completed(id, None));
    }

    /// A listener was fed, or the one that feeds others may go on. Beyond the bound on commands: of each listener there is
    /// one at most.
    pub(crate) fn look_again(&self, id: ListenerId) {
        self.order(Command::LookAgain(id));
    }

    /// How many commands were waiting when the loop was dropped, and so have not run. 0 while it lives.
    pub fn commands_dropped(&self) -> usize {
        self.shared.mailbox.dropped()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
