//! Calls that wait for a value from another thread.

use std::any::Any;
use std::io;

use super::slots::{Slots, Tenant};
use super::work::Discarded;
use super::{Core, Parts};
use crate::connection::Connection;
use crate::ids::Id;
use crate::{Completion, CompletionId, ConnectionId, Context, Transport};

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

/// What makes a call with a value of its own type, which is the only one that its [`Completion`] sends.
fn waiting<T: Send + 'static>(call: impl FnOnce(&mut Context<'_>, Option<T>) + 'static) -> Waiting {
    let value = |value: Value| value.and_then(|value| value.downcast().ok()).map(|value| *value);
    Box::new(move |context, given| call(context, value(given)))
}

/// # Values from other threads
impl Context<'_> {
    /// A call that waits for a value from another thread: `call` is made with what [`Completion::complete`] is given, or
    /// with `None` where the other end is dropped without. Unlike what is [posted](crate::Handle::post), `call` stays on this
    /// thread, so it can hold what is not `Send`. It keeps [`run_until_idle`](crate::EventLoop::run_until_idle) going,
    /// unless it is marked as background. Costs a slot and two allocations. For what a connection's protocol waits for there
    /// is [`Transport::completion`].
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
    /// `StorageFull` with no slot left.
    pub fn completion<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Context<'_>, Option<T>) + 'static,
    ) -> io::Result<Completion<T>> {
        let id = self.core.parts.slots.insert(Tenant::Completion(waiting(call)))?;
        Ok(Completion::new(self.core.parts.threads.handle(), CompletionId(id)))
    }

    /// A value has come for a protocol. Where both halves of its connection have ended, only its loss still comes.
    fn deliver<P: 'static>(&mut self, id: ConnectionId, call: impl FnOnce(&mut P, &mut Transport<'_>)) {
        if !self.core.parts.slots.connection(id.0).is_some_and(Connection::may_wait) {
            return;
        }
        if let Err(why) = self.with_protocol(id, call) {
            log::error!("a value that a protocol of connection {id} waited for is dropped: {why}");
        }
    }
}

/// # Values from other threads
impl Transport<'_> {
    /// A call with this connection's protocol that waits for a value from another thread. `call` is made with what
    /// [`Completion::complete`] is given, or with `None` if the other end is dropped without. It is made on the loop's thread
    /// and between callbacks, also if the value is given within one. `P` is the protocol's type, or that of what it wraps, as
    /// of [`with_protocol`](Transport::with_protocol).
    ///
    /// It belongs to the protocol, as a [timer](Transport::set_timer) does: it is cancelled when another protocol takes its
    /// place, and when an end of the connection begins. If there is no `P` an error is logged, and the value dropped.
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
    /// `StorageFull` with no slot left. `call` is dropped then.
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
            // As much room as is taken, so that looking through them costs each call a constant.
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
