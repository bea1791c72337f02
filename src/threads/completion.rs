//! A call on the loop that waits for a value from another thread.

use std::fmt;
use std::marker::PhantomData;

use crate::{CompletionId, Handle};

/// The other end of [`Context::completion`](crate::Context::completion): provides the value for the call that waits
/// there, once, from any thread.
///
/// If it is dropped without a value, also by a panic, the call gets `None`. The value goes through the loop's queue of
/// commands (rule [G1](crate::guide::rules#g1)), but is never refused because that is full: each completion already has
/// its call in the loop, and it is for the caller to limit how many it makes. Completing costs a short lock, an
/// allocation, and a system call if the loop may be asleep.
#[must_use = "dropping it calls what waits, with no value"]
pub struct Completion<T: Send + 'static> {
    /// `None` once the value was given.
    handle: Option<Handle>,
    id: CompletionId,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Completion<T> {
    pub(crate) fn new(handle: Handle, id: CompletionId) -> Completion<T> {
        Completion { handle: Some(handle), id, value: PhantomData }
    }

    /// Returns its id in the loop; see [`Context::cancel_completion`](crate::Context::cancel_completion).
    pub fn id(&self) -> CompletionId {
        self.id
    }

    /// Makes the loop run the call with `value`, on its thread. If the call was cancelled meanwhile, `value` is dropped
    /// there.
    ///
    /// # Errors
    ///
    /// Returns `value` if the loop is gone.
    pub fn complete(mut self, value: T) -> Result<(), T> {
        match self.handle.take() {
            Some(handle) => handle.complete(self.id, value),
            None => Err(value),
        }
    }
}

impl<T: Send + 'static> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.complete_without(self.id);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("id", &self.id).finish_non_exhaustive()
    }
}
