//! What the loop does by the clock: timers, waits, deadlines.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::work::Discarded;
use super::{Core, Parts, filtering};
use crate::connection::{Connection, Flag, State};
use crate::ids::Id;
use crate::rate::RateGroupId;
use crate::reason::Timeout;
use crate::sys::{Wait, deadline_after};
use crate::time::deadlines::Awaited;
use crate::time::heap::Key;
use crate::{CloseReason, Context, TimerId};

/// The purpose of a timer. Small, since most timers are timeouts, of which each connection may have several.
pub(super) enum Due {
    /// A timer of the user.
    Once(Box<Once>),
    /// A repeating timer of the user.
    Every(Box<Every>),
    /// A timer of a connection or a listener: its id is stored as separate fields, so that everything fits into 16
    /// bytes.
    Of(Purpose, u32, NonZeroU64),
    /// A protocol's own timer, by its key; the connection's id is stored as separate fields as well.
    Own(u16, u32, NonZeroU64),
    /// The connections of a group may be read again.
    RateGroup(RateGroupId),
    /// The grace period of a drain or a shutdown is over.
    Shutdown,
    /// Unused buffers are freed.
    Decay,
    /// Postponed reads are done.
    Confirm,
    /// Reads for which the kernel lacked memory are tried again.
    Read,
    /// Refused peers that were sent a message have had the time to read it.
    Refused,
}

const _: () = assert!(size_of::<Due>() == 16);

pub(super) struct Once {
    call: Box<dyn FnOnce(&mut Context<'_>)>,
    background: bool,
}

pub(super) struct Every {
    /// None while it runs.
    call: Option<Box<Repeated>>,
    period: Duration,
    background: bool,
}

/// The closure of a repeating timer, called with the number of ticks that were missed.
pub(super) type Repeated = dyn FnMut(&mut Context<'_>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A closing connection is checked: whether its peer takes something, or has not for too long.
    Close,
    /// A lingering connection has discarded input for long enough.
    Linger,
    /// A connection may have been idle for too long.
    Idle,
    /// The time for a protocol's handshake has expired.
    Handshake,
    /// The time for the handshake of a connection's filters has expired.
    Filter,
    /// A connection has lasted for too long.
    Total,
    /// A connection that was read at its full rate may be read again.
    ReadRate,
    /// A send that no event will unblock is tried again.
    Send,
    /// The poller is asked again what a connection is ready for.
    Ask,
    /// A listener that failed accepts again.
    Accept,
    /// A datagram socket that failed receives again.
    Receive,
    /// The next address of a connect is tried.
    ConnectNext,
    /// A connect has taken too long.
    ConnectDeadline,
}

impl Due {
    pub(super) fn of(purpose: Purpose, id: Id) -> Due {
        Due::Of(purpose, id.slot, id.generation)
    }

    pub(super) fn once(call: Box<dyn FnOnce(&mut Context<'_>)>) -> Due {
        Due::Once(Box::new(Once { call, background: false }))
    }

    pub(super) fn every(period: Duration, call: Box<Repeated>) -> Due {
        Due::Every(Box::new(Every { call: Some(call), period, background: false }))
    }
}

impl Awaited for Due {
    /// Returns whether it is a timer of the user and not background.
    fn is_awaited(&self) -> bool {
        match self {
            Due::Once(once) => !once.background,
            Due::Every(every) => !every.background,
            _ => false,
        }
    }

    fn set_background(&mut self, background: bool) -> bool {
        match self {
            Due::Once(once) => once.background = background,
            Due::Every(every) => every.background = background,
            _ => return false,
        }
        true
    }
}

/// How long until a send is tried again for which the kernel had no buffers.
pub(super) const SEND_RETRY: Duration = Duration::from_millis(10);

/// How long until reads are tried again for which the kernel had no memory.
const READ_RETRY: Duration = Duration::from_millis(10);

/// Buffers that were unused for this long are freed (W3): after a burst, within twice this time.
const DECAY: Duration = Duration::from_secs(1);

impl Core {
    /// Phase: timers. Fires those that were set before it began.
    #[inline]
    pub(super) fn fire_timers(&mut self) {
        if !self.parts.time.has_timers() {
            return;
        }
        let now = self.parts.time.now();
        let mark = self.parts.time.mark();
        while let Some(key) = self.parts.time.first_due(now, mark) {
            self.fire(key, now);
        }
    }

