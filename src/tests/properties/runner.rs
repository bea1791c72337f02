//! Many seeds, on all cores.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::coverage::Coverage;
use super::{story, system};

/// Runs seeds in their order, one network per thread: `default` of them, `SWITCHBOARD_SEEDS=N` of them, or with
/// `SWITCHBOARD_SEED=x` that one alone, with its trace. Returns how many it were, and what has happened in them.
///
/// # Panics
///
/// With the first seed that fails, and the line that runs it again.
pub(super) fn run_all(default: u64, run: fn(u64, bool) -> Result<Coverage, String>) -> (u64, Coverage) {
    let (first, count, traced) = match (number("SWITCHBOARD_SEED"), number("SWITCHBOARD_SEEDS")) {
        (Some(seed), _) => (seed, 1, true),
        (None, count) => (0, count.unwrap_or(default), false),
    };
    let next = AtomicU64::new(first);
    let end = first + count;
    let failed = Mutex::new(None::<(u64, String)>);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return coverage;
            }
            match guarded(seed, traced, run) {
                Ok(covered) => coverage.add(&covered),
                Err(what) => {
                    next.store(end, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap();
                    if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *failed = Some((seed, what));
                    }
                    return coverage;
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(count as usize);
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            coverage.add(&worker.join().unwrap());
        }
    });
    if let Some((seed, what)) = failed.into_inner().unwrap() {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let all = format!("seed {seed}: {what}\nSWITCHBOARD_SEED={seed} cargo test --all-features {test}");
        if traced || !can_be_shorter(run) {
            panic!("{all}");
        }
        let least = story::smallest(seed, run);
        panic!("{all}\nand with no more than this: {}\n{} cargo test --all-features {test}", least.what, least.line());
    }
    (count, coverage)
}

/// Whether a program can be told to be shorter.
fn can_be_shorter(run: fn(u64, bool) -> Result<Coverage, String>) -> bool {
    let is = |other: fn(u64, bool) -> Result<Coverage, String>| std::ptr::fn_addr_eq(run, other);
    is(system::run) || is(system::run_elsewhere)
}

/// A bug may also panic outside of what the loop guards.
pub(super) fn guarded(
    seed: u64,
    traced: bool,
    run: fn(u64, bool) -> Result<Coverage, String>,
) -> Result<Coverage, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, traced))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        Err(format!("a panic: {}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("(not a message)")))
    })
}

pub(super) fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {value:?}")))
}
