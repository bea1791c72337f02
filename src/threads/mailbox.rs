//! The queue of commands from handles, in any thread, to the loop: bounded, in order, and without lost wake-ups.
//!
//! Knows neither the commands nor what wakes the loop, so that a model checker can run all interleavings of this very
//! file (`tests/model`).

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::PoisonError;

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Why a command was not accepted, with the command itself: it is not run unless it is posted again.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostError<T> {
    /// [`commands_max`](crate::LoopLimits::commands_max) commands are waiting: they are posted faster than the loop
    /// runs them.
    Full(T),
    /// The loop was dropped.
    Gone(T),
}

impl<T> PostError<T> {
    /// Returns the command.
    pub fn into_inner(self) -> T {
        match self {
            PostError::Full(command) | PostError::Gone(command) => command,
        }
    }
}

/// Does not show the command, which therefore needs no `Debug`.
impl<T> fmt::Debug for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "Full(..)",
            PostError::Gone(_) => "Gone(..)",
        })
    }
}

impl<T> fmt::Display for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "too many commands are waiting for the loop",
            PostError::Gone(_) => "the loop is gone",
        })
    }
}

impl<T> Error for PostError<T> {}

/// Ends the loop's wait.
pub(crate) trait Wake {
    /// Ends the wait under way, or else the next one. Returns `false` if that failed, which the implementation reports.
    fn wake(&self) -> bool;
}

pub(crate) struct Mailbox<T, W> {
    /// Whether commands are waiting: read by the loop in every turn, without the lock.
    ///
    /// Changed only under the lock, so it is accurate whenever the lock is free. The sender that makes it true wakes
    /// the loop afterwards, so a loop that reads a stale `false` does not go to sleep because of it.
    occupied: AtomicBool,
    queue: Mutex<Queue<T>>,
    commands_max: usize,
    waker: W,
}

struct Queue<T> {
    commands: VecDeque<T>,
    reader: Reader,
    /// How many commands were waiting when the loop was dropped.
    dropped: usize,
}

/// What is known about the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// It may be asleep: a sender must wake it.
    MaySleep,
    /// It looks at the queue before it sleeps again: it has been or is about to be woken, or it left some commands.
    WillLook,
    Gone,
}

impl<T, W: Wake> Mailbox<T, W> {
    pub(crate) fn new(commands_max: usize, waker: W) -> Mailbox<T, W> {
        let queue = Queue { commands: VecDeque::new(), reader: Reader::MaySleep, dropped: 0 };
        Mailbox { occupied: AtomicBool::new(false), queue: Mutex::new(queue), commands_max, waker }
    }

    pub(crate) fn waker(&self) -> &W {
        &self.waker
    }

    /// Queues the command that `command` makes from `value`, or returns `value`. `command` is called under the lock: it
    /// must not be user code.
    ///
    /// If waking fails, nothing is lost: the command stays queued, the loop finds it in its next turn, and the next
    /// post wakes it again. The command is not returned, since the loop may already be running it.
    pub(crate) fn push<V>(&self, value: V, command: impl FnOnce(V) -> T) -> Result<(), PostError<V>> {
        self.push_below(self.commands_max, value, command)
    }

    /// Like [`push`](Mailbox::push), with a limit of its own: for commands that must not get lost and are limited in
    /// another way.
    pub(crate) fn push_below<V>(
        &self,
        commands_max: usize,
        value: V,
        command: impl FnOnce(V) -> T,
    ) -> Result<(), PostError<V>> {
        match self.room(commands_max) {
            Ok(room) => {
                room.fill(command(value));
                Ok(())
            }
            Err(PostError::Gone(())) => Err(PostError::Gone(value)),
            Err(PostError::Full(())) => Err(PostError::Full(value)),
        }
    }

    /// Returns room for one more command, if there is any. Compiled once, whatever is posted.
    fn room(&self, commands_max: usize) -> Result<Room<'_, T, W>, PostError<()>> {
        let queue = self.lock();
        if queue.reader == Reader::Gone {
            return Err(PostError::Gone(()));
        }
        if queue.commands.len() >= commands_max {
            return Err(PostError::Full(()));
        }
        Ok(Room { mailbox: self, queue })
    }

    /// Returns whether commands are waiting, as far as the loop can know without the lock.
    #[inline]
    pub(crate) fn is_occupied(&self) -> bool {
        self.occupied.load(Ordering::Acquire)
    }

    /// Moves the oldest commands, at most `count_max`, into the empty `batch`. Only for the loop.
    pub(crate) fn take(&self, batch: &mut VecDeque<T>, count_max: usize) {
        let mut queue = self.lock();
        if queue.commands.len() <= count_max {
            mem::swap(&mut queue.commands, batch);
        } else {
            batch.extend(queue.commands.drain(..count_max));
        }
        let is_left = !queue.commands.is_empty();
        self.occupied.store(is_left, Ordering::Release);
        queue.reader = if is_left { Reader::WillLook } else { Reader::MaySleep };
    }

    /// Closes the queue when the loop ends: nothing is accepted any more. Returns the waiting commands for the caller
    /// to drop, since a destructor may want to post.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut queue = self.lock();
        queue.reader = Reader::Gone;
        queue.dropped += queue.commands.len();
        self.occupied.store(false, Ordering::Release);
        mem::take(&mut queue.commands)
    }

    /// Returns whether the loop has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().reader == Reader::Gone
    }

    /// Returns how many commands were waiting when the loop was dropped.
    pub(crate) fn dropped(&self) -> usize {
        self.lock().dropped
    }

    /// No user code runs under the lock, so no panic can have left the queue half changed.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a command that is about to be queued, under the lock.
struct Room<'a, T, W> {
    mailbox: &'a Mailbox<T, W>,
    queue: MutexGuard<'a, Queue<T>>,
}

impl<T, W: Wake> Room<'_, T, W> {
    fn fill(self, command: T) {
        let Room { mailbox, mut queue } = self;
        queue.commands.push_back(command);
        mailbox.occupied.store(true, Ordering::Release);
        let before = mem::replace(&mut queue.reader, Reader::WillLook);
        drop(queue);
        // Not under the lock, which the woken loop needs.
        if before == Reader::MaySleep && !mailbox.waker.wake() {
            let mut queue = mailbox.lock();
            if queue.reader == Reader::WillLook {
                queue.reader = Reader::MaySleep;
            }
        }
    }
}
