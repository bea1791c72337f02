//! The phases of a turn, in their order; `EventLoop::turn` calls them.

use std::io;
use std::time::Duration;

use super::guard::guard_error;
use super::joining::{Relay, pass_untold_end_on};
use super::slots::Tenant;
use super::work::{Discarded, Loss};
use super::{Core, Parts, filtering};
use crate::connection::{CheckedOut, Connection, Flag, Handover, Note, READ_BYTES_MAX};
use crate::event_loop::source::{AnySource, SourceAction};
use crate::ids::Id;
use crate::sys::{Events, Readiness};
use crate::{CloseReason, Context, Protocol, Transport};

/// How much too early a byte's time stamp may be: a batch that takes less time than this is not stamped again.
const STAMP_ERROR_NS_MAX: u64 = 1_000_000;

impl Core {
    /// Phase: events. The batch is a snapshot: events that callbacks cause come in a later one.
    #[inline(never)]
    pub(super) fn dispatch(&mut self, events: &Events) {
        let mut buffer = std::mem::take(&mut self.parts.buffers.read);
        let bytes = buffer.get();
        for (token, readiness) in events.iter() {
            self.on_event(token, readiness, bytes);
        }
        self.parts.buffers.read = buffer;
        if self.parts.time.has_timers() {
            self.parts.stamp_anew(events);
        }
    }

    #[inline]
    fn on_event(&mut self, token: usize, readiness: Readiness, buffer: &mut [u8; READ_BYTES_MAX]) {
        let Some((id, connection)) = self.parts.slots.connection_by_token(token) else {
            return self.on_other_event(token, readiness, buffer);
        };
        self.parts.counters.events += 1;
        if connection.is_quick(readiness) && self.parts.outbox.is_far_from_cap() {
            let arrival = connection.receive_quickly(buffer);
            return self.serve_quickly(id, arrival, buffer);
        }
        if connection.may_end_quickly(readiness) && self.parts.outbox.is_far_from_cap() {
            return self.serve_end(id, buffer);
        }
        connection.note(readiness);
        if !connection.flags.has(Flag::CarriedOver) {
            // Connections on the ready list are served from there, so skip them here.
            self.serve_with(id, buffer);
        }
    }

    #[cold]
    #[inline(never)]
    fn on_other_event(&mut self, token: usize, readiness: Readiness, buffer: &mut [u8]) {
        if self.parts.poller.is_wake(token) {
            return;
        }
        self.parts.counters.events += 1;
        let Some((id, tenant)) = self.parts.slots.by_token(token) else {
            self.parts.counters.stale_events += 1;
            return;
        };
        match tenant {
            Tenant::Listener(listener) => {
                listener.note_readable(id);
                if !listener.carried_over {
                    self.accept(id);
                }
            }
            Tenant::Source(source) => {
                source.readiness = source.readiness.and(readiness);
                if !source.carried_over {
                    self.call_source(id);
                }
            }
            Tenant::Further(of) => {
                let of = *of;
                match self.parts.slots.listener_mut(of) {
                    Some(listener) => {
                        listener.note_readable(id);
                        if !listener.carried_over {
                            self.accept(of);
                        }
                    }
                    None => self.on_attempt_event(of, id, readiness),
                }
            }
            Tenant::Datagram(datagram) => {
                datagram.note(readiness);
                if !datagram.carried_over {
                    self.serve_datagram(id, buffer);
                }
            }
            // Connections are handled by `on_event`, and completions have no socket.
            Tenant::Connection(_) | Tenant::Completion(_) => {}
        }
    }

