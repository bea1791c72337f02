//! How fast connections may be read from: individually, and in groups that share a rate.
//!
//! Pure data: no clock, `now` is an argument; the timers are the loop's.

mod bucket;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) use bucket::TokenBucket;

use crate::ids::{Id, Range};
use crate::time::heap::Key;

/// How fast bytes are read: a burst at once, and then this many bytes a second. 0 of either counts as 1.
///
/// ```
/// use switchboard::Rate;
/// let rate = Rate::new(100_000).burst(16 * 1024);
/// assert_eq!(rate.bytes_per_second(), 100_000);
/// assert_eq!(rate.burst_bytes(), 16 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    bytes_per_second: usize,
    burst_bytes: usize,
}

impl Rate {
    /// Creates a rate of this many bytes a second, with a burst of 64 KiB.
    #[must_use]
    pub const fn new(bytes_per_second: usize) -> Rate {
        Rate { bytes_per_second, burst_bytes: 64 * 1024 }
    }

    /// Sets how many bytes are read at any speed after a time in which fewer arrived.
    #[must_use]
    pub const fn burst(self, bytes: usize) -> Rate {
        Rate { burst_bytes: bytes, ..self }
    }

    /// Returns how many bytes are read in a second, once the burst is used up.
    pub const fn bytes_per_second(&self) -> usize {
        self.bytes_per_second
    }

    /// Returns how many bytes are read at once.
    pub const fn burst_bytes(&self) -> usize {
        self.burst_bytes
    }
}

/// Names a group of connections of a loop that share a rate ([`Context::add_rate_group`](crate::Context::add_rate_group)).
///
/// `Copy + Send`, valid for one loop, and unique within the process like a [`ConnectionId`](crate::ConnectionId). Once
/// the group is removed the id is stale, and it never names another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RateGroupId(pub(crate) u64);

/// What a connection that may not continue reading waits for.
pub(crate) enum Wait {
    /// Its own bucket, for this long; its timer is to be passed to [`set_timer`](ReadRate::set_timer).
    ForOwn(Duration),
    /// Its group.
    ForGroup(RateGroupId),
}

/// What limits the reading of one connection, apart from its pauses.
#[derive(Debug, Default)]
pub(crate) struct ReadRate {
    pub(crate) own: Option<TokenBucket>,
    pub(crate) group: Option<RateGroupId>,
    /// What its group granted it while it waited.
    granted: usize,
    waiting: Waiting,
}

impl ReadRate {
    /// Returns whether anything limits reading.
    pub(crate) fn limits(&self) -> bool {
        self.own.is_some() || self.group.is_some()
    }

    /// Discards what its group granted it, after its limits were changed.
    pub(crate) fn forget_grant(&mut self) {
        self.granted = 0;
    }

    /// Returns the timer that it waits for.
    pub(crate) fn timer(&self) -> Option<Key> {
        match self.waiting {
            Waiting::ForOwn(timer) => Some(timer),
            Waiting::No | Waiting::ForGroup => None,
        }
    }

    /// Notes that it waits for its own bucket, with this timer.
    pub(crate) fn set_timer(&mut self, timer: Key) {
        self.waiting = Waiting::ForOwn(timer);
    }

    /// Ends its wait, so that it checks again whether it may read. Returns whether it waited, and its timer.
    pub(crate) fn end_wait(&mut self) -> Option<Option<Key>> {
        let timer = self.timer();
        (std::mem::take(&mut self.waiting) != Waiting::No).then_some(timer)
    }

    /// Grants it a share of its group, if it waits for that group. Returns whether it does.
    pub(crate) fn grant(&mut self, name: RateGroupId, shares: &mut Shares) -> bool {
        let waits = self.waits_for(name);
        if waits {
            self.granted = shares.each.min(shares.left);
            shares.left -= self.granted;
        }
        waits
    }

    pub(crate) fn waits(&self) -> bool {
        self.waiting != Waiting::No
    }

    pub(crate) fn waits_for(&self, name: RateGroupId) -> bool {
        self.waiting == Waiting::ForGroup && self.group == Some(name)
    }
}

/// What a connection waits for before it may continue reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    #[default]
    No,
    /// For its own bucket, with this timer.
    ForOwn(Key),
    /// For its turn in its group.
    ForGroup,
}

/// What a group can grant to those that wait.
pub(crate) struct Shares {
    left: usize,
    each: usize,
}

impl Shares {
    pub(crate) fn are_given(&self) -> bool {
        self.left == 0
    }
}

/// The groups of a loop.
pub(crate) struct RateGroups {
    /// In the order of their ids, which is the order of their creation.
    groups: Vec<(RateGroupId, RateGroup)>,
    next: u64,
}

impl RateGroups {
    pub(crate) fn new(numbers: Range) -> RateGroups {
        RateGroups { groups: Vec::new(), next: numbers.start() }
    }

