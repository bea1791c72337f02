//! System calls besides those on sockets: the CPU time of the server, pinning to a core, descriptors.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::result::{Doing, Failure, Result};

/// Besides the connections: the poller, standard streams, what the system's library opens.
const SPARE_DESCRIPTORS: u64 = 32;
const LOOKS_MAX: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// The process of the server, if it runs on this machine and its id was given.
#[derive(Clone, Copy)]
pub struct Server {
    pub pid: u32,
}

impl Server {
    /// Returns the CPU time of all its threads, once they are idle.
    ///
    /// The kernel updates it when a thread goes to sleep, so it is read until it no longer changes. For a thread that
    /// is never idle the value is taken after a while.
    pub fn cpu_ns_at_rest(self) -> Result<u64> {
        let mut last = self.cpu_ns()?;
        for _ in 0..LOOKS_MAX {
            thread::sleep(BETWEEN_LOOKS);
            let now = self.cpu_ns()?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    fn cpu_ns(self) -> Result<u64> {
        let folder = format!("/proc/{}/task", self.pid);
        let mut total = 0;
        for thread in fs::read_dir(&folder).doing(|| folder.clone())? {
            let file = thread?.path().join("schedstat");
            // A thread may have ended since it was listed.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let first = text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
            total += first.ok_or_else(|| Failure::new(format!("{} says {text:?}", file.display())))?;
        }
        Ok(total)
    }
}

pub fn stay_on_core(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    if core >= CpuSet::MAX_CPU {
        return Err(Failure::new(format!("no such core: {core}")));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).doing(|| format!("core {core}"))
}

/// Raises the limit on open descriptors as far as it goes, and fails if that is not far enough.
pub fn allow_descriptors(connections: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .doing(|| "the limit on descriptors".into())?;
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    match limit.maximum {
        Some(most) if most < needed => Err(Failure::new(format!(
            "{connections} connections need {needed} descriptors, of which {most} are allowed"
        ))),
        _ => Ok(()),
    }
}
