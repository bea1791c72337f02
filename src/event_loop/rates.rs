//! Read rates: connections that wait for a token bucket to fill.

use super::Parts;
use super::timers::{Due, Purpose};
use crate::connection::{Connection, Flag};
use crate::ids::Id;
use crate::rate::{Rate, RateGroupId, ReadRate, TokenBucket, Wait};
use crate::sys::deadline_after;

impl Parts {
    /// Sets the read rate of a connection's limits; called before `connection_made`, which may change it.
    pub(super) fn start_read_rate(&mut self, id: Id) {
        let Some(connection) = self.slots.connection(id) else { return };
        let rate = connection.settings.limits.read_rate;
        if rate.is_some() {
            self.set_read_rate(id, rate);
        }
    }

    pub(crate) fn set_read_rate(&mut self, id: Id, rate: Option<Rate>) {
        let own = rate.map(|rate| TokenBucket::new(rate, self.time.now()));
        self.change_read_rate(id, |rate| rate.own = own);
    }

    pub(crate) fn set_rate_group(&mut self, id: Id, group: Option<RateGroupId>) {
        self.change_read_rate(id, |rate| rate.group = group);
    }

    fn change_read_rate(&mut self, id: Id, change: impl FnOnce(&mut ReadRate)) {
        let alive = self.slots.alive_mut(id);
        let Some(connection) = alive else { return };
        let rate = connection.extras_mut().rate.get_or_insert_default();
        change(rate);
        rate.forget_grant();
        let is_rated = rate.limits();
        connection.flags.set(Flag::Rated, is_rated);
        self.end_waiting(id);
        if !is_rated {
            self.drop_read_rate(id);
        }
    }

    /// Removes a connection's read rate when it starts again or has no rate any more. Its id in the queue of its group
    /// is then stale.
    pub(super) fn drop_read_rate(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.flags.set(Flag::Rated, false);
        let rate = connection.extras.as_mut().and_then(|extras| extras.rate.take());
        if let Some(timer) = rate.and_then(|rate| rate.timer()) {
            self.time.remove(timer);
        }
    }

    /// Returns how many bytes a connection may read: zero if it must wait, for which it or its group has a timer.
    pub(super) fn allow_reading(&mut self, id: Id) -> usize {
        let now = self.time.now();
        let now_ns = self.time.ns(now);
        let Some(rate) = self.slots.connection_mut(id).and_then(Connection::rate_mut) else { return usize::MAX };
        let (allowed, wait) = self.rate_groups.allow(id, rate, now);
        match wait {
            Some(Wait::ForOwn(time)) => {
                rate.set_timer(self.time.set(deadline_after(now, time), Due::of(Purpose::ReadRate, id)));
            }
            Some(Wait::ForGroup(name)) => self.set_group_timer(name),
            None => {}
        }
        if allowed == 0 {
            // The peer is kept from sending, so it is not idle by choice (T5).
            if let Some(idle) = self.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut()) {
                idle.pause(now_ns);
            }
        }
        allowed
    }

    /// Lets a connection that waited check again whether it may read.
    pub(super) fn end_waiting(&mut self, id: Id) {
        let rate = self.slots.connection_mut(id).and_then(Connection::rate_mut);
        let Some(timer) = rate.and_then(ReadRate::end_wait) else { return };
        if let Some(timer) = timer {
            self.time.remove(timer);
        }
        let now_ns = self.time.clock_ns();
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.note_whether_it_keeps_from_sending(now_ns);
        self.run_idle(id);
        self.carry_over(id);
    }

    // Groups.

    pub(crate) fn remove_rate_group(&mut self, name: RateGroupId) -> bool {
        let Some((timer, waiting)) = self.rate_groups.remove(name) else { return false };
        if let Some(timer) = timer {
            self.time.remove(timer);
        }
        for id in waiting {
            if self.slots.connection_mut(id).and_then(Connection::rate_mut).is_some_and(|rate| rate.waits_for(name)) {
                self.end_waiting(id);
            }
        }
        true
    }

    fn set_group_timer(&mut self, name: RateGroupId) {
        let now = self.time.now();
        if let Some(time) = self.rate_groups.needs_timer(name, now) {
            let timer = self.time.set(deadline_after(now, time), Due::RateGroup(name));
            self.rate_groups.set_timer(name, timer);
        }
    }

    /// The bucket of a group has tokens again: those that have waited longest get their shares.
    pub(super) fn grant_shares(&mut self, name: RateGroupId) {
        let Some(mut shares) = self.rate_groups.shares(name, self.time.now()) else { return };
        while !shares.are_given() {
            let Some(id) = self.rate_groups.next_waiting(name) else { break };
            let rate = self.slots.connection_mut(id).and_then(Connection::rate_mut);
            if rate.is_some_and(|rate| rate.grant(name, &mut shares)) {
                self.end_waiting(id);
            }
        }
        self.set_group_timer(name);
    }
}
