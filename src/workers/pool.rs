//! A bounded pool of threads for blocking work, whose results come back as calls on the loop.

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

/// A bounded pool of threads for work that would block a loop. The result comes back as a call on the loop's thread, as
/// with Twisted's `deferToThread` and asyncio's `run_in_executor`.
///
/// One pool can serve several loops; clones share the pool. Threads are started as they are needed, and kept. At most
/// `queue_max` jobs wait for a thread; any more are refused. If the system cannot start another thread, the work waits
/// for one of those that there are, and starting one is tried again after 10 ms, then after twice as long each time, up
/// to 1 s.
///
/// Work that has begun cannot be stopped: after its timeout, or when it is [cancelled](Job::cancel), the loop stops
/// waiting for it, and its thread becomes free when the work returns. Neither the end of a loop nor dropping the pool's
/// last clone waits for running work; the latter drops the work that has not begun. [`shutdown`](WorkerPool::shutdown)
/// waits.
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

/// The first delay after which starting a thread is tried again, and the longest.
const START_RETRY_MIN: Duration = Duration::from_millis(10);
const START_RETRY_MAX: Duration = Duration::from_secs(1);

/// Closes the pool when the last clone is dropped.
struct Owners {
    shared: Arc<PoolInner>,
}

struct PoolInner {
    state: Mutex<State>,
    /// Notified when there is work for an idle thread, and when the pool is closed.
    work: Condvar,
    /// Notified when a thread has ended.
    ended: Condvar,
    next_number: AtomicU64,
    threads_max: usize,
    queue_max: usize,
}

#[derive(Default)]
struct State {
    /// Work that has not begun, by number: the lowest is next.
    queue: BTreeMap<u64, Box<dyn Task>>,
    /// The handles of all threads that were started. Threads stay until the pool ends.
    handles: Vec<JoinHandle<()>>,
    /// How many of the threads have not ended.
    threads: usize,
    /// How many of the threads are idle, or about to look for work.
    idle: usize,
    closed: bool,
    /// The threads that simulated loops use.
    simulated: SimulatedThreads,
}

/// Work and where its result goes, of any type.
trait Task: Send {
    /// Returns whether the result is still wanted.
    fn is_wanted(&self) -> bool;
    fn run(&mut self);
    fn answer(self: Box<Self>);
}

struct Work<T: Send + 'static, W> {
    work: Option<W>,
    result: Option<Result<T, WorkError>>,
    answer: Arc<Answer<T>>,
}

/// Where the result of a job is sent: to the loop, once.
struct Answer<T: Send + 'static>(Mutex<Option<Completion<Result<T, WorkError>>>>);

/// An [`Answer`] of any type, for its [`Job`].
trait Withdraw: Send + Sync {
    fn withdraw(&self, context: &mut Context<'_>) -> bool;
}

/// Work that was submitted to a [`WorkerPool`]; clones refer to the same work.
#[derive(Clone)]
pub struct Job {
    number: u64,
    shared: Weak<PoolInner>,
    answer: Weak<dyn Withdraw>,
}

/// Withdraws a job when it is dropped, so that the work does not begin once its result is no longer wanted.
struct Withdrawal(Job);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl WorkerPool {
    /// Creates a pool of at most `threads_max` threads, with a queue of at most `queue_max` jobs (0: work is accepted
    /// only while a thread is free). No thread is started yet.
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

    /// Runs `work` on one of the pool's threads, and then calls `done` on this loop's thread, once, with what `work`
    /// returned or with an error. If the result is not there within `timeout` (`None`: no limit), `done` is called with
    /// [`WorkError::TimedOut`]; work that has not begun by then never does, and a later result is dropped.
    ///
    /// `done` is called in any case, but never from within this method: with [`WorkError::Refused`] if `queue_max` jobs
    /// are waiting, or the pool has no thread and none can be started, and with [`WorkError::Dropped`] if the pool was [shut
    /// down](WorkerPool::shutdown). `work` is not called then. (Only a loop that has no slot left, out of some
    /// billions, logs an error and calls neither.)
    ///
    /// [`run_until_idle`](crate::EventLoop::run_until_idle) keeps running until `done` was called. Costs a lock and a
    /// few allocations.
    ///
    /// In a simulated loop, `work` runs on the loop's thread, between callbacks, once one of `threads_max` threads
    /// would be free for it. It takes as much virtual time as the network's [`Faults`](crate::testing::Faults) say.
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

