//! How a group of loops can fail, and how work.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

use switchboard::{Counters, escape};

/// A loop of a group has failed: which, how, and what all of them had counted.
#[derive(Debug)]
pub struct GroupError {
    loop_index: usize,
    failure: LoopFailure,
    /// In a box, since an error is moved about where all goes well too.
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

    /// Which loop has failed, counted from 0; the first of them, if it was several.
    pub fn loop_index(&self) -> usize {
        self.loop_index
    }

    /// How it has failed.
    pub fn failure(&self) -> &LoopFailure {
        &self.failure
    }

    /// What all loops had counted when they had ended, the failed one included.
    pub fn counters(&self) -> Counters {
        *self.counters
    }
}

impl LoopFailure {
    /// What a thread that panicked has left.
    pub(super) fn of_panic(payload: Box<dyn Any + Send>) -> LoopFailure {
        let message = panic_message(&*payload);
        // Its destructor may be the user's, and could panic here.
        std::mem::forget(payload);
        LoopFailure::Panic(message)
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(f, format_args!("loop {} {}", self.loop_index, self.failure))
    }
}

/// A panic's message is shown escaped as [`escape`](crate::escape) does, since it may quote a peer.
impl fmt::Display for LoopFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoopFailure::Panic(message) => {
                fmt::write(f, format_args!("panicked: {}", switchboard::escape(message.as_bytes())))
            }
            LoopFailure::Io(error) => fmt::write(f, format_args!("has failed: {error}")),
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

/// For programs that end by whatever error there is.
impl From<GroupError> for io::Error {
    fn from(error: GroupError) -> io::Error {
        let kind = match &error.failure {
            LoopFailure::Panic(_) => io::ErrorKind::Other,
            LoopFailure::Io(error) => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// The error of a thread that cannot be started, with what the system says.
pub(super) fn cannot_start_thread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// The message of a panic, if it has one.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|it| &**it));
    message.unwrap_or("(not a message)").to_owned()
}

/// Why there is no result of work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkError {
    /// It panicked with this message.
    Panic(String),
    /// It was not done within its timeout.
    TimedOut,
    /// The pool ended before the work began.
    Dropped,
    /// The pool has not taken it, for this reason: too much work is waiting, or no thread can be started.
    Refused(String),
}

impl WorkError {
    /// As much is waiting as may.
    pub(super) fn too_much() -> WorkError {
        WorkError::Refused("too much work is waiting".to_owned())
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkError::Panic(message) => fmt::write(f, format_args!("it panicked: {}", escape(message.as_bytes()))),
            WorkError::TimedOut => f.write_str("it was not done in time"),
            WorkError::Dropped => f.write_str("its pool ended before it began"),
            WorkError::Refused(why) => fmt::write(f, format_args!("its pool has refused it: {why}")),
        }
    }
}

impl Error for WorkError {}
