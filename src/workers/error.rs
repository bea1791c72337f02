//! Errors of loop groups and of work.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

use switchboard::{Counters, escape};

/// A loop of a group has failed: which one, how, and the counters of all loops.
#[derive(Debug)]
pub struct GroupError {
    loop_index: usize,
    failure: LoopFailure,
    /// Boxed, since errors are also moved around in results that are `Ok`.
    counters: Box<Counters>,
}

/// How a loop of a group has failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoopFailure {
    /// Its thread panicked, with this message: in its setup, or in a callback under
    /// [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate).
    Panic(String),
    /// Its thread could not be started, its setup failed, or its poller did.
    Io(io::Error),
}

impl GroupError {
    pub(super) fn new(loop_index: usize, failure: LoopFailure) -> GroupError {
        GroupError { loop_index, failure, counters: Box::default() }
    }

    pub(super) fn with_counters(mut self, counters: Counters) -> GroupError {
        *self.counters = counters;
        self
    }

    /// Returns the index of the loop that has failed, counted from 0; the lowest, if several have.
    pub fn loop_index(&self) -> usize {
        self.loop_index
    }

    /// Returns how it failed.
    pub fn failure(&self) -> &LoopFailure {
        &self.failure
    }

    /// Returns the counters of all loops when they had ended, including the failed one.
    pub fn counters(&self) -> Counters {
        *self.counters
    }
}

impl LoopFailure {
    /// Returns the failure of a thread that panicked with this payload.
    pub(super) fn of_panic(payload: Box<dyn Any + Send>) -> LoopFailure {
        let message = panic_message(&*payload);
        // The payload's destructor may be user code, and could panic here.
        std::mem::forget(payload);
        LoopFailure::Panic(message)
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(f, format_args!("loop {} {}", self.loop_index, self.failure))
    }
}

/// The message of a panic is [escaped](crate::escape), since it may quote a peer.
impl fmt::Display for LoopFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoopFailure::Panic(message) => {
                fmt::write(f, format_args!("panicked: {}", switchboard::escape(message.as_bytes())))
            }
            LoopFailure::Io(error) => fmt::write(f, format_args!("failed: {error}")),
        }
    }
}

impl Error for GroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.source()
    }
}

impl Error for LoopFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            LoopFailure::Panic(_) => None,
            LoopFailure::Io(error) => error.source(),
        }
    }
}

/// For programs that return any error from `main`.
impl From<GroupError> for io::Error {
    fn from(error: GroupError) -> io::Error {
        let kind = match &error.failure {
            LoopFailure::Panic(_) => io::ErrorKind::Other,
            LoopFailure::Io(error) => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Returns the error for a thread that cannot be started, with the system's reason.
pub(super) fn cannot_start_thread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// Returns the message of a panic, if it has one.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|it| &**it));
    message.unwrap_or("(no message)").to_owned()
}

/// Why work has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkError {
    /// It panicked with this message.
    Panic(String),
    /// It was not done within its timeout.
    TimedOut,
    /// The pool ended before the work began.
    Dropped,
    /// The pool did not accept it, for this reason: too much work is waiting, or no thread can be started.
    Refused(String),
}

impl WorkError {
    /// The error for a queue that is full.
    pub(super) fn too_much() -> WorkError {
        WorkError::Refused("too much work is waiting".to_owned())
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkError::Panic(message) => {
                fmt::write(f, format_args!("the work panicked: {}", escape(message.as_bytes())))
            }
            WorkError::TimedOut => f.write_str("the work was not done in time"),
            WorkError::Dropped => f.write_str("the pool ended before the work began"),
            WorkError::Refused(why) => fmt::write(f, format_args!("the pool refused the work: {why}")),
        }
    }
}

impl Error for WorkError {}
