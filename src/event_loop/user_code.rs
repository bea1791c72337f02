//! Calls into user code, and what becomes of its panics (rule E1).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::core::Discarded;
use super::own::GATHERED_BYTES_MAX;
use super::{Core, PanicPolicy};
use crate::connection::Lifted;
use crate::health::About;
use crate::ids::Id;
use crate::{CloseReason, Protocol, Transport};

impl Core {
    /// Calls a protocol, which is out of its slot meanwhile. `None` where it panicked, or the connection is gone.
    ///
    /// What it writes to its own connection is gathered; whoever calls this flushes afterwards.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        id: Id,
        name: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &mut Transport<'_>) -> R,
    ) -> Option<R> {
        let room = self.room_in_loop();
        let lifted = self.slots.connection_mut(id)?.lift(room)?;
        self.call_lifted(id, lifted, name, callback)
    }

    /// How much may be gathered before the queues must be looked at, as far as the whole loop is concerned (W4).
    #[inline]
    pub(super) fn room_in_loop(&self) -> usize {
        self.limits.loop_queue_bytes_max.saturating_sub(self.queued_total).min(GATHERED_BYTES_MAX)
    }

    /// As [`call`](Core::call), for who has looked at the connection already.
    #[inline]
    pub(super) fn call_lifted<R>(
        &mut self,
        id: Id,
        Lifted { mut protocol, room }: Lifted,
        name: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &mut Transport<'_>) -> R,
    ) -> Option<R> {
        self.own.begin(id, room);
        let began = self.begin_timing();
        let result = catch_unwind(AssertUnwindSafe(|| callback(&mut *protocol, &mut Transport::new(&mut *self, id))));
        self.own.end();
        self.end_timing(began, name, About::Connection(id));
        let connection = self.slots.connection_mut(id)?;
        if connection.protocol.is_none() {
            connection.protocol = Some(protocol);
        } else {
            // It was replaced meanwhile.
            self.discarded.push(Discarded::Protocol(protocol));
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
    fn protocol_panicked(&mut self, id: Id, payload: Box<dyn Any + Send>) {
        self.own.gathered.clear();
        let message = self.caught("a protocol", payload);
        self.finish(id, CloseReason::Panic(message));
    }

    /// Runs user code other than a protocol's. `None` where it panicked.
    pub(super) fn guard<R>(&mut self, what: &'static str, code: impl FnOnce(&mut Core) -> R) -> Option<R> {
        let began = self.begin_timing();
        let result = self.guard_untimed(what, code);
        self.end_timing(began, what, About::Nobody);
        result
    }

    fn guard_untimed<R>(&mut self, what: &str, code: impl FnOnce(&mut Core) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| code(self))) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.caught(what, payload);
                None
            }
        }
    }

    #[inline]
    fn begin_timing(&self) -> Option<Instant> {
        self.watch.times_callbacks().then(|| self.clock.now())
    }

    #[inline]
    fn end_timing(&mut self, began: Option<Instant>, name: &'static str, about: About) {
        if let Some(began) = began {
            self.watch.note(name, about, began, self.clock.now());
        }
    }

    /// Drops user values, whose `drop` may panic too.
    pub(super) fn drop_guarded<T>(&mut self, value: T) {
        self.guard_untimed("a destructor", |_| drop(value));
    }

    /// Counts and logs a panic, keeps the first one for [`PanicPolicy::Propagate`], and answers its message.
    fn caught(&mut self, what: &str, payload: Box<dyn Any + Send>) -> String {
        self.counters.panics += 1;
        let message = message_of(&*payload);
        log::error!("{what} panicked: {}", crate::escape(message.as_bytes()));
        if self.panic_policy == PanicPolicy::Propagate && self.panic.is_none() {
            self.panic = Some(payload);
        } else if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // A payload whose destructor panics: leaking what that one threw is the one way out.
            std::mem::forget(again);
        }
        message
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "(not a message)".to_owned()
    }
}
