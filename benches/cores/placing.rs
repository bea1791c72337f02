//! Threads on cores, and the CPU time that they take: as Linux does it.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long a thread at rest is watched for its CPU time to be complete.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);
const LOOKS_MAX: usize = 50;

/// A thread of this process, as the kernel numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(u32);

impl Thread {
    /// The one that calls this.
    pub(crate) fn this() -> Option<Thread> {
        let link = fs::read_link("/proc/thread-self").ok()?;
        Some(Thread(link.file_name()?.to_str()?.parse().ok()?))
    }

    /// Keeps it on a core.
    #[must_use]
    pub(crate) fn stay_on(self, core: usize) -> bool {
        let mut taskset = Command::new("taskset");
        taskset.args(["--pid", "--cpu-list", &core.to_string(), &self.0.to_string()]);
        taskset.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn cpu(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.0)).expect("the thread exists");
        let first = stat.split(' ').next().and_then(|time| time.parse().ok());
        Duration::from_nanos(first.expect("nanoseconds come first"))
    }
}

/// Returns the CPU time of threads that are about to sleep: it is updated when they do.
pub(crate) fn cpu_at_rest(threads: &[Thread]) -> Duration {
    let all = || threads.iter().map(|thread| thread.cpu()).sum();
    let mut last: Duration = all();
    for _ in 0..LOOKS_MAX {
        thread::sleep(BETWEEN_LOOKS);
        let now = all();
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// Returns two cores that this process may use, if there are two and threads can be put on them.
pub(crate) fn two_cores() -> Option<[usize; 2]> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let cores: Vec<usize> = allowed.trim().split(',').flat_map(range).collect();
    let is_able = thread::spawn({
        let first = *cores.first()?;
        move || Thread::this().is_some_and(|thread| thread.stay_on(first))
    });
    match (cores.first(), cores.last()) {
        (Some(&first), Some(&last)) if first != last && is_able.join().ok()? => Some([first, last]),
        _ => None,
    }
}

/// `3`, or `0-3`.
fn range(text: &str) -> Vec<usize> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => (first..=last).collect(),
        _ => Vec::new(),
    }
}
