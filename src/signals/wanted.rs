//! Which signals are wanted by any loop of the process: the others act as by default.
//!
//! Signals belong to all of a process, so this is of all its loops; one of the few places with a lock.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

/// Sees to it that the signal acts as by default while nobody wants it.
///
/// Once for a signal, and for good: what wakes a loop stays installed when nobody wants the signal any more, and would
/// swallow it. It has to come before whatever wakes a loop. A signal's actions run in the order in which they were
/// installed, and on any thread: a loop that the first action has woken may end, and its end let the signal act as by
/// default again, while the thread is on its way to the second. Then a signal that was told would end the process too.
pub(super) fn act_by_default_unless_wanted(signal: Signal) -> io::Result<()> {
    if let Entry::Vacant(vacant) = lock().entry(signal) {
        let acts_by_default = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_default(signal.as_raw(), acts_by_default.clone())?;
        vacant.insert(Wants { count: 0, acts_by_default });
    }
    Ok(())
}

impl Wanted {
    /// Of a signal for which [`act_by_default_unless_wanted`] has seen to the rest.
    pub(super) fn new(signal: Signal) -> Wanted {
        if let Some(wants) = lock().get_mut(&signal) {
            wants.count += 1;
            wants.acts_by_default.store(false, Ordering::SeqCst);
        }
        Wanted(signal)
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
