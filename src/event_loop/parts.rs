//! The parts of a loop, and operations that need several of them.
//!
//! None of them can call a callback: callbacks take the whole loop, which these methods do not have. So no method that
//! a callback uses can lead to another callback (rule C3), and values that belong to the user are set aside and dropped
//! at the end of the turn. The only user code called from here is a source's own registration, by the method that asks
//! for it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::Interest;
use mio::event::Source;

use super::commands::Threads;
use super::life::Life;
use super::lookups::Lookups;
use super::slots::{Slots, Tenant};
use super::timers::Due;
use super::work::{Discarded, Loss, Work};
use crate::connection::detached::{Detached, Receiver};
use crate::connection::outbox::Outbox;
use crate::connection::read_buffer::Buffers;
use crate::connection::{Connection, Event, Flag, Handover, Own, Settings, State};
use crate::event_loop::source::{AnySource, Registered, SourceAction, SourceSlot};
use crate::filter::chain::Chain;
use crate::health::{ConnectionStats, Watch};
use crate::ids::{AnyId, Id, Range};
use crate::listener::admission::Admission;
use crate::rate::RateGroups;
use crate::sys::{Clock, Poller, Readiness, Stream};
use crate::threads::handle::Inbox;
use crate::time::deadlines::Deadlines;
use crate::{CloseReason, Context, Counters, LoopLimits, Protocol};

pub(crate) struct Parts {
    pub(crate) poller: Poller,
    pub(crate) slots: Slots,
    /// Initial settings of attached connections and listeners.
    pub(crate) settings: Rc<Settings>,
    /// Initial settings of outgoing connections.
    pub(super) settings_of_clients: Rc<Settings>,
    /// What the loop was made with.
    pub(super) limits: Box<LoopLimits>,
    pub(crate) counters: Counters,
    pub(crate) watch: Watch,
    pub(super) time: Deadlines<Due>,
    pub(super) work: Work,
    pub(super) admission: Admission,
    /// Groups of connections that share a read rate.
    pub(super) rate_groups: RateGroups,

    pub(crate) buffers: Buffers,
    pub(crate) outbox: Outbox,
    pub(crate) threads: Threads,
    pub(crate) life: Life,
}

impl Parts {
    pub(super) fn new(poller: Poller, clock: Clock, limits: LoopLimits) -> io::Result<Parts> {
        let inbox = Inbox::new(poller.waker()?, limits.commands_max);
        let lookups = Lookups::new(&poller, limits.lookups_max);
        let numbers = Range::of(poller.loop_number());
        Ok(Parts {
            poller,
            slots: Slots::new(numbers),
            watch: Watch::new(&limits),
            outbox: Outbox::new(limits.loop_queue_bytes_max),
            admission: Admission::new(limits.loop_connections_max),
            settings_of_clients: Rc::new(Settings::new(limits.each.of_clients(), None)),
            settings: Rc::new(Settings::new(limits.each.clone(), None)),
            counters: Counters::default(),
            time: Deadlines::new(clock, numbers),
            work: Work::default(),
            rate_groups: RateGroups::new(numbers),
            buffers: Buffers::new(),
            threads: Threads::new(inbox, limits.commands_per_turn_max, lookups),
            limits: Box::new(limits),
            life: Life::new(),
        })
    }

    // Coming in.

    /// Sets aside what was refused, to be dropped at the end of the turn: its destructor is user code, which no method
    /// runs (C3).
    pub(super) fn refuse(&mut self, refused: Discarded, error: io::Error) -> io::Error {
        self.work.discard(refused);
        error
    }

    /// Registers the socket of a connection that is then put into the slot with the returned id.
    #[inline]
    pub(super) fn register_stream(&mut self, socket: &mut Stream) -> io::Result<Id> {
        let id = self.slots.next_id()?;
        socket.register(&self.poller, id.token())?;
        self.admission.one_more();
        Ok(id)
    }

    pub(crate) fn stats(&self, id: Id) -> ConnectionStats {
        let Some(connection) = self.slots.connection(id) else { return ConnectionStats::default() };
        ConnectionStats {
            age: Duration::from_nanos(self.time.now_ns().saturating_sub(connection.began_ns)),
            bytes_received: connection.bytes_received,
            bytes_sent: connection.bytes_sent,
            queued_bytes: connection.queued_bytes() + self.outbox.waiting_bytes(id),
        }
    }

