//! The scripted backend: sockets, poller and clock that do what a test tells them to, in memory and in no time.
//!
//! Nothing happens by itself: a test says what each read, write and accept answers, which events come, and finds out
//! what the loop did with them. Waiting moves the clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{PutOff, Readiness};
use crate::Address;

/// The world of one loop under test: its clock, and the events to come.
#[derive(Clone, Debug)]
pub(crate) struct World(Rc<RefCell<WorldState>>);

#[derive(Debug)]
struct WorldState {
    now: Instant,
    events: Vec<(usize, Readiness)>,
    errors: VecDeque<(Duration, io::Error)>,
    waits: Vec<Option<Duration>>,
    events_per_wait_max: usize,
    waking: Arc<Waking>,
    connects: VecDeque<io::Result<Stream>>,
    connected_to: Vec<(SocketAddr, Option<SocketAddr>)>,
}

impl World {
    pub(crate) fn new() -> World {
        World(Rc::new(RefCell::new(WorldState {
            now: Instant::now(),
            events: Vec::new(),
            errors: VecDeque::new(),
            waits: Vec::new(),
            events_per_wait_max: usize::MAX,
            waking: Arc::default(),
            connects: VecDeque::new(),
            connected_to: Vec::new(),
        })))
    }

    pub(crate) fn poller(&self) -> Poller {
        Poller(self.clone())
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock(self.clone())
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.borrow().now
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.0.borrow_mut().now += time;
    }

    /// The next wait brings this event, with those that were told before.
    pub(crate) fn event(&self, socket: &impl Registered, readiness: Readiness) {
        self.raw_event(socket.token(), readiness);
    }

    pub(crate) fn raw_event(&self, token: usize, readiness: Readiness) {
        self.0.borrow_mut().events.push((token, readiness));
    }

    /// No wait brings more events than this.
    pub(crate) fn set_events_per_wait_max(&self, max: usize) {
        self.0.borrow_mut().events_per_wait_max = max;
    }

    /// The next wait fails so after this time.
    pub(crate) fn wait_fails(&self, after: Duration, error: io::ErrorKind) {
        self.0.borrow_mut().errors.push_back((after, error.into()));
    }

    /// How often the loop was woken since the last call, or that was tried.
    pub(crate) fn take_wakes(&self) -> usize {
        self.0.borrow().waking.wakes.swap(0, Ordering::Relaxed)
    }

    /// From now on waking the loop fails, or works again.
    pub(crate) fn set_waking_fails(&self, fails: bool) {
        self.0.borrow().waking.fails.store(fails, Ordering::Relaxed);
    }

    /// The next connect is under way then, until its peer [`answers`](Peer::answers).
    pub(crate) fn connect_begins(&self) -> Peer {
        let (stream, peer) = Stream::pair();
        peer.0.borrow_mut().connecting = true;
        self.0.borrow_mut().connects.push_back(Ok(stream));
        peer
    }

    /// The next connect fails at once.
    pub(crate) fn connect_fails(&self, error: io::Error) {
        self.0.borrow_mut().connects.push_back(Err(error));
    }

    /// Which addresses were connected to since the last call, and from which.
    pub(crate) fn take_connected_to(&self) -> Vec<(SocketAddr, Option<SocketAddr>)> {
        std::mem::take(&mut self.0.borrow_mut().connected_to)
    }

    /// How long the waits since the last call were to be at most.
    pub(crate) fn take_waits(&self) -> Vec<Option<Duration>> {
        std::mem::take(&mut self.0.borrow_mut().waits)
    }
}

/// A scripted socket that the loop has registered.
pub(crate) trait Registered {
    fn token(&self) -> usize;
}

#[derive(Clone, Debug)]
pub(crate) struct Clock(World);

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        self.0.now()
    }
}

#[derive(Debug)]
pub(crate) struct Poller(World);