    #[inline(never)]
    fn fire(&mut self, key: Key, now: Instant) {
        if let Some(Due::Every(_)) = self.parts.time.get_mut(key) {
            return self.fire_repeating(key);
        }
        let deadline = self.parts.time.deadline(key);
        let Some(due) = self.parts.time.remove(key) else { return };
        match due {
            Due::Once(once) => {
                self.parts.counters.timers_fired += 1;
                self.guard_call("a timer", once.call);
            }
            Due::Of(purpose, slot, generation) => {
                let id = Id { slot, generation };
                match purpose {
                    Purpose::Close => self.look_at_closing(id),
                    Purpose::Linger => {
                        if let Some(deadline) = deadline {
                            self.parts.admission.end_lingering(deadline, key);
                        }
                        self.end_lingering(id);
                    }
                    Purpose::Idle => self.check_idle(id, now),
                    Purpose::Handshake => self.check_handshake(id, deadline),
                    Purpose::Filter => filtering::timed_out(self, id),
                    Purpose::Total => self.total_is_over(id),
                    Purpose::ReadRate => self.parts.end_waiting(id),
                    Purpose::Send => self.parts.send_again(id),
                    Purpose::Ask => self.ask_again(id),
                    Purpose::Accept => self.parts.accept_again(id),
                    Purpose::Receive => self.parts.receive_again(id),
                    Purpose::ConnectNext => self.parts.connect_next(id),
                    Purpose::ConnectDeadline => self.connect_timed_out(id),
                }
            }
            Due::Own(key, slot, generation) => {
                let id = Id { slot, generation };
                if self.parts.slots.take_due(id, key) {
                    self.parts.counters.timers_fired += 1;
                    self.parts.time.look_at_clock_anyway();
                    self.call(id, "timer", &mut |protocol, transport| protocol.timer(transport, key));
                    self.flush(id);
                }
            }
            Due::RateGroup(group) => self.parts.grant_shares(group),
            Due::Shutdown => self.parts.end_of_grace(),
            Due::Decay => self.parts.decay(),
            Due::Confirm => self.parts.confirm_reads(),
            Due::Read => self.parts.read_again(),
            Due::Refused => self.release_refused(now),
            Due::Every(_) => unreachable!("it was not one above"),
        }
    }

    /// Releases refused peers that have had the time to read why. Not inlined, and neither is what it calls: each poll
    /// would pay for it.
    #[cold]
    #[inline(never)]
    fn release_refused(&mut self, now: Instant) {
        let next = self.parts.admission.refused.release(now);
        self.parts.admission.refused.timer = next.map(|next| self.parts.time.set(next, Due::Refused));
        self.parts.descriptor_closed();
    }

    /// Calls a repeating timer (T4). Its next tick is set before that, so that it can be cancelled and reset from
    /// within its own call; its closure is taken out meanwhile.
    fn fire_repeating(&mut self, key: Key) {
        // Read again: what was called before it in this phase may have been slow.
        let now = self.parts.time.now();
        let Some(scheduled) = self.parts.time.deadline(key) else { return };
        let Some(Due::Every(every)) = self.parts.time.get_mut(key) else { return };
        let Some(mut call) = every.call.take() else { return };
        let (missed, wait) = next_tick(now.saturating_duration_since(scheduled), every.period);
        self.parts.time.reset(key, deadline_after(now, wait));
        self.parts.counters.timers_fired += 1;
        if self.guard_each("a repeating timer", &mut |core| call(&mut Context::new(core), missed)).is_err() {
            log::error!("the repeating timer that panicked was cancelled");
            self.parts.cancel(TimerId(key));
        }
        match self.parts.time.get_mut(key) {
            Some(Due::Every(every)) => every.call = Some(call),
            // It was cancelled meanwhile.
            _ => self.drop_guarded(call),
        }
    }

    /// The kernel lacks memory for a read. What has arrived stays there, so no connection is lost because of it, and
    /// the read is tried again after a while. A connection on which sending has failed too has nothing to wait for.
    #[cold]
    pub(super) fn read_later(&mut self, id: Id) {
        if self.parts.slots.connection(id).is_some_and(|connection| connection.state() == State::Failing) {
            return self.end_failing(id);
        }
        if self.parts.work.read_later(id) {
            self.parts.time.set_after(READ_RETRY, Due::Read);
        }
    }

    /// Checks a closing connection: its peer may have taken something, so that another send goes through. It is judged
    /// only after that.
    fn look_at_closing(&mut self, id: Id) {
        let Some(connection) = self.parts.slots.connection_mut(id) else {
            return self.parts.datagram_close_timed_out(id);
        };
        if let Some(ending) = connection.ending_mut() {
            ending.timer = None;
        }
        connection.look_for_room();
        self.parts.time.look_at_clock();
        self.flush_now(id);
        let now_ns = self.parts.time.clock_ns();
        let deadline_ns = self.parts.slots.connection(id).and_then(Connection::close_deadline_ns);
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            self.parts.finish(id, CloseReason::Timeout(Timeout::Close));
        }
    }

    /// Ends a connection that has lingered for long enough. What has arrived meanwhile is discarded first: closing with
    /// unread input would make the kernel send a reset.
    fn end_lingering(&mut self, id: Id) {
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            if let Some(ending) = connection.ending_mut() {
                ending.timer = None;
            }
            connection.look_for_input();
            self.serve(id);
            self.parts.finish_begun(id);
        }
    }
}

