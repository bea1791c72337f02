//! Calls into user code, and the handling of its panics (rule E1).

use std::any::{Any, TypeId};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Instant;

use super::work::Discarded;
use super::{Core, PanicPolicy};
use crate::connection::CheckedOut;
use crate::health::About;
use crate::ids::Id;
use crate::protocol::find;
use crate::reason::panic_message;
use crate::{CloseReason, NotReached, Protocol, Transport};
use crate::{Context, SourceAction, SourceId};

impl Context<'_> {
    /// Keeps a source that serves several things when its handler panics at one of them. The handler must have taken
    /// that one out before, so that it is not called for it again. Not part of the public interface.
    #[doc(hidden)]
    pub fn keep_after_panic(&mut self, id: SourceId) {
        if let Some(slot) = self.core.parts.slots.source_mut(id.0) {
            slot.after_panic = SourceAction::Again;
        }
    }

    /// Calls `call` with the part of a connection's protocol that has the type `wanted`. The protocol is out of its
    /// slot meanwhile.
    ///
    /// The caller is user code, so nothing that it has gathered is touched, and a panic unwinds into it.
    pub(super) fn reach(
        &mut self,
        id: Id,
        wanted: TypeId,
        call: &mut dyn FnMut(&mut dyn Any, &mut Transport<'_>),
    ) -> Result<(), NotReached> {
        let connection = self.core.parts.slots.alive_mut(id).ok_or(NotReached::Gone)?;
        let mut protocol = connection.protocol.take().ok_or(NotReached::Busy)?;
        let result = self.core.catch(|core| match find(&mut *protocol, wanted) {
            Some(found) => {
                call(found, &mut Transport::new(core, id));
                true
            }
            None => false,
        });
        if let Err(replaced) = self.core.parts.slots.put_back(id, protocol) {
            self.core.parts.work.discard(Discarded::Protocol(replaced));
        }
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotReached::OtherType),
            Err(payload) => {
                self.core.parts.finish(id, CloseReason::Panic(panic_message(&*payload)));
                resume_unwind(payload)
            }
        }
    }
}

