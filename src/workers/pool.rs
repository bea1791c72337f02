//! Work off the loop's thread: a bounded pool of threads, whose results come back as calls on the loop.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::{WorkError, cannot_start_thread, panic_message};
use super::simulated::{self, Busy, SimulatedThreads, Start, Threads};
use switchboard::{Completion, Context, Ended, TimerId, Transport, escape};

/// A bounded number of threads for what would block a loop: work goes there, and its result comes back as a call on the
/// loop's thread, as Twisted's `deferToThread` and asyncio's `run_in_executor` do it.
///
/// One pool may serve several loops; a clone is the same pool. Threads are started as they are needed, and stay. At most
/// `queue_max` jobs wait for one; one more is refused.
///
/// Work that has begun cannot be stopped: after its timeout, or when it is [cancelled](Job::cancel), the loop stops waiting
/// for it, and its thread is free again when it returns. Nobody waits for it unasked: neither a loop's end nor that of the
/// pool's last clone, with which what has not begun is dropped. [`shutdown`](WorkerPool::shutdown) waits.
///
/// ```
/// use std::num::NonZeroUsize;
/// use switchboard::EventLoop;
/// use switchboard::workers::WorkerPool;
///
/// # fn main() -> std::io::Result<()> {
/// let mut event_loop = EventLoop::new()?;
/// let pool = WorkerPool::new(NonZeroUsize::new(4).unwrap(), 100);
/// let sum = || (1..=1_000_000_u64).sum::<u64>();
/// pool.submit(&mut event_loop.context(), None, sum, |_, sum| {
///     assert_eq!(sum.expect("it does not panic"), 500_000_500_000);
/// });
/// event_loop.run_until_idle()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WorkerPool {
    owners: Arc<Owners>,
}

/// Ends the pool when the last clone is dropped.
struct Owners {
    shared: Arc<PoolInner>,
}

struct PoolInner {
    state: Mutex<State>,
    /// Told when there is work for an idle thread, or none will come any more.
    work: Condvar,
    /// Told when a thread has ended.
    ended: Condvar,
    next_number: AtomicU64,
    threads_max: usize,
    queue_max: usize,
}

#[derive(Default)]
struct State {
    /// What has not begun, by its number: the lowest is the next.
    queue: BTreeMap<u64, Box<dyn Task>>,
    /// Of every thread that was started. They stay until the pool ends.
    handles: Vec<JoinHandle<()>>,
    /// How many of them have not ended.
    threads: usize,
    /// How many of them have nothing to do, or are about to look for it.
    idle: usize,
    closed: bool,
    /// For loops that are simulated.
    simulated: SimulatedThreads,
}

/// Work and its answer, of whatever type.
trait Task: Send {
    /// Returns whether somebody waits for it still.
    fn is_wanted(&self) -> bool;
    fn run(&mut self);
    fn answer(self: Box<Self>);
}

struct Work<T: Send + 'static, W> {
    work: Option<W>,
    result: Option<Result<T, WorkError>>,
    answer: Arc<Answer<T>>,
}

/// Where the result of one job goes: to the loop, once.
struct Answer<T: Send + 'static>(Mutex<Option<Completion<Result<T, WorkError>>>>);

/// The same of whatever type, for its [`Job`].
trait Withdraw: Send + Sync {
    fn withdraw(&self, context: &mut Context<'_>) -> bool;
}

/// Work that was handed to a [`WorkerPool`]; a clone is the same work.
#[derive(Clone)]
pub struct Job {
    number: u64,
    shared: Weak<PoolInner>,
    answer: Weak<dyn Withdraw>,
}

/// Has work never begin once its answer is not wanted any more.
struct Withdrawal(Job);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl WorkerPool {
    /// A pool of at most `threads_max` threads, for which at most `queue_max` jobs wait (0: work is taken only while a
    /// thread is free). None is started yet.
    pub fn new(threads_max: NonZeroUsize, queue_max: usize) -> WorkerPool {
        let shared = PoolInner {
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            next_number: AtomicU64::new(0),
            threads_max: threads_max.get(),
            queue_max,
        };
        WorkerPool { owners: Arc::new(Owners { shared: Arc::new(shared) }) }
    }

