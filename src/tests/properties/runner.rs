//! Runs many seeds, on all cores.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::coverage::Coverage;
use super::{story, system};
use crate::testing::seeds_in;

/// Which seeds to run, and in which order.
struct Plan {
    /// The seeds of a file come first: they have failed once.
    listed: Vec<u64>,
    file: PathBuf,
    first: u64,
    count: u64,
    /// Whether a single seed is run, with its trace.
    traced: bool,
}

impl Plan {
    /// Plans the seeds of a file and then `default` others, or `SWITCHBOARD_SEEDS=N` others, or only the one of
    /// `SWITCHBOARD_SEED=x`.
    fn asked(file: &str, default: u64) -> Plan {
        // Not relative to the current folder: the tests may be run from anywhere.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/properties/seeds").join(file);
        match (number("SWITCHBOARD_SEED"), number("SWITCHBOARD_SEEDS")) {
            (Some(seed), _) => Plan { listed: Vec::new(), file, first: seed, count: 1, traced: true },
            (None, count) => {
                let count = count.unwrap_or(default);
                Plan { listed: seeds_in(&file), file, first: 0, count, traced: false }
            }
        }
    }

    fn len(&self) -> u64 {
        self.listed.len() as u64 + self.count
    }

    fn seed_at(&self, index: u64) -> u64 {
        let listed = self.listed.len() as u64;
        match usize::try_from(index).ok().and_then(|index| self.listed.get(index)) {
            Some(seed) => *seed,
            None => self.first + (index - listed),
        }
    }

    /// Returns how to keep a failing seed, if it is not kept already.
    fn advice(&self, seed: u64) -> String {
        match self.listed.contains(&seed) || self.traced {
            true => String::new(),
            false => {
                format!("\nto try it first from now on: echo '{seed} # what it has found' >> {}", self.file.display())
            }
        }
    }
}

/// Runs seeds in their order, one network per thread: those that a file of `seeds/` lists, and then `default` others,
/// `SWITCHBOARD_SEEDS=N` others, or only the one of `SWITCHBOARD_SEED=x`, with its trace. Returns how many others there
/// were besides those of the file, and what has happened in all of them.
///
/// # Panics
///
/// With the first seed that fails, and the command that runs it again.
pub(super) fn run_all(file: &str, default: u64, run: fn(u64, bool) -> Result<Coverage, String>) -> (u64, Coverage) {
    let plan = Plan::asked(file, default);
    (plan.count, run_planned(&plan, run))
}

fn run_planned(plan: &Plan, run: fn(u64, bool) -> Result<Coverage, String>) -> Coverage {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None::<(u64, String)>);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= plan.len() {
                return coverage;
            }
            match guarded(plan.seed_at(index), plan.traced, run) {
                Ok(covered) => coverage.add(&covered),
                Err(what) => {
                    next.store(plan.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap();
                    if failed.as_ref().is_none_or(|(other, _)| index < *other) {
                        *failed = Some((index, what));
                    }
                    return coverage;
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(plan.len() as usize);
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            coverage.add(&worker.join().unwrap());
        }
    });
    if let Some((index, what)) = failed.into_inner().unwrap() {
        fail(plan, plan.seed_at(index), &what, run);
    }
    coverage
}

/// Panics with how to run a failed seed again, and how to keep it.
fn fail(plan: &Plan, seed: u64, what: &str, run: fn(u64, bool) -> Result<Coverage, String>) -> ! {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let again = format!("SWITCHBOARD_SEED={seed} cargo test --all-features {test}");
    let all = format!("seed {seed}: {what}\n{again}{}", plan.advice(seed));
    if plan.traced || !can_be_shorter(run) {
        panic!("{all}");
    }
    let least = story::smallest(seed, run);
    panic!("{all}\nand with no more than this: {}\n{} cargo test --all-features {test}", least.what, least.line());
}

/// Returns whether this kind of program can be shortened.
fn can_be_shorter(run: fn(u64, bool) -> Result<Coverage, String>) -> bool {
    let is = |other: fn(u64, bool) -> Result<Coverage, String>| std::ptr::fn_addr_eq(run, other);
    is(system::run) || is(system::run_elsewhere)
}

/// Runs a seed and catches panics: a bug may also panic outside of what the loop guards.
pub(super) fn guarded(
    seed: u64,
    traced: bool,
    run: fn(u64, bool) -> Result<Coverage, String>,
) -> Result<Coverage, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, traced))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        Err(format!("a panic: {}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)")))
    })
}

pub(super) fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

#[test]
fn kit_the_seeds_that_are_kept_are_run_first_and_a_new_one_says_where_it_is_to_be_kept() {
    fn run(seed: u64, _: bool) -> Result<Coverage, String> {
        if [4711, 3, 5].contains(&seed) { Err("it fails".to_owned()) } else { Ok(Coverage::default()) }
    }
    let panic_of = |listed: &[u64]| {
        let plan = Plan { listed: listed.to_vec(), file: "kept.txt".into(), first: 0, count: 10, traced: false };
        let seeds: Vec<_> = (0..plan.len()).map(|index| plan.seed_at(index)).collect();
        assert_eq!(seeds, [listed, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]].concat());
        let panic = catch_unwind(AssertUnwindSafe(|| run_planned(&plan, run))).expect_err("seed 3 fails");
        panic.downcast_ref::<String>().expect("it has a message").clone()
    };
    let line = |seed| format!("seed {seed}: it fails\nSWITCHBOARD_SEED={seed} cargo test --all-features ");
    let kept = panic_of(&[17, 4711]);
    assert!(kept.starts_with(&line(4711)) && !kept.contains("kept.txt"), "{kept}");
    let new = panic_of(&[17]);
    assert!(new.starts_with(&line(3)), "{new}");
    assert!(new.ends_with("\nto try it first from now on: echo '3 # what it has found' >> kept.txt"), "{new}");
}

#[test]
fn kit_the_seeds_of_the_files_are_among_those_that_are_run() {
    let plan = Plan::asked("programs.txt", 2);
    let seeds: Vec<_> = (0..plan.len()).map(|index| plan.seed_at(index)).collect();
    assert!(plan.traced || seeds.contains(&8711) && seeds.len() as u64 > plan.count, "{seeds:?}");
}
