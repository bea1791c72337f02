//! Counts the requests in progress, and decides whether another is let in.

use std::cell::Cell;
use std::collections::VecDeque;

use switchboard::{ConnectionId, Context, DatagramId, ListenerId};

/// Where requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Listener(ListenerId),
    Datagrams(DatagramId),
}

/// Shared, on one thread, by the code that lets requests in and the code that learns of their end.
pub(super) struct Admission {
    /// Set once it listens.
    gate: Cell<Option<Gate>>,
    parallel_max: usize,
    /// How many more requests to let in at all.
    quota: Cell<usize>,
    in_progress: Cell<usize>,
    ended: Cell<u64>,
    /// Connections that were accepted while the gate was open, but whose filters became ready after it was shut.
    waiting: Cell<VecDeque<(ConnectionId, LetIn)>>,
}

/// Lets in a connection that waits or, with `false`, turns it away.
pub(super) type LetIn = fn(&mut Context<'_>, ConnectionId, bool);

impl Admission {
    pub(super) fn new(parallel_max: usize) -> Admission {
        Admission {
            gate: Cell::new(None),
            parallel_max,
            quota: Cell::new(usize::MAX),
            in_progress: Cell::new(0),
            ended: Cell::new(0),
            waiting: Cell::default(),
        }
    }

    pub(super) fn set_gate(&self, gate: Gate) {
        self.gate.set(Some(gate));
    }

    pub(super) fn gate(&self) -> Option<Gate> {
        self.gate.get()
    }

    pub(super) fn set_quota(&self, context: &mut Context<'_>, quota: usize) {
        self.quota.set(quota);
        self.let_in(context);
        self.regulate(context);
    }

    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.get()
    }

    /// Returns how many requests have ended, including refused ones.
    pub(super) fn ended(&self) -> u64 {
        self.ended.get()
    }

    /// Records that a request is let in.
    pub(super) fn admit(&self, context: &mut Context<'_>) {
        self.in_progress.set(self.in_progress.get() + 1);
        self.count_down();
        self.regulate(context);
    }

    /// Records that a request was turned away.
    pub(super) fn refuse(&self, context: &mut Context<'_>) {
        self.ended.set(self.ended.get() + 1);
        self.count_down();
        self.regulate(context);
    }

    /// Records that a request that was let in has ended.
    pub(super) fn end(&self, context: &mut Context<'_>) {
        self.in_progress.set(self.in_progress.get() - 1);
        self.ended.set(self.ended.get() + 1);
        self.let_in(context);
        self.regulate(context);
    }

    /// Returns whether another request may be let in.
    pub(super) fn has_room(&self) -> bool {
        self.quota.get() > 0 && self.in_progress.get() < self.parallel_max
    }

    /// Queues a connection, to be let in when there is room.
    pub(super) fn wait(&self, id: ConnectionId, let_in: LetIn) {
        let mut waiting = self.waiting.take();
        waiting.push_back((id, let_in));
        self.waiting.set(waiting);
    }

    fn let_in(&self, context: &mut Context<'_>) {
        while self.has_room() {
            let Some((id, let_in)) = self.next_waiting() else { return };
            let_in(context, id, true);
        }
    }

    /// Turns away the connections that wait: none is let in any more.
    pub(super) fn turn_away(&self, context: &mut Context<'_>) {
        while let Some((id, let_in)) = self.next_waiting() {
            let_in(context, id, false);
        }
    }

    fn next_waiting(&self) -> Option<(ConnectionId, LetIn)> {
        let mut waiting = self.waiting.take();
        let next = waiting.pop_front();
        self.waiting.set(waiting);
        next
    }

    fn count_down(&self) {
        if self.quota.get() != usize::MAX {
            self.quota.set(self.quota.get().saturating_sub(1));
        }
    }

    /// Opens or shuts the gate; while it is shut, new clients wait in the kernel.
    fn regulate(&self, context: &mut Context<'_>) {
        let opens = self.has_room();
        match self.gate.get() {
            Some(Gate::Listener(id)) => {
                let Some(mut listener) = context.listener(id) else { return };
                if opens { listener.resume() } else { listener.pause() }
            }
            Some(Gate::Datagrams(id)) => {
                let Some(mut socket) = context.datagram(id) else { return };
                if opens { socket.resume_reading() } else { socket.pause_reading() }
            }
            None => {}
        }
    }
}
