//! The cap on the output queued in the whole loop, and what is dropped when it is reached (rule W4).
//!
//! Queues are dropped whose peers make others pay for what they do not take, not those that happen to be written to
//! next: a few peers that request much and read nothing must not cause everybody else's answers to be reset.

use std::cmp::Reverse;

use super::slots::Tenant;
use super::work::Ranked;
use super::{Parts, filtering};
use crate::CloseReason;
use crate::connection::{Connection, Sent};
use crate::ids::Id;
use crate::reason::Limit;

/// How urgently a queue is to be dropped, the most urgent first.
#[derive(Clone, Copy)]
enum Urgency {
    /// Its peer has taken nothing for a while.
    Stuck,
    /// It is longer than its low mark.
    Long,
    /// Its peer takes what it is sent: its protocol was told to resume writing, or was never told to pause.
    Short,
}

/// A peer that has taken nothing for this long hoards what is queued for it.
const STUCK_NS: u64 = 1_000_000_000;

impl Parts {
    /// If more is queued in the loop than its cap allows, drops some queues, until the sum is an eighth below the cap:
    /// looking at all of them would be too much for each write. A datagram socket that is about to send does not lose
    /// its queue, and neither does any that would come after it: what it sends is dropped instead.
    #[inline]
    pub(super) fn keep_below_cap(&mut self, sends: Option<Id>) {
        if self.outbox.is_over_cap() {
            self.end_hoards(sends);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_hoards(&mut self, sends: Option<Id>) {
        let goal = self.outbox.queued_bytes_max() / 8 * 7;
        self.send_to_stuck();
        // Only a few are dropped, so not all of them are sorted.
        let mut queues = self.rank_queues();
        while let Some(Reverse((_, id))) = queues.pop() {
            if self.outbox.queued() <= goal || sends == Some(id) {
                return;
            }
            if !self.drop_queued_datagrams(id) {
                self.finish(id, CloseReason::Limit(Limit::LoopQueueBytes));
            }
        }
    }

    /// Checks the sum of what is queued in the whole loop by counting it afresh (test).
    #[cfg(test)]
    pub(super) fn check_sums(&self) {
        let of_one = |(id, tenant): (Id, &Tenant)| match tenant {
            Tenant::Connection(connection) => connection.queued_cost() + self.outbox.log().cost(id),
            Tenant::Datagram(socket) => socket.queued_cost(),
            _ => 0,
        };
        assert_eq!(self.outbox.queued(), self.slots.iter().map(of_one).sum::<usize>(), "the sum of queued bytes");
    }

    /// Tries a send to each peer that seems to take nothing, since no event reports a little room.
    fn send_to_stuck(&mut self) {
        self.time.look_at_clock_anyway();
        let now_ns = self.time.now_ns();
        let is_stuck = |tenant: &Tenant| matches!(tenant, Tenant::Connection(of) if is_stuck(of, now_ns));
        for id in self.slots.ids(&is_stuck) {
            self.send_queued(id);
        }
    }

    /// Sends what is queued for a connection, perhaps from within another one's callback: whatever follows, such as the
    /// marks, is left to the flush at the end of the turn.
    fn send_queued(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.look_for_room();
        if connection.is_filtered() {
            // The output of filters can be sent without calling them, and the flush goes on with the rest.
            filtering::send_beneath(self, id);
            return self.mark_written_to(id);
        }
        let (sent, taken) =
            self.outbox.change(connection, self.time.now_ns(), |connection, _, pool| connection.send(&[], pool));
        self.counters.bytes_sent += taken;
        if taken > 0 || matches!(sent, Sent::Failed(_)) {
            self.mark_written_to(id);
        }
        self.note_sent(id, sent);
    }

    /// Returns all queues that could be dropped, in the order in which they would be.
    fn rank_queues(&self) -> Ranked {
        let now_ns = self.time.now_ns();
        let mut queues = Ranked::new();
        for (id, tenant) in self.slots.iter() {
            let (urgency, cost) = match tenant {
                Tenant::Connection(connection) if connection.has_output() => {
                    (urgency(connection, now_ns), connection.queued_cost())
                }
                Tenant::Datagram(socket) if socket.queued_cost() > 0 => {
                    let is_long = socket.queued_cost() > socket.limits.low();
                    (if is_long { Urgency::Long } else { Urgency::Short }, socket.queued_cost())
                }
                _ => continue,
            };
            queues.push(Reverse((rank(urgency, cost), id)));
        }
        queues
    }
}

fn is_stuck(connection: &Connection, now_ns: u64) -> bool {
    connection.taken_ns().is_some_and(|taken_ns| now_ns.saturating_sub(taken_ns) >= STUCK_NS)
}

fn urgency(connection: &Connection, now_ns: u64) -> Urgency {
    match () {
        () if is_stuck(connection, now_ns) => Urgency::Stuck,
        () if connection.queued_cost() > connection.settings.limits.low() => Urgency::Long,
        () => Urgency::Short,
    }
}

/// Returns the rank of a queue: of equally urgent ones the longest is dropped first.
fn rank(urgency: Urgency, cost: usize) -> u64 {
    const COST_MAX: u64 = u64::MAX >> 2;
    (urgency as u64) << 62 | (COST_MAX - COST_MAX.min(cost as u64))
}
