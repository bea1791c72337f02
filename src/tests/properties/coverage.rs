//! What has happened, and how often: a generator that never makes something proves nothing of it.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(super) struct Coverage(BTreeMap<&'static str, u64>);

/// What must have happened at least once in the seeds that are run by default.
pub(super) const EXPECTED: &[&str] = &[
    // Callbacks.
    "made",
    "data",
    "eof",
    "pause",
    "resume",
    "lost",
    "timer",
    "timed_out",
    "posted",
    "detached to",
    // What callbacks and outsiders do.
    "write",
    "write owned",
    "write shared",
    "write nothing",
    "write large",
    "close",
    "fail",
    "abort",
    "shutdown_write",
    "pause_reading",
    "resume_reading",
    "set_timer",
    "cancel",
    "cancel stale",
    "set_protocol",
    "detach",
    "attach",
    "drop detached",
    "another's",
    "stale id",
    "post",
    "handle close",
    "handle abort",
    "marks",
    "low mark",
    "set_timeout",
    "panic now",
    "panic in a timer",
    "panic in a factory",
    "refuse",
    "listen",
    "close listener",
    "pause listener",
    "resume listener",
    "consume all",
    "consume some",
    "consume nothing",
    "consume one",
    "consume too much",
    // Why connections end.
    "peer closed",
    "closed",
    "aborted",
    "reset",
    "close timeout",
    "idle timeout",
    "total timeout",
    "input limit",
    "queue limit",
    "loop queue limit",
    "protocol error",
    "overconsumed",
    "panic",
    "detached",
    "shutdown",
    // States.
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
    // The system's ends.
    "ends by its peers",
    "ends by shutdown",
    "ends by abort",
    "ends by drop",
    "two loops",
    "rest",
    "time passes",
];

impl Coverage {
    pub(super) fn hit(&mut self, what: &str) {
        // The names are few: one that is not expected is a mistake of the tests.
        let name = EXPECTED.iter().find(|name| **name == what);
        *self.0.entry(name.copied().unwrap_or("(unexpected)")).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|name| !self.0.contains_key(name)).collect()
    }
}
