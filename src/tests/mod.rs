//! The rules of the loop, tested in memory: the whole loop runs on scripted sockets and a clock that only waiting
//! moves.
//!
//! There is one file for each group of rules; each test's name begins with the rule it tests. Small tests of one file
//! are at its end.
//!
//! | room | its tests |
//! | --- | --- |
//! | the turn, what leads into user code, the loop's own lifetime | `turning`, `reentering`, `reaching`, `panics`, `destructors`, `stopping`, `draining`, `health`, `signals` |
//! | the quick path | `quick` |
//! | reading | `reading`, `consuming`, `urgent`, `memory` |
//! | writing, the outbox | `writing`, `marks`, `holding`, `hoarding`, `broadcasting`, `producing` |
//! | the life of a connection | `states`, `life`, `starting`, `half_closing`, `closing`, `ending`, `detaching`, `joining` |
//! | timers, timeouts, and what a protocol waits for | `timing`, `repeating`, `own_timers`, `own_calls`, `timeouts`, `silence`, `judging` |
//! | filters | `filters` |
//! | listeners | `accepting`, `overload`, `refusing`, `backlog` |
//! | connecting | `connecting`, `names`, `reconnecting` |
//! | datagrams | `datagrams` |
//! | rates | `rates` |
//! | threads | `commands` |
//! | lines and frames | `framing` |
//! | differences between systems | `platforms` |
//! | everything at once | `properties`; against the real system, `differential` |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::listener::sockets::Sockets;
use crate::sys::script::{Backlog, Listener, Peer, Stream, World};
use crate::sys::{self, Readiness, errno};
use crate::{
    CloseReason, ConnectError, ConnectionId, Detached, EventLoop, Limits, ListenerId, LoopLimits, PanicPolicy,
    Protocol, Rate, Timeout, Transport,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const KIB: usize = 1024;

/// A call to a protocol.
pub(crate) enum Event<'a> {
    Made,
    Data(&'a [u8]),
    Eof(&'a [u8]),
    Pause,
    Resume,
    Produce,
    TimedOut(Timeout),
    Timer(u16),
    Draining,
    Failed(&'a ConnectError),
    Lost(&'a CloseReason),
}

impl Event<'_> {
    fn shown(&self) -> String {
        match self {
            Event::Made => "made".into(),
            Event::Data(data) => format!("data {}", String::from_utf8_lossy(data)),
            Event::Eof(rest) => format!("eof {}", String::from_utf8_lossy(rest)).trim_end().into(),
            Event::Pause => "pause".into(),
            Event::Resume => "resume".into(),
            Event::Produce => "produce".into(),
            Event::TimedOut(timeout) => format!("timed out: {timeout:?}"),
            Event::Timer(key) => format!("timer {key}"),
            Event::Draining => "draining".into(),
            Event::Failed(error) => format!("failed: {error}"),
            Event::Lost(reason) => format!("lost: {reason}"),
        }
    }
}

/// The calls to one protocol, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    /// Takes the entries since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A protocol that logs its calls and does what a closure tells it to. The closure returns how much of the data was
/// consumed; for other events its result does not matter.
struct Recorder<F> {
    log: Log,
    act: F,
}

impl<F: FnMut(Event<'_>, &mut Transport<'_>) -> usize> Recorder<F> {
    fn note(&mut self, event: Event<'_>, transport: &mut Transport<'_>) -> usize {
        self.log.push(event.shown());
        (self.act)(event, transport)
    }
}

impl<F: FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static> Protocol for Recorder<F> {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.note(Event::Made, transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.note(Event::Data(data), transport)
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.note(Event::Eof(rest), transport);
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        self.note(Event::Pause, transport);
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.note(Event::Resume, transport);
    }

    fn produce(&mut self, transport: &mut Transport<'_>) {
        self.note(Event::Produce, transport);
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        self.note(Event::TimedOut(timeout), transport);
    }

    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        self.note(Event::Timer(key), transport);
    }

    fn draining(&mut self, transport: &mut Transport<'_>) {
        self.note(Event::Draining, transport);
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        self.note(Event::Failed(&error), transport);
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.note(Event::Lost(&reason), transport);
    }
}

/// A protocol that does what `act` says, and logs every call.
pub(crate) fn protocol(
    log: &Log,
    act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static,
) -> Box<dyn Protocol> {
    Box::new(Recorder { log: log.clone(), act })
}

/// What most protocols do: consume all data, and close when the peer has ended.
pub(crate) fn by_default(event: &Event<'_>, transport: &mut Transport<'_>) -> usize {
    match event {
        Event::Data(data) => return data.len(),
        Event::Eof(_) => transport.close(),
        Event::TimedOut(timeout) => transport.end_on_timeout(*timeout),
        _ => {}
    }
    0
}

/// Does no more than the default.
pub(crate) fn idle(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    by_default(&event, transport)
}

/// Echoes data, and otherwise does the default.
pub(crate) fn echo(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    if let Event::Data(data) = event {
        transport.write(data);
    }
    by_default(&event, transport)
}

type Protocols = Rc<RefCell<VecDeque<Option<Box<dyn Protocol>>>>>;

/// A loop on the scripted backend, with one listener.
pub(crate) struct Scene {
    pub(crate) event_loop: EventLoop,
    pub(crate) world: World,
    pub(crate) backlog: Backlog,
    pub(crate) listener: ListenerId,
    protocols: Protocols,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene::with_limits(LoopLimits::default())
    }

    pub(crate) fn with_limits(limits: impl Into<LoopLimits>) -> Scene {
        let world = World::new();
        let poller = sys::Poller::Memory(Box::new(world.clone()));
        let mut event_loop = EventLoop::on(poller, sys::Clock::Memory(Arc::new(world.clone())), limits.into()).unwrap();
        event_loop.set_panic_policy(PanicPolicy::Propagate);
        let (socket, backlog) = Listener::pair();
        let protocols = Protocols::default();
        let waiting = protocols.clone();
        let factory = move |_: &mut crate::Context<'_>, _: &crate::Address| waiting.borrow_mut().pop_front().flatten();
        let core = &mut event_loop.core;
        let listener = ListenerId(
            core.parts
                .add_listener(Ok(Sockets::new(sys::Listener::Memory(Box::new(socket)))), None, Box::new(factory))
                .unwrap(),
        );
        Scene { event_loop, world, backlog, listener, protocols }
    }

    /// A peer connects and waits in the backlog; the factory will return this protocol for it.
    pub(crate) fn knock(&mut self, protocol: Option<Box<dyn Protocol>>) -> Peer {
        self.protocols.borrow_mut().push_back(protocol);
        let peer = self.backlog.connect();
        self.world.event(&self.backlog, Readiness::READABLE);
        peer
    }

    /// A peer connects, and is accepted.
    pub(crate) fn accept(
        &mut self,
        log: &Log,
        act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static,
    ) -> (ConnectionId, Peer) {
        let peer = self.knock(Some(protocol(log, act)));
        self.turn();
        let id = self.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).expect("accepted").0;
        (ConnectionId(id), peer)
    }

    /// Attaches a stream; `connection_made` is called in the next turn.
    pub(crate) fn attach(
        &mut self,
        log: &Log,
        act: impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static,
    ) -> (ConnectionId, Peer) {
        let (stream, peer) = Stream::pair();
        let address = stream.address();
        let detached = Detached::new(sys::Stream::Memory(Box::new(stream)), Some(address), vec![], vec![]);
        let id = self.event_loop.core.parts.attach(detached, protocol(log, act)).unwrap();
        (ConnectionId(id), peer)
    }

    /// Makes a second listener, with its own factory.
    pub(crate) fn listen(
        &mut self,
        factory: impl FnMut(&mut crate::Context<'_>, &crate::Address) -> Option<Box<dyn Protocol>> + 'static,
    ) -> (ListenerId, Backlog) {
        let (socket, backlog) = Listener::pair();
        let id = self
            .event_loop
            .core
            .parts
            .add_listener(Ok(Sockets::new(sys::Listener::Memory(Box::new(socket)))), None, Box::new(factory))
            .unwrap();
        (ListenerId(id), backlog)
    }

    /// Does something to a connection from outside of its callbacks.
    pub(crate) fn tell(&mut self, id: ConnectionId, act: impl FnOnce(&mut Transport<'_>)) {
        act(&mut self.event_loop.context().connection(id).expect("alive"));
        self.settle();
    }

    /// One turn that does not wait.
    pub(crate) fn turn(&mut self) {
        self.event_loop.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Turns until nothing is carried over, and returns how many turns that took. More than a thousand mean that the
    /// loop spins.
    pub(crate) fn settle(&mut self) -> usize {
        for turns in 1..1000 {
            self.turn();
            if self.event_loop.time_to_next() != Some(Duration::ZERO) {
                return turns;
            }
        }
        panic!("the loop does not come to rest");
    }

    /// Lets time pass: every timer that is due by then fires at its time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.world.now() + time;
        loop {
            self.settle();
            let left = end - self.world.now();
            match self.event_loop.time_to_next() {
                Some(next) if next <= left => self.world.advance(next),
                _ => break self.world.advance(left),
            }
        }
        self.settle();
    }

    /// The peer sends something, and the poller reports it.
    pub(crate) fn receive(&mut self, peer: &Peer, bytes: impl AsRef<[u8]>) {
        peer.sends(bytes);
        self.world.event(peer, Readiness::READABLE);
        self.settle();
    }

    /// The peer ends its stream, and the poller reports it.
    pub(crate) fn end(&mut self, peer: &Peer) {
        peer.sends([]);
        self.world.event(peer, Readiness::READABLE | Readiness::READ_CLOSED);
        self.settle();
    }

    /// Makes room for this many bytes, and the poller reports it.
    pub(crate) fn make_room(&mut self, peer: &Peer, bytes: usize) {
        peer.set_room(bytes);
        self.world.event(peer, Readiness::WRITABLE);
        self.settle();
    }
}

/// Tests write down what events say; users never need to combine readiness.
impl std::ops::BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        self.and(other)
    }
}