impl Parts {
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let Some(due) = self.time.remove(id.0) else { return false };
        self.work.discard(Discarded::Timer(due));
        true
    }

    /// Returns how long the next poll may wait.
    pub(super) fn next_wait(&self, max_wait: Option<Duration>) -> Wait {
        if self.has_work() || max_wait == Some(Duration::ZERO) {
            return Wait::Not;
        }
        let timer = self.time.next_deadline();
        if timer.is_none() && max_wait.is_none() {
            return Wait::Forever;
        }
        let now = self.time.now();
        let limit = max_wait.map(|wait| deadline_after(now, wait));
        match earlier(timer, limit) {
            Some(deadline) => Wait::Until(now, deadline),
            None => Wait::Forever,
        }
    }

    pub(super) fn time_to_next(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        self.time.next_deadline().map(|deadline| deadline.saturating_duration_since(self.time.now()))
    }

    // Deadlines of connections.

    /// The kernel has no buffers for a send, and will not report when it has: a timer tries again (W6).
    pub(super) fn send_later(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        if !connection.flags.replace(Flag::SendsLater, true) {
            self.time.set_after(SEND_RETRY, Due::of(Purpose::Send, id));
        }
    }

    fn send_again(&mut self, id: Id) {
        if let Some(connection) = self.slots.connection_mut(id) {
            connection.flags.set(Flag::SendsLater, false);
            self.mark_written_to(id);
        } else {
            self.send_datagrams_again(id);
        }
    }

    fn read_again(&mut self) {
        for id in self.work.take_read_later() {
            self.carry_over(id);
        }
    }

    /// A closing connection could not send everything. Sets the timer that checks it again, if none is set: at its
    /// deadline, which starts again with every byte that its peer takes (X1), and at times before, for which see
    /// [`next_look`](Core::next_look).
    ///
    /// No event would be enough: Linux raises a writable edge only when a third of the send buffer is free, 1.4 MB on
    /// loopback, so a peer that reads 150 KB/s raises none within 5 s. And a byte that is sent costs only a store.
    pub(super) fn set_close_deadline(&mut self, id: Id) {
        let now_ns = self.time.clock_ns();
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let ending = connection.ending_record();
        if ending.timer.is_none() {
            if ending.blocked_ns.is_none() {
                ending.blocked_ns = Some(now_ns);
            }
            let close_timeout = connection.settings.limits.close_timeout;
            let deadline_ns = connection.close_deadline_ns().unwrap_or(now_ns);
            let timer =
                self.time.set(self.time.next_look(now_ns, close_timeout, deadline_ns), Due::of(Purpose::Close, id));
            if let Some(connection) = self.slots.connection_mut(id) {
                connection.ending_record().timer = Some(timer);
            }
        }
    }

    /// Sets the deadline until which a closed connection discards what its peer still sends (X1).
    pub(super) fn set_linger_deadline(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        let deadline = deadline_after(self.time.now(), connection.settings.limits.linger_timeout);
        let Some(ending) = connection.ending_mut() else { return };
        if let Some(timer) = ending.timer.take() {
            self.time.remove(timer);
        }
        let timer = self.time.set(deadline, Due::of(Purpose::Linger, id));
        ending.timer = Some(timer);
        self.admission.begin_lingering(deadline, timer, id);
    }

    /// Gives up the oldest refused peer or, if there is none, the oldest lingering connection. Returns `false` if there is
    /// none of these either.
    pub(super) fn give_up_lingering(&mut self) -> bool {
        if self.admission.refused.give_up() {
            return true;
        }
        let Some(id) = self.admission.take_oldest_lingering() else { return false };
        self.finish_begun(id);
        true
    }

    // Buffers.

    /// Arranges for buffers to be freed after a while, if there are any that could be.
    pub(super) fn start_decay(&mut self) {
        if (self.outbox.holds_memory() || self.buffers.filters.holds_memory()) && self.buffers.begin_decay() {
            self.time.set_after(DECAY, Due::Decay);
        }
    }

    fn decay(&mut self) {
        self.outbox.decay();
        self.buffers.decay();
        self.start_decay();
        self.start_decay_of_large_buffer();
    }

    /// Separate from the others, since so few loops have one.
    pub(super) fn start_decay_of_large_buffer(&mut self) {
        if self.buffers.large.holds_memory() && self.buffers.begin_decay() {
            self.time.set_after(DECAY, Due::Decay);
        }
    }
}

/// Returns, for a repeating timer that is `late`, how many further ticks have passed meanwhile, and how long it is to
/// the next.
fn next_tick(late: Duration, period: Duration) -> (u64, Duration) {
    if period.is_zero() {
        // It ticks once in every turn, and misses none.
        return (0, Duration::ZERO);
    }
    let missed = late.as_nanos() / period.as_nanos();
    let ns = period.as_nanos() - late.as_nanos() % period.as_nanos();
    let wait = Duration::new((ns / 1_000_000_000) as u64, (ns % 1_000_000_000) as u32);
    (u64::try_from(missed).unwrap_or(u64::MAX), wait)
}

/// Returns the earlier of two deadlines, either of which may be missing.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) if other < one => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}
