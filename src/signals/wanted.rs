//! Which signals are wanted by any loop of the process: the others act as by default.
//!
//! Signals belong to all of a process, so this is of all its loops; one of the few places with a lock.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Signal;

/// As long as one of these lives, the signal does not act as by default.
pub(super) struct Wanted(Signal);

struct Wants {
    count: usize,
    /// What the handler of the signal looks at: whether the default action is due.
    acts_by_default: Arc<AtomicBool>,
}

static WANTS: Mutex<BTreeMap<Signal, Wants>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<Signal, Wants>> {
    WANTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wanted {
    pub(super) fn new(signal: Signal) -> io::Result<Wanted> {
        let mut wants = lock();
        if let Some(wants) = wants.get_mut(&signal) {
            wants.count += 1;
            wants.acts_by_default.store(false, Ordering::SeqCst);
            return Ok(Wanted(signal));
        }
        // Once, and for good: the handler stays installed when nobody wants the signal any more, and would swallow it.
        let acts_by_default = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register_conditional_default(signal.as_raw(), acts_by_default.clone())?;
        wants.insert(signal, Wants { count: 1, acts_by_default });
        Ok(Wanted(signal))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(wants) = lock().get_mut(&self.0) {
            wants.count -= 1;
            wants.acts_by_default.store(wants.count == 0, Ordering::SeqCst);
        }
    }
}
