// What the examples print, written by a thread of its own for each of stdout and stderr: a terminal that was stopped, or a
// full pipe, holds up that thread and neither the loop nor the program's end.
//
// Making the descriptor non-blocking would not do: other programs share the terminal.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// So many pieces wait at most. More are lost, and counted.
const PIECES_MAX: usize = 1000;

/// How long one waits to see its line written, so that a program which ends right behind it has printed it. An output that
/// takes longer is stuck: nobody waits for it again before it has taken all.
const PATIENCE: Duration = Duration::from_millis(100);

static STDOUT: Output = Output::new(|| Box::new(io::stdout()));
static STDERR: Output = Output::new(|| Box::new(io::stderr()));

/// Prints a line. A closed, full or stuck stdout is no reason to end: the line is lost then, the server is not.
pub(crate) fn say(line: impl fmt::Display) {
    STDOUT.put(format!("{line}\n").into_bytes());
}

/// The same on stderr.
#[allow(dead_code)] // Not every example complains.
pub(crate) fn complain(line: impl fmt::Display) {
    STDERR.put(format!("{line}\n").into_bytes());
}

/// Waits until what was said is written, or lost. For a program whose work it was to say that, and which is done.
#[allow(dead_code)] // Servers end without.
pub(crate) fn wait_until_written() {
    STDOUT.wait_until_written();
}

/// Shows the log, on stderr, as `RUST_LOG` says.
#[allow(dead_code)] // Some have a log of their own.
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
    /// Whether it has its thread.
    has_thread: OnceLock<bool>,
}

struct State {
    waiting: VecDeque<Vec<u8>>,
    /// How many were put here, and how many of them are written.
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
            // The system has no thread left.
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

    /// The life of its thread.
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
            // Closed or full: the next may find room again.
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
