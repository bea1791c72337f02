//! Time as data: which timer is due first, how long a connection has been idle, how long to wait before trying again.
//!
//! Only `deadlines`, which is the loop's time, reads a clock: elsewhere `now` is an argument.

pub(crate) mod deadlines;
pub(crate) mod heap;
pub(crate) mod idle;
pub(crate) mod retry;

use std::time::Duration;

/// Returns a duration in nanoseconds, or `u64::MAX` if that does not fit into 64 bits (more than 584 years).
pub(crate) fn ns_of(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_that_64_bits_do_not_hold_is_the_longest() {
        let longest = Duration::from_nanos(u64::MAX);
        for duration in
            [Duration::ZERO, Duration::from_nanos(1_999_999_999), longest, longest + Duration::from_nanos(1)]
        {
            assert_eq!(ns_of(duration), u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), "{duration:?}");
        }
        assert_eq!(ns_of(Duration::MAX), u64::MAX);
    }
}
