//! The handle of a group of loops, and the state that its threads share.

use std::fmt;
use std::io;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use switchboard::{Context, Counters, Handle, PostError};

/// A handle to a group of loops: `Clone + Send + Sync`. It does not keep the group alive.
///
/// All of its methods may be called from the loops' own callbacks too, except those that wait.
#[derive(Clone)]
pub struct GroupHandle {
    pub(super) shared: Arc<GroupState>,
}

/// The state that the threads of a group share with its handles.
pub(super) struct GroupState {
    /// Set once all loops have started.
    handles: OnceLock<Box<[Handle]>>,
    /// When the group was made.
    made: Instant,
    /// The deadline for connections to end by themselves, in nanoseconds since then; `NEVER` before a drain.
    drain_by_ns: AtomicU64,
    /// When the remaining connections are aborted, likewise; `NEVER` before a shutdown.
    shut_down_by_ns: AtomicU64,
    stopped: AtomicBool,
    /// How many listeners use one loop that accepts for all.
    acceptors: AtomicUsize,
    /// The counters of each loop when it ended.
    counters: Box<[OnceLock<Counters>]>,
}

pub(super) const NEVER: u64 = u64::MAX;

impl GroupState {
    pub(super) fn new(loops: usize) -> GroupState {
        GroupState {
            handles: OnceLock::new(),
            made: Instant::now(),
            drain_by_ns: AtomicU64::new(NEVER),
            shut_down_by_ns: AtomicU64::new(NEVER),
            stopped: AtomicBool::new(false),
            acceptors: AtomicUsize::new(0),
            counters: (0..loops).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn set_handles(&self, handles: Vec<Handle>) {
        let _ = self.handles.set(handles.into());
    }

    pub(super) fn handles(&self) -> &[Handle] {
        self.handles.get().map_or(&[], |handles| handles)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.handles().iter().for_each(Handle::stop);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Returns the earliest deadline of all drains so far, or `NEVER`.
    pub(super) fn drain_by_ns(&self) -> u64 {
        self.drain_by_ns.load(Ordering::Acquire)
    }

    /// Returns the earliest deadline of all shutdowns so far, or `NEVER`.
    pub(super) fn shut_down_by_ns(&self) -> u64 {
        self.shut_down_by_ns.load(Ordering::Acquire)
    }

    /// Returns the time left until a deadline.
    pub(super) fn time_until(&self, deadline_ns: u64) -> Duration {
        Duration::from_nanos(deadline_ns).saturating_sub(self.age())
    }

    fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Returns the loop that is to accept for all: several listeners take turns.
    pub(super) fn next_acceptor(&self) -> usize {
        self.acceptors.fetch_add(1, Ordering::Relaxed) % self.handles().len()
    }

    pub(super) fn ended(&self, index: usize, counters: Counters) {
        let _ = self.counters[index].set(counters);
    }

    pub(super) fn counters_of_ended(&self) -> Counters {
        self.counters.iter().filter_map(|counters| counters.get().copied()).sum()
    }
}

impl GroupHandle {
    /// Returns the handles of the loops, by index, for posting to a particular loop.
    pub fn handles(&self) -> &[Handle] {
        self.shared.handles()
    }

    /// Stops all loops after their current turns: connections get `connection_lost(Shutdown)`, output that the kernel
    /// does not take at once is lost, and connections in the backlog are reset. Never fails, does not wait, and
    /// overtakes posted closures.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Shuts all loops down as [`Context::shutdown`] does, with one deadline for all of them, counted from now; each
    /// loop ends when it is done. Calling it again can only bring the deadline nearer. Never fails, does not wait, and
    /// overtakes posted closures.
    pub fn shutdown(&self, grace: Duration) {
        self.order(&self.shared.shut_down_by_ns, grace);
    }

    /// Drains all loops as [`Context::drain`] does, with one deadline for all of them, counted from now: they stop
    /// listening, and connections end by themselves, or are closed at the deadline; each loop ends when it is done.
    /// Calling it again can only bring the deadline nearer. Never fails, does not wait, and overtakes posted closures.
    pub fn drain(&self, grace: Duration) {
        self.order(&self.shared.drain_by_ns, grace);
    }

    fn order(&self, deadline_ns: &AtomicU64, grace: Duration) {
        let deadline = self.shared.age().saturating_add(grace).as_nanos();
        let ordered_ns = u64::try_from(deadline).unwrap_or(NEVER).min(NEVER - 1);
        if ordered_ns < deadline_ns.fetch_min(ordered_ns, Ordering::AcqRel) {
            // Each loop checks the deadline in its next turn.
            self.shared.handles().iter().for_each(Handle::wake);
        }
    }

    /// Returns the sum of the counters of all loops, including those that have ended. Costs one posted closure per
    /// loop; the loops themselves count independently of each other.
    ///
    /// # Errors
    ///
    /// Those of [`ask_each`](GroupHandle::ask_each).
    pub fn counters(&self, timeout: Duration) -> io::Result<Counters> {
        let answers = self.ask_each(timeout, |_, context| context.counters())?;
        let of_ended = |index: usize| self.shared.counters[index].get().copied();
        let each = answers.into_iter().enumerate().map(|(index, answer)| answer.or_else(|| of_ended(index)));
        Ok(each.map(Option::unwrap_or_default).sum())
    }

    /// Asks each loop something, such as its [`health`](Context::health): `question` runs once on each loop's thread,
    /// with the loop's index. Waits until all have answered. The answers are in the order of the loops, with `None` for
    /// a loop that has ended or whose `question` panicked.
    ///
    /// # Errors
    ///
    /// `TimedOut` if a loop does not answer within `timeout`: it is in a long callback, or it is the loop whose
    /// callback asks. `WouldBlock` if the queue of a loop is full; others may have been asked then.
    pub fn ask_each<T, Q>(&self, timeout: Duration, question: Q) -> io::Result<Vec<Option<T>>>
    where
        T: Send + 'static,
        Q: Fn(usize, &mut Context<'_>) -> T + Send + Sync + 'static,
    {
        let question = move |index, context: &mut Context<'_>, ()| question(index, context);
        let mut answers = Answers::ask(self.handles(), iter::repeat(()), question)?;
        // Nothing is ever sent on it: it ends when every closure was run or dropped.
        match answers.all_ended.recv_timeout(timeout) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "a loop did not answer in time"))
            }
            _ => Ok(answers.take()),
        }
    }

