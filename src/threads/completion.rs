//! A call on the loop that waits for a value from another thread.

use std::fmt;
use std::marker::PhantomData;

use crate::{CompletionId, Handle};

/// The other end of [`Context::completion`](crate::Context::completion): gives the call that waits there its value, once,
/// from any thread.
///
/// Dropped without a value, by a panic as well, it tells the loop so: the call comes with `None`. What it gives goes by
/// the loop's queue of commands (rule [G1](crate::guide::rules#g1)), but is never refused as one too many: each has its
/// call in the loop already, and who makes those bounds them. Giving costs a short lock, an allocation, and a system
/// call where the loop may be asleep.
#[must_use = "dropping it calls what waits, with no value"]
pub struct Completion<T: Send + 'static> {
    /// `None` once it was given.
    handle: Option<Handle>,
    id: CompletionId,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Completion<T> {
    pub(crate) fn new(handle: Handle, id: CompletionId) -> Completion<T> {
        Completion { handle: Some(handle), id, value: PhantomData }
    }

    /// What the loop knows it by; see [`Context::cancel_completion`](crate::Context::cancel_completion).
    pub fn id(&self) -> CompletionId {
        self.id
    }

    /// Has the call made on the loop's thread, with `value`. Where it was cancelled meanwhile, `value` is dropped there.
    ///
    /// # Errors
    ///
    /// With `value` given back: the loop is gone.
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