    /// Has `work` done by one of the threads, and then `done` called on this loop's thread, once: with what `work`
    /// returned, or why there is nothing. After `timeout` at the latest (`None`: it may take for ever) `done` is
    /// called with [`WorkError::TimedOut`]; work that has not begun by then never will, and what it returns later is
    /// dropped.
    ///
    /// `done` is called in any case, and never by this method: with [`WorkError::Refused`] if `queue_max` jobs are waiting or
    /// not one thread can be started, with [`WorkError::Dropped`] if the pool was [shut down](WorkerPool::shutdown). `work`
    /// is not called then. (Only a loop with no slot left for it, of some billions, logs an error and calls neither.)
    ///
    /// It keeps [`run_until_idle`](crate::EventLoop::run_until_idle) going until `done` was called. Costs a lock and a few
    /// allocations.
    ///
    /// In a simulated loop `work` is done on the loop's thread, between callbacks, once one of `threads_max` threads would be
    /// free for it. It takes as much virtual time as its network's [`Faults`](crate::testing::Faults) say.
    pub fn submit<T: Send + 'static>(
        &self,
        context: &mut Context<'_>,
        timeout: Option<Duration>,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(&mut Context<'_>, Result<T, WorkError>) + 'static,
    ) -> Job {
        let (job, answer, timer) = self.begin(context, timeout);
        let completion = context.completion(move |context, result: Option<Result<T, WorkError>>| {
            timer.map(|timer| context.cancel_timer(timer));
            done(context, result.unwrap_or(Err(WorkError::Dropped)));
        });
        self.queue(context, (&job, answer, timer), completion, work);
        job
    }

    /// As [`submit`](WorkerPool::submit), for a connection: `done` is called with its protocol, between callbacks. `P` is the
    /// protocol's type, or that of what it wraps, as of [`Transport::with_protocol`]; a method of it does well as `done`.
    ///
    /// It belongs to the protocol, as its [timers](Transport::set_timer) do. When another protocol takes its place, or an end
    /// of the connection begins, `done` is dropped, and work that has not begun never will. Before
    /// [`connection_made`](crate::Protocol::connection_made), and once the connection is closing, this does nothing. If the
    /// protocol is no `P` an error is logged, and the result dropped.
    ///
    /// ```
    /// use switchboard::workers::{WorkError, WorkerPool};
    /// use switchboard::{Protocol, Transport};
    ///
    /// struct Squares {
    ///     pool: WorkerPool, // a clone is the same pool
    /// }
    ///
    /// impl Squares {
    ///     fn squared(&mut self, transport: &mut Transport<'_>, square: Result<usize, WorkError>) {
    ///         match square {
    ///             Ok(square) => transport.write(format!("{square}\n").as_bytes()),
    ///             Err(error) => transport.close_for(error),
    ///         }
    ///     }
    /// }
    ///
    /// impl Protocol for Squares {
    ///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         let number = data.len();
    ///         self.pool.submit_for(transport, None, move || number * number, Squares::squared);
    ///         number
    ///     }
    /// }
    /// ```
    pub fn submit_for<P: 'static, T: Send + 'static>(
        &self,
        transport: &mut Transport<'_>,
        timeout: Option<Duration>,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(&mut P, &mut Transport<'_>, Result<T, WorkError>) + 'static,
    ) -> Job {
        let (job, answer, timer) = self.begin(&mut transport.context(), timeout);
        // The loop waits for the call; once that is cancelled, for nothing.
        timer.map(|timer| transport.context().set_background(timer, true));
        let withdrawal = Withdrawal(job.clone());
        let completion = transport.completion(move |protocol: &mut P, transport, result: Option<_>| {
            timer.map(|timer| transport.context().cancel_timer(timer));
            done(protocol, transport, result.unwrap_or(Err(WorkError::Dropped)));
            drop(withdrawal);
        });
        self.queue(&mut transport.context(), (&job, answer, timer), completion, work);
        job
    }

    /// A job that is not queued yet, where its answer will go, and the timer that ends the wait for it.
    fn begin<T: Send + 'static>(
        &self,
        context: &mut Context<'_>,
        timeout: Option<Duration>,
    ) -> (Job, Arc<Answer<T>>, Option<TimerId>) {
        let shared = &self.owners.shared;
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        let answer = Arc::new(Answer(Mutex::new(None)));
        let job = Job { number, shared: Arc::downgrade(shared), answer: Arc::downgrade(&answer) as Weak<dyn Withdraw> };
        let (expired, late) = (job.clone(), Arc::downgrade(&answer));
        let timer = timeout.map(|timeout| context.call_later(timeout, move |_| expired.expire(&late)));
        (job, answer, timer)
    }