/// A call of a protocol, for callbacks that are not called for each message.
pub(super) type Callback<'a> = &'a mut dyn FnMut(&mut dyn Protocol, &mut Transport<'_>);

/// Uses the error of a protocol, which may be of a user type and so run user code.
pub(super) fn guard_error(core: &mut Core, code: &mut dyn FnMut(&mut Core)) {
    let _ = core.guard_each("a protocol's error", code);
}

/// Holds a value of a type that the code dropping it does not know.
trait Clear {
    fn clear(&mut self);
}

impl<T> Clear for Option<T> {
    fn clear(&mut self) {
        *self = None;
    }
}

/// The panic policy, and the panic to resume.
#[derive(Default)]
pub(super) struct Panics {
    pub(super) policy: PanicPolicy,
    /// The first one of the turn, under [`PanicPolicy::Propagate`].
    first: Option<Box<dyn Any + Send>>,
}

impl Panics {
    /// Resumes the first panic of the turn, if there was one.
    pub(super) fn rethrow(&mut self) {
        if let Some(payload) = self.first.take() {
            resume_unwind(payload);
        }
    }
}

impl Core {
    /// Calls a protocol, which is out of its slot meanwhile. Does nothing if the connection is gone.
    ///
    /// What it writes to its own connection is gathered; the caller flushes afterwards. Compiled once for all callbacks
    /// that are not called for each message.
    pub(super) fn call(&mut self, id: Id, name: &'static str, callback: Callback<'_>) {
        let room = self.parts.outbox.room();
        let out = self.parts.slots.connection_mut(id).and_then(|connection| connection.check_out(room));
        if let Some(out) = out {
            self.call_checked_out(id, out, name, callback);
        }
    }

    /// Like [`call`](Core::call), for callers that already hold the connection. Returns `None` if the protocol
    /// panicked.
    #[inline]
    pub(super) fn call_checked_out<R>(
        &mut self,
        id: Id,
        mut out: CheckedOut,
        name: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &mut Transport<'_>) -> R,
    ) -> Option<R> {
        let result = self.call_out(id, &mut out, name, callback);
        self.end_call(id, out.protocol, result)
    }

    /// Calls a protocol that is out of its slot, and leaves it out.
    #[inline]
    pub(super) fn call_out<R>(
        &mut self,
        id: Id,
        CheckedOut { protocol, room }: &mut CheckedOut,
        name: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &mut Transport<'_>) -> R,
    ) -> thread::Result<R> {
        self.parts.outbox.gathered.begin(id, room.saturating_sub(self.parts.outbox.share_bytes(id)));
        self.parts.outbox.gathered.take_held_input_back();
        let about = About::Connection(id);
        let result = self.catch_timed(name, about, |core| callback(&mut **protocol, &mut Transport::new(core, id)));
        self.parts.outbox.gathered.end();
        result
    }

    /// Runs user code, and records how long it took, if that is enabled.
    #[inline]
    pub(super) fn catch_timed<R>(
        &mut self,
        name: &'static str,
        about: About,
        code: impl FnOnce(&mut Core) -> R,
    ) -> thread::Result<R> {
        match self.parts.watch.times_callbacks() {
            false => self.catch(code),
            true => {
                let began = self.parts.time.now();
                let result = self.catch(code);
                self.note_time(name, about, began);
                result
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn note_time(&mut self, name: &'static str, about: About, began: Instant) {
        self.parts.watch.note(name, about, began, self.parts.time.now());
    }

    /// Runs user code. This is the only place where it can panic.
    #[inline]
    pub(super) fn catch<R>(&mut self, code: impl FnOnce(&mut Core) -> R) -> thread::Result<R> {
        catch_unwind(AssertUnwindSafe(|| code(self)))
    }

    /// Puts a protocol back into its slot. Returns `None` if it panicked, or the connection is gone.
    #[inline(always)]
    pub(super) fn end_call<R>(&mut self, id: Id, protocol: Box<dyn Protocol>, result: thread::Result<R>) -> Option<R> {
        if let Err(replaced) = self.parts.slots.put_back(id, protocol) {
            self.parts.work.discard(Discarded::Protocol(replaced));
        }
        match result {
            Ok(value) => Some(value),
            Err(payload) => {
                self.protocol_panicked(id, payload);
                None
            }
        }
    }

    #[cold]
    pub(super) fn protocol_panicked(&mut self, id: Id, payload: Box<dyn Any + Send>) {
        self.parts.outbox.gathered.bytes.clear();
        let message = self.caught("a protocol", payload);
        self.parts.finish(id, CloseReason::Panic(message));
    }

    /// Runs user code other than a protocol's, once.
    pub(super) fn guard(&mut self, what: &'static str, code: impl FnOnce(&mut Core)) {
        let mut code = Some(code);
        let _ = self.guard_each(what, &mut |core| {
            if let Some(code) = code.take() {
                code(core);
            }
        });
    }

    /// Calls a closure of the user with the context that callbacks get.
    pub(super) fn guard_call(&mut self, what: &'static str, call: Box<dyn FnOnce(&mut Context<'_>)>) {
        self.guard(what, |core| call(&mut Context::new(core)));
    }

    /// Does what `guard` does, compiled once for everything that is guarded. A panic's message is the error.
    pub(super) fn guard_each(&mut self, what: &'static str, code: &mut dyn FnMut(&mut Core)) -> Result<(), String> {
        let result = self.catch_timed(what, About::Nobody, code);
        self.unless_caught(what, result)
    }

    /// Like [`guard`](Core::guard), a few instructions faster, for what is done for each connection.
    pub(super) fn guard_often<R>(&mut self, what: &'static str, code: impl FnOnce(&mut Core) -> R) -> Option<R> {
        let result = self.catch_timed(what, About::Nobody, code);
        self.unless_caught(what, result).ok()
    }

    fn unless_caught<R>(&mut self, what: &str, result: thread::Result<R>) -> Result<R, String> {
        result.map_err(|payload| self.caught(what, payload))
    }

    /// Drops user values, whose `drop` may panic too.
    #[inline]
    pub(super) fn drop_guarded<T>(&mut self, value: T) {
        self.drop_each(&mut Some(value));
    }

    /// Does what `drop_guarded` does, compiled once for everything that is dropped.
    fn drop_each(&mut self, value: &mut dyn Clear) {
        if let Err(payload) = self.catch(|_| value.clear()) {
            self.caught("a destructor", payload);
        }
    }

    /// Counts and logs a panic, keeps the first one for [`PanicPolicy::Propagate`], and returns its message.
    #[cold]
    fn caught(&mut self, what: &str, payload: Box<dyn Any + Send>) -> String {
        self.parts.counters.panics += 1;
        let message = panic_message(&*payload);
        log::error!("{what} panicked: {}", crate::escape(message.as_bytes()));
        if self.panics.policy == PanicPolicy::Propagate && self.panics.first.is_none() {
            self.panics.first = Some(payload);
        } else if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // The payload's destructor panicked too: leaking what it threw is the only way out.
            std::mem::forget(again);
        }
        message
    }
}
