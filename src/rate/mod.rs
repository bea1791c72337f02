//! How fast connections may be read from: the rate of each that has one, and groups that share one.
//!
//! Pure data: no clock, `now` is an argument; the timers are the loop's.

mod bucket;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

pub(crate) use bucket::TokenBucket;

use crate::ids::Id;
use crate::time::heap::Key;

/// Names a group of connections of a loop that share a rate ([`Context::add_rate_group`](crate::Context::add_rate_group)).
///
/// `Copy + Send`, valid for one loop. Once the group is removed the id is stale, and never comes to mean another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RateGroupId(pub(crate) u64);

/// The rates of a loop's connections, and the groups of them.
#[derive(Default)]
pub(crate) struct Rates {
    of: HashMap<Id, ReadRate>,
    groups: HashMap<RateGroupId, RateGroup>,
    next_group: u64,
}

/// What a connection that may not read on needs a timer for.
pub(crate) enum Wait {
    /// Its own bucket, after so long; [`set_timer`](Rates::set_timer) is told which.
    ForOwn(Duration),
    /// Its group.
    ForGroup(RateGroupId),
}

/// What a group has to give to those that wait.
pub(crate) struct Shares {
    left: usize,
    each: usize,
}

impl Rates {
    /// Changes the rate of a connection. Returns whether it has one then. If it waited it still does.
    pub(crate) fn change(&mut self, id: Id, change: impl FnOnce(&mut ReadRate)) -> bool {
        let rate = self.of.entry(id).or_default();
        change(rate);
        rate.granted = 0;
        rate.own.is_some() || rate.group.is_some()
    }

    /// A connection has no rate any more. Returns the timer that it waited for. In the queue of its group its id is stale.
    pub(crate) fn forget(&mut self, id: Id) -> Option<Key> {
        self.of.remove(&id).and_then(|rate| rate.waiting.timer())
    }

    /// Returns how much a connection may read. If that is nothing it waits, and if it has only just begun to, for what.
    pub(crate) fn allow(&mut self, id: Id, now: Instant) -> (usize, Option<Wait>) {
        let Some(rate) = self.of.get_mut(&id) else { return (usize::MAX, None) };
        if rate.waiting != Waiting::No {
            return (0, None);
        }
        let mut allowed = usize::MAX;
        if let Some(own) = &mut rate.own {
            allowed = own.available(now);
            if allowed == 0 {
                return (0, Some(Wait::ForOwn(own.time_to_wait(now))));
            }
        }
        if let Some((name, group)) = rate.group.and_then(|name| Some((name, self.groups.get_mut(&name)?))) {
            allowed = allowed.min(if rate.granted > 0 { rate.granted } else { group.available(now) });
            if allowed == 0 {
                rate.waiting = Waiting::ForGroup;
                group.waiting.push_back(id);
                return (0, Some(Wait::ForGroup(name)));
            }
        }
        (allowed, None)
    }

    /// A connection waits for its own bucket, with this timer.
    pub(crate) fn set_timer(&mut self, id: Id, timer: Key) {
        if let Some(rate) = self.of.get_mut(&id) {
            rate.waiting = Waiting::ForOwn(timer);
        }
    }

    /// Bytes were read, and are paid for.
    pub(crate) fn charge(&mut self, id: Id, count: usize) {
        let Some(rate) = self.of.get_mut(&id) else { return };
        rate.granted = 0;
        if let Some(own) = &mut rate.own {
            own.take(count);
        }
        if let Some(group) = rate.group.and_then(|group| self.groups.get_mut(&group)) {
            group.bucket.take(count);
        }
    }

    /// A connection may look again whether it may read. Returns whether it waited, and its timer.
    pub(crate) fn end_wait(&mut self, id: Id) -> Option<Option<Key>> {
        let waited = std::mem::take(&mut self.of.get_mut(&id)?.waiting);
        (waited != Waiting::No).then(|| waited.timer())
    }

    // Groups.

