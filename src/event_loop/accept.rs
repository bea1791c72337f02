//! Accepting: how a ready listener is served (rules A1 to A6).

use std::fmt;
use std::io;
use std::rc::Rc;

use super::parts::refuse_stream;
use super::receive::tell_made;
use super::slots::Tenant;
use super::timers::{Due, Purpose};
use super::work::Discarded;
use super::{Core, Parts, filtering};
use crate::connection::{Connection, Flag, Settings};
use crate::ids::Id;
use crate::limits::WhenFull;
#[cfg(feature = "workers")]
use crate::listener::feeder;
use crate::listener::peers::Peers;
use crate::listener::{AcceptHook, Accepted, Accepting};
use crate::protocol::Factory;
#[cfg(feature = "workers")]
use crate::sys::Backlog;
use crate::sys::{self, AcceptError, Rest};
#[cfg(feature = "workers")]
use crate::threads::backlog::Wake;
use crate::{Address, Context, Detached, ListenerError, ListenerId, Protocol};

impl Core {
    /// Accepts waiting connections, up to the batch of a turn (A3).
    pub(super) fn accept(&mut self, id: Id) {
        let Some(mut factory) = self.parts.slots.listener_mut(id).and_then(|listener| listener.factory.take()) else {
            return;
        };
        self.accept_batch(id, &mut factory);
        match self.parts.slots.listener_mut(id) {
            Some(listener) => listener.factory = Some(factory),
            // The factory has closed its own listener.
            None => self.drop_guarded(Discarded::Factory(factory)),
        }
    }

