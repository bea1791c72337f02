//! How the loop itself ends: draining, shutting down, being dropped (rules C6 and X3).

use std::time::{Duration, Instant};

use super::life::{End, Stage};
use super::slots::Tenant;
use super::timers::Due;
use super::work::Discarded;
use super::{Core, PanicPolicy, Parts};
use crate::CloseReason;
use crate::connection::{Connection, Flag};
use crate::sys::deadline_after;

/// How many connections are told of a drain in a turn.
const TOLD_PER_TURN: usize = 1024;

impl Core {
    /// Phase: drain. Tells the connections that have not been told of it yet, the oldest first.
    #[cold]
    pub(super) fn tell_of_drain(&mut self, count: usize) {
        for _ in 0..count.min(TOLD_PER_TURN) {
            let Some(id) = self.parts.work.next_untold_of_drain() else { return };
            // One whose protocol starts again meanwhile checks by itself; one that is closing is only told of its end.
            let is_told = |of: &Connection| of.flags.has(Flag::Made) && of.state().is_timed();
            if self.parts.slots.connection(id).is_some_and(is_told) {
                self.call(id, "draining", &mut |protocol, transport| protocol.draining(transport));
                self.flush(id);
            }
        }
    }

    /// Ends the loop itself: every connection is told, and all user values are dropped.
    pub(super) fn end_all(&mut self) {
        self.parts.life.drop();
        self.panics.policy = PanicPolicy::Isolate;
        self.drop_commands();
        self.parts.abandon_connections();
        while self.parts.work.has_lost() {
            self.deliver_losses();
        }
        self.free_slots();
        self.parts.close_listeners();
        for id in self.parts.slots.ids(&|tenant| matches!(tenant, Tenant::Source(_))) {
            self.parts.deregister(id);
        }
        for id in self.parts.slots.ids(&|tenant| matches!(tenant, Tenant::Completion(_))) {
            self.parts.cancel_completion(id);
        }
        self.parts.time.take_all().for_each(|due| self.parts.work.discard(Discarded::Timer(due)));
        self.free_slots();
    }
}

impl Parts {
    /// Implements [`Context::drain`](crate::Context::drain). With `stops`, `run` returns once it is done.
    pub(crate) fn begin_drain(&mut self, grace: Duration, stops: bool) {
        let end = self.time.after(grace);
        match self.life.stage() {
            Stage::Running => {
                self.life.drain(End { deadline: self.time.set(end, Due::Shutdown), stops });
                self.close_listeners();
                let is_made = |tenant: &Tenant| matches!(tenant, Tenant::Connection(of) if of.flags.has(Flag::Made));
                self.work.tell_of_drain(self.slots.ids(&is_made));
            }
            Stage::Draining(of) => self.time.bring_nearer(of.deadline, end),
            // These do more already.
            Stage::ShuttingDown(_) | Stage::Dropping => {}
        }
    }

    /// Implements [`Context::shutdown`](crate::Context::shutdown). With `stops`, `run` returns once it is done.
    pub(crate) fn begin_shutdown(&mut self, grace: Duration, stops: bool) {
        let end = self.time.after(grace);
        match self.life.stage() {
            Stage::Running => self.close_all(end, stops),
            Stage::Draining(of) => {
                // What was promised about the end of the drain still holds.
                let latest = self.time.deadline(of.deadline).map(|deadline| self.end_of_closing(deadline));
                self.time.remove(of.deadline);
                self.close_all(latest.map_or(end, |latest| end.min(latest)), of.stops);
            }
            Stage::ShuttingDown(of) => self.time.bring_nearer(of.deadline, end),
            Stage::Dropping => {}
        }
    }

    /// Returns the deadline of a close that begins at this time: by then the last peer has taken nothing for long
    /// enough, or has taken data slowly for as long.
    fn end_of_closing(&self, begin: Instant) -> Instant {
        deadline_after(begin, self.settings.limits.close_timeout)
    }

    fn close_all(&mut self, end: Instant, stops: bool) {
        self.life.shut_down(End { deadline: self.time.set(end, Due::Shutdown), stops });
        self.close_listeners();
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Connection(_))) {
            self.close_for(id, CloseReason::Shutdown);
        }
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Datagram(_))) {
            self.close_datagram(id, CloseReason::Shutdown);
        }
    }

    fn close_listeners(&mut self) {
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Listener(_))) {
            self.close_listener(id);
        }
    }

    /// Returns whether a drain or a shutdown has reached its goal, which the end of the turn will notice.
    pub(super) fn has_ended(&self) -> bool {
        match self.life.stage() {
            Stage::Draining(_) => self.slots.foreground_connections() == 0,
            Stage::ShuttingDown(_) => self.slots.connections() == 0 && self.slots.datagrams() == 0,
            Stage::Running | Stage::Dropping => false,
        }
    }

    /// Goes from a drain to a shutdown, and from that to its end, if the current one has reached its goal.
    pub(super) fn go_on_ending(&mut self) {
        if let (Stage::Draining(of), true) = (self.life.stage(), self.has_ended()) {
            self.time.remove(of.deadline);
            self.end_drain(of);
        }
        if let (Stage::ShuttingDown(End { deadline, stops }), true) = (self.life.stage(), self.has_ended()) {
            self.time.remove(deadline);
            self.life.end(stops);
        }
    }

    /// The grace period of a drain or a shutdown is over.
    pub(super) fn end_of_grace(&mut self) {
        if !self.has_ended() {
            self.life.cut_off();
        }
        match self.life.stage() {
            Stage::Draining(of) => self.end_drain(of),
            _ => self.abandon_connections(),
        }
    }

    /// Closes what a drain has left: connections that outlasted it or that it did not wait for, and datagram sockets.
    fn end_drain(&mut self, of: End) {
        self.close_all(self.end_of_closing(self.time.now()), of.stops);
    }

    /// Ends every connection at once.
    fn abandon_connections(&mut self) {
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Connection(_))) {
            self.finish(id, CloseReason::Shutdown);
        }
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Datagram(_))) {
            self.finish_datagram(id, Some(CloseReason::Shutdown));
        }
    }
}