impl Poller {
    pub(crate) fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        let world = &mut *self.0.0.borrow_mut();
        world.connected_to.push((address, local));
        let stream = world.connects.pop_front().unwrap_or(Err(io::ErrorKind::Unsupported.into()))?;
        stream.0.borrow_mut().address = address.into();
        Ok(stream)
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.0.0.borrow().waking.clone())
    }

    pub(crate) fn poll(&mut self, events: &mut Vec<(usize, Readiness)>, timeout: Option<Duration>) -> io::Result<()> {
        let world = &mut *self.0.0.borrow_mut();
        events.clear();
        world.waits.push(timeout);
        if let Some((after, error)) = world.errors.pop_front() {
            world.now += after;
            return Err(error);
        }
        let count = world.events.len().min(world.events_per_wait_max);
        events.extend(world.events.drain(..count));
        if events.is_empty() && !world.waking.is_woken.swap(false, Ordering::Relaxed) {
            world.now += timeout.unwrap_or_default();
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Waker(Arc<Waking>);

#[derive(Debug, Default)]
struct Waking {
    is_woken: AtomicBool,
    wakes: AtomicUsize,
    fails: AtomicBool,
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.wakes.fetch_add(1, Ordering::Relaxed);
        if self.0.fails.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.is_woken.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What the loop did with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write(usize),
    ShutdownWrite,
    /// The poller was asked to tell again what the stream is ready for.
    TellAgain,
    Close,
    Reset,
}

#[derive(Debug)]
struct StreamState {
    token: Option<usize>,
    refuses_registration: bool,
    short_read_empties: bool,
    /// Whether one is put off, where that may be.
    put_off: Option<PutOff>,
    reads: VecDeque<io::Result<Vec<u8>>>,
    error: Option<io::Error>,
    writes: VecDeque<io::Result<usize>>,
    room: usize,
    sent: Vec<u8>,
    calls: Vec<Call>,
    closed: bool,
    connecting: bool,
    address: Address,
    local_address: Address,
}

/// The loop's end of a scripted stream.
#[derive(Debug)]
pub(crate) struct Stream(Rc<RefCell<StreamState>>);

/// The test's end of a scripted stream.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Rc<RefCell<StreamState>>);

impl Stream {
    pub(crate) fn pair() -> (Stream, Peer) {
        let state = Rc::new(RefCell::new(StreamState {
            token: None,
            refuses_registration: false,
            short_read_empties: true,
            put_off: None,
            reads: VecDeque::new(),
            error: None,
            writes: VecDeque::new(),
            room: usize::MAX,
            sent: Vec::new(),
            calls: Vec::new(),
            closed: false,
            connecting: false,
            address: Address::Inet(([127, 0, 0, 1], 1).into()),
            local_address: Address::Inet(([127, 0, 0, 1], 2).into()),
        }));
        (Stream(state.clone()), Peer(state))
    }

    pub(crate) fn register(&mut self, token: usize) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.refuses_registration {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert_eq!(state.token.replace(token), None, "registered twice");
        Ok(())
    }

    pub(crate) fn deregister(&mut self) {
        self.0.borrow_mut().token = None;
    }

    pub(crate) fn tell_again(&mut self) {
        self.0.borrow_mut().calls.push(Call::TellAgain);
    }

    pub(crate) fn short_read_empties(&self) -> bool {
        self.0.borrow().short_read_empties
    }

    pub(crate) fn put_off_reading(&mut self) -> Option<PutOff> {
        self.0.borrow_mut().put_off.as_mut().map(PutOff::renew)
    }

    pub(crate) fn pass_put_off(&mut self) -> PutOff {
        self.0.borrow_mut().put_off.as_mut().map_or(PutOff::No, PutOff::pass)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        state.calls.push(Call::Read);
        let Some(next) = state.reads.pop_front() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut bytes = next?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        if count < bytes.len() || bytes.is_empty() {
            state.reads.push_front(Ok(bytes.split_off(count)));
        }
        Ok(count)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let count = match state.writes.pop_front() {
            Some(result) => result?.min(bytes.len()),
            None => bytes.len().min(state.room),
        };
        state.calls.push(Call::Write(count));
        if count == 0 && state.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.room = state.room.saturating_sub(count);
        state.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    pub(crate) fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write(&all)
    }

    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.0.borrow_mut().error.take()
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.0.borrow_mut().calls.push(Call::ShutdownWrite);
        Ok(())
    }

    pub(crate) fn reset(self) {
        let mut state = self.0.borrow_mut();
        state.calls.push(Call::Reset);
        state.closed = true;
    }

    pub(crate) fn address(&self) -> Address {
        self.0.borrow().address.clone()
    }

    pub(crate) fn local_address(&self) -> Address {
        self.0.borrow().local_address.clone()
    }

    pub(crate) fn peer_address(&self) -> io::Result<Address> {
        let state = self.0.borrow();
        if state.connecting { Err(io::ErrorKind::NotConnected.into()) } else { Ok(state.address.clone()) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if !state.closed {
            state.calls.push(Call::Close);
            state.closed = true;
        }
    }
}

impl Peer {
    /// A later read answers these bytes; none means the end of the stream.
    pub(crate) fn sends(&self, bytes: impl AsRef<[u8]>) {
        self.0.borrow_mut().reads.push_back(Ok(bytes.as_ref().to_vec()));
    }

    /// A connect that is under way stands.
    pub(crate) fn answers(&self) {
        self.0.borrow_mut().connecting = false;
    }

    /// Its own address turns out to be this one.
    pub(crate) fn set_local_address(&self, address: SocketAddr) {
        self.0.borrow_mut().local_address = address.into();
    }

    /// A later read fails so.
    pub(crate) fn read_fails(&self, error: io::Error) {
        self.0.borrow_mut().reads.push_back(Err(error));
    }

    /// The socket meets an error that only asking for it tells of, as a reset behind the end of the stream is.
    pub(crate) fn meets(&self, error: io::Error) {
        self.0.borrow_mut().error = Some(error);
    }

    /// The next write answers so, then the one after.
    pub(crate) fn write_answers(&self, result: io::Result<usize>) {
        self.0.borrow_mut().writes.push_back(result);
    }

    /// How many bytes writes take before they would block.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.0.borrow_mut().room = bytes;
    }

    /// What the loop has sent since the last call.
    pub(crate) fn take_sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }

    /// What the loop has done since the last call.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    /// What was scripted to be read and has not been.
    pub(crate) fn unread(&self) -> usize {
        self.0.borrow().reads.iter().flatten().map(Vec::len).sum()
    }

    /// A short read proves nothing, but the next one may be put off.
    pub(crate) fn lets_put_off(&self) {
        let mut state = self.0.borrow_mut();
        state.short_read_empties = false;
        state.put_off = Some(PutOff::No);
    }

    pub(crate) fn set_short_read_empties(&self, empties: bool) {
        self.0.borrow_mut().short_read_empties = empties;
    }

    pub(crate) fn refuse_registration(&self) {
        self.0.borrow_mut().refuses_registration = true;
    }
}