    pub(crate) fn attach(&mut self, mut detached: Detached, protocol: Box<dyn Protocol>) -> io::Result<Id> {
        let peer = match self.life.check_open().and_then(|()| detached.prepare()) {
            Ok(peer) => peer,
            Err(error) => return Err(self.refuse(Discarded::Protocol(protocol), error)),
        };
        let Detached { stream, unread, unsent, chain, .. } = detached;
        let mut socket = stream.take();
        let id = match self.register_stream(&mut socket) {
            Ok(id) => id,
            Err(error) => return Err(refuse_stream(self, socket, protocol, error)),
        };
        let connection = Connection::new(socket, protocol, peer, self.settings.clone(), self.time.now_ns());
        self.slots.insert_at(id, Tenant::Connection(connection));
        self.restore(id, &unread, unsent, chain);
        Ok(id)
    }

    /// Gives a new connection the data it had before it was detached. It is served in the next turn even if no event
    /// arrives.
    pub(super) fn restore(&mut self, id: Id, unread: &[u8], unsent: Vec<u8>, chain: Option<Box<Chain>>) {
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.restore(unread, unsent, chain, self.outbox.pool());
            self.outbox.count(0, connection.queued_cost());
        }
        self.carry_over(id);
    }

    pub(crate) fn register<S, H>(&mut self, mut source: S, interest: Interest, handler: H) -> io::Result<Id>
    where
        S: Source + 'static,
        H: FnMut(&mut Context<'_>, &mut S, Readiness) -> SourceAction + 'static,
    {
        let slot = SourceSlot {
            source: None,
            readiness: Readiness::default(),
            carried_over: false,
            interest: None,
            after_panic: SourceAction::Remove,
        };
        let id = match self.life.check_open().and_then(|()| self.slots.insert(Tenant::Source(slot))) {
            Ok(id) => id,
            Err(error) => return Err(self.refuse(Discarded::Source(Box::new(Registered { source, handler })), error)),
        };
        if let Err(error) = self.poller.register_source(&mut source, id.token(), interest) {
            self.slots.remove(id);
            return Err(self.refuse(Discarded::Source(Box::new(Registered { source, handler })), error));
        }
        if let Some(slot) = self.slots.source_mut(id) {
            slot.source = Some(Box::new(Registered { source, handler }));
        }
        Ok(id)
    }

    pub(crate) fn reregister(&mut self, id: Id, interest: Interest) -> io::Result<()> {
        let slot = self.slots.source_mut(id).ok_or(io::ErrorKind::NotFound)?;
        match &mut slot.source {
            Some(source) => source.reregister(&self.poller, id.token(), interest),
            None => {
                slot.interest = Some(interest);
                Ok(())
            }
        }
    }

    // Leaving.

    /// The only way in which a connection ends, whatever the cause (C5): closes the socket, and queues the one call of
    /// `connection_lost`. Does nothing if it has ended already.
    ///
    /// The causes, by the files that call this: a failed read and the peer's end (`receive.rs`); a failed send, a cap,
    /// the end of a flush, and `detach` once its callback has returned (`send.rs`); the close deadline and the end of
    /// lingering (`timers.rs`); the loop's cap of queued output (`hoards.rs`); `abort`, and what `timed_out` asks for
    /// (`transport.rs`); a connect that fails (`connect.rs`); a panic (`guard.rs`); shutdown and drop (`shutdown.rs`);
    /// a listener's cap, for a connection that lingers (`accept.rs`).
    pub(crate) fn finish(&mut self, id: Id, reason: CloseReason) {
        self.queue_share(id);
        let Some(mut connection) = self.slots.alive_mut(id) else {
            return;
        };
        let mut handover = None;
        if connection.ends_specially() {
            handover = self.end_specially(id, &reason);
            let Some(again) = self.slots.connection_mut(id) else { return };
            connection = again;
        }
        connection.lose(&reason, self.outbox.pool());
        let listener = connection.settings.listener;
        if self.outbox.gathered.is(id) {
            self.outbox.gathered.set_room(0);
            self.outbox.gathered.bytes.clear();
        }
        note_loss(self, listener, Loss { id, reason, handover });
    }

    /// Ends a connection that has more to it than a socket and a protocol. Returns who gets it, if it is detached.
    #[cold]
    fn end_specially(&mut self, id: Id, reason: &CloseReason) -> Option<Box<Handover>> {
        let connection = self.slots.connection_mut(id)?;
        if let Some(timer) = connection.ending().and_then(|ending| ending.timer) {
            if let Some(deadline) = self.time.deadline(timer) {
                self.admission.end_lingering(deadline, timer);
                self.time.remove(timer);
            }
        }
        self.outbox.count(connection.queued_cost(), 0);
        if connection.state() == State::Lingering {
            let listener = connection.settings.listener;
            if let Some(listener) = listener.and_then(|id| self.slots.listener_mut(id)) {
                listener.lingering -= 1;
            }
        }
        let connection = self.slots.connection_mut(id)?;
        if let (CloseReason::Detached, Some(socket)) = (reason, connection.socket_mut()) {
            if let Err(error) = socket.deregister(&self.poller) {
                log::warn!("cannot deregister the detached connection {id}: {error}");
            }
            connection.take_out(self.outbox.pool());
        }
        if let Some(connector) = connection.connector_mut() {
            self.time.cancel(connector.deadline.take());
            self.time.cancel(connector.next.take());
            for slot in connector.stop() {
                self.work.free(slot);
            }
        }
        let (mut handover, mut own) = (None, Own::default());
        if let Some(mut extras) = connection.extras.take() {
            let [handshake, total] = extras.take_timers();
            self.time.cancel(handshake);
            self.time.cancel(total);
            own = std::mem::take(&mut extras.own);
            self.time.cancel(extras.rate.take().and_then(|rate| rate.timer()));
            self.time.cancel(extras.chain.as_mut().and_then(|chain| chain.timer.take()));
            connection.flags.set(Flag::Rated, false);
            if let (Some(ending), CloseReason::Detached) = (&mut extras.ending, reason) {
                handover = ending.handover.take();
            }
            // It is told after the protocols of all connections that have ended.
            if let Some(follower) = extras.follower.take() {
                connection.extras_mut().follower = Some(follower);
            }
            self.work.discard(Discarded::Extras(extras));
        }
        self.time.cancel(connection.idle.take().and_then(|idle| idle.timer));
        self.cancel_own(own);
        handover
    }

    /// Cancels what a protocol waits for, when it is replaced or its connection ends.
    fn cancel_own(&mut self, own: Own) {
        for timer in own.timers.all() {
            self.time.remove(timer);
        }
        for call in own.calls {
            self.cancel_completion(call);
        }
    }

    /// Ends a connection for the reason that its end began with.
    pub(super) fn finish_begun(&mut self, id: Id) {
        let Some(connection) = self.slots.alive_mut(id) else { return };
        if let Some(reason) = connection.take_begun() {
            self.finish(id, reason);
        }
    }

    pub(crate) fn deregister(&mut self, id: Id) -> bool {
        if self.slots.source_mut(id).is_none() {
            return false;
        }
        if let Some(Tenant::Source(SourceSlot { source: Some(mut source), .. })) = self.slots.remove(id) {
            self.end_source(&mut *source);
            self.work.discard(Discarded::Source(source));
        }
        self.descriptor_closed();
        true
    }

    pub(super) fn end_source(&mut self, source: &mut dyn AnySource) {
        if let Err(error) = source.deregister(&self.poller) {
            log::warn!("cannot deregister a source: {error}");
        }
    }

    // Lists of work.

    /// Schedules something to be served in the next turn even if no event arrives.
    pub(crate) fn carry_over(&mut self, id: Id) {
        let stands_there = match self.slots.tenant_mut(id) {
            Some(Tenant::Connection(connection)) => connection.flags.replace(Flag::CarriedOver, true),
            Some(Tenant::Listener(listener)) => std::mem::replace(&mut listener.carried_over, true),
            Some(Tenant::Source(source)) => std::mem::replace(&mut source.carried_over, true),
            Some(Tenant::Datagram(datagram)) => std::mem::replace(&mut datagram.carried_over, true),
            Some(Tenant::Further(_) | Tenant::Completion(_)) | None => return,
        };
        if !stands_there {
            self.work.carry_over(id);
        }
    }

    /// Schedules a connection to be flushed before the loop sleeps.
    pub(crate) fn mark_written_to(&mut self, id: Id) {
        if let Some(connection) = self.slots.connection_mut(id) {
            self.outbox.mark_written_to(id, connection);
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.work.is_done() || self.outbox.has_written_to() || self.has_ended() || self.threads.has_commands()
    }

    // What protocols ask of connections.

    pub(crate) fn pause_reading(&mut self, id: Id) {
        self.outbox.gathered.disturb(id);
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.set_paused(true);
        if let Some(idle) = &mut connection.idle {
            idle.pause(self.time.clock_ns());
        }
    }

    pub(crate) fn resume_reading(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if connection.set_paused(false) {
            connection.retry_reading();
            if connection.idle.is_some() {
                let now_ns = self.time.clock_ns();
                connection.resume_idle(now_ns);
                connection.note_whether_it_keeps_from_sending(now_ns);
                self.run_idle(id);
            }
            self.carry_over(id);
        }
    }

    pub(crate) fn set_protocol(&mut self, id: Id, protocol: Box<dyn Protocol>) {
        let connection = match self.slots.connection_mut(id) {
            // One that was told of the loss needs no other protocol.
            Some(connection) if connection.state() != State::Gone => connection,
            _ => return self.work.discard(Discarded::Protocol(protocol)),
        };
        self.outbox.gathered.disturb(id);
        connection.flags.set(Flag::OfferAgain, true);
        // The low mark belonged to the old protocol, and so did producing.
        connection.set_input_low_bytes(0);
        connection.flags.set(Flag::Produces, false);
        // If this is called in data_received, the input is passed to that call, and what it leaves is offered to the
        // new one.
        let offers = connection.has_input();
        let own = connection.take_own();
        if let Some(old) = connection.protocol.replace(protocol) {
            self.work.discard(Discarded::Protocol(old));
        }
        if let Some(own) = own {
            self.cancel_own(own);
        }
        if offers {
            self.carry_over(id);
        }
    }

    pub(crate) fn close(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if connection.close_after_end() {
            if let Some(own) = connection.take_own() {
                self.cancel_own(own);
            }
            self.see_to_end(id);
        } else {
            self.close_for(id, CloseReason::Closed);
        }
    }

    pub(crate) fn close_for(&mut self, id: Id, reason: CloseReason) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if connection.is_alive() && connection.after(Event::Close) == State::Lost {
            // Either there is nobody to send to yet, or not any more: then a failed send is the reason.
            let reason = connection.take_begun().unwrap_or(reason);
            self.finish(id, reason);
        } else if connection.close(reason) {
            if let Some(own) = connection.take_own() {
                self.cancel_own(own);
            }
            self.see_to_end(id);
        }
    }

    pub(crate) fn detach(&mut self, id: Id, receiver: Receiver) -> bool {
        let Some(connection) = self.slots.connection_mut(id) else {
            self.work.discard(Discarded::Receiver(receiver));
            return false;
        };
        if let Err(receiver) = connection.detach(receiver) {
            self.work.discard(Discarded::Receiver(receiver));
            return false;
        }
        if let Some(own) = connection.take_own() {
            self.cancel_own(own);
        }
        self.see_to_end(id);
        true
    }

    pub(crate) fn shutdown_write(&mut self, id: Id) {
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.shutdown_write();
            let own = if connection.is_closing() { connection.take_own() } else { None };
            if let Some(own) = own {
                self.cancel_own(own);
            }
            self.see_to_end(id);
        }
    }

    /// From here on writes of its callback do not count; what it wrote before is flushed at the end of the callback or
    /// of the turn.
    fn see_to_end(&mut self, id: Id) {
        self.queue_share(id);
        if self.outbox.gathered.is(id) {
            self.outbox.gathered.set_room(0);
        } else {
            self.mark_written_to(id);
        }
    }

    // Stopping and idling.

    pub(crate) fn take_stop(&mut self) -> bool {
        self.threads.take_stop() | self.life.take_stop()
    }

    /// Returns whether nothing is left to wait for, nor to do for a handle.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.foreground() == 0 && !self.time.has_awaited() && !self.threads.has_commands()
    }

    pub(crate) fn set_background(&mut self, id: AnyId, background: bool) -> bool {
        match id {
            AnyId::Connection(id) => {
                self.slots.connection(id.0).is_some() && self.slots.set_background(id.0, background)
            }
            AnyId::Listener(id) => self.slots.listener(id.0).is_some() && self.slots.set_background(id.0, background),
            AnyId::Source(id) => self.slots.source_mut(id.0).is_some() && self.slots.set_background(id.0, background),
            AnyId::Datagram(id) => self.slots.datagram(id.0).is_some() && self.slots.set_background(id.0, background),
            AnyId::Completion(id) => self.slots.is_completion(id.0) && self.slots.set_background(id.0, background),
            AnyId::Timer(id) => self.time.set_background(id.0, background),
        }
    }
}

