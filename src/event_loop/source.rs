//! Anything else that mio can wait for.

use mio::Interest;
use mio::event::Source;

use crate::Context;
use crate::sys::{Poller, Readiness};

/// What a source's handler returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceAction {
    /// It read until it would block: it is called at the next event.
    Wait,
    /// It stopped early: it is called again in the next turn, and the loop does not sleep before that.
    Again,
    /// It is done: source and handler are dropped.
    Remove,
}

/// A source with its handler.
pub(crate) trait AnySource {
    fn ready(&mut self, context: &mut Context<'_>, readiness: Readiness) -> SourceAction;

    fn reregister(&mut self, poller: &Poller, token: usize, interest: Interest) -> std::io::Result<()>;

    /// Sources that do not own a descriptor outlive their registration, so it must be undone.
    fn deregister(&mut self, poller: &Poller) -> std::io::Result<()>;
}

pub(crate) struct Registered<S, H> {
    pub(crate) source: S,
    pub(crate) handler: H,
}

impl<S, H> AnySource for Registered<S, H>
where
    S: Source + 'static,
    H: FnMut(&mut Context<'_>, &mut S, Readiness) -> SourceAction,
{
    fn ready(&mut self, context: &mut Context<'_>, readiness: Readiness) -> SourceAction {
        (self.handler)(context, &mut self.source, readiness)
    }

    fn reregister(&mut self, poller: &Poller, token: usize, interest: Interest) -> std::io::Result<()> {
        poller.reregister_source(&mut self.source, token, interest)
    }

    fn deregister(&mut self, poller: &Poller) -> std::io::Result<()> {
        poller.deregister_source(&mut self.source)
    }
}

/// A source's entry in the table.
pub(crate) struct SourceSlot {
    /// None while its handler runs.
    pub(crate) source: Option<Box<dyn AnySource>>,
    /// The readiness of its last events, kept for a handler that returned `Again`.
    pub(crate) readiness: Readiness,
    pub(crate) carried_over: bool,
    /// The interest that its handler, which is running, wants it to be registered with.
    pub(crate) interest: Option<Interest>,
    /// What a handler that panics is treated as having returned.
    pub(crate) after_panic: SourceAction,
}