    /// Phase: carried over. Serves as many entries as there were when the turn began.
    pub(super) fn serve_carried_over(&mut self, count: usize) {
        for _ in 0..count {
            let Some(id) = self.parts.work.next_carried_over() else { return };
            self.parts.time.look_at_clock();
            match self.parts.slots.tenant_mut(id) {
                Some(Tenant::Connection(connection)) => {
                    connection.flags.set(Flag::CarriedOver, false);
                    match connection.flags.has(Flag::Produces) {
                        true => self.serve_producer(id),
                        false => self.serve(id),
                    }
                }
                Some(Tenant::Listener(listener)) => {
                    listener.carried_over = false;
                    self.accept(id);
                }
                Some(Tenant::Source(source)) => {
                    source.carried_over = false;
                    self.call_source(id);
                }
                Some(Tenant::Datagram(datagram)) => {
                    datagram.carried_over = false;
                    let mut buffer = std::mem::take(&mut self.parts.buffers.read);
                    self.serve_datagram(id, buffer.get());
                    self.parts.buffers.read = buffer;
                }
                Some(Tenant::Further(_) | Tenant::Completion(_)) | None => {}
            }
        }
    }

    fn call_source(&mut self, id: Id) {
        let Some(slot) = self.parts.slots.source_mut(id) else { return };
        let readiness = std::mem::take(&mut slot.readiness);
        let Some(mut source) = slot.source.take() else { return };
        let mut answer = None;
        let _ = self.guard_each("a source's handler", &mut |core| {
            answer = Some(source.ready(&mut Context::new(core), readiness));
        });
        let Some(slot) = self.parts.slots.source_mut(id) else {
            // The handler has deregistered its own source.
            return self.drop_source(source);
        };
        match answer.unwrap_or(slot.after_panic) {
            SourceAction::Wait => {
                slot.source = Some(source);
                self.parts.reregister_as_wanted(id);
            }
            SourceAction::Again => {
                slot.source = Some(source);
                slot.readiness = slot.readiness.and(readiness);
                self.parts.reregister_as_wanted(id);
                self.parts.carry_over(id);
            }
            SourceAction::Remove => {
                self.parts.slots.remove(id);
                self.drop_source(source);
            }
        }
    }

    /// Drops a source that is not in a slot.
    fn drop_source(&mut self, mut source: Box<dyn AnySource>) {
        self.parts.end_source(&mut *source);
        self.drop_guarded(Discarded::Source(source));
        self.parts.descriptor_closed();
    }

    /// Phase: losses. Tells each connection that ended why, once.
    pub(super) fn deliver_losses(&mut self) {
        if !self.parts.work.has_lost() {
            return;
        }
        let mut lost = self.parts.work.take_lost();
        let followers = if self.followers == 0 { Vec::new() } else { self.take_followers_of(&lost) };
        for Loss { id, reason, handover } in lost.drain(..) {
            let Some(connection) = self.parts.slots.connection_mut(id) else {
                self.deliver_datagram_loss(id, reason);
                continue;
            };
            connection.set_gone();
            match connection.check_out_made() {
                Some(out) => self.deliver_loss(id, out, reason),
                None => self.deliver_untold_loss(id, reason),
            }
            self.parts.work.free(id);
            if let Some(handover) = handover {
                self.hand_over(*handover);
            }
        }
        self.parts.work.reuse_lost(lost);
        if !followers.is_empty() {
            self.tell_followers_of_ends(followers);
        }
    }

    /// Handles the end of a connection whose protocol was not told `connection_made`. If the connection was never
    /// established, the protocol is told that.
    #[cold]
    fn deliver_untold_loss(&mut self, id: Id, reason: CloseReason) {
        let is_in_order = Relay::is_in_order(&reason);
        match self.parts.slots.connection_mut(id).and_then(Connection::take_connector) {
            Some(connector) => self.deliver_connect_failure(id, connector.into_error(reason)),
            None => self.note_untold_loss(id, reason),
        }
        let mut protocol = self.parts.slots.connection_mut(id).and_then(|connection| connection.protocol.take());
        if let Some(protocol) = protocol.as_deref_mut() {
            pass_untold_end_on(&mut self.parts, protocol, is_in_order);
        }
        self.drop_guarded(protocol);
    }