/// Resets a socket that cannot be registered (X5).
#[cold]
#[inline(never)]
pub(super) fn refuse_stream(
    parts: &mut Parts,
    socket: Stream,
    protocol: Box<dyn Protocol>,
    error: io::Error,
) -> io::Error {
    socket.reset();
    parts.descriptor_closed();
    parts.refuse(Discarded::Protocol(protocol), error)
}

/// Does what [`Parts::finish`] does, for a connection that has closed after its peer has: nothing is left to send, its
/// callback has returned, and it does not end specially.
#[inline(always)]
pub(super) fn finish_quickly(parts: &mut Parts, id: Id) {
    let Some(connection) = parts.slots.connection_mut(id) else { return };
    connection.lose(&CloseReason::PeerClosed, parts.outbox.pool());
    let listener = connection.settings.listener;
    note_loss(parts, listener, Loss { id, reason: CloseReason::PeerClosed, handover: None });
}

/// Queues the call of `connection_lost` of a connection that has closed its socket, which may make room for another.
#[inline(always)]
fn note_loss(parts: &mut Parts, listener: Option<Id>, loss: Loss) {
    let id = loss.id;
    parts.work.add_loss(loss);
    parts.descriptor_closed();
    if let Some(listener) = listener {
        parts.one_less(listener, id);
    }
    parts.one_less_in_loop();
}