    /// Like [`submit`](WorkerPool::submit), for a connection: `done` is called with its protocol, between callbacks.
    /// `P` is the type of the protocol, or of the one that it wraps, as in [`Transport::with_protocol`]; `done` can be
    /// one of its methods.
    ///
    /// The job belongs to the protocol, as its [timers](Transport::set_timer) do. When the protocol is replaced, or the
    /// connection begins to end, `done` is dropped, and work that has not begun never does. Before
    /// [`connection_made`](crate::Protocol::connection_made), and once the connection is closing, this does nothing. If
    /// the protocol is not a `P`, an error is logged and the result dropped.
    ///
    /// ```
    /// use switchboard::workers::{WorkError, WorkerPool};
    /// use switchboard::{Protocol, Transport};
    ///
    /// struct Squares {
    ///     pool: WorkerPool, // clones share the pool
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
        // The completion keeps the loop running, not the timer: once the completion is cancelled, nothing does.
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

    /// Creates a job that is not queued yet, its answer, and the timer for its timeout.
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

    /// Queues a job, or answers why it cannot be queued.
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
                    log::error!("work is dropped, since the loop has no slot for it: {error}");
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
            Ok(Some(error)) => {
                context.warn(format_args!("a pool has fewer threads than it may have: {error}"));
                start_later(context, Arc::downgrade(&self.owners.shared), job.number, START_RETRY_MIN);
            }
            Err(why) => answer.give(Err(why)),
        }
    }

    /// Ends the pool, for all its clones: accepts no more work, drops the work that has not begun, and waits for the
    /// threads to end, for at most `grace`. Returns [`CutOff`](Ended::CutOff) if some have not ended; those end when
    /// their work returns. If a thread of the pool calls this, it waits in vain for itself. Work of simulated loops is
    /// not waited for, since no virtual time passes during this call.
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
        // All that is left for them to do is to end.
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
        // No user code runs under the lock, so no panic can have left the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a task. If another thread for it cannot be started, but there are others, returns the error.
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

    /// Runs a task on its loop's own thread, as if it were one of the pool's.
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
            // The loop cannot be gone: it is this one.
            let _ = start.complete(Busy::new(self.clone()));
        }
        Ok(())
    }

    /// Starts one more thread.
    fn start_thread(self: &Arc<PoolInner>, state: &mut State) -> io::Result<()> {
        let shared = self.clone();
        let thread = thread::Builder::new().name("switchboard work".to_owned());
        let handle = thread.spawn(move || shared.work()).map_err(cannot_start_thread)?;
        state.handles.push(handle);
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// Tries again to start a thread for work for which that has failed. Returns whether it has failed once more.
    fn start_again(self: &Arc<PoolInner>, number: u64) -> bool {
        let mut state = self.lock();
        let waits = state.queue.contains_key(&number) && state.idle < state.queue.len();
        waits && state.threads < self.threads_max && self.start_thread(&mut state).is_err()
    }

    /// The body of a thread, which starts out idle.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            while state.queue.is_empty() && !state.closed {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((_, mut task)) = state.queue.pop_first() else { break };
            state.idle -= 1;
            drop(state);
            // Panics in the user's destructors must not end the thread either.
            guarded(|| task.run());
            // Before answering, so that a caller that hears of the result finds the thread free.
            self.lock().idle += 1;
            guarded(|| task.answer());
            state = self.lock();
        }
        state.idle -= 1;
        state.threads -= 1;
        self.ended.notify_all();
    }

    /// Removes work that has not begun, for the caller to drop.
    fn withdraw(&self, number: u64) -> (Option<Box<dyn Task>>, Option<Start>) {
        let mut state = self.lock();
        (state.queue.remove(&number), state.simulated.withdraw(number))
    }

    /// Accepts no more work; returns the work that has not begun, for the caller to drop.
    fn close(&self) -> (BTreeMap<u64, Box<dyn Task>>, BTreeMap<u64, Start>) {
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_all();
        (mem::take(&mut state.queue), state.simulated.withdraw_all())
    }
}

/// Tries to start a thread after a delay, until that succeeds or the work no longer needs it: the work of those that
/// there are may never end.
fn start_later(context: &mut Context<'_>, shared: Weak<PoolInner>, number: u64, delay: Duration) {
    let timer = context.call_later(delay, move |context| {
        if shared.upgrade().is_some_and(|shared| shared.start_again(number)) {
            start_later(context, shared, number, (delay * 2).min(START_RETRY_MAX));
        }
    });
    // The completion keeps the loop running.
    context.set_background(timer, true);
}

/// Runs work that may panic.
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
        // The payload's destructor may panic too.
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

    /// Sends the result, unless one was sent before.
    fn give(&self, result: Result<T, WorkError>) {
        let completion = self.lock().take();
        if let Some(completion) = completion {
            // If the loop is gone, the result is not wanted.
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
    /// Stops waiting for the job: `done` is not called, and work that has not begun never does. Returns `false` if
    /// `done` was called already or is about to be. `context` must be that of the loop which submitted the job.
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
