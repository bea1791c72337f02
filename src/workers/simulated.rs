//! Work of simulated loops: on the loop's own thread, and as long as the seed says, in virtual time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use switchboard::{Completion, Context};

/// The threads of a pool as simulated loops use them: none of them is real.
#[derive(Default)]
pub(super) struct SimulatedThreads {
    /// How many have something to do.
    busy: usize,
    /// What has not begun, by its number: the lowest is the next.
    waiting: BTreeMap<u64, Start>,
}

/// Begins work on its loop, which holds that until then. Where this is dropped it never begins.
pub(super) type Start = Completion<Busy>;

/// A thread that has something to do. Dropped, it is free for the next work.
pub(super) struct Busy(Option<Arc<dyn Threads>>);

/// Who has the threads.
pub(super) trait Threads: Send + Sync {
    /// As [`SimulatedThreads::next`].
    fn next(&self) -> Option<Start>;
}

/// Does work, and returns what answers; `None` where nobody wants it any more.
pub(super) type Work = Box<dyn FnOnce() -> Option<Box<dyn FnOnce()>>>;

/// What begins work on a loop.
pub(super) fn start(context: &mut Context<'_>, work: Work) -> io::Result<Start> {
    let start = context.completion(move |context, busy: Option<Busy>| {
        if let Some(busy) = busy {
            do_work(context, work, busy);
        }
    })?;
    // The loop waits for the answer, if for anything.
    context.set_background(start.id(), true);
    Ok(start)
}

/// Does it at once, and answers when its time has passed, as if it had taken so long.
fn do_work(context: &mut Context<'_>, work: Work, busy: Busy) {
    let Some(answer) = work() else { return };
    let end = move || {
        // Before it answers: a caller that is told that it is done finds the thread free.
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
    /// Whether none has anything to do.
    pub(super) fn are_idle(&self) -> bool {
        self.busy == 0
    }

    /// Has work wait if all have something to do; gives it back if one of them can begin it.
    ///
    /// # Errors
    ///
    /// With the work: as much is waiting as may.
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

    /// What a thread does next that has come to the end of something; where nothing waits, it is idle.
    pub(super) fn next(&mut self) -> Option<Start> {
        let next = self.waiting.pop_first().map(|(_, start)| start);
        self.busy -= usize::from(next.is_none());
        next
    }

    /// Takes out what has not begun.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Start> {
        self.waiting.remove(&number)
    }

    /// Takes out all that has not begun.
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
                // Its loop is gone, and the work with it: the thread is for what waits behind.
                Err(mut busy) => busy.0 = None,
            }
        }
    }
}