    /// Handles an end that no protocol is told of. It counts if an earlier protocol of the connection was told
    /// `connection_made`.
    fn note_untold_loss(&mut self, id: Id, reason: CloseReason) {
        if self.parts.slots.connection(id).is_some_and(|connection| connection.notes.has(Note::BeginsFiltered)) {
            return filtering::tell_of_end(self, id, reason);
        }
        if self.parts.slots.connection(id).is_some_and(|connection| connection.flags.has(Flag::Anew)) {
            self.parts.counters.connections_lost += 1;
            self.parts.counters.losses.count(&reason);
            #[cfg(feature = "testing")]
            guard_error(self, &mut |core| core.parts.poller.note_loss(id.token(), &reason));
        }
        self.drop_guarded(reason);
    }

    #[inline]
    fn deliver_loss(&mut self, id: Id, mut out: CheckedOut, reason: CloseReason) {
        self.parts.counters.connections_lost += 1;
        self.parts.counters.losses.count(&reason);
        #[cfg(feature = "testing")]
        guard_error(self, &mut |core| core.parts.poller.note_loss(id.token(), &reason));
        if log::log_enabled!(log::Level::Debug) {
            guard_error(self, &mut |core| match core.parts.slots.connection(id).and_then(Connection::peer) {
                Some(peer) => log::debug!("connection {id} with {peer} is lost: {reason}"),
                None => log::debug!("connection {id} is lost: {reason}"),
            });
        }
        let tell =
            |protocol: &mut dyn Protocol, transport: &mut Transport<'_>| protocol.connection_lost(transport, reason);
        if let Err(payload) = self.call_out(id, &mut out, "connection_lost", tell) {
            self.protocol_panicked(id, payload);
        }
        self.drop_guarded(out.protocol);
    }

    /// Passes a detached connection to its receiver, after its protocol was told and dropped.
    fn hand_over(&mut self, Handover { receiver, detached }: Handover) {
        match detached {
            Some(detached) => {
                self.guard("the receiver of a detached connection", |core| receiver(&mut Context::new(core), detached));
            }
            None => self.drop_guarded(Discarded::Receiver(receiver)),
        }
    }

    /// Phase: free. Slots are not reused before this, so that no event of this turn can refer to a successor.
    pub(super) fn free_slots(&mut self) {
        for id in self.parts.work.gone() {
            self.parts.slots.free(id);
        }
        if self.parts.work.has_discarded() {
            let mut discarded = self.parts.work.take_discarded();
            for value in discarded.drain(..) {
                self.drop_guarded(value);
            }
            self.parts.work.reuse_discarded(discarded);
        }
        self.parts.start_decay();
        self.parts.go_on_ending();
    }
}

impl Parts {
    /// Phase: wait.
    pub(super) fn wait(&mut self, events: &mut Events, max_wait: Option<Duration>) -> io::Result<()> {
        let wait = self.next_wait(max_wait);
        let result = self.poller.wait(events, wait, self.time.clock(), &mut self.counters.polls);
        self.counters.turns += 1;
        self.time.begin_turn();
        result
    }

    /// Updates the time at which bytes count as read (T5). Looking at the clock for each of them would cost 200
    /// instructions, almost as much as the rest of the loop does, so they are stamped with the end of the wait; if the
    /// batch took long, its connections are stamped again with the end of the batch.
    fn stamp_anew(&mut self, events: &Events) {
        let before_ns = self.time.now_ns();
        self.time.look_at_clock();
        let now_ns = self.time.now_ns();
        if now_ns - before_ns < STAMP_ERROR_NS_MAX {
            return;
        }
        for (token, _) in events.iter() {
            if let Some((_, connection)) = self.slots.connection_by_token(token) {
                connection.touch_again(before_ns, now_ns);
            }
        }
    }

    /// Applies the interest that a handler requested while it ran.
    fn reregister_as_wanted(&mut self, id: Id) {
        let Some(interest) = self.slots.source_mut(id).and_then(|slot| slot.interest.take()) else { return };
        if let Err(error) = self.reregister(id, interest) {
            log::error!("source {id} keeps its old registration: {error}");
        }
    }
}