    /// Queues a job, or has its answer say why not.
    fn queue<T: Send + 'static>(
        &self,
        context: &mut Context<'_>,
        (job, answer, timer): (&Job, Arc<Answer<T>>, Option<TimerId>),
        completion: io::Result<Completion<Result<T, WorkError>>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) {
        match completion {
            Ok(completion) => *answer.lock() = Some(completion),
            Err(error) => {
                timer.map(|timer| context.cancel_timer(timer));
                if error.kind() != io::ErrorKind::NotConnected {
                    log::error!("work is dropped, since the loop cannot wait for it: {error}");
                }
                return;
            }
        }
        let task = Box::new(Work { work: Some(work), result: None, answer: answer.clone() });
        let queued = match context.is_simulated() {
            true => self.owners.shared.enqueue_simulated(context, job.number, task).map(|()| None),
            false => self.owners.shared.enqueue(job.number, task),
        };
        match queued {
            Ok(None) => {}
            Ok(Some(error)) => context.warn(format_args!("a pool has fewer threads than it may have: {error}")),
            Err(why) => answer.give(Err(why)),
        }
    }

    /// Ends the pool, for all its clones: takes no more work, drops what has not begun, and waits for the threads to end,
    /// at most `grace`. Returns [`CutOff`](Ended::CutOff) if some have not; those end when their work returns. Called by a
    /// thread of the pool, it waits in vain for that one. For work of simulated loops it does not wait, since no time passes in
    /// it.
    pub fn shutdown(&self, grace: Duration) -> Ended {
        let shared = &self.owners.shared;
        drop(shared.close());
        let waited = shared.ended.wait_timeout_while(shared.lock(), grace, |state| state.threads > 0);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Ended::CutOff;
        }
        let (handles, are_idle) = (mem::take(&mut state.handles), state.simulated.are_idle());
        drop(state);
        // They have nothing left to do but to end.
        match handles.into_iter().all(|handle| handle.join().is_ok()) && are_idle {
            true => Ended::Clean,
            false => Ended::CutOff,
        }
    }
}

impl Threads for PoolInner {
    fn next(&self) -> Option<Start> {
        self.lock().simulated.next()
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        drop(self.shared.close());
    }
}

