//! Many seeds, and the one that fails.

use std::env;
use std::thread;

/// How many seeds are run where nobody says.
const SEEDS: u64 = 100;

/// Calls `test` with one seed after the other: 100 of them, `SWITCHBOARD_SEEDS=N` of them, or with
/// `SWITCHBOARD_SEED=x` that one alone.
///
/// Where `test` panics, the line is printed that runs this seed again.
///
/// # Panics
///
/// When `test` does, and when one of these variables is no number.
pub fn seeds(mut test: impl FnMut(u64)) {
    let seeds = match (number("SWITCHBOARD_SEED"), number("SWITCHBOARD_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(0)) => return,
        (None, count) => 0..=count.unwrap_or(SEEDS) - 1,
    };
    for seed in seeds {
        let replay = Replay(seed);
        test(seed);
        drop(replay);
    }
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {value:?}")))
}

/// Says how to run a seed again, if it is dropped by a panic.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", replay_line(self.0));
        }
    }
}

fn replay_line(seed: u64) -> String {
    // The test harness names threads after their tests, and cargo tells which package is tested.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let features = match env::var("CARGO_PKG_NAME") {
        Ok(package) if package == env!("CARGO_PKG_NAME") => " --all-features",
        _ => "",
    };
    format!("SWITCHBOARD_SEED={seed} cargo test{features} {name}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_replays_a_seed_names_seed_and_test() {
        let line = "SWITCHBOARD_SEED=17 cargo test --all-features \
                    testing::seeds::tests::the_line_that_replays_a_seed_names_seed_and_test";
        assert_eq!(replay_line(17), line);
    }

    #[test]
    fn seeds_come_in_order_and_each_once() {
        let mut seen = Vec::new();
        seeds(|seed| seen.push(seed));
        assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }
}
