//! The life of the loop itself, from running to its end, and what it admits meanwhile.
//!
//! This only tracks the stage that the loop is in: `shutdown.rs` implements the transitions between them.

use std::io;

use crate::time::heap::Key;
use crate::{Ended, LoopError};

/// The stages of a loop's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// No new connections are accepted; existing ones go on until they end by themselves, or until the deadline.
    Draining(End),
    /// All are being closed: until none is left, or until the deadline.
    ShuttingDown(End),
    /// Being dropped.
    Dropping,
}

/// How a drain or a shutdown is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) deadline: Key,
    /// Whether `run` then returns.
    pub(super) stops: bool,
}

pub(crate) struct Life {
    stage: Stage,
    /// How often the loop has begun to shut down.
    shutdowns: u64,
    stop_requested: bool,
    /// The result of the drain or shutdown that is under way, or of the last one.
    ended: Ended,
}

impl Life {
    pub(super) fn new() -> Life {
        Life { stage: Stage::Running, shutdowns: 0, stop_requested: false, ended: Ended::Clean }
    }

    #[inline]
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn drain(&mut self, end: End) {
        self.ended = Ended::Clean;
        self.stage = Stage::Draining(end);
    }

    pub(super) fn shut_down(&mut self, end: End) {
        if matches!(self.stage, Stage::Running) {
            self.ended = Ended::Clean;
        }
        self.stage = Stage::ShuttingDown(end);
        self.shutdowns += 1;
    }

    /// The grace period ended before all had ended.
    pub(super) fn cut_off(&mut self) {
        self.ended = Ended::CutOff;
    }

    pub(super) fn ended(&self) -> Ended {
        self.ended
    }

    /// The shutdown is over, and the loop can be used again.
    pub(super) fn end(&mut self, stops: bool) {
        self.stage = Stage::Running;
        self.stop_requested |= stops;
    }

    pub(super) fn drop(&mut self) {
        self.stage = Stage::Dropping;
    }

    pub(super) fn shutdowns(&self) -> u64 {
        self.shutdowns
    }

    pub(super) fn request_stop(&mut self) {
        self.stop_requested = true;
    }

    pub(super) fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.stop_requested)
    }

    /// Returns whether anything new is admitted.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Draining(_))
    }

    /// Returns whether a drain or a shutdown is under way.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Draining(_) | Stage::ShuttingDown(_))
    }

    /// Refuses anything new while the loop shuts down (C6). A draining loop admits it: an answer may need another
    /// connection.
    pub(super) fn check_open(&self) -> io::Result<()> {
        match self.is_open() {
            true => Ok(()),
            false => Err(LoopError::ShuttingDown.into()),
        }
    }

    /// Also refuses new listeners while the loop drains.
    pub(crate) fn check_listens(&self) -> io::Result<()> {
        self.check_open()?;
        match self.stage {
            Stage::Draining(_) => Err(LoopError::Draining.into()),
            _ => Ok(()),
        }
    }
}
