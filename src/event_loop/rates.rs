//! Reading no faster than was asked for: connections that wait for a bucket to fill.

use super::Core;
use super::timers::{Due, Purpose};
use crate::connection::{Connection, Flag};
use crate::ids::Id;
use crate::rate::{RateGroup, RateGroupId, ReadRate, TokenBucket, Waiting};
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
        let rate = self.read_rates.entry(id).or_default();
        change(rate);
        rate.granted = 0;
        let is_rated = rate.own.is_some() || rate.group.is_some();
        self.end_waiting(id);
        if !is_rated {
            self.read_rates.remove(&id);
        }
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.flags.set(Flag::Rated, is_rated);
        }
    }

    /// The connection has ended, or begins anew. In the queue of its group its id is stale.
    pub(super) fn drop_read_rate(&mut self, id: Id) {
        if let Some(Waiting::ForOwn(timer)) = self.read_rates.remove(&id).map(|rate| rate.waiting) {
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
        let Some(rate) = self.read_rates.get_mut(&id) else { return usize::MAX };
        let mut allowed = if rate.waiting == Waiting::No { usize::MAX } else { 0 };
        if let Some(own) = rate.own.as_mut().filter(|_| allowed > 0) {
            allowed = own.available(now);
            if allowed == 0 {
                let deadline = deadline_after(now, own.time_to_wait(now));
                rate.waiting = Waiting::ForOwn(self.timers.insert(deadline, Due::of(Purpose::ReadRate, id)));
            }
        }
        let group = rate.group.filter(|_| allowed > 0);
        if let Some((name, group)) = group.and_then(|name| Some((name, self.rate_groups.get_mut(&name)?))) {
            allowed = allowed.min(if rate.granted > 0 { rate.granted } else { group.available(now) });
            if allowed == 0 {
                rate.waiting = Waiting::ForGroup;
                group.waiting.push_back(id);
                self.set_group_timer(name);
            }
        }
        // The peer is kept from sending: it is not idle by its own will (T5).
        let idle = self.slots.connection_mut(id).and_then(|connection| connection.idle.as_mut());
        if let Some(idle) = idle.filter(|_| allowed == 0) {
            idle.pause(now_ns);
        }
        allowed
    }

    /// Bytes were read, and are paid for.
    pub(super) fn charge_for_reading(&mut self, id: Id, count: usize) {
        let Some(rate) = self.read_rates.get_mut(&id) else { return };
        rate.granted = 0;
        if let Some(own) = &mut rate.own {
            own.take(count);
        }
        if let Some(group) = rate.group.and_then(|group| self.rate_groups.get_mut(&group)) {
            group.bucket.take(count);
        }
    }

    /// A connection that waited may look again whether it may read.
    pub(super) fn end_waiting(&mut self, id: Id) {
        let Some(rate) = self.read_rates.get_mut(&id) else { return };
        match std::mem::take(&mut rate.waiting) {
            Waiting::No => return,
            Waiting::ForOwn(timer) => drop(self.timers.remove(timer)),
            Waiting::ForGroup => {}
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
        let name = RateGroupId(self.next_rate_group);
        self.next_rate_group += 1;
        let bucket = TokenBucket::new(bytes_per_second, burst_bytes, self.clock.now());
        self.rate_groups.insert(name, RateGroup::new(bucket));
        name
    }

    pub(crate) fn remove_rate_group(&mut self, name: RateGroupId) -> bool {
        let Some(group) = self.rate_groups.remove(&name) else { return false };
        if let Some(timer) = group.timer {
            self.timers.remove(timer);
        }
        for id in group.waiting {
            if self.waits_for(id, name) {
                self.end_waiting(id);
            }
        }
        true
    }

    fn waits_for(&self, id: Id, name: RateGroupId) -> bool {
        self.read_rates.get(&id).is_some_and(|rate| rate.waiting == Waiting::ForGroup && rate.group == Some(name))
    }

    fn set_group_timer(&mut self, name: RateGroupId) {
        let now = self.clock.now();
        let Some(group) = self.rate_groups.get_mut(&name).filter(|group| group.timer.is_none()) else { return };
        let deadline = deadline_after(now, group.bucket.time_to_wait(now));
        group.timer = Some(self.timers.insert(deadline, Due::RateGroup(name)));
    }

    /// The bucket of a group has something again: those that have waited longest get their shares.
    pub(super) fn grant_shares(&mut self, name: RateGroupId) {
        let now = self.clock.now();
        let Some(group) = self.rate_groups.get_mut(&name) else { return };
        group.timer = None;
        let mut left = group.bucket.available(now);
        let share = group.share(now);
        while left > 0 {
            let Some(id) = self.rate_groups.get_mut(&name).and_then(|group| group.waiting.pop_front()) else { return };
            if !self.waits_for(id, name) {
                continue;
            }
            if let Some(rate) = self.read_rates.get_mut(&id) {
                rate.granted = share.min(left);
                left -= rate.granted;
            }
            self.end_waiting(id);
        }
        if self.rate_groups.get(&name).is_some_and(|group| !group.waiting.is_empty()) {
            self.set_group_timer(name);
        }
    }
}
