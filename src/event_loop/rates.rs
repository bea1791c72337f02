//! Reading no faster than was asked for: connections that wait for a bucket to fill.

use super::Core;
use super::timers::{Due, Purpose};
use crate::connection::{Connection, Flag};
use crate::ids::Id;
use crate::rate::{RateGroupId, ReadRate, TokenBucket, Wait};
use crate::sys::deadline_after;

impl Core {
    /// Gives a connection the rate that its limits ask for; before `connection_made`, which may change it.
    pub(super) fn start_read_rate(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        let (rate, burst) =
            (connection.terms.limits.read_bytes_per_second_max, connection.terms.limits.read_burst_bytes);
        if rate != usize::MAX {
            self.set_read_rate(id, rate, burst);
        }
    }

    pub(crate) fn set_read_rate(&mut self, id: Id, bytes_per_second: usize, burst_bytes: usize) {
        let now = self.clock.now();
        let is_limited = bytes_per_second != usize::MAX;
        let own = is_limited.then(|| TokenBucket::new(bytes_per_second, burst_bytes, now));
        self.change_read_rate(id, |rate| rate.own = own);
    }

    pub(crate) fn set_rate_group(&mut self, id: Id, group: Option<RateGroupId>) {
        self.change_read_rate(id, |rate| rate.group = group);
    }

    fn change_read_rate(&mut self, id: Id, change: impl FnOnce(&mut ReadRate)) {
        if !self.slots.connection(id).is_some_and(Connection::is_alive) {
            return;
        }
        let is_rated = self.rates.change(id, change);
        self.end_waiting(id);
        if !is_rated {
            self.rates.forget(id);
        }
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.flags.set(Flag::Rated, is_rated);
        }
    }

    /// The connection has ended, or begins anew.
    pub(super) fn drop_read_rate(&mut self, id: Id) {
        if let Some(timer) = self.rates.forget(id) {
            self.timers.remove(timer);
        }
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.flags.set(Flag::Rated, false);
        }
    }

    /// How much a connection may read: nothing where it must wait, for which it has a timer or its group has one.
    pub(super) fn allow_reading(&mut self, id: Id) -> usize {
        let now = self.clock.now();
        let now_ns = self.ns(now);
        let (allowed, wait) = self.rates.allow(id, now);
        match wait {
            Some(Wait::ForOwn(time)) => {
                let timer = self.timers.insert(deadline_after(now, time), Due::of(Purpose::ReadRate, id));
                self.rates.set_timer(id, timer);
            }
            Some(Wait::ForGroup(name)) => self.set_group_timer(name),
            None => {}
        }
        // The peer is kept from sending: it is not idle by its own will (T5).
        let idle = self.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut());
        if let Some(idle) = idle.filter(|_| allowed == 0) {
            idle.pause(now_ns);
        }
        allowed
    }

    /// A connection that waited may look again whether it may read.
    pub(super) fn end_waiting(&mut self, id: Id) {
        let Some(timer) = self.rates.end_wait(id) else { return };
        if let Some(timer) = timer {
            self.timers.remove(timer);
        }
        let now_ns = self.ns(self.clock.now());
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let is_paused = connection.is_paused();
        if let Some(idle) = connection.idle.as_mut().filter(|_| !is_paused) {
            idle.resume(now_ns);
            self.run_idle(id);
        }
        self.carry_over(id);
    }

    // Groups.

    pub(crate) fn add_rate_group(&mut self, bytes_per_second: usize, burst_bytes: usize) -> RateGroupId {
        self.rates.add_group(TokenBucket::new(bytes_per_second, burst_bytes, self.clock.now()))
    }

    pub(crate) fn remove_rate_group(&mut self, name: RateGroupId) -> bool {
        let Some((timer, waiting)) = self.rates.remove_group(name) else { return false };
        if let Some(timer) = timer {
            self.timers.remove(timer);
        }
        for id in waiting {
            self.end_waiting(id);
        }
        true
    }

    fn set_group_timer(&mut self, name: RateGroupId) {
        let now = self.clock.now();
        if let Some(time) = self.rates.group_needs_timer(name, now) {
            let timer = self.timers.insert(deadline_after(now, time), Due::RateGroup(name));
            self.rates.set_group_timer(name, timer);
        }
    }

    /// The bucket of a group has something again: those that have waited longest get their shares.
    pub(super) fn grant_shares(&mut self, name: RateGroupId) {
        let Some(mut shares) = self.rates.shares(name, self.clock.now()) else { return };
        while let Some(id) = self.rates.grant(name, &mut shares) {
            self.end_waiting(id);
        }
        self.set_group_timer(name);
    }
}
