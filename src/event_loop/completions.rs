//! Calls that wait for a value from another thread.

use std::any::Any;
use std::io;

use super::slots::{Slots, Tenant};
use super::work::Discarded;
use super::{Core, Parts};
use crate::connection::Connection;
use crate::ids::Id;
use crate::{Completion, CompletionId, ConnectionId, Context, Transport};

/// The value that another thread provides, of whatever type; `None` if it gave up.
pub(crate) type Value = Option<Box<dyn Any + Send>>;

/// A call that waits for a value.
pub(crate) type Waiting = Box<dyn FnOnce(&mut Context<'_>, Value)>;

impl Core {
    /// Makes the call that waits for a value which another thread has provided, unless it was cancelled.
    pub(super) fn completed(&mut self, id: Id, value: Value) {
        match self.parts.slots.take_completion(id) {
            Some(waiting) => {
                self.guard("a completion", |core| waiting(&mut Context::new(core), value));
            }
            None => self.drop_guarded(value),
        }
    }
}

/// Wraps a call with a value of its own type, which is the only type that its [`Completion`] sends.
fn waiting<T: Send + 'static>(call: impl FnOnce(&mut Context<'_>, Option<T>) + 'static) -> Waiting {
    let value = |value: Value| value.and_then(|value| value.downcast().ok()).map(|value| *value);
    Box::new(move |context, given| call(context, value(given)))
}

/// # Values from other threads
impl Context<'_> {
    /// Makes a call that waits for a value from another thread: `call` is called with the value passed to
    /// [`Completion::complete`], or with `None` if the other end is dropped without one. Unlike a
    /// [posted](crate::Handle::post) closure, `call` stays on this thread, so it can hold values that are not `Send`.
    /// It keeps [`run_until_idle`](crate::EventLoop::run_until_idle) running, unless it is marked as background. Costs
    /// a slot and two allocations. For a value that a connection's protocol waits for, use [`Transport::completion`].
    ///
    /// ```
    /// # let mut event_loop = switchboard::EventLoop::new()?;
    /// use std::rc::Rc;
    /// let question = Rc::new("six times seven");
    /// let completion = event_loop.context().completion(move |_, answer: Option<u32>| {
    ///     println!("{question} is {}", answer.expect("the thread does not panic"));
    /// })?;
    /// std::thread::spawn(move || completion.complete(6 * 7));
    /// event_loop.run_until_idle()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `StorageFull` if no slot is left.
    pub fn completion<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Context<'_>, Option<T>) + 'static,
    ) -> io::Result<Completion<T>> {
        let id = self.core.parts.slots.insert(Tenant::Completion(waiting(call)))?;
        Ok(Completion::new(self.core.parts.threads.handle(), CompletionId(id)))
    }

    /// Delivers a value to a protocol. If both halves of its connection have ended, only its loss is still delivered.
    fn deliver<P: 'static>(&mut self, id: ConnectionId, call: impl FnOnce(&mut P, &mut Transport<'_>)) {
        if !self.core.parts.slots.connection(id.0).is_some_and(Connection::may_wait) {
            return;
        }
        if let Err(why) = self.with_protocol(id, call) {
            log::error!("a value that a protocol of connection {id} waited for was dropped: {why}");
        }
    }
}

/// # Values from other threads
impl Transport<'_> {
    /// Makes a call with this connection's protocol that waits for a value from another thread. `call` is called with
    /// the value passed to [`Completion::complete`], or with `None` if the other end is dropped without one. It is
    /// called on the loop's thread and between callbacks, even if the value is provided within one. `P` is the type of
    /// the protocol, or of one that it wraps, as for [`with_protocol`](Transport::with_protocol).
    ///
    /// It belongs to the protocol, as a [timer](Transport::set_timer) does: it is cancelled when the protocol is
    /// replaced, and when the connection begins to end. If there is no `P`, an error is logged and the value dropped.
    ///
    /// ```
    /// use switchboard::{Protocol, Transport};
    ///
    /// struct Session {
    ///     asked: usize,
    /// }
    ///
    /// impl Session {
    ///     fn answered(&mut self, transport: &mut Transport<'_>, answer: Option<String>) {
    ///         self.asked -= 1;
    ///         transport.write(answer.as_deref().unwrap_or("no answer").as_bytes());
    ///     }
    /// }
    ///
    /// impl Protocol for Session {
    ///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         if let Ok(completion) = transport.completion(Session::answered) {
    ///             self.asked += 1;
    ///             std::thread::spawn(move || completion.complete("what took a while".to_owned()));
    ///         }
    ///         data.len()
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `NotConnected` before [`connection_made`](crate::Protocol::connection_made), and once the connection is closing.
    /// `StorageFull` if no slot is left. `call` is then dropped.
    pub fn completion<P: 'static, T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut P, &mut Transport<'_>, Option<T>) + 'static,
    ) -> io::Result<Completion<T>> {
        let id = self.id();
        if !self.core().parts.slots.connection(id.0).is_some_and(Connection::may_wait) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let completion = self.context().completion(move |context, given| {
            context.deliver(id, |protocol, transport| call(protocol, transport, given));
        })?;
        self.core().parts.slots.note_call(id.0, completion.id().0);
        Ok(completion)
    }
}

impl Slots {
    /// Notes a call that a connection's protocol waits for.
    fn note_call(&mut self, of: Id, call: Id) {
        let Some(connection) = self.connection_mut(of) else { return };
        let mut calls = std::mem::take(&mut connection.extras_mut().own.calls);
        if calls.len() == calls.capacity() {
            for call in std::mem::take(&mut calls) {
                if self.is_completion(call) {
                    calls.push(call);
                }
            }
            // Reserve as much room as is in use, so that looking through them costs each call a constant.
            calls.reserve(calls.len() + 1);
        }
        calls.push(call);
        if let Some(connection) = self.connection_mut(of) {
            connection.extras_mut().own.calls = calls;
        }
    }
}

impl Parts {
    pub(crate) fn cancel_completion(&mut self, id: Id) -> bool {
        let Some(waiting) = self.slots.take_completion(id) else { return false };
        self.work.discard(Discarded::Completion(waiting));
        true
    }
}
