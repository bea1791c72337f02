//! The guarantees, checked with random programs of peers and callbacks, with every fault: one seed is one run.
//!
//! `SWITCHBOARD_SEEDS=1000000 cargo test --release --lib --all-features properties` runs that many; the line that a
//! failing one prints runs it again, with its trace. Seeds that have failed are kept in files in `seeds/`, one for each
//! test, and are run before all others.
//!
//! A run is a few loops on a simulated network, and steps that a seed chooses: connect, write, stall, cut, let time
//! pass (`actions.rs`, `peers.rs`). Protocols choose, too, within their callbacks (`program.rs`). Everything that
//! happens is entered in one **ledger** (`ledger.rs`), from both sides: what a program has asked for and been told, and
//! what a peer has sent and received. The guarantees are sums and orders in that ledger. Bytes arrive once, in order,
//! up to the first one that was lost for a reason that was reported; each connection that was made is lost once, and
//! gets no callback after that; a mark is reported when it is crossed, and only then; no cap is exceeded. What a step
//! must change at once is checked there (`Ledger::check`), what must hold between two turns is checked after each of
//! them (`checks.rs`), and so is what must be left at the end, when all are gone, which is nothing. Coverage is
//! counted, to show that the programs reach the rare cases at all (`coverage.rs`): a guarantee about something that
//! never happens proves nothing.

mod actions;
mod checks;
mod commands;
mod coverage;
mod crashing;
mod datagrams;
mod dials;
mod filtered;
mod hoards;
mod joined;
mod ledger;
mod own_calls;
mod pairs;
mod peers;
mod producing;
mod program;
mod reaching;
mod refusals;
mod runner;
mod slow_peers;
mod story;
mod system;
mod timers;

use self::coverage::Coverage;

/// How many seeds are run by default.
const SEEDS: u64 = 300;

/// How many pairs of failing calls are tried by default.
const PAIRS: u64 = 600;

/// How many seeds of crowds are run by default: each takes some ten times as long.
const SEEDS_OF_CROWDS: u64 = 30;

/// Runs the seeds that a file of `seeds/` lists, and then `default` others unless the environment says how many. Checks
/// that in that many seeds everything in `expected` happens, and nothing else.
#[track_caller]
fn check_seeds(file: &str, default: u64, expected: &[&'static str], run: fn(u64, bool) -> Result<Coverage, String>) {
    let (seeds, coverage) = runner::run_all(file, default, run);
    let unexpected = coverage.unexpected(expected);
    assert!(unexpected.is_empty(), "these are not expected: {unexpected:?}");
    let missing = coverage.missing(expected);
    assert!(seeds < default || missing.is_empty(), "in {seeds} seeds these never happen: {missing:?}\n{coverage:?}");
}

#[test]
fn every_guarantee_holds_for_every_seed() {
    check_seeds("programs.txt", SEEDS, coverage::EXPECTED, system::run);
}

#[test]
fn other_systems_keep_every_guarantee() {
    check_seeds("programs.txt", SEEDS, coverage::EXPECTED, system::run_elsewhere);
}

#[test]
fn every_guarantee_holds_though_any_two_system_calls_fail() {
    // Answers are only counted in full where nothing can be lost.
    let others = coverage::EXPECTED.iter().filter(|name| **name != "answer in full");
    let expected: Vec<_> = others.chain(pairs::EXPECTED).copied().collect();
    check_seeds("pairs.txt", PAIRS, &expected, system::run_failing);
}

#[test]
fn a_peer_that_takes_64_kib_within_each_deadline_is_never_judged() {
    check_seeds("slow_peers.txt", SEEDS_OF_CROWDS, slow_peers::EXPECTED, slow_peers::run);
}

#[test]
fn what_goes_through_a_pair_comes_through_whole_however_it_is_joined() {
    check_seeds("joined.txt", SEEDS_OF_CROWDS, joined::EXPECTED, joined::run);
}

#[test]
fn y9_what_goes_through_filters_comes_through_as_without_them() {
    check_seeds("filtered.txt", 3 * SEEDS_OF_CROWDS, filtered::EXPECTED, filtered::run);
}

#[test]
fn y9_what_goes_through_filters_comes_through_on_other_systems() {
    check_seeds("filtered.txt", 3 * SEEDS_OF_CROWDS, filtered::EXPECTED, filtered::run_elsewhere);
}

#[test]
fn whatever_befalls_hosts_bytes_come_in_order_and_all_is_told_once() {
    check_seeds("crashing.txt", SEEDS_OF_CROWDS, crashing::EXPECTED, crashing::run);
}

#[test]
fn at_the_loop_s_cap_hoarders_end_and_those_that_read_are_served() {
    check_seeds("hoards.txt", SEEDS_OF_CROWDS, hoards::EXPECTED, hoards::run);
}
