//! Running a test with many seeds, replaying one of them, and finding the fewest faults with which it still fails.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;

use super::Faults;

/// How many seeds are run by default.
const SEEDS: u64 = 100;

/// Calls `test` with one seed after the other: with 100 of them, with `SWITCHBOARD_SEEDS=N` of them, or with
/// `SWITCHBOARD_SEED=x` alone.
///
/// If `test` panics, prints the command that runs this seed again. When a [`Network`](super::Network) is then dropped,
/// it prints its trace if the seed is being replayed, and writes its packets to the file that `SWITCHBOARD_PCAP` names,
/// if it is set.
///
/// # Panics
///
/// If `test` does, or if one of these variables is not a number.
pub fn seeds(mut test: impl FnMut(u64)) {
    for seed in asked() {
        let replay = Replay(seed);
        test(seed);
        drop(replay);
    }
}

/// Calls `test` with one seed after the other and these faults, as [`seeds`] does. If it panics, it is called again
/// with the same seed and fewer faults, as long as it still panics; the command that is printed runs it with the
/// remaining faults.
///
/// ```should_panic
/// use switchboard::testing::{Faults, Network, seeds_with};
/// # use switchboard::{Protocol, Transport};
///
/// struct OneAnswer;
///
/// impl Protocol for OneAnswer {
///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
///         transport.write(b"ok"); // the bug: one answer for each piece that arrives, instead of one for each question
///         data.len()
///     }
/// }
///
/// seeds_with(Faults::all(), |seed, faults| {
///     let mut network = Network::new(seed, faults);
///     let server = network.host();
///     let address = network.address(server, 7);
///     network.context(server).listen(address, |_, _| Some(OneAnswer)).unwrap();
///     let mut peer = network.peer(address);
///     peer.queue(b"question");
///     network.run_for(std::time::Duration::from_secs(60));
///     assert_eq!(peer.read(), b"ok");
/// });
/// // seed 10 fails with these faults alone: buffer_bytes_min
/// // SWITCHBOARD_SEED=10 SWITCHBOARD_FAULTS=buffer_bytes_min cargo test …
/// ```
///
/// # Panics
///
/// If `test` does; if `SWITCHBOARD_SEED` or `SWITCHBOARD_SEEDS` is not a number, or if `SWITCHBOARD_FAULTS` names
/// something that [`Faults`] does not have.
pub fn seeds_with(faults: Faults, mut test: impl FnMut(u64, Faults)) {
    let faults = match env::var("SWITCHBOARD_FAULTS") {
        Ok(names) => faults.only(&names.split(',').collect::<Vec<_>>()),
        Err(_) => faults,
    };
    for seed in asked() {
        if let Some((faults, panic)) = smallest(faults.clone(), |faults| test(seed, faults)) {
            let names = faults.names().join(",");
            let which = if names.is_empty() { "no faults at all" } else { &names.replace(',', ", ") };
            eprintln!("seed {seed} fails with these faults alone: {which}");
            eprintln!("{}", replay_line(seed, Some(&names)));
            resume_unwind(panic);
        }
    }
}

/// The payload of a panic.
type Panic = Box<dyn Any + Send>;

/// Returns the fewest faults with which `test` still panics, and that panic; `None` if it does not panic with the given
/// faults.
fn smallest(faults: Faults, mut test: impl FnMut(Faults)) -> Option<(Faults, Panic)> {
    let mut run = |faults: &Faults| catch_unwind(AssertUnwindSafe(|| test(faults.clone()))).err();
    let mut panic = run(&faults)?;
    let mut least = faults;
    // A fault that could not be removed before may be removable once another one is gone.
    let mut goes_on = true;
    while std::mem::take(&mut goes_on) {
        for name in least.names() {
            let fewer = least.without(name);
            if let Some(of_fewer) = run(&fewer) {
                (least, panic, goes_on) = (fewer, of_fewer, true);
            }
        }
    }
    Some((least, panic))
}

/// Calls `test` as [`seeds`] does, but first with the seeds that a file lists: those that failed once and are worth
/// keeping. If a seed fails that is not listed, prints the command that adds it.
///
/// The file has one number per line; a `#` begins a comment, for what the seed has found. The file is only read: it
/// belongs to the sources, and is edited by hand. A relative path is relative to where the tests run, which under cargo
/// is the folder of the package.
///
/// ```
/// # use switchboard::testing::seeds_of;
/// # let folder = std::env::temp_dir().join(format!("seeds_of.{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let file = folder.join("seeds.txt");
/// std::fs::write(&file, "1804289383 # an answer was cut in two\n17\n").unwrap();
/// let mut tried = Vec::new();
/// seeds_of(&file, |seed| tried.push(seed));
/// # if std::env::var_os("SWITCHBOARD_SEED").is_none() && std::env::var_os("SWITCHBOARD_SEEDS").is_none() {
/// assert_eq!(tried[..4], [1804289383, 17, 0, 1]);
/// # }
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
///
/// # Panics
///
/// If `test` does, if the file cannot be read or contains anything but numbers, and those of [`seeds`].
pub fn seeds_of(file: impl AsRef<Path>, mut test: impl FnMut(u64)) {
    let file = file.as_ref();
    let listed = seeds_in(file);
    let first = if is_replayed() { &[][..] } else { &listed };
    for seed in first.iter().copied().chain(asked()) {
        let replay = Replay(seed);
        let unlisted = Unlisted { seed, file: (!listed.contains(&seed)).then_some(file) };
        test(seed);
        drop((unlisted, replay));
    }
}

