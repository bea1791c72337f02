// The examples' output, written by a separate thread for each of stdout and stderr: a stopped terminal or a full pipe
// blocks that thread, and neither the loop nor the end of the program.
//
// Making the descriptor non-blocking would not do: other programs share the terminal.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// The maximum number of queued pieces. Further ones are dropped, and counted.
const PIECES_MAX: usize = 1000;

/// How long a caller waits for its line to be written, so that a program that exits right afterwards has printed it. An
/// output that takes longer counts as stuck: callers do not wait for it again until its queue is empty.
const PATIENCE: Duration = Duration::from_millis(100);

static STDOUT: Output = Output::new(|| Box::new(io::stdout()));
static STDERR: Output = Output::new(|| Box::new(io::stderr()));

/// Prints a line. If stdout is closed, full or stuck, the line is lost and the program continues.
pub(crate) fn say(line: impl fmt::Display) {
    STDOUT.put(format!("{line}\n").into_bytes());
}

/// Prints a line on stderr.
#[allow(dead_code)] // Not every example prints errors.
pub(crate) fn complain(line: impl fmt::Display) {
    STDERR.put(format!("{line}\n").into_bytes());
}

/// Waits until all lines are written or lost. For a program whose only task is to print them.
#[allow(dead_code)] // Servers do not need it.
pub(crate) fn wait_until_written() {
    STDOUT.wait_until_written();
}

/// Shows the log on stderr, filtered by `RUST_LOG`.
#[allow(dead_code)] // Some examples have their own log.
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
    /// Whether its thread could be started.
    has_thread: OnceLock<bool>,
}

struct State {
    waiting: VecDeque<Vec<u8>>,
    /// How many pieces were queued, and how many of them are written.
    put: u64,
    written: u64,
    lost: u64,
    is_stuck: bool,
}

impl Output {
    const fn new(open: fn() -> Box<dyn Write>) -> Output {
        let state = State { waiting: VecDeque::new(), put: 0, written: 0, lost: 0, is_stuck: false };
        Output { state: Mutex::new(state), changed: Condvar::new(), open, has_thread: OnceLock::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&'static self, piece: Vec<u8>) {
        let begin = || thread::Builder::new().name("output".to_owned()).spawn(|| self.write_all()).is_ok();
        if !*self.has_thread.get_or_init(begin) {
            // The system cannot create a thread.
            let _ = (self.open)().write_all(&piece);
            return;
        }
        let mut state = self.lock();
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

    /// The body of its thread.
    fn write_all(&self) {
        let mut output = (self.open)();
        let mut state = self.lock();
        loop {
            let Some(piece) = state.waiting.pop_front() else {
                state.is_stuck = false;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            // If it is closed or full, this piece is lost, but the next one may succeed.
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
