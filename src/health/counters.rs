//! What the loop counts.

use std::iter::Sum;
use std::ops::AddAssign;

use crate::CloseReason;

/// What a loop has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Turns.
    pub turns: u64,
    /// Calls to the poller: one a turn, and one for each wait that a signal interrupted.
    pub polls: u64,
    /// Events reported by the poller, except wake-ups by handles.
    pub events: u64,
    /// Bytes read from connections.
    pub bytes_received: u64,
    /// Bytes of connections that were passed to the kernel.
    pub bytes_sent: u64,
    /// Connections that `accept` returned, including those refused.
    pub accepts: u64,
    /// `connection_made` calls.
    pub connections_made: u64,
    /// `connection_lost` calls.
    pub connections_lost: u64,
    /// `connection_lost` calls, by reason.
    pub losses: Losses,
    /// `connect_failed` calls.
    pub connects_failed: u64,
    /// Accepted connections that ended before their [filters](crate::filter) were ready. No protocol was told of them.
    pub handshakes_failed: u64,
    /// Peers refused by a factory or by a full listener.
    pub connections_refused: u64,
    /// Errors of `accept`.
    pub accept_errors: u64,
    /// Datagrams delivered.
    pub datagrams_received: u64,
    /// Delivered datagrams that were truncated.
    pub datagrams_truncated: u64,
    /// Writes after `close`, `shutdown_write` or the end, which did nothing.
    pub late_writes: u64,
    /// Events for something that was already gone, which did nothing.
    pub stale_events: u64,
    /// Panics of callbacks that were caught.
    pub panics: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Commands of handles that were run.
    pub commands_run: u64,
}

/// How many connections were lost for each [reason](CloseReason).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // Each is named after its reason.
pub struct Losses {
    pub peer_closed: u64,
    pub closed: u64,
    pub aborted: u64,
    pub reset: u64,
    pub io: u64,
    pub timeout: u64,
    pub limit: u64,
    pub protocol: u64,
    pub truncated: u64,
    pub overconsumed: u64,
    pub panic: u64,
    pub detached: u64,
    pub shutdown: u64,
}

impl Losses {
    pub(crate) fn count(&mut self, reason: &CloseReason) {
        *match reason {
            CloseReason::PeerClosed => &mut self.peer_closed,
            CloseReason::Closed => &mut self.closed,
            CloseReason::Aborted => &mut self.aborted,
            CloseReason::Reset => &mut self.reset,
            CloseReason::Io(_) => &mut self.io,
            CloseReason::Timeout(_) => &mut self.timeout,
            CloseReason::Limit(_) => &mut self.limit,
            CloseReason::Protocol(_) => &mut self.protocol,
            CloseReason::Truncated => &mut self.truncated,
            CloseReason::Overconsumed { .. } => &mut self.overconsumed,
            CloseReason::Panic(_) => &mut self.panic,
            CloseReason::Detached => &mut self.detached,
            CloseReason::Shutdown => &mut self.shutdown,
        } += 1;
    }
}

macro_rules! sums {
    ($kind:ident: $($name:ident)*) => {
        /// The sum of what several loops have counted.
        impl AddAssign for $kind {
            fn add_assign(&mut self, other: $kind) {
                // Destructured, so that no field can be forgotten.
                let $kind { $($name,)* } = other;
                $(self.$name += $name;)*
            }
        }

        impl Sum for $kind {
            fn sum<I: Iterator<Item = $kind>>(each: I) -> $kind {
                each.fold($kind::default(), |mut sum, one| {
                    sum += one;
                    sum
                })
            }
        }
    };
}

sums!(Counters:
    turns polls events bytes_received bytes_sent accepts connections_made connections_lost losses connects_failed handshakes_failed connections_refused accept_errors datagrams_received datagrams_truncated late_writes stale_events panics timers_fired commands_run
);
sums!(Losses:
    peer_closed closed aborted reset io timeout limit protocol truncated overconsumed panic detached shutdown
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_all_that_each_has() {
        let one = Counters {
            turns: 1,
            commands_run: 2,
            losses: Losses { peer_closed: 3, shutdown: 4, ..Losses::default() },
            ..Counters::default()
        };
        let other = Counters { turns: 10, losses: Losses { shutdown: 40, ..Losses::default() }, ..Counters::default() };
        let sum: Counters = [one, other].into_iter().sum();
        assert_eq!((sum.turns, sum.commands_run, sum.polls), (11, 2, 0));
        assert_eq!((sum.losses.peer_closed, sum.losses.shutdown, sum.losses.io), (3, 44, 0));
    }
}
