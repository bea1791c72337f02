// The output of the examples, written by one thread for stdout and one for stderr: a stopped terminal or a full pipe
// holds up that thread, but neither the loop nor the program's end.
//
// Making the descriptor non-blocking is not an option, since other programs share the terminal.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most pieces that may be queued. Further ones are lost, and counted.
const PIECES_MAX: usize = 1000;

/// How long a caller waits for its line to be written, so that a program that ends right afterwards has printed it. An
/// output that takes longer is stuck: nobody waits for it again until it has written everything.
const PATIENCE: Duration = Duration::from_millis(100);

/// A thread with nothing to write ends after this time: in a process of several threads each call on a socket costs the
/// kernel a little more.
const REST: Duration = Duration::from_secs(1);

static STDOUT: Output = Output::new(|| Box::new(io::stdout()));
static STDERR: Output = Output::new(|| Box::new(io::stderr()));

/// Prints a line. If stdout is closed, full or stuck the line is lost, but the program goes on.
pub(crate) fn say(line: impl fmt::Display) {
    STDOUT.put(format!("{line}\n").into_bytes());
}

/// Prints a line on stderr.
#[allow(dead_code)] // Not every example reports errors.
pub(crate) fn complain(line: impl fmt::Display) {
    STDERR.put(format!("{line}\n").into_bytes());
}

/// Waits until all output is written or lost. For a program that is done, and whose purpose was that output.
#[allow(dead_code)] // Servers do not wait.
pub(crate) fn wait_until_written() {
    STDOUT.wait_until_written();
}

/// Shows the log on stderr, filtered by `RUST_LOG`.
#[allow(dead_code)] // Some examples have a log of their own.
pub(crate) fn show_log() {
    env_logger::Builder::from_default_env().target(env_logger::Target::Pipe(Box::new(Log))).init();
}

struct Log;

impl Write for Log {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        STDERR.put(record.to_vec());
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Output {
    state: Mutex<State>,
    changed: Condvar,
    open: fn() -> Box<dyn Write>,
}

struct State {
    has_thread: bool,
    waiting: VecDeque<Vec<u8>>,
    /// How many pieces were queued so far, and how many of them are written.
    put: u64,
    written: u64,
    lost: u64,
    is_stuck: bool,
}

impl Output {
    const fn new(open: fn() -> Box<dyn Write>) -> Output {
        let waiting = VecDeque::new();
        let state = State { has_thread: false, waiting, put: 0, written: 0, lost: 0, is_stuck: false };
        Output { state: Mutex::new(state), changed: Condvar::new(), open }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&'static self, piece: Vec<u8>) {
        let mut state = self.lock();
        if !state.has_thread {
            state.has_thread = thread::Builder::new().name("output".to_owned()).spawn(|| self.write_all()).is_ok();
        }
        if !state.has_thread {
            // The system cannot start a thread.
            drop(state);
            let _ = (self.open)().write_all(&piece);
            return;
        }
        if state.waiting.len() >= PIECES_MAX {
            state.lost += 1;
            return;
        }
        state.waiting.push_back(piece);
        state.put += 1;
        let number = state.put;
        self.changed.notify_all();
        if !state.is_stuck {
            let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.written < number);
            let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_stuck |= timeout.timed_out();
        }
    }

    fn wait_until_written(&self) {
        let state = self.lock();
        drop(self.changed.wait_while(state, |state| state.written < state.put));
    }

    /// Runs in the output's thread, until there has been nothing to write for a while.
    fn write_all(&self) {
        let mut output = (self.open)();
        let mut state = self.lock();
        loop {
            let Some(piece) = state.waiting.pop_front() else {
                state.is_stuck = false;
                let waited = self.changed.wait_timeout_while(state, REST, |state| state.waiting.is_empty());
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if state.waiting.is_empty() {
                    state.has_thread = false;
                    return;
                }
                continue;
            };
            drop(state);
            // A closed or full output is ignored: the next piece may find room again.
            let _ = output.write_all(&piece).and_then(|()| output.flush());
            state = self.lock();
            state.written += 1;
            if state.waiting.is_empty() && state.lost > 0 {
                let note = format!("({} lines were lost here)\n", std::mem::take(&mut state.lost));
                state.waiting.push_back(note.into_bytes());
                state.put += 1;
            }
            self.changed.notify_all();
        }
    }
}
