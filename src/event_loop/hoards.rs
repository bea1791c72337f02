//! The cap of what is queued in the whole loop, and what goes when that is met (rule W4).
//!
//! Those go whose peers have others pay for what they do not take, and not those that happen to be written to next: a few
//! peers that ask for much and read nothing must not have everybody else's answers reset.

use std::cmp::Reverse;

use super::slots::Tenant;
use super::work::Ranked;
use super::{Parts, filtering};
use crate::CloseReason;
use crate::connection::{Connection, Sent};
use crate::ids::Id;
use crate::reason::Limit;

/// How urgently a queue goes, the least first.
#[derive(Clone, Copy)]
enum Urgency {
    /// Its peer has taken nothing for a while.
    Stuck,
    /// It is longer than its low mark.
    Long,
    /// Its peer takes what it is sent: it was told to write on, or never to pause.
    Short,
}

/// A peer that has taken nothing for so long hoards what is queued for it.
const STUCK_NS: u64 = 1_000_000_000;

impl Parts {
    /// Where more is queued in the loop than its cap allows, has some queues go, until they are an eighth below it: to look
    /// at them all is too much for each write. A datagram socket that is about to send loses no queue, nor does anybody whose
    /// turn would come after it: what it sends is dropped then.
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
        // Few of them go, so not all are sorted.
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

    /// What is queued in the whole loop, counted anew (test): the sum that is kept must be this.
    #[cfg(test)]
    pub(super) fn check_sums(&self) {
        let of_one = |(id, tenant): (Id, &Tenant)| match tenant {
            Tenant::Connection(connection) => connection.queued_cost() + self.outbox.log().cost(id),
            Tenant::Datagram(socket) => socket.queued_cost(),
            _ => 0,
        };
        assert_eq!(self.outbox.queued(), self.slots.iter().map(of_one).sum::<usize>(), "what is queued in all");
    }

    /// Tries a send to each peer that seems to take nothing: no event tells of little room.
    fn send_to_stuck(&mut self) {
        self.time.look_at_clock_anyway();
        let now_ns = self.time.now_ns();
        let is_stuck = |tenant: &Tenant| matches!(tenant, Tenant::Connection(of) if is_stuck(of, now_ns));
        for id in self.slots.ids(&is_stuck) {
            self.send_queued(id);
        }
    }

    /// Sends what is queued for a connection, perhaps from within another one's callback: what follows, such as the marks,
    /// comes with the turn's flush.
    fn send_queued(&mut self, id: Id) {
        let Some(connection) = self.slots.connection_mut(id) else { return };
        connection.look_for_room();
        if connection.is_filtered() {
            // What filters have put down can go out without a call of them, and the flush goes on with the rest.
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

    /// All queues that could go, by when they would.
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

/// Among equally urgent queues the longest goes first.
fn rank(urgency: Urgency, cost: usize) -> u64 {
    const COST_MAX: u64 = u64::MAX >> 2;
    (urgency as u64) << 62 | (COST_MAX - COST_MAX.min(cost as u64))
}
