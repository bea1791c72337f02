//! What the loop counts.

/// What a loop has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// `connection_made` calls.
    pub connections_made: u64,
    /// `connection_lost` calls.
    pub connections_lost: u64,
    /// Peers that a factory or a full listener refused.
    pub connections_refused: u64,
    /// Errors of `accept`.
    pub accept_errors: u64,
    /// Writes after `close`, `shutdown_write` or the end: they did nothing.
    pub late_writes: u64,
    /// Events for something that was gone already: they did nothing.
    pub stale_events: u64,
    /// Panics of callbacks that were caught.
    pub panics: u64,
    /// Timers that were called.
    pub timers_fired: u64,
    /// Commands of handles that were run.
    pub commands_run: u64,
}