    pub(crate) fn add_group(&mut self, bucket: TokenBucket) -> RateGroupId {
        let name = RateGroupId(self.next_group);
        self.next_group += 1;
        self.groups.insert(name, RateGroup { bucket, waiting: VecDeque::new(), timer: None });
        name
    }

    /// Removes a group. Returns its timer, and which connections wait for it. `None` if there is no such group.
    pub(crate) fn remove_group(&mut self, name: RateGroupId) -> Option<(Option<Key>, Vec<Id>)> {
        let group = self.groups.remove(&name)?;
        Some((group.timer, group.waiting.into_iter().filter(|&id| self.waits_for(id, name)).collect()))
    }

    fn waits_for(&self, id: Id, name: RateGroupId) -> bool {
        self.of.get(&id).is_some_and(|rate| rate.waiting == Waiting::ForGroup && rate.group == Some(name))
    }

    /// Returns how long a group waits for its bucket, if connections wait for it and it has no timer.
    pub(crate) fn group_needs_timer(&mut self, name: RateGroupId, now: Instant) -> Option<Duration> {
        let group = self.groups.get_mut(&name).filter(|group| group.timer.is_none() && !group.waiting.is_empty())?;
        Some(group.bucket.time_to_wait(now))
    }

    pub(crate) fn set_group_timer(&mut self, name: RateGroupId, timer: Key) {
        if let Some(group) = self.groups.get_mut(&name) {
            group.timer = Some(timer);
        }
    }

    /// The timer of a group has fired: its bucket has something again. Returns what.
    pub(crate) fn shares(&mut self, name: RateGroupId, now: Instant) -> Option<Shares> {
        let group = self.groups.get_mut(&name)?;
        group.timer = None;
        Some(Shares { left: group.bucket.available(now), each: group.share(now) })
    }

    /// Grants a share to the connection that has waited longest. Returns which, as long as there is one and something left.
    pub(crate) fn grant(&mut self, name: RateGroupId, shares: &mut Shares) -> Option<Id> {
        while shares.left > 0 {
            let id = self.groups.get_mut(&name)?.waiting.pop_front()?;
            if !self.waits_for(id, name) {
                continue;
            }
            if let Some(rate) = self.of.get_mut(&id) {
                rate.granted = shares.each.min(shares.left);
                shares.left -= rate.granted;
            }
            return Some(id);
        }
        None
    }
}

/// What holds one connection's reading back, beside its pauses.
#[derive(Debug, Default)]
pub(crate) struct ReadRate {
    pub(crate) own: Option<TokenBucket>,
    pub(crate) group: Option<RateGroupId>,
    /// What its group has granted it, while it waited.
    granted: usize,
    waiting: Waiting,
}

/// What a connection waits for before it may read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    #[default]
    No,
    /// For its own bucket, with this timer.
    ForOwn(Key),
    /// For its turn in its group.
    ForGroup,
}

impl Waiting {
    fn timer(self) -> Option<Key> {
        match self {
            Waiting::ForOwn(timer) => Some(timer),
            Waiting::No | Waiting::ForGroup => None,
        }
    }
}

/// Connections that share a bucket. Those that find it empty stand in a queue, so that each has its turn.
struct RateGroup {
    bucket: TokenBucket,
    /// It holds full ids: what they name may be gone, or have left the group.
    waiting: VecDeque<Id>,
    timer: Option<Key>,
}

/// Nobody in a group is granted less at a time, where there is that much: about what a packet carries.
const SHARE_BYTES_MIN: usize = 1460;

impl RateGroup {
    /// How much a connection may take that was granted nothing: nothing while others wait.
    fn available(&mut self, now: Instant) -> usize {
        match self.waiting.is_empty() {
            true => self.bucket.available(now),
            false => 0,
        }
    }

    /// How much each of those that wait is granted.
    fn share(&mut self, now: Instant) -> usize {
        let available = self.bucket.available(now);
        (available / self.waiting.len().max(1)).max(SHARE_BYTES_MIN).min(available)
    }
}