    pub(crate) fn add(&mut self, bucket: TokenBucket) -> RateGroupId {
        let name = RateGroupId(self.next);
        self.next += 1;
        self.groups.push((name, RateGroup { bucket, waiting: VecDeque::new(), timer: None }));
        name
    }

    /// Removes a group. Returns its timer, and the connections that wait for it. `None` if there is no such group.
    pub(crate) fn remove(&mut self, name: RateGroupId) -> Option<(Option<Key>, VecDeque<Id>)> {
        let index = self.index(name)?;
        let (_, group) = self.groups.remove(index);
        Some((group.timer, group.waiting))
    }

    fn index(&self, name: RateGroupId) -> Option<usize> {
        self.groups.binary_search_by_key(&name, |(of, _)| *of).ok()
    }

    fn get_mut(&mut self, name: RateGroupId) -> Option<&mut RateGroup> {
        let index = self.index(name)?;
        Some(&mut self.groups[index].1)
    }

    /// Returns how much a connection may read. If that is nothing, it waits; what for is returned if it has only just
    /// begun to.
    pub(crate) fn allow(&mut self, id: Id, rate: &mut ReadRate, now: Instant) -> (usize, Option<Wait>) {
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
        if let Some((name, group)) = rate.group.and_then(|name| Some((name, self.get_mut(name)?))) {
            allowed = allowed.min(if rate.granted > 0 { rate.granted } else { group.available(now) });
            if allowed == 0 {
                rate.waiting = Waiting::ForGroup;
                group.waiting.push_back(id);
                return (0, Some(Wait::ForGroup(name)));
            }
        }
        (allowed, None)
    }

    /// Charges for bytes that were read.
    pub(crate) fn charge(&mut self, rate: &mut ReadRate, count: usize) {
        rate.granted = 0;
        if let Some(own) = &mut rate.own {
            own.take(count);
        }
        if let Some(group) = rate.group.and_then(|group| self.get_mut(group)) {
            group.bucket.take(count);
        }
    }

    /// Returns how long a group waits for its bucket, if connections wait for it and it has no timer.
    pub(crate) fn needs_timer(&mut self, name: RateGroupId, now: Instant) -> Option<Duration> {
        match self.get_mut(name) {
            Some(group) if group.timer.is_none() && !group.waiting.is_empty() => Some(group.bucket.time_to_wait(now)),
            _ => None,
        }
    }

    pub(crate) fn set_timer(&mut self, name: RateGroupId, timer: Key) {
        if let Some(group) = self.get_mut(name) {
            group.timer = Some(timer);
        }
    }

    /// Notes that the timer of a group has fired. Returns what its bucket has to share now.
    pub(crate) fn shares(&mut self, name: RateGroupId, now: Instant) -> Option<Shares> {
        let group = self.get_mut(name)?;
        group.timer = None;
        Some(Shares { left: group.bucket.available(now), each: group.share(now) })
    }

    /// Takes out the connection that has waited longest. It may be gone, or have left the group.
    pub(crate) fn next_waiting(&mut self, name: RateGroupId) -> Option<Id> {
        self.get_mut(name)?.waiting.pop_front()
    }
}

/// Connections that share a bucket. Those that find it empty form a queue, so that each has its turn.
struct RateGroup {
    bucket: TokenBucket,
    /// Full ids, since what they name may be gone, or have left the group.
    waiting: VecDeque<Id>,
    timer: Option<Key>,
}

/// The least that a connection in a group is granted at a time, if the bucket has that much: about what a packet
/// carries.
const SHARE_BYTES_MIN: usize = 1460;

impl RateGroup {
    /// Returns how much a connection may take that was granted nothing: nothing while others wait.
    fn available(&mut self, now: Instant) -> usize {
        match self.waiting.is_empty() {
            true => self.bucket.available(now),
            false => 0,
        }
    }

    /// Returns how much each waiting connection is granted.
    fn share(&mut self, now: Instant) -> usize {
        let available = self.bucket.available(now);
        (available / self.waiting.len().max(1)).max(SHARE_BYTES_MIN).min(available)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn those_that_wait_are_granted_equal_shares_but_not_less_than_a_packet() {
        let now = Instant::now();
        let share = |burst: usize, waiting: u64| {
            let id = |n| Id { slot: 0, generation: NonZeroU64::MIN.saturating_add(n) };
            let bucket = TokenBucket::new(Rate::new(1).burst(burst), now);
            RateGroup { bucket, waiting: (0..waiting).map(id).collect(), timer: None }.share(now)
        };
        assert_eq!(share(100_000, 4), 25_000);
        assert_eq!(share(100_000, 0), 100_000);
        assert_eq!(share(100_000, 1000), SHARE_BYTES_MIN);
        assert_eq!(share(1000, 4), 1000);
    }
}
