//! The loop as other threads see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Waker;

/// A handle to a loop for other threads: `Clone + Send + Sync`. It does not keep the loop alive.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What the loop and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    waker: Waker,
    stop: AtomicBool,
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Shared {
        Shared { waker, stop: AtomicBool::new(false) }
    }

    /// Takes a request to stop, if there is one.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::Acquire)
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Lets [`run`](crate::EventLoop::run) return after its current turn, or at once when it is called next.
    /// Connections stay, and the `run` after goes on with them. Stopping twice before it returns is stopping once.
    pub fn stop(&self) {
        // The flag is set before the waker is: whoever is woken finds it.
        if !self.shared.stop.swap(true, Ordering::Release) {
            if let Err(error) = self.shared.waker.wake() {
                log::error!("cannot wake the loop to stop it: {error}");
                self.shared.stop.store(false, Ordering::Release);
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
