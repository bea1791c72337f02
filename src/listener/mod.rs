//! A listener: its sockets, and whether it accepts.
//!
//! Knows no slab and no clock, and calls no user code.

pub(crate) mod admission;
pub(crate) mod feeder;
pub(crate) mod lingering;
pub(crate) mod listen;
pub(crate) mod peers;
pub(crate) mod refused;
pub(crate) mod sockets;

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::connection::Settings;
use crate::filter::AcceptFilter;
use crate::health::report::Report;
use crate::ids::Id;
use crate::listener::peers::Peers;
use crate::listener::sockets::Sockets;
use crate::protocol::Factory;
use crate::sys::{self, AcceptError, Rest};
use crate::time::heap::Key;
use crate::time::retry::Retry;
use crate::{Address, Context, Detached, Limits, ListenerError, ListenerId};

/// Called when accepting fails.
pub(crate) type Hook = Box<dyn FnMut(&mut Context<'_>, ListenerId, &ListenerError)>;

/// Takes accepted connections in place of the factory.
pub(crate) type AcceptHook = Box<dyn FnMut(&mut Context<'_>, Detached)>;

pub(crate) struct Listener {
    pub(crate) sockets: Sockets,
    /// `None` while it runs.
    pub(crate) factory: Option<Factory>,
    /// `None` while it runs, or if none is set.
    pub(crate) hook: Option<Hook>,
    /// `None` while it runs, or if none is set.
    pub(crate) receiver: Option<AcceptHook>,
    /// The settings that its connections start with.
    pub(crate) settings: Rc<Settings>,
    /// Sent to peers that a cap refuses.
    pub(crate) refusal: Vec<u8>,
    /// Make the filters of its connections, the lowest first.
    pub(crate) filters: Rc<Vec<AcceptFilter>>,
    /// How many of its connections have a socket.
    pub(crate) live: usize,
    /// How many of those linger.
    pub(crate) lingering: usize,
    /// How many connections each peer has; counted since that was first limited.
    pub(crate) peers: Option<Peers>,
    /// Whether the user has paused it.
    pub(crate) paused: bool,
    /// Whether connections may be waiting. Cleared only when accepting would block.
    pub(crate) readable: bool,
    /// Whether it is on the ready list.
    pub(crate) carried_over: bool,
    pub(crate) accepting: Accepting,
    /// How long to wait after accepting has failed (A2).
    pub(crate) retry: Retry,
    report: Report,
}

/// Whether a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    Yes,
    /// It has all the connections it may have; it resumes when one of them ends.
    Full,
    /// Accepting failed; it resumes at this timer, or when the loop has closed a descriptor.
    BackingOff(Key),
}

/// The result of an accept.
pub(crate) enum Accepted {
    Connection(sys::Stream, Address),
    Failed(AcceptError, io::Error),
}

impl Listener {
    pub(crate) fn new(sockets: Sockets, factory: Factory, limits: Limits) -> Listener {
        Listener {
            sockets,
            factory: Some(factory),
            hook: None,
            receiver: None,
            settings: Rc::new(Settings::new(limits, None)),
            refusal: Vec::new(),
            filters: Rc::default(),
            live: 0,
            lingering: 0,
            peers: None,
            paused: false,
            readable: false,
            carried_over: false,
            accepting: Accepting::Yes,
            retry: Retry::default(),
            report: Report::default(),
        }
    }

    pub(crate) fn wants_to_accept(&self) -> bool {
        self.readable && !self.paused && self.accepting == Accepting::Yes
    }

    /// Returns whether it hands off every connection that it accepts.
    pub(crate) fn gives_away(&self) -> bool {
        self.receiver.is_some()
    }

    /// Returns whether it hands off what it accepts, or caps the connections of each peer.
    #[inline]
    pub(crate) fn may_divert(&self) -> bool {
        self.receiver.is_some() || self.settings.limits.connections_per_peer_max.is_some()
    }

    /// Returns whether it has more to do for a connection that opens or closes than to count it.
    #[inline]
    pub(crate) fn is_special(&self) -> bool {
        self.peers.is_some() || !self.filters.is_empty() || self.is_fed()
    }

    /// Returns whether other threads feed it, in which case it has no socket.
    #[inline]
    pub(crate) fn is_fed(&self) -> bool {
        self.sockets.first().is_fed()
    }

    /// Takes the data that came with the connection that was accepted last.
    pub(crate) fn take_rest(&mut self) -> Option<Rest> {
        self.sockets.first_mut().take_rest()
    }

    /// Notes that connections may be waiting at the socket whose token names this slot.
    pub(crate) fn note_readable(&mut self, slot: Id) {
        self.sockets.note_readable(slot);
        self.readable = true;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.live >= self.settings.limits.connections_max
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        match self.sockets.accept() {
            Ok((socket, peer)) => {
                self.retry.reset();
                Accepted::Connection(socket, peer)
            }
            Err((class, error)) => {
                if class == AcceptError::Drained {
                    self.retry.reset();
                }
                Accepted::Failed(class, error)
            }
        }
    }

    /// Returns whether to log another failure, and if so how many before it were not logged.
    pub(crate) fn report(&mut self, now: Instant) -> Option<u64> {
        self.report.ask(now)
    }
}