    fn accept_batch(&mut self, id: Id, factory: &mut Factory) {
        let Some(listener) = self.parts.slots.listener(id) else { return };
        let batch = listener.settings.limits.accepts_per_turn_max.max(1);
        let mut last_error = None;
        let mut accepted_any = false;
        for _ in 0..batch {
            let is_loop_full = self.parts.admission.is_full();
            // Looked up each time: the factory may have closed or paused it.
            let Some(mut listener) = self.parts.slots.listener_mut(id) else { return };
            if !listener.wants_to_accept() {
                return;
            }
            // A listener that hands its connections off keeps none, so it is never full.
            let is_full = (listener.is_full() || is_loop_full) && !listener.gives_away();
            if is_full {
                if !self.parts.accepts_though_full(id) {
                    return;
                }
                let Some(again) = self.parts.slots.listener_mut(id) else { return };
                listener = again;
            }
            match listener.accept() {
                Accepted::Connection(socket, peer) => {
                    accepted_any = true;
                    self.parts.counters.accepts += u64::from(!listener.is_fed());
                    let settings = listener.settings.clone();
                    let may_divert = is_full || listener.may_divert();
                    if may_divert && is_diverted(&mut self.parts, id, is_full, &peer) {
                        divert(self, id, socket, peer);
                    } else {
                        self.admit(id, factory, socket, peer, settings);
                    }
                }
                Accepted::Failed(AcceptError::Drained, _) => {
                    listener.readable = false;
                    return;
                }
                Accepted::Failed(AcceptError::Overload, _) if self.parts.give_up_lingering() => {}
                Accepted::Failed(AcceptError::Gone, _) => {
                    self.parts.counters.accept_errors += 1;
                    accepted_any = true;
                }
                Accepted::Failed(class, error) => {
                    self.parts.counters.accept_errors += 1;
                    if class != AcceptError::Skip {
                        return self.accept_failed(id, class, error);
                    }
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            // A batch of nothing but errors would repeat at once, again and again.
            Some(error) if !accepted_any => self.accept_failed(id, AcceptError::Overload, error),
            _ => self.parts.carry_over(id),
        }
    }

    /// Makes a connection from an accepted socket, if the factory wants it (A5).
    #[inline(always)]
    fn admit(&mut self, id: Id, factory: &mut Factory, socket: sys::Stream, peer: Address, settings: Rc<Settings>) {
        let answer = self.guard_often("a factory", |core| factory(&mut Context::new(core), &peer));
        match answer {
            Some(Some(protocol)) if self.parts.life.is_open() => {
                self.begin_connection(id, socket, protocol, peer, settings);
            }
            Some(protocol) => {
                self.drop_guarded(protocol);
                self.parts.turn_away(id, socket, false);
            }
            None => {
                socket.reset();
                self.parts.descriptor_closed();
            }
        }
    }

    /// Passes an accepted connection to the receiver that replaces the factory.
    #[cold]
    fn give_away(&mut self, id: Id, mut receiver: AcceptHook, connection: Detached) {
        let mut connection = Some(connection);
        let _ = self.guard_each("the receiver of accepted connections", &mut |core| {
            if let Some(connection) = connection.take() {
                receiver(&mut Context::new(core), connection);
            }
        });
        match self.parts.slots.listener_mut(id) {
            Some(listener) if listener.receiver.is_none() => listener.receiver = Some(receiver),
            // The receiver was replaced, or its listener closed.
            _ => self.drop_guarded(Discarded::AcceptHook(receiver)),
        }
    }

    #[inline(always)]
    fn begin_connection(
        &mut self,
        listener: Id,
        mut socket: sys::Stream,
        protocol: Box<dyn Protocol>,
        peer: Address,
        settings: Rc<Settings>,
    ) {
        let id = match self.parts.register_stream(&mut socket) {
            Ok(id) => id,
            // The listener goes on.
            Err(error) => {
                let error = refuse_stream(&mut self.parts, socket, protocol, error);
                self.parts.counters.accept_errors += 1;
                self.parts.report(listener, &format_args!("cannot register an accepted connection: {error}"));
                return;
            }
        };
        let is_plain = match self.parts.slots.listener_mut(listener) {
            Some(of) => {
                of.live += 1;
                !of.is_special() && !log::log_enabled!(log::Level::Debug)
            }
            None => false,
        };
        let connection = Connection::new(socket, protocol, peer, settings, self.parts.time.now_ns());
        match self.parts.slots.insert_connection(id, connection) {
            Some(connection) if is_plain && !connection.begins_specially() => {
                self.parts.counters.connections_made += 1;
                connection.flags.set(Flag::Made, true);
                if let Some(out) = connection.check_out(self.parts.outbox.room()) {
                    tell_made(self, id, out);
                }
            }
            _ => begin_specially(self, listener, id),
        }
    }

    /// Handles an accept error that the next try would meet again (A1, A2).
    fn accept_failed(&mut self, id: Id, class: AcceptError, error: io::Error) {
        let error = match class {
            AcceptError::Invalid => ListenerError::Closed(error),
            AcceptError::Unknown => ListenerError::Failed(error),
            _ => ListenerError::Overloaded(error),
        };
        let now = self.parts.time.now();
        self.parts.report(id, &error);
        let Some(listener) = self.parts.slots.listener_mut(id) else { return };
        if class != AcceptError::Invalid {
            let delay = listener.retry.next_delay();
            let timer = self.parts.time.set(sys::deadline_after(now, delay), Due::of(Purpose::Accept, id));
            listener.accepting = Accepting::BackingOff(timer);
            self.parts.admission.back_off(id);
        }
        self.tell_owner(id, &error);
        if class == AcceptError::Invalid {
            self.parts.close_listener(id);
        }
    }

    fn tell_owner(&mut self, id: Id, error: &ListenerError) {
        let Some(mut hook) = self.parts.slots.listener_mut(id).and_then(|listener| listener.hook.take()) else {
            return;
        };
        let call = &mut |core: &mut Core| hook(&mut Context::new(core), ListenerId(id), error);
        let _ = self.guard_each("a listener's hook", call);
        match self.parts.slots.listener_mut(id) {
            Some(listener) if listener.hook.is_none() => listener.hook = Some(hook),
            // The hook was replaced, or its listener closed.
            _ => self.drop_guarded(Discarded::Hook(hook)),
        }
    }
}

/// Returns whether an accepted socket is handed off, or refused because the listener, the loop or its peer has as many
/// connections as it may have.
#[cold]
fn is_diverted(parts: &mut Parts, id: Id, is_full: bool, peer: &Address) -> bool {
    if is_full {
        parts.give_up_for(id);
    }
    let is_loop_full = parts.admission.is_full();
    let Some(listener) = parts.slots.listener(id) else { return true };
    let caps_peers = listener.settings.limits.connections_per_peer_max.is_some();
    listener.gives_away() || listener.is_full() || is_loop_full || caps_peers && parts.peer_is_at_cap(id, peer)
}

/// Hands an accepted socket off, or refuses its peer.
#[cold]
fn divert(core: &mut Core, id: Id, socket: sys::Stream, peer: Address) {
    let Some(listener) = core.parts.slots.listener_mut(id) else { return };
    let Some(receiver) = listener.receiver.take() else { return core.parts.turn_away(id, socket, true) };
    let (unread, unsent) = listener.take_rest().unwrap_or_default();
    core.give_away(id, receiver, Detached::new(socket, Some(peer), unread, unsent));
}

/// Begins a connection that has timeouts, a rate or filters, that is logged, or whose listener counts peers, is fed or
/// was closed by its own factory.
#[cold]
fn begin_specially(core: &mut Core, listener: Id, id: Id) {
    let makers = match core.parts.slots.listener(listener) {
        Some(of) if of.is_special() => of.filters.clone(),
        Some(_) => return core.call_made(id),
        None => {
            core.parts.restore_orphaned(id);
            return core.call_made(id);
        }
    };
    core.parts.note_begun(listener, id);
    if makers.is_empty() {
        return core.call_made(id);
    }
    if filtering::put_in_accepted(core, id, &makers) {
        filtering::begin(core, id);
    }
}

/// Tells the owner of a listener that one of its connections ended before its filters were ready, as often as that is
/// logged.
pub(super) fn tell_of_handshake(core: &mut Core, id: Id, error: &ListenerError) {
    if core.parts.report(id, error) {
        core.tell_owner(id, error);
    }
}

impl Parts {
    /// A listener was fed, or the one that feeds others may go on: it is served as after an event.
    pub(super) fn look_at_listener(&mut self, id: Id) {
        if let Some(listener) = self.slots.listener_mut(id) {
            listener.sockets.first().look();
            listener.note_readable(id);
            self.look_again(id);
        }
    }

    /// Puts an accepted connection into the backlog that other listeners take from. If none of them has room for one
    /// more, the listener stops accepting until it is woken.
    #[cfg(feature = "workers")]
    pub(crate) fn feed(&mut self, id: Id, backlog: &Backlog, wake: &Wake, connection: Detached) {
        let Detached { stream, peer: Some(peer), unread, unsent, .. } = connection else { return };
        if let Err(error) = feeder::push(backlog, stream.take(), peer, (unread, unsent)) {
            // There is none left that could serve this one, or any other.
            error.into_inner().abort();
            return self.close_listener(id);
        }
        self.stop_unless_room(id, backlog, wake);
    }

    #[cfg(feature = "workers")]
    pub(crate) fn stop_unless_room(&mut self, id: Id, backlog: &Backlog, wake: &Wake) {
        if backlog.has_room_or_wakes(wake) {
            return;
        }
        if let Some(listener) = self.slots.listener_mut(id) {
            listener.accepting = Accepting::Full;
        }
    }

    /// Returns whether a full listener may accept one more (A4), either in place of a lingering connection or to refuse
    /// it. If not, it is looked at again once there is room.
    fn accepts_though_full(&mut self, id: Id) -> bool {
        let Some(listener) = self.slots.listener(id) else { return false };
        if listener.settings.limits.when_full == WhenFull::Refuse || self.lingering_in_the_way(id).is_some() {
            return true;
        }
        self.admission.wait_if_full(id);
        if let Some(listener) = self.slots.listener_mut(id) {
            listener.accepting = Accepting::Full;
        }
        self.tell_room(id);
        false
    }

    /// Tells the backlog that feeds a listener how much room the listener has now.
    #[cold]
    pub(crate) fn tell_room(&mut self, id: Id) {
        let listener = match self.slots.listener(id) {
            Some(listener) if listener.is_fed() => listener,
            _ => return,
        };
        listener.sockets.first().set_room(self.admission.room(listener));
        // Only a connection that ends in the loop makes room again.
        self.admission.wait_if_full(id);
    }

    /// See [`Admission::lingering_in_the_way`](crate::listener::admission::Admission::lingering_in_the_way).
    fn lingering_in_the_way(&self, id: Id) -> Option<Id> {
        let is_its_own =
            |of: Id| self.slots.connection(of).is_some_and(|connection| connection.settings.listener == Some(id));
        self.admission.lingering_in_the_way(self.slots.listener(id)?, &is_its_own)
    }

    /// Returns whether a peer has as many connections of a listener as it may have. Lingering ones do not count: they
    /// are given up.
    #[cold]
    fn peer_is_at_cap(&mut self, id: Id, peer: &Address) -> bool {
        let Some(listener) = self.slots.listener(id) else { return true };
        let max = listener.settings.limits.connections_per_peer_max.unwrap_or(usize::MAX);
        if listener.peers.is_none() {
            let peers = self.count_peers(id);
            if let Some(listener) = self.slots.listener_mut(id) {
                listener.peers = Some(peers);
            }
        }
        let count = |parts: &Parts| {
            parts.slots.listener(id).and_then(|listener| listener.peers.as_ref()).map_or(0, |peers| peers.count(peer))
        };
        if count(self) >= max {
            let is_of_peer = |of: Id| match self.slots.connection(of) {
                Some(connection) if connection.settings.listener == Some(id) => {
                    connection.neighbour().is_some_and(|of| Peers::is_same(of, peer))
                }
                _ => false,
            };
            if let Some(lingering) = self.admission.find_lingering(&is_of_peer) {
                self.finish_begun(lingering);
            }
        }
        count(self) >= max
    }

    /// Counts the connections of a listener by peer. Done once; the counts are kept up to date from then on.
    fn count_peers(&self, id: Id) -> Peers {
        let mut peers = Peers::default();
        for connection in self.slots.ids(&|tenant| matches!(tenant, Tenant::Connection(_))) {
            let peer = match self.slots.connection(connection) {
                Some(of) if of.settings.listener == Some(id) && of.is_alive() => of.neighbour(),
                _ => None,
            };
            if let Some(peer) = peer {
                peers.add(peer);
            }
        }
        peers
    }

    /// Gives up a lingering connection to make room for one that has come to a full listener.
    fn give_up_for(&mut self, id: Id) {
        if let Some(lingering) = self.lingering_in_the_way(id) {
            self.finish_begun(lingering);
        }
    }

    /// A connection has begun to linger: a new one may take its place, at its listener or, in a full loop, at any.
    pub(super) fn one_lingers(&mut self, listener: Option<Id>) {
        if let Some(of) = listener.and_then(|id| self.slots.listener_mut(id)) {
            of.lingering += 1;
        }
        if let Some(id) = listener {
            self.look_again(id);
        }
        self.loop_has_room();
    }

    /// Closes the socket of a refused peer, by a reset if it was fed with output unsent (X5). If a cap is the reason,
    /// and the listener has a refusal message, the peer is sent that first.
    #[cold]
    fn turn_away(&mut self, id: Id, socket: sys::Stream, is_capped: bool) {
        self.counters.connections_refused += 1;
        let rest = match self.slots.listener_mut(id) {
            Some(listener) => listener.take_rest(),
            None => self.admission.take_orphaned_rest(),
        };
        match (rest, self.slots.listener(id)) {
            (Some((_, unsent)), _) if !unsent.is_empty() => socket.reset(),
            (_, Some(listener)) if is_capped && !listener.refusal.is_empty() => {
                let (refused, limits) = (&mut self.admission.refused, &listener.settings.limits);
                if let Some(until) = refused.tell(socket, &listener.refusal, limits, self.time.now()) {
                    match refused.timer {
                        Some(timer) => self.time.bring_nearer(timer, until),
                        None => refused.timer = Some(self.time.set(until, Due::Refused)),
                    }
                    // Its descriptor is still in use.
                    return;
                }
            }
            _ => drop(socket),
        }
        self.descriptor_closed();
    }

    /// Notes that a connection begins at a listener that counts peers or is fed.
    #[cold]
    fn note_begun(&mut self, listener: Id, id: Id) {
        self.tell_room(listener);
        let Some(of) = self.slots.listener_mut(listener) else { return };
        let (counts_peers, rest) = (of.peers.is_some(), of.take_rest());
        if counts_peers {
            self.count_peer(listener, id, Peers::add);
        }
        self.restore_rest(id, rest);
    }

    /// A connection begins whose listener was closed by its own factory.
    #[cold]
    fn restore_orphaned(&mut self, id: Id) {
        let rest = self.admission.take_orphaned_rest();
        self.restore_rest(id, rest);
    }

    /// Gives a connection the data it was fed with.
    fn restore_rest(&mut self, id: Id, rest: Option<Rest>) {
        if let Some((unread, unsent)) = rest {
            self.restore(id, &unread, unsent, None);
        }
    }

    /// Logs a problem of a listener, at most once a second. Returns whether it was logged.
    fn report(&mut self, id: Id, what: &dyn fmt::Display) -> bool {
        let now = self.time.now();
        let withheld = self.slots.listener_mut(id).and_then(|listener| listener.report(now));
        match withheld {
            Some(0) => log::warn!("listener {id}: {what}"),
            Some(withheld) => log::warn!("listener {id}: {what} ({withheld} earlier reports were withheld)"),
            None => {}
        }
        withheld.is_some()
    }

    /// Ends the back-off of a listener: it tries again. With edge triggering no event would tell it to.
    pub(super) fn accept_again(&mut self, id: Id) {
        self.admission.end_back_off(id);
        if let Some(listener) = self.slots.listener_mut(id) {
            listener.accepting = Accepting::Yes;
            self.carry_over(id);
        }
    }

    /// This loop has closed a descriptor: listeners that wait for a free one try again at once (A2).
    #[inline]
    pub(super) fn descriptor_closed(&mut self) {
        if self.admission.has_backing_off() {
            self.end_back_off();
        }
    }

    #[cold]
    fn end_back_off(&mut self) {
        for id in self.admission.take_backing_off() {
            let Some(listener) = self.slots.listener_mut(id) else { continue };
            if let Accepting::BackingOff(timer) = listener.accepting {
                listener.accepting = Accepting::Yes;
                self.time.remove(timer);
                self.carry_over(id);
            }
        }
    }

    /// Adds or removes the peer of a connection in the counts of its listener, if that counts peers.
    #[cold]
    fn count_peer(&mut self, id: Id, connection: Id, count: impl Fn(&mut Peers, &Address)) {
        let peer = self.slots.connection(connection).and_then(|connection| connection.neighbour().cloned());
        let peers = self.slots.listener_mut(id).and_then(|listener| listener.peers.as_mut());
        if let (Some(peers), Some(peer)) = (peers, &peer) {
            count(peers, peer);
        }
    }

    /// The loop has one connection fewer: listeners that wait for that go on.
    #[inline]
    pub(super) fn one_less_in_loop(&mut self) {
        if self.admission.one_less() {
            self.loop_has_room();
        }
    }

    #[cold]
    fn loop_has_room(&mut self) {
        for id in self.admission.take_waiting() {
            self.look_again(id);
        }
    }

    /// A connection of a listener has closed its socket.
    #[inline]
    pub(super) fn one_less(&mut self, id: Id, connection: Id) {
        let Some(listener) = self.slots.listener_mut(id) else { return };
        listener.live -= 1;
        if listener.is_special() || listener.accepting == Accepting::Full {
            self.note_ended(id, connection);
        }
    }

    /// Notes the end of a connection whose listener was full, counts peers or is fed.
    #[cold]
    fn note_ended(&mut self, id: Id, connection: Id) {
        self.tell_room(id);
        let Some(listener) = self.slots.listener_mut(id) else { return };
        let (counts_peers, was_full) = (listener.peers.is_some(), listener.accepting == Accepting::Full);
        if was_full {
            listener.accepting = Accepting::Yes;
            self.carry_over(id);
        }
        if counts_peers {
            self.count_peer(id, connection, Peers::remove);
        }
    }

    pub(crate) fn pause_listener(&mut self, id: Id) {
        if let Some(listener) = self.slots.listener_mut(id) {
            listener.paused = true;
            self.tell_room(id);
        }
    }

    /// Makes a listener check again whether it may accept: after a pause, or with other limits.
    pub(crate) fn look_again(&mut self, id: Id) {
        let Some(listener) = self.slots.listener_mut(id) else { return };
        if listener.accepting == Accepting::Full {
            listener.accepting = Accepting::Yes;
        }
        self.carry_over(id);
        self.tell_room(id);
    }
}
