//! What has happened, and how often: a generator that never does something proves nothing about it.

use std::collections::BTreeMap;

use crate::{CloseReason, Limit, Timeout};

#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    /// The same until they are read: keyed by where the name lies in memory, since counting happens millions of times.
    by_place: BTreeMap<usize, (&'static str, u64)>,
}

/// What must happen at least once in the seeds that are run by default.
pub(super) const EXPECTED: &[&str] = &[
    // Callbacks.
    "made",
    "data",
    "eof",
    "pause",
    "resume",
    "produce",
    "lost",
    "connect failed",
    "connect timed out",
    "connect cancelled",
    "lookup failed",
    "timer",
    "repeating timer",
    "missed ticks",
    "own timer",
    "timed_out",
    "draining",
    "posted",
    "detached to",
    // What callbacks and other code do.
    "write",
    "write owned",
    "write shared",
    "write nothing",
    "write while connecting",
    "write large",
    "close",
    "fail",
    "abort",
    "shutdown_write",
    "shutdown_write while connecting",
    "pause_reading",
    "resume_reading",
    "start_producing",
    "stop_producing",
    "produce nothing",
    "write_from",
    "set_timer",
    "call_every",
    "cancel",
    "cancel stale",
    "cancel from its own call",
    "reset timer",
    "reset stale timer",
    "set own timer",
    "set own timer again",
    "set own timer in vain",
    "cancel own timer",
    "cancel own timer that is not set",
    "set_protocol",
    "set_protocol while connecting",
    "start_protocol",
    "lost while starting",
    "set_answering",
    "cut short",
    "connect",
    "connect from an address",
    "connect to itself",
    "connect to a list",
    "connect to a name",
    "connect with limits",
    "connect refused at once",
    "connect while shutting down",
    "detach",
    "attach",
    "drop detached",
    "another's",
    "completion",
    "completion in vain",
    "completion cancelled",
    "told of a value",
    "with_protocol",
    "with_protocol while connecting",
    "with_protocol of its own",
    "with_protocol of another type",
    "with_protocol in vain",
    "panic in with_protocol",
    "broadcast",
    "stale id",
    "post",
    "handle close",
    "handle abort",
    "handle write",
    "handle writes late",
    "handle full",
    "handle drain",
    "handle shutdown",
    "marks",
    "low mark",
    "set_timeout",
    "panic now",
    "panic in a timer",
    "panic in a factory",
    "refuse",
    "refusal",
    "listen",
    "listen at several addresses",
    "close listener",
    "pause listener",
    "resume listener",
    "set_limits",
    "consume all",
    "consume some",
    "consume nothing",
    "consume one",
    "consume too much",
    // Datagrams.
    "bind_datagram",
    "datagram sent",
    "datagrams in a burst",
    "datagrams queued",
    "datagram received",
    "datagram empty",
    "datagram truncated",
    "datagram doubled",
    "datagram not sent",
    "datagram refused",
    "datagrams dropped",
    "datagrams lost at an end",
    "receive fails",
    "datagram pause",
    "datagram resume",
    "datagram socket connects",
    "datagram socket closes",
    "datagram socket lost",
    "panic of a datagram socket",
    // Why connections end.
    "peer closed",
    "closed",
    "aborted",
    "reset",
    "close timeout",
    "idle timeout",
    "read idle timeout",
    "handshake timeout",
    "total timeout",
    "own timeout",
    "input limit",
    "queue limit",
    "loop queue limit",
    "protocol error",
    "overconsumed",
    "panic",
    "detached",
    "shutdown",
    // States.
    "Connecting",
    "ConnectingFinQueued",
    "Failing",
    "Detaching",
    "Open",
    "ReadClosed",
    "FinQueued",
    "WriteClosed",
    "Flushing",
    "FlushingAfterEnd",
    "Lingering",
    "over high",
    "held back",
    "paused",
    "kept input",
    "sends later",
    "listener full",
    "listener backing off",
    "queued output",
    // Peers.
    "peer sends",
    "peer reads",
    "peer ends",
    "peer closes",
    "peer resets",
    "peer stalls",
    "peer sends urgent",
    "peer sees an end",
    "peer sees a reset",
    "answer in full",
    // How a run ends.
    "ends by its peers",
    "ends by shutdown",
    "ends by drain",
    "ends by abort",
    "ends by drop",
    "two loops",
    "rest",
    "time passes",
];

impl Coverage {
    pub(super) fn hit(&mut self, what: &'static str) {
        self.by_place.entry(what.as_ptr() as usize).or_insert((what, 0)).1 += 1;
    }

    pub(super) fn add(&mut self, other: &Coverage) {
        for (name, count) in other.by_place.values() {
            *self.counts.entry(name).or_default() += count;
        }
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// Returns which of these have never happened.
    pub(super) fn missing(&self, expected: &[&'static str]) -> Vec<&'static str> {
        expected.iter().copied().filter(|name| !self.counts.contains_key(name)).collect()
    }

    /// Returns what has happened that is not among these.
    pub(super) fn unexpected(&self, expected: &[&'static str]) -> Vec<&'static str> {
        self.counts.keys().copied().filter(|name| !expected.contains(name)).collect()
    }
}

/// Returns the name of a reason, as coverage counts it.
pub(super) fn name(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::PeerClosed => "peer closed",
        CloseReason::Closed => "closed",
        CloseReason::Aborted => "aborted",
        CloseReason::Reset => "reset",
        CloseReason::Io(_) => "I/O error",
        CloseReason::Timeout(Timeout::Close) => "close timeout",
        CloseReason::Timeout(Timeout::Idle) => "idle timeout",
        CloseReason::Timeout(Timeout::ReadIdle) => "read idle timeout",
        CloseReason::Timeout(Timeout::Handshake) => "handshake timeout",
        CloseReason::Timeout(Timeout::Total) => "total timeout",
        CloseReason::Timeout(Timeout::Other(_)) => "own timeout",
        CloseReason::Limit(Limit::InputBytes) => "input limit",
        CloseReason::Limit(Limit::QueueBytes) => "queue limit",
        CloseReason::Limit(Limit::LoopQueueBytes) => "loop queue limit",
        CloseReason::Limit(_) => "another limit",
        CloseReason::Protocol(_) => "protocol error",
        CloseReason::Truncated => "truncated",
        CloseReason::Overconsumed { .. } => "overconsumed",
        CloseReason::Panic(_) => "panic",
        CloseReason::Detached => "detached",
        CloseReason::Shutdown => "shutdown",
    }
}
