//! The guarantees, over random programs of peers and of callbacks, with every fault: one seed is one run.
//!
//! `SWITCHBOARD_SEEDS=1000000 cargo test --release --lib --all-features properties` runs so many; the line that a failing
//! one prints runs it again, with its trace.

mod actions;
mod checks;
mod commands;
mod coverage;
mod datagrams;
mod dials;
mod ledger;
mod peers;
mod program;
mod runner;
mod system;
mod timers;

/// How many seeds are run where nobody says.
const SEEDS: u64 = 300;

#[test]
fn every_guarantee_holds_for_every_seed() {
    let (seeds, coverage) = runner::run_all(SEEDS, system::run);
    if seeds >= SEEDS {
        let missing = coverage.missing();
        assert!(missing.is_empty(), "in {seeds} seeds these have never happened: {missing:?}\n{coverage:?}");
    }
}
