//! A separate process for a test of process-wide state: this binary, with one of its tests as the child's program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "signals")]
use switchboard::signals::Signal;

use crate::support::{PATIENCE, this_program};

/// A child that ends with the test, even if that fails.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Its stderr, since stdout belongs to the test harness.
    pub(crate) lines: BufReader<ChildStderr>,
}

impl Process {
    /// The command that runs only the test of this name.
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
        // Nothing reports it, so it is polled, and yields the core that the other process needs.
        thread::sleep(Duration::from_millis(1));
    }
}
