//! The part of the loop that callbacks reach: everything except the events of the turn that is under way.

use std::io;

use super::Parts;
use super::guard::Panics;
use crate::LoopLimits;
use crate::sys::{Clock, Poller};

/// The loop as a whole. Only its methods can call callbacks, by means of those in `guard.rs`; everything that needs no
/// callback is a method of [`Parts`].
pub(crate) struct Core {
    pub(crate) parts: Parts,
    /// How many connections have a follower.
    pub(super) followers: usize,
    pub(super) panics: Panics,
}

impl Core {
    pub(super) fn new(poller: Poller, clock: Clock, limits: LoopLimits) -> io::Result<Core> {
        let parts = Parts::new(poller, clock, limits)?;
        Ok(Core { parts, followers: 0, panics: Panics::default() })
    }
}
