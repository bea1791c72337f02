//! Shared by the peers whose tasks stay on one thread: the room of a fan-out, and waiting for a descriptor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::{READ_BYTES, UNSENT_BYTES_MAX};

/// The members of a fan-out, each with the lines that it was not sent yet.
#[derive(Default)]
pub struct Room(RefCell<Slab<Rc<Member>>>);

/// One of them; its reading task and its writing task have it.
#[derive(Default)]
pub struct Member {
    key: Cell<usize>,
    state: Cell<State>,
    gathered: RefCell<Vec<u8>>,
    /// The writing task waits for lines.
    waits: Cell<bool>,
    reader: Wakers,
    writer: Wakers,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Joined,
    /// It has ended its stream, and leaves once it has got what was gathered.
    Ending,
    /// Both tasks are to end.
    Gone,
}

impl Room {
    pub fn join(&self) -> Rc<Member> {
        let member = Rc::<Member>::default();
        member.key.set(self.0.borrow_mut().insert(member.clone()));
        member
    }

    /// Called once, when the writing task ends.
    pub fn leave(&self, member: &Member) {
        member.end(State::Gone);
        self.0.borrow_mut().remove(member.key.get());
    }

    /// Appends lines to the buffer of each member. Those that have too much already are to leave.
    pub fn say(&self, lines: &[u8]) {
        for (_, member) in self.0.borrow().iter() {
            member.hear(lines);
        }
    }
}

impl Member {
    fn hear(&self, lines: &[u8]) {
        if self.state.get() != State::Joined {
            return;
        }
        let mut gathered = self.gathered.borrow_mut();
        gathered.extend_from_slice(lines);
        if gathered.len() > UNSENT_BYTES_MAX {
            self.end(State::Gone);
        } else if self.waits.take() {
            self.writer.wake();
        }
    }

    /// Records that it has ended its stream.
    pub fn ended(&self) {
        self.end(State::Ending);
    }

    /// Makes it leave at once.
    pub fn fail(&self) {
        self.end(State::Gone);
    }

    fn end(&self, state: State) {
        if self.state.get() != State::Gone {
            self.state.set(state);
            self.reader.wake();
            self.writer.wake();
        }
    }

    /// Returns what has been gathered, at least a line, or `None` if no more is to be sent. `spare` is kept for the next
    /// lines.
    pub async fn gathered(&self, mut spare: Vec<u8>) -> Option<Vec<u8>> {
        spare.clear();
        // A large buffer is not kept.
        spare.shrink_to(READ_BYTES * 4);
        let mut spare = Some(spare);
        poll_fn(|context| {
            let mut gathered = self.gathered.borrow_mut();
            if self.state.get() == State::Gone || (self.state.get() == State::Ending && gathered.is_empty()) {
                return Poll::Ready(None);
            }
            if !gathered.is_empty() {
                return Poll::Ready(spare.take().map(|spare| mem::replace(&mut *gathered, spare)));
            }
            self.waits.set(true);
            self.writer.remember(context);
            Poll::Pending
        })
        .await
    }

    /// Reads, unless the member is to leave.
    pub async fn reading<T>(&self, read: impl Future<Output = T>) -> Option<T> {
        self.unless_gone(&self.reader, read).await
    }

    /// Writes, unless the member is to leave.
    pub async fn writing<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        self.unless_gone(&self.writer, write).await
    }

    /// Drops the future, which cancels its operation, as soon as the member is to leave.
    async fn unless_gone<T>(&self, task: &Wakers, io: impl Future<Output = T>) -> Option<T> {
        let mut io = pin!(io);
        poll_fn(|context| {
            if self.state.get() == State::Gone {
                return Poll::Ready(None);
            }
            task.remember(context);
            io.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// The waker of a task.
#[derive(Default)]
struct Wakers(RefCell<Option<Waker>>);

impl Wakers {
    fn remember(&self, context: &Context<'_>) {
        let mut waker = self.0.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.0.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// What accepting waits for when no descriptor is left: that a connection ends.
#[derive(Default)]
pub struct Vacancy {
    is_there: Cell<bool>,
    task: Wakers,
}

impl Vacancy {
    pub async fn wait(&self) {
        self.is_there.set(false);
        poll_fn(|context| {
            self.task.remember(context);
            if self.is_there.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// A connection has ended.
    pub fn notify(&self) {
        if !self.is_there.replace(true) {
            self.task.wake();
        }
    }
}
