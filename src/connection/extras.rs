//! State that few connections have, in a separate record, so that only those pay for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Connection, Flag, Handover};
use crate::filter::chain::Chain;
use crate::ids::Id;
use crate::rate::{Rate, ReadRate};
use crate::reason::{Followed, Timeout};
use crate::time::heap::Key;
use crate::time::idle::ReadIdle;
use crate::{CloseReason, Context};

#[derive(Default)]
pub(crate) struct Extras {
    /// Why and how it ends, once that has begun. `None` if the peer ended first, until there is more to record.
    pub(crate) ending: Option<Ending>,
    /// The limit on how fast it is read from, if there is one.
    pub(crate) rate: Option<ReadRate>,
    /// The timers of the timeouts that nothing resets.
    handshake: Option<Fixed>,
    total: Option<Fixed>,
    /// What its protocol waits for.
    pub(crate) own: Own,
    /// The limit on how long it may receive nothing, if there is one; [`Connection::idle`] has the timer.
    pub(crate) read_idle: Option<ReadIdle>,
    /// Told what becomes of the connection, whatever protocol it has by then.
    pub(crate) follower: Option<Follower>,
    /// The filters between its socket and its protocol.
    pub(crate) chain: Option<Box<Chain>>,
}

/// A callback that is told what becomes of a connection.
pub(crate) type Follower = Box<dyn FnMut(&mut Context<'_>, Followed)>;

/// A timeout that nothing resets: its timer, and how long it is.
#[derive(Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) timer: Key,
    pub(crate) after: Duration,
}

/// An end that has begun.
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    /// When the flush is checked again, or the lingering ends, if that is set.
    pub(crate) timer: Option<Key>,
    /// When it first could not send everything, in the loop's own time.
    pub(crate) blocked_ns: Option<u64>,
    /// How much input was discarded while lingering.
    pub(crate) discarded_bytes: usize,
    /// Its receiver, if it ends by being detached.
    pub(crate) handover: Option<Box<Handover>>,
}

impl Ending {
    pub(super) fn new(reason: CloseReason) -> Ending {
        Ending { reason, timer: None, blocked_ns: None, discarded_bytes: 0, handover: None }
    }
}

impl Extras {
    fn fixed_mut(&mut self, timeout: Timeout) -> &mut Option<Fixed> {
        match timeout {
            Timeout::Handshake => &mut self.handshake,
            _ => &mut self.total,
        }
    }

    /// Takes the timers of the timeouts that nothing resets.
    pub(crate) fn take_timers(&mut self) -> [Option<Key>; 2] {
        let timer = |fixed: Option<Fixed>| Some(fixed?.timer);
        [timer(self.handshake.take()), timer(self.total.take())]
    }
}

/// What a protocol waits for. It ends with the protocol, or when the connection begins to end.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) timers: OwnTimers,
    /// Calls that wait for a value. Completed and cancelled ones stay here until there is no room for another one.
    pub(crate) calls: Vec<Id>,
}

impl Own {
    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.calls.is_empty()
    }
}

/// The timers that a protocol has set and that are not due yet, by the protocol's keys.
#[derive(Default)]
pub(crate) struct OwnTimers {
    /// Sorted by key.
    few: Vec<(u16, Key)>,
    /// All of them, once there are more than a few, until none is left. In a list each change would move the others.
    many: BTreeMap<u16, Key>,
}

/// An empty list keeps room for this many: most protocols have one timer, which they set again and again.
const KEPT_OWN_TIMERS: usize = 8;

/// No more than this many are in the list.
const FEW_OWN_TIMERS: usize = 64;

impl OwnTimers {
    fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// Returns the timer with this key, or the place to insert one.
    pub(crate) fn find(&self, key: u16) -> Result<Key, usize> {
        match self.many.is_empty() {
            true => self.place(key).map(|place| self.few[place].1),
            false => self.many.get(&key).copied().ok_or(0),
        }
    }

    fn place(&self, key: u16) -> Result<usize, usize> {
        self.few.binary_search_by_key(&key, |of| of.0)
    }