/// A timer callback that ends `run`.
pub(crate) fn stop(context: &mut crate::Context<'_>) {
    context.stop();
}

// Methods as functions, since their paths are not general enough in lifetimes for `Scene::tell`.

pub(crate) fn pause_reading(transport: &mut Transport<'_>) {
    transport.pause_reading();
}

pub(crate) fn resume_reading(transport: &mut Transport<'_>) {
    transport.resume_reading();
}

pub(crate) fn start_producing(transport: &mut Transport<'_>) {
    transport.start_producing();
}

pub(crate) fn stop_producing(transport: &mut Transport<'_>) {
    transport.stop_producing();
}

pub(crate) fn shutdown_write(transport: &mut Transport<'_>) {
    transport.shutdown_write();
}

pub(crate) fn close(transport: &mut Transport<'_>) {
    transport.close();
}

pub(crate) fn abort(transport: &mut Transport<'_>) {
    transport.abort();
}

/// An error with this code of the system.
pub(crate) fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

mod accepting;
#[cfg(feature = "testing")]
mod backlog;
mod broadcasting;
mod closing;
mod commands;
mod connecting;
mod consuming;
#[cfg(feature = "testing")]
mod datagrams;
mod destructors;
mod detaching;
#[cfg(all(feature = "testing", target_os = "linux"))]
mod differential;
mod draining;
mod ending;
#[cfg(feature = "testing")]
mod filters;
#[cfg(feature = "framing")]
mod framing;
mod half_closing;
mod health;
mod hoarding;
mod holding;
mod joining;
mod judging;
mod life;
mod marks;
mod memory;
mod names;
mod overload;
mod own_calls;
#[cfg(feature = "testing")]
mod own_timers;
mod panics;
mod platforms;
mod producing;
#[cfg(feature = "testing")]
mod properties;
mod quick;
#[cfg(feature = "testing")]
mod rates;
mod reaching;
mod reading;
mod reconnecting;
mod reentering;
mod refusing;
mod repeating;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod silence;
mod starting;
pub(crate) mod states;
mod stopping;
mod timeouts;
mod timing;
mod turning;
mod urgent;
mod writing;
