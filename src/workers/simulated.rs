//! Work of simulated loops: runs on the loop's own thread, and takes virtual time as the seed says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use switchboard::{Completion, Context};

/// The threads of a pool as simulated loops see them: none of them is real.
#[derive(Default)]
pub(super) struct SimulatedThreads {
    /// How many are busy.
    busy: usize,
    /// Work that has not begun, by number: the lowest is next.
    waiting: BTreeMap<u64, Start>,
}

/// Begins work on its loop, which holds the work until then. If this is dropped, the work never begins.
pub(super) type Start = Completion<Busy>;

/// A busy thread. When this is dropped, it is free for the next work.
pub(super) struct Busy(Option<Arc<dyn Threads>>);

/// The owner of the threads.
pub(super) trait Threads: Send + Sync {
    /// See [`SimulatedThreads::next`].
    fn next(&self) -> Option<Start>;
}

/// Runs the work, and returns a closure that answers; `None` if the result is no longer wanted.
pub(super) type Work = Box<dyn FnOnce() -> Option<Box<dyn FnOnce()>>>;

/// Prepares work on a loop; completing what this returns begins it.
pub(super) fn start(context: &mut Context<'_>, work: Work) -> io::Result<Start> {
    let start = context.completion(move |context, busy: Option<Busy>| {
        if let Some(busy) = busy {
            do_work(context, work, busy);
        }
    })?;
    // The loop waits for the answer, if at all.
    context.set_background(start.id(), true);
    Ok(start)
}

/// Runs the work at once, and answers after a virtual time, as if it had taken that long.
fn do_work(context: &mut Context<'_>, work: Work, busy: Busy) {
    let Some(answer) = work() else { return };
    let end = move || {
        // Before answering, so that a caller that hears of the result finds the thread free.
        drop(busy);
        answer();
    };
    match context.pick_work_time() {
        Duration::ZERO => end(),
        time => {
            let timer = context.call_later(time, |_| end());
            context.set_background(timer, true);
        }
    }
}

impl SimulatedThreads {
    /// Returns whether no thread is busy.
    pub(super) fn are_idle(&self) -> bool {
        self.busy == 0
    }

    /// Queues work if all threads are busy; otherwise returns it, to be begun.
    ///
    /// # Errors
    ///
    /// Returns the work if the queue is full.
    pub(super) fn admit(
        &mut self,
        (number, start): (u64, Start),
        threads_max: usize,
        queue_max: usize,
    ) -> Result<Option<Start>, Start> {
        if self.busy < threads_max {
            self.busy += 1;
            return Ok(Some(start));
        }
        if self.waiting.len() >= queue_max {
            return Err(start);
        }
        self.waiting.insert(number, start);
        Ok(None)
    }

    /// Returns the next work for a thread that has finished; if none is waiting, the thread is idle.
    pub(super) fn next(&mut self) -> Option<Start> {
        let next = self.waiting.pop_first().map(|(_, start)| start);
        self.busy -= usize::from(next.is_none());
        next
    }

    /// Removes work that has not begun.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Start> {
        self.waiting.remove(&number)
    }

    /// Removes all work that has not begun.
    pub(super) fn withdraw_all(&mut self) -> BTreeMap<u64, Start> {
        std::mem::take(&mut self.waiting)
    }
}

impl Busy {
    pub(super) fn new(threads: Arc<dyn Threads>) -> Busy {
        Busy(Some(threads))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(threads) = self.0.take() else { return };
        while let Some(start) = threads.next() {
            match start.complete(Busy::new(threads.clone())) {
                Ok(()) => return,
                // Its loop is gone, and the work with it: use the thread for the next in the queue.
                Err(mut busy) => busy.0 = None,
            }
        }
    }
}