    pub(crate) fn insert(&mut self, place: usize, key: u16, timer: Key) {
        if self.many.is_empty() && self.few.len() < FEW_OWN_TIMERS {
            return self.few.insert(place, (key, timer));
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(key, timer);
    }

    pub(crate) fn take(&mut self, key: u16) -> Option<Key> {
        if !self.many.is_empty() {
            return self.many.remove(&key);
        }
        let place = self.place(key).ok()?;
        let (_, timer) = self.few.remove(place);
        if self.few.is_empty() && self.few.capacity() > KEPT_OWN_TIMERS {
            self.few = Vec::new();
        }
        Some(timer)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Key> {
        self.few.iter().map(|&(_, timer)| timer).chain(self.many.values().copied())
    }
}

impl Connection {
    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.extras.as_ref()?.ending.as_ref()
    }

    pub(crate) fn ending_mut(&mut self) -> Option<&mut Ending> {
        self.extras.as_mut()?.ending.as_mut()
    }

    pub(super) fn set_ending(&mut self, reason: CloseReason) -> &mut Ending {
        self.extras_mut().ending.insert(Ending::new(reason))
    }

    /// Returns the record of an end that has begun and takes some time.
    pub(crate) fn ending_record(&mut self) -> &mut Ending {
        self.extras_mut().ending.get_or_insert_with(|| Ending::new(CloseReason::PeerClosed))
    }

    pub(crate) fn take_follower(&mut self) -> Option<Follower> {
        self.extras.as_mut()?.follower.take()
    }

    pub(crate) fn rate_mut(&mut self) -> Option<&mut ReadRate> {
        self.extras.as_mut()?.rate.as_mut()
    }

    /// Returns whether its protocol may wait for something: it was told that the connection is made, and no end has
    /// begun.
    pub(crate) fn may_wait(&self) -> bool {
        self.flags.has(Flag::Made) && self.state().is_timed()
    }

    /// Takes out what its protocol waits for, if anything.
    #[inline]
    pub(crate) fn take_own(&mut self) -> Option<Own> {
        let own = &mut self.extras.as_mut()?.own;
        (!own.is_empty()).then(|| std::mem::take(own))
    }

    /// Returns the timer of a handshake or total timeout.
    pub(crate) fn timer(&mut self, timeout: Timeout) -> Option<Key> {
        Some((*self.extras.as_mut()?.fixed_mut(timeout))?.timer)
    }

    /// Replaces the timer of the handshake or total timeout that it has.
    pub(crate) fn move_timer(&mut self, timeout: Timeout, timer: Key) {
        if let Some(fixed) = self.extras_mut().fixed_mut(timeout) {
            fixed.timer = timer;
        }
    }

    /// Sets or removes a handshake or total timeout. Returns the timer that it had.
    pub(crate) fn replace_timer(&mut self, timeout: Timeout, fixed: Option<Fixed>) -> Option<Key> {
        match (&mut self.extras, fixed) {
            (None, None) => None,
            _ => Some(std::mem::replace(self.extras_mut().fixed_mut(timeout), fixed)?.timer),
        }
    }

    /// Returns the length of a timeout, if it has that one; before it is made, the one from its limits.
    pub(crate) fn timeout(&self, timeout: Timeout) -> Option<Duration> {
        let (limits, extras) = (&self.settings.limits, self.extras.as_deref());
        let fixed = |of: fn(&Extras) -> Option<Fixed>| Some(extras.and_then(of)?.after);
        let (given, set) = match timeout {
            Timeout::Idle => (limits.idle_timeout, self.idle.as_ref().and_then(|idle| idle.set_to())),
            Timeout::ReadIdle => (limits.read_idle_timeout, extras.and_then(|of| Some(of.read_idle.as_ref()?.after()))),
            Timeout::Handshake => (limits.handshake_timeout, fixed(|of| of.handshake)),
            Timeout::Total => (limits.total_timeout, fixed(|of| of.total)),
            Timeout::Close if limits.close_timeout == Duration::MAX => return None,
            Timeout::Close => return Some(limits.close_timeout),
            Timeout::Other(_) => return None,
        };
        if self.flags.has(Flag::Made) { set } else { given.or(set) }
    }

    /// Returns the maximum rate at which it is read from; before it is made, the one from its limits.
    pub(crate) fn read_rate(&self) -> Option<Rate> {
        let set = self.extras.as_ref().and_then(|extras| Some(extras.rate.as_ref()?.own.as_ref()?.rate()));
        if self.flags.has(Flag::Made) { set } else { self.settings.limits.read_rate.or(set) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::heap::Timers;

    #[test]
    fn t1_many_timers_of_a_protocol_are_found_by_key_as_few_are() {
        let (mut heap, mut own) = (Timers::new(), OwnTimers::default());
        let keys: Vec<u16> = (0..=2 * FEW_OWN_TIMERS as u16).map(|n| n * 37 % 1000).collect();
        let now = std::time::Instant::now();
        let timers: Vec<Key> = keys.iter().map(|_| heap.insert(now, ())).collect();
        for (&key, &timer) in keys.iter().zip(&timers) {
            let place = own.find(key).unwrap_err();
            own.insert(place, key, timer);
            assert_eq!(own.find(key), Ok(timer));
        }
        assert_eq!(own.all().count(), keys.len());
        for (&key, &timer) in keys.iter().zip(&timers) {
            assert_eq!((own.take(key), own.take(key)), (Some(timer), None));
        }
        assert!(own.is_empty());
    }
}