impl Registered for Peer {
    fn token(&self) -> usize {
        self.0.borrow().token.expect("registered")
    }
}

#[derive(Debug, Default)]
struct ListenerState {
    token: Option<usize>,
    accepts: VecDeque<io::Result<Stream>>,
    calls: usize,
    closed: bool,
}

/// The loop's end of a scripted listener.
#[derive(Debug)]
pub(crate) struct Listener(Rc<RefCell<ListenerState>>);

/// The test's end of a scripted listener.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(Rc<RefCell<ListenerState>>);

impl Listener {
    pub(crate) fn pair() -> (Listener, Backlog) {
        let state = Rc::new(RefCell::new(ListenerState::default()));
        (Listener(state.clone()), Backlog(state))
    }

    pub(crate) fn register(&mut self, token: usize) -> io::Result<()> {
        self.0.borrow_mut().token = Some(token);
        Ok(())
    }

    pub(crate) fn accept(&mut self) -> io::Result<(super::Stream, Address)> {
        let mut state = self.0.borrow_mut();
        state.calls += 1;
        let stream = state.accepts.pop_front().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        let address = stream.address();
        Ok((super::Stream::Script(stream), address))
    }

    pub(crate) fn address(&self) -> Address {
        Address::Inet(([127, 0, 0, 1], 2).into())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

impl Backlog {
    /// Somebody connects, and waits to be accepted.
    pub(crate) fn connect(&self) -> Peer {
        let (stream, peer) = Stream::pair();
        self.0.borrow_mut().accepts.push_back(Ok(stream));
        peer
    }

    /// A later accept fails so.
    pub(crate) fn accept_fails(&self, error: io::Error) {
        self.0.borrow_mut().accepts.push_back(Err(error));
    }

    /// How many are waiting, errors included.
    pub(crate) fn waiting(&self) -> usize {
        self.0.borrow().accepts.len()
    }

    /// How often accept was called since the last time.
    pub(crate) fn take_calls(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }
}

impl Registered for Backlog {
    fn token(&self) -> usize {
        self.0.borrow().token.expect("registered")
    }
}