/// Returns the seeds of a file, in its order.
pub(crate) fn seeds_in(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let number = |line: &str| line.parse().unwrap_or_else(|_| panic!("{}: {line:?} is not a seed", file.display()));
    lines.filter(|line| !line.is_empty()).map(number).collect()
}

/// Returns the seeds to run.
fn asked() -> impl Iterator<Item = u64> {
    let (first, count) = match (number("SWITCHBOARD_SEED"), number("SWITCHBOARD_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    (0..count).map(move |index| first + index)
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Returns whether a single seed is being replayed, which is how one looks for a bug.
pub(super) fn is_replayed() -> bool {
    env::var_os("SWITCHBOARD_SEED").is_some()
}

/// Prints how to run a seed again, if it is dropped during a panic.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", replay_line(self.0, None));
        }
    }
}

/// Prints what to add to a file of seeds, if it is dropped during a panic.
struct Unlisted<'a> {
    seed: u64,
    /// None if the seed is listed already.
    file: Option<&'a Path>,
}

impl Drop for Unlisted<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.filter(|_| thread::panicking()) {
            eprintln!("to try it first from now on: echo {} >> {}", self.seed, file.display());
        }
    }
}

fn replay_line(seed: u64, faults: Option<&str>) -> String {
    // The test harness names threads after their tests, and cargo tells which package is being tested.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let features = match env::var("CARGO_PKG_NAME") {
        Ok(package) if package == env!("CARGO_PKG_NAME") => " --all-features",
        _ => "",
    };
    let faults = faults.map(|names| format!(" SWITCHBOARD_FAULTS={names}")).unwrap_or_default();
    format!("SWITCHBOARD_SEED={seed}{faults} cargo test{features} {name}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_replays_a_seed_names_seed_and_test() {
        let line = "SWITCHBOARD_SEED=17 cargo test --all-features \
                    testing::seeds::tests::the_line_that_replays_a_seed_names_seed_and_test";
        assert_eq!(replay_line(17, None), line);
        let line = "SWITCHBOARD_SEED=17 SWITCHBOARD_FAULTS=latency_max cargo test --all-features \
                    testing::seeds::tests::the_line_that_replays_a_seed_names_seed_and_test";
        assert_eq!(replay_line(17, Some("latency_max")), line);
    }

    #[test]
    fn seeds_come_in_order_and_each_once() {
        let mut seen = Vec::new();
        seeds(|seed| seen.push(seed));
        assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        let mut with_faults = Vec::new();
        seeds_with(Faults::all(), |seed, _| with_faults.push(seed));
        assert_eq!(with_faults, seen);
    }

    #[test]
    fn kit_the_seeds_of_a_file_come_first_and_each_line_is_a_number() {
        let file = std::env::temp_dir().join(format!("switchboard.seeds.{}", std::process::id()));
        let run = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let mut seen = Vec::new();
            let panic = catch_unwind(AssertUnwindSafe(|| seeds_of(&file, |seed| seen.push(seed)))).err();
            (seen, panic.map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default()))
        };
        let (seen, panic) = run("# found in the first week\n\n 4711 # a half answer\n12\n");
        let listed: &[u64] = if is_replayed() { &[] } else { &[4711, 12] };
        assert_eq!((seen, panic), ([listed, &asked().collect::<Vec<_>>()].concat(), None));
        let (seen, panic) = run("12\n4711,13\n");
        assert!(seen.is_empty() && panic.unwrap().ends_with("\"4711,13\" is not a seed"));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn kit_a_failure_is_made_smaller_by_fault_until_none_can_go() {
        // The failure needs two of them, and a third fault hides it, which can be removed only after the others have
        // gone.
        let fails = |faults: &Faults| {
            let two = faults.tiny_segments_permille > 0 && faults.interrupted_permille > 0;
            two && (faults.stalls_permille == 0 || faults.late_hints_permille > 0)
        };
        let (least, panic) = smallest(Faults::all(), |faults| assert!(!fails(&faults), "it fails")).unwrap();
        assert_eq!(least.names(), ["tiny_segments_permille", "interrupted_permille"]);
        assert_eq!(least.tiny_segments_permille, Faults::all().tiny_segments_permille);
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"it fails"));
        let (least, _) = smallest(Faults::all(), |_| panic!("always")).unwrap();
        assert_eq!(least, Faults::none());
        assert!(smallest(Faults::all(), |_| ()).is_none());
    }

    #[test]
    #[should_panic = "no such fault: \"latency\""]
    fn kit_a_name_that_no_fault_has_is_refused() {
        let _ = Faults::all().only(&["latency"]);
    }
}