    /// Like [`ask_each`](GroupHandle::ask_each), without a timeout.
    pub(super) fn ask_each_patiently<T, Q>(&self, question: Q) -> io::Result<Vec<Option<T>>>
    where
        T: Send + 'static,
        Q: Fn(usize, &mut Context<'_>) -> T + Send + Sync + 'static,
    {
        let parcels = self.handles().iter().map(|_| ()).collect();
        self.hand_each(parcels, move |index, context, ()| question(index, context))
    }

    /// Like `ask_each_patiently`, and moves one of `parcels` to each loop.
    pub(super) fn hand_each<P, T, Q>(&self, parcels: Vec<P>, question: Q) -> io::Result<Vec<Option<T>>>
    where
        P: Send + 'static,
        T: Send + 'static,
        Q: Fn(usize, &mut Context<'_>, P) -> T + Send + Sync + 'static,
    {
        let mut answers = Answers::ask(self.handles(), parcels, question)?;
        let _ = answers.all_ended.recv();
        Ok(answers.take())
    }
}

/// Answers that have yet to arrive.
struct Answers<T> {
    count: usize,
    answers: mpsc::Receiver<(usize, T)>,
    all_ended: mpsc::Receiver<()>,
}

impl<T: Send + 'static> Answers<T> {
    fn ask<P, Q>(handles: &[Handle], parcels: impl IntoIterator<Item = P>, question: Q) -> io::Result<Answers<T>>
    where
        P: Send + 'static,
        Q: Fn(usize, &mut Context<'_>, P) -> T + Send + Sync + 'static,
    {
        let question = Arc::new(question);
        let (answer, answers) = mpsc::channel();
        let (end, all_ended) = mpsc::channel();
        for ((index, handle), parcel) in handles.iter().enumerate().zip(parcels) {
            let (question, answer, end) = (question.clone(), answer.clone(), end.clone());
            let posted = handle.post(move |context| {
                // Dropped after everything else, and on a panic.
                let _end = end;
                let _ = answer.send((index, question(index, context, parcel)));
            });
            match posted {
                Ok(()) | Err(PostError::Gone(_)) => {}
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, format!("loop {index}: {error}")));
                }
            }
        }
        Ok(Answers { count: handles.len(), answers, all_ended })
    }

    fn take(&mut self) -> Vec<Option<T>> {
        let mut all: Vec<_> = (0..self.count).map(|_| None).collect();
        for (index, answer) in self.answers.try_iter() {
            all[index] = Some(answer);
        }
        all
    }
}

impl fmt::Debug for GroupHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle").field("loops", &self.handles().len()).finish_non_exhaustive()
    }
}
