//! Which signals any loop of the process wants: the others take their default action.
//!
//! Signals belong to the whole process, so this is shared by all its loops. It is one of the few places with a lock.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Signal;

/// As long as one of these lives, the signal does not take its default action.
pub(super) struct Wanted(Signal);

struct Wants {
    count: usize,
    /// Whether the default action is due: read by the handler of the signal.
    acts_by_default: Arc<AtomicBool>,
}

static WANTS: Mutex<BTreeMap<Signal, Wants>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<Signal, Wants>> {
    WANTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the signal take its default action while nobody wants it.
///
/// This is done once per signal, and for good: the action that wakes a loop stays installed when nobody wants the
/// signal any more, and would swallow it. This has to be installed before any action that wakes a loop. A signal's
/// actions run in the order in which they were installed, and on any thread: a loop that the first action has woken may
/// end, and its end may give the signal its default action again, while the thread is on its way to the second action.
/// Then a signal that was delivered would end the process as well.
pub(super) fn act_by_default_unless_wanted(signal: Signal) -> io::Result<()> {
    if let Entry::Vacant(vacant) = lock().entry(signal) {
        let acts_by_default = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_default(signal.as_raw(), acts_by_default.clone())?;
        vacant.insert(Wants { count: 0, acts_by_default });
    }
    Ok(())
}

impl Wanted {
    /// For a signal that was passed to [`act_by_default_unless_wanted`].
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
