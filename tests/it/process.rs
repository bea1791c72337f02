//! A process of a test's own, for what belongs to all of one: this binary, with one of its tests as the child's program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "signals")]
use switchboard::signals::Signal;

use crate::support::{PATIENCE, this_program};

/// Ended with the test, whatever becomes of that.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// What it says on stderr: stdout is the test harness's.
    pub(crate) lines: BufReader<ChildStderr>,
}

impl Process {
    /// What runs the test of this name alone.
    pub(crate) fn command(test: &str) -> Command {
        let mut command = Command::new(this_program());
        command.args(["--exact", test, "--nocapture"]);
        command
    }

    pub(crate) fn start(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Process { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        self.line_or_end().unwrap_or_default()
    }

    /// `None` where it has ended, or closed its stderr.
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        (count > 0).then(|| line.trim_end().to_owned())
    }

    #[allow(dead_code)] // Features decide who asks.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.line();
        line.parse().unwrap_or_else(|_| panic!("{line:?} is no address"))
    }

    #[cfg(feature = "signals")]
    pub(crate) fn send(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_until(|| self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(feature = "signals")]
pub(crate) fn send(process: u32, signal: Signal) {
    // The shell's own `kill`: any Unix has it.
    let kill = format!("kill -{} {process}", signal.as_raw());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// Waits for what another process does.
#[track_caller]
pub(crate) fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited for {PATIENCE:?} in vain");
        // Nothing tells of it: it is looked at again and again, and that process needs the core to get there.
        thread::sleep(Duration::from_millis(1));
    }
}
