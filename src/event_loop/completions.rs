//! Calls that wait for a value from another thread.

use std::any::Any;
use std::io;

use super::slots::Tenant;
use super::work::Discarded;
use super::{Core, Parts};
use crate::ids::Id;
use crate::{Completion, CompletionId, Context};

/// What another thread gives, of whatever type; `None` where it gave up.
pub(crate) type Value = Option<Box<dyn Any + Send>>;

/// A call that waits for it.
pub(crate) type Waiting = Box<dyn FnOnce(&mut Context<'_>, Value)>;

impl Core {
    /// Another thread has given a value; the call may have been cancelled.
    pub(super) fn completed(&mut self, id: Id, value: Value) {
        match self.parts.slots.take_completion(id) {
            Some(waiting) => {
                self.guard("a completion", |core| waiting(&mut Context::new(core), value));
            }
            None => self.drop_guarded(value),
        }
    }
}

impl Parts {
    pub(crate) fn completion<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Context<'_>, Option<T>) + 'static,
    ) -> io::Result<Completion<T>> {
        // Its own `Completion` sends no other type.
        let value = |value: Value| value.and_then(|value| value.downcast().ok()).map(|value| *value);
        let waiting: Waiting = Box::new(move |context, given| call(context, value(given)));
        let id = self.slots.insert(Tenant::Completion(waiting))?;
        Ok(Completion::new(self.threads.handle(), CompletionId(id)))
    }

    pub(crate) fn cancel_completion(&mut self, id: Id) -> bool {
        let Some(waiting) = self.slots.take_completion(id) else { return false };
        self.work.discard(Discarded::Completion(waiting));
        true
    }
}