impl PoolInner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of the user's runs under it, so no panic can have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a task. If one more thread for it cannot be started, and there are others, returns why.
    fn enqueue(self: &Arc<PoolInner>, number: u64, task: Box<dyn Task>) -> Result<Option<io::Error>, WorkError> {
        let mut state = self.lock();
        if state.closed {
            return Err(WorkError::Dropped);
        }
        let free = state.idle + (self.threads_max - state.threads);
        if state.queue.len() >= self.queue_max.saturating_add(free) {
            return Err(WorkError::too_much());
        }
        let needs_thread = state.idle <= state.queue.len() && state.threads < self.threads_max;
        let not_started = if needs_thread { self.start_thread(&mut state).err() } else { None };
        match not_started {
            Some(error) if state.threads == 0 => return Err(WorkError::Refused(error.to_string())),
            _ => state.queue.insert(number, task),
        };
        drop(state);
        self.work.notify_one();
        Ok(not_started)
    }

    /// Has a task done on its loop's own thread, as if it was one of the pool's.
    fn enqueue_simulated(
        self: &Arc<PoolInner>,
        context: &mut Context<'_>,
        number: u64,
        mut task: Box<dyn Task>,
    ) -> Result<(), WorkError> {
        let work = move || {
            if !task.is_wanted() {
                return None;
            }
            task.run();
            Some(Box::new(move || task.answer()) as Box<dyn FnOnce()>)
        };
        let start = simulated::start(context, Box::new(work)).map_err(|error| WorkError::Refused(error.to_string()))?;
        let mut state = self.lock();
        if state.closed {
            return Err(WorkError::Dropped);
        }
        let begins = state.simulated.admit((number, start), self.threads_max, self.queue_max);
        drop(state);
        if let Some(start) = begins.map_err(|_| WorkError::too_much())? {
            // The loop is there: it is this one.
            let _ = start.complete(Busy::new(self.clone()));
        }
        Ok(())
    }

    /// One more thread.
    fn start_thread(self: &Arc<PoolInner>, state: &mut State) -> io::Result<()> {
        let shared = self.clone();
        let thread = thread::Builder::new().name("switchboard work".to_owned());
        let handle = thread.spawn(move || shared.work()).map_err(cannot_start_thread)?;
        state.handles.push(handle);
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// The life of a thread, which begins as an idle one.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            while state.queue.is_empty() && !state.closed {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((_, mut task)) = state.queue.pop_first() else { break };
            state.idle -= 1;
            drop(state);
            // Also what destructors of the user's throw must not end the thread.
            guarded(|| task.run());
            // Before it answers: a caller that is told that it is done finds the thread free.
            self.lock().idle += 1;
            guarded(|| task.answer());
            state = self.lock();
        }
        state.idle -= 1;
        state.threads -= 1;
        self.ended.notify_all();
    }

    /// Takes out what has not begun, for the caller to drop.
    fn withdraw(&self, number: u64) -> (Option<Box<dyn Task>>, Option<Start>) {
        let mut state = self.lock();
        (state.queue.remove(&number), state.simulated.withdraw(number))
    }

    /// No more work is taken; answers what has not begun, for the caller to drop.
    fn close(&self) -> (BTreeMap<u64, Box<dyn Task>>, BTreeMap<u64, Start>) {
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_all();
        (mem::take(&mut state.queue), state.simulated.withdraw_all())
    }
}

/// Does work that may panic.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, WorkError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = panic_message(&*payload);
        log::error!("work panicked: {}", escape(message.as_bytes()));
        guarded(|| drop(payload));
        WorkError::Panic(message)
    })
}

fn guarded(code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        log::error!("a destructor in a pool's thread panicked: {}", escape(panic_message(&*payload).as_bytes()));
        // Its own destructor may panic, too.
        mem::forget(payload);
    }
}

impl<T: Send + 'static, W: FnOnce() -> T + Send> Task for Work<T, W> {
    fn is_wanted(&self) -> bool {
        self.answer.lock().is_some()
    }

    fn run(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.result = Some(caught(work));
    }

    fn answer(self: Box<Self>) {
        self.result.into_iter().for_each(|result| self.answer.give(result));
    }
}

impl<T: Send + 'static> Answer<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Completion<Result<T, WorkError>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, if nobody has before.
    fn give(&self, result: Result<T, WorkError>) {
        let completion = self.lock().take();
        if let Some(completion) = completion {
            // Once the loop is gone, nobody wants to know.
            let _ = completion.complete(result);
        }
    }
}

impl<T: Send + 'static> Withdraw for Answer<T> {
    fn withdraw(&self, context: &mut Context<'_>) -> bool {
        let completion = self.lock().take();
        completion.is_some_and(|completion| context.cancel_completion(completion.id()))
    }
}

impl Job {
    /// Stops waiting for it: `done` is not called, and work that has not begun never will. `false` where `done` was called
    /// already or is about to be. `context` is that of the loop which submitted it.
    pub fn cancel(&self, context: &mut Context<'_>) -> bool {
        let cancelled = self.answer.upgrade().is_some_and(|answer| answer.withdraw(context));
        self.withdraw();
        cancelled
    }

    fn expire<T: Send + 'static>(&self, answer: &Weak<Answer<T>>) {
        if let Some(answer) = answer.upgrade() {
            answer.give(Err(WorkError::TimedOut));
        }
        self.withdraw();
    }

    fn withdraw(&self) {
        drop(self.shared.upgrade().map(|shared| shared.withdraw(self.number)));
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.owners.shared;
        let state = shared.lock();
        f.debug_struct("WorkerPool")
            .field("threads_max", &shared.threads_max)
            .field("threads", &state.threads)
            .field("idle", &state.idle)
            .field("queued", &state.queue.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("number", &self.number).finish_non_exhaustive()
    }
}
