//! One loop of a group, on its thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::group_handle::{GroupState, NEVER};
use switchboard::{Context, EventLoop, Handle, LoopLimits, PanicPolicy};

/// What each loop of a group is created with.
pub(super) struct Plan {
    pub(super) limits: LoopLimits,
    pub(super) panic_policy: PanicPolicy,
    pub(super) when_loop_fails: WhenLoopFails,
    pub(super) setup: Setup,
}

type Setup = Box<dyn Fn(usize, &mut Context<'_>) -> io::Result<()> + Send + Sync>;

/// What happens to the other loops when a loop of a group fails: its thread panics, under [`PanicPolicy::Propagate`],
/// or its poller fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenLoopFails {
    /// They are stopped: the program ends and can be restarted, instead of serving at reduced capacity.
    #[default]
    StopAll,
    /// They keep running. [`join`](super::EventLoopGroup::join) returns the failure when they have ended too.
    /// Connections in the failed loop's share of a reuse-port address are reset by the kernel. Those that were accepted
    /// for the failed loop, but not taken by it yet, are served by the others. If it was the loop that accepts for all,
    /// nothing is accepted any more.
    GoOn,
}

/// One loop of a group. However it ends, dropping it informs the others.
pub(super) struct Member {
    event_loop: EventLoop,
    index: usize,
    shared: Arc<GroupState>,
    when_loop_fails: WhenLoopFails,
    end: End,
}

/// How a loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The initial value, for a loop that ends in any other way.
    Failed,
    Stopped,
    /// It was shut down or drained with all the others, and is done; the others may not be.
    ShutDown,
}

/// What a thread gets besides its plan: where to report that its loop has started, and when all have.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) shared: Arc<GroupState>,
    pub(super) started: Sender<(usize, Handle)>,
    /// Disconnected without a message if another loop could not start.
    pub(super) all_started: Receiver<()>,
}

/// The body of the thread: creates its loop, and runs it once all loops have started.
pub(super) fn run(plan: &Plan, start: Start) -> io::Result<()> {
    let Start { index, shared, started, all_started } = start;
    let mut event_loop = EventLoop::with_limits(plan.limits.clone())?;
    event_loop.set_panic_policy(plan.panic_policy);
    let mut member = Member { event_loop, index, shared, when_loop_fails: plan.when_loop_fails, end: End::Failed };
    (plan.setup)(index, &mut member.event_loop.context())?;
    let handle = member.event_loop.context().handle();
    let _ = started.send((index, handle));
    // The thread that starts the group waits until every thread has dropped its sender.
    drop(started);
    member.end = match all_started.recv() {
        Ok(()) => member.serve()?,
        Err(_) => End::Stopped,
    };
    Ok(())
}

impl Member {
    /// Runs turns until the loop is stopped, drained or shut down.
    fn serve(&mut self) -> io::Result<End> {
        let (mut drain_by_ns, mut shut_down_by_ns) = (NEVER, NEVER);
        loop {
            if self.shared.drain_by_ns() < drain_by_ns {
                drain_by_ns = self.shared.drain_by_ns();
                let grace = self.shared.time_until(drain_by_ns);
                self.event_loop.context().drain(grace);
            }
            if self.shared.shut_down_by_ns() < shut_down_by_ns {
                shut_down_by_ns = self.shared.shut_down_by_ns();
                let grace = self.shared.time_until(shut_down_by_ns);
                self.event_loop.context().shutdown(grace);
            }
            if self.event_loop.take_stop() || self.shared.is_stopped() {
                let was_ordered = drain_by_ns.min(shut_down_by_ns) != NEVER;
                return Ok(if was_ordered { End::ShutDown } else { End::Stopped });
            }
            self.event_loop.turn(None)?;
        }
    }
}

/// Also runs while the thread unwinds: a panic in a user's callback must not pass through here, so panics are isolated.
impl Drop for Member {
    fn drop(&mut self) {
        match (self.end, self.when_loop_fails) {
            (End::ShutDown, _) | (End::Failed, WhenLoopFails::GoOn) => {}
            (End::Stopped, _) | (End::Failed, WhenLoopFails::StopAll) => self.shared.stop(),
        }
        self.event_loop.set_panic_policy(PanicPolicy::Isolate);
        // Dropping the loop would do this too, but its counters can still be read here.
        if let Err(error) = self.event_loop.shutdown(Duration::ZERO) {
            log::error!("loop {} of the group cannot shut down cleanly: {error}", self.index);
        }
        let counters = self.event_loop.context().counters();
        self.shared.ended(self.index, counters);
    }
}
