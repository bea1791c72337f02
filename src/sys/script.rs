//! The scripted backend: sockets, poller and clock that do what a test tells them to, in memory and without taking
//! time.
//!
//! Nothing happens by itself: a test says what each read, write and accept returns and which events come, and finds out
//! what the loop did with them. Waiting advances the clock.

mod datagram;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::datagram::{Datagram, Receiver};
use super::habits::Habits;
use super::memory::{self, Batch, Shared, lock, shared};
use super::{PutOff, Readiness};
use crate::Address;

/// The world of one loop under test: its clock, and the events to come.
#[derive(Clone, Debug)]
pub(crate) struct World(Shared<WorldState>);

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
        World(shared(WorldState {
            now: Instant::now(),
            events: Vec::new(),
            errors: VecDeque::new(),
            waits: Vec::new(),
            events_per_wait_max: usize::MAX,
            waking: Arc::default(),
            connects: VecDeque::new(),
            connected_to: Vec::new(),
        }))
    }

    pub(crate) fn now(&self) -> Instant {
        lock(&self.0).now
    }

    pub(crate) fn advance(&self, time: Duration) {
        lock(&self.0).now += time;
    }

    /// Makes the next wait return this event, along with those that were added before.
    pub(crate) fn event(&self, socket: &impl Registered, readiness: Readiness) {
        self.raw_event(socket.token(), readiness);
    }

    pub(crate) fn raw_event(&self, token: usize, readiness: Readiness) {
        lock(&self.0).events.push((token, readiness));
    }

    /// Limits how many events a wait returns.
    pub(crate) fn set_events_per_wait_max(&self, max: usize) {
        lock(&self.0).events_per_wait_max = max;
    }

    /// Makes the next wait fail with this error, after this time.
    pub(crate) fn wait_fails(&self, after: Duration, error: io::ErrorKind) {
        lock(&self.0).errors.push_back((after, error.into()));
    }

    /// Returns how often the loop was woken since the last call, including failed tries.
    pub(crate) fn take_wakes(&self) -> usize {
        lock(&self.0).waking.wakes.swap(0, Ordering::Relaxed)
    }

    /// Makes waking the loop fail from now on, or work again.
    pub(crate) fn set_waking_fails(&self, fails: bool) {
        lock(&self.0).waking.fails.store(fails, Ordering::Relaxed);
    }

    /// Makes the next connect stay in progress until its peer [`answers`](Peer::answers).
    pub(crate) fn connect_begins(&self) -> Peer {
        let (stream, peer) = Stream::pair();
        lock(&peer.0).connecting = true;
        lock(&self.0).connects.push_back(Ok(stream));
        peer
    }

    /// Makes the next connect fail at once.
    pub(crate) fn connect_fails(&self, error: io::Error) {
        lock(&self.0).connects.push_back(Err(error));
    }

    /// Returns which addresses were connected to since the last call, and from which.
    pub(crate) fn take_connected_to(&self) -> Vec<(SocketAddr, Option<SocketAddr>)> {
        std::mem::take(&mut lock(&self.0).connected_to)
    }

    /// Returns the timeouts of the waits since the last call.
    pub(crate) fn take_waits(&self) -> Vec<Option<Duration>> {
        std::mem::take(&mut lock(&self.0).waits)
    }
}

/// A scripted socket that the loop has registered.
pub(crate) trait Registered {
    fn token(&self) -> usize;
}

impl memory::Clock for World {
    fn now(&self) -> Instant {
        World::now(self)
    }
}

impl memory::Poller for World {
    fn waker(&self) -> Arc<dyn memory::Waker> {
        lock(&self.0).waking.clone()
    }

    fn events(&self) -> Batch {
        Batch::new()
    }

    fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Box<dyn memory::Stream>> {
        let world = &mut *lock(&self.0);
        world.connected_to.push((address, local));
        let stream = world.connects.pop_front().unwrap_or(Err(io::ErrorKind::Unsupported.into()))?;
        lock(&stream.0).address = address.into();
        Ok(Box::new(stream))
    }

    fn poll(&mut self, events: &mut Batch, timeout: Option<Duration>) -> io::Result<()> {
        let world = &mut *lock(&self.0);
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

#[derive(Debug, Default)]
struct Waking {
    is_woken: AtomicBool,
    wakes: AtomicUsize,
    fails: AtomicBool,
}

impl memory::Waker for Waking {
    fn wake(&self) -> io::Result<()> {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.is_woken.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What the loop did with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write(usize),
    ShutdownWrite,
    /// The poller was asked to report again what the stream is ready for.
    TellAgain,
    Close,
    Reset,
}

#[derive(Debug)]
struct StreamState {
    token: Option<usize>,
    refuses_registration: bool,
    short_read_empties: bool,
    /// `None` if no read can be deferred.
    put_off: Option<PutOff>,
    reads: VecDeque<io::Result<Vec<u8>>>,
    error: Option<io::Error>,
    writes: VecDeque<io::Result<usize>>,
    room: usize,
    sent: Vec<u8>,
    calls: Vec<Call>,
    closed: bool,
    connecting: bool,
    awaits_writable: bool,
    address: Address,
    local_address: Address,
    habits: &'static Habits,
    is_unix: bool,
    /// The error that ends it when it is next asked for its peer.
    ends_when_asked: Option<io::Error>,
}

/// The loop's end of a scripted stream.
#[derive(Debug)]
pub(crate) struct Stream(Shared<StreamState>);

/// The test's end of a scripted stream.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Shared<StreamState>);

impl Stream {
    pub(crate) fn pair() -> (Stream, Peer) {
        let state = shared(StreamState {
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
            awaits_writable: false,
            address: Address::Inet(([127, 0, 0, 1], 1).into()),
            local_address: Address::Inet(([127, 0, 0, 1], 2).into()),
            habits: &Habits::LINUX,
            is_unix: false,
            ends_when_asked: None,
        });
        (Stream(state.clone()), Peer(state))
    }

    pub(crate) fn address(&self) -> Address {
        lock(&self.0).address.clone()
    }
}

impl memory::Stream for Stream {
    fn habits(&self) -> &'static Habits {
        lock(&self.0).habits
    }

    fn is_unix(&self) -> bool {
        lock(&self.0).is_unix
    }

    fn register(&mut self, _: &dyn memory::Poller, token: usize) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.refuses_registration {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert_eq!(state.token.replace(token), None, "registered twice");
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        lock(&self.0).token = None;
        Ok(())
    }

    fn await_writable(&mut self, awaits: bool) {
        lock(&self.0).awaits_writable = awaits;
    }

    fn tell_again(&mut self) {
        lock(&self.0).calls.push(Call::TellAgain);
    }

    fn short_read_empties(&self) -> bool {
        lock(&self.0).short_read_empties
    }

    fn put_off_reading(&mut self) -> Option<PutOff> {
        lock(&self.0).put_off.as_mut().map(PutOff::renew)
    }

    fn pass_put_off(&mut self) -> PutOff {
        lock(&self.0).put_off.as_mut().map_or(PutOff::No, PutOff::pass)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.0);
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

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let mut state = lock(&self.0);
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

    fn take_error(&self) -> Option<io::Error> {
        lock(&self.0).error.take()
    }

    fn shutdown_write(&self) -> io::Result<()> {
        lock(&self.0).calls.push(Call::ShutdownWrite);
        Ok(())
    }

    fn reset(&self) {
        let mut state = lock(&self.0);
        state.calls.push(Call::Reset);
        state.closed = true;
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(lock(&self.0).local_address.clone())
    }

    fn peer_addr(&self) -> io::Result<Address> {
        let mut state = lock(&self.0);
        if let Some(error) = state.ends_when_asked.take() {
            state.error = Some(error);
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if state.connecting { Err(io::ErrorKind::NotConnected.into()) } else { Ok(state.address.clone()) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        if !state.closed {
            state.calls.push(Call::Close);
            state.closed = true;
        }
    }
}

impl Peer {
    /// Makes a later read return these bytes; an empty slice is the end of the stream.
    pub(crate) fn sends(&self, bytes: impl AsRef<[u8]>) {
        lock(&self.0).reads.push_back(Ok(bytes.as_ref().to_vec()));
    }

    /// Establishes the connect that is in progress.
    pub(crate) fn answers(&self) {
        lock(&self.0).connecting = false;
    }

    /// Returns whether the loop waits for the connect to complete, or for room.
    pub(crate) fn awaits_writable(&self) -> bool {
        lock(&self.0).awaits_writable
    }

    /// Sets the address of the loop's end.
    pub(crate) fn set_local_address(&self, address: SocketAddr) {
        lock(&self.0).local_address = address.into();
    }

    /// Makes a later read fail with this error.
    pub(crate) fn read_fails(&self, error: io::Error) {
        lock(&self.0).reads.push_back(Err(error));
    }

    /// Sets a pending error that only asking for it reveals, like a reset after the end of the stream.
    pub(crate) fn meets(&self, error: io::Error) {
        lock(&self.0).error = Some(error);
    }

    /// Makes it a socket of a system with these habits.
    pub(crate) fn set_habits(&self, habits: &'static Habits) {
        lock(&self.0).habits = habits;
    }

    /// Makes it a Unix socket whose peer has closed.
    #[allow(dead_code)] // Only used where there are Unix sockets.
    pub(crate) fn is_closed_by_unix_peer(&self) {
        let mut state = lock(&self.0);
        (state.is_unix, state.connecting) = (true, true);
    }

    /// Ends both halves, with this error, when it is next asked for its peer: that is invalid from then on.
    pub(crate) fn ends_when_asked(&self, error: io::Error) {
        lock(&self.0).ends_when_asked = Some(error);
    }

    /// Makes the next write return this; further calls add results for the following writes.
    pub(crate) fn write_answers(&self, result: io::Result<usize>) {
        lock(&self.0).writes.push_back(result);
    }

    /// Sets how many bytes writes take before they would block.
    pub(crate) fn set_room(&self, bytes: usize) {
        lock(&self.0).room = bytes;
    }

    /// Takes what the loop has sent since the last call.
    pub(crate) fn take_sent(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0).sent)
    }

    /// Takes what the loop has done since the last call.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.0).calls)
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }

    /// Returns how many bytes were scripted to be read and have not been.
    pub(crate) fn unread(&self) -> usize {
        lock(&self.0).reads.iter().flatten().map(Vec::len).sum()
    }

    /// A short read proves nothing, but the next read may be deferred.
    pub(crate) fn lets_put_off(&self) {
        let mut state = lock(&self.0);
        state.short_read_empties = false;
        state.put_off = Some(PutOff::No);
    }

    pub(crate) fn set_short_read_empties(&self, empties: bool) {
        lock(&self.0).short_read_empties = empties;
    }

    pub(crate) fn refuse_registration(&self) {
        lock(&self.0).refuses_registration = true;
    }
}

impl Registered for Peer {
    fn token(&self) -> usize {
        lock(&self.0).token.expect("registered")
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
pub(crate) struct Listener(Shared<ListenerState>);

/// The test's end of a scripted listener.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(Shared<ListenerState>);

impl Listener {
    pub(crate) fn pair() -> (Listener, Backlog) {
        let state = shared(ListenerState::default());
        (Listener(state.clone()), Backlog(state))
    }
}

impl memory::Listener for Listener {
    fn register(&mut self, _: &dyn memory::Poller, token: usize) -> io::Result<()> {
        lock(&self.0).token = Some(token);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(Box<dyn memory::Stream>, Address)> {
        let mut state = lock(&self.0);
        state.calls += 1;
        let stream = state.accepts.pop_front().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        let address = stream.address();
        Ok((Box::new(stream), address))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Inet(([127, 0, 0, 1], 2).into()))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.0).closed = true;
    }
}

impl Backlog {
    /// Connects a peer, which waits to be accepted.
    pub(crate) fn connect(&self) -> Peer {
        let (stream, peer) = Stream::pair();
        lock(&self.0).accepts.push_back(Ok(stream));
        peer
    }

    /// Makes a later accept fail with this error.
    pub(crate) fn accept_fails(&self, error: io::Error) {
        lock(&self.0).accepts.push_back(Err(error));
    }

    /// Returns how many connections are waiting, including errors.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.0).accepts.len()
    }

    /// Returns how often accept was called since the last time.
    pub(crate) fn take_calls(&self) -> usize {
        std::mem::take(&mut lock(&self.0).calls)
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }
}

impl Registered for Backlog {
    fn token(&self) -> usize {
        lock(&self.0).token.expect("registered")
    }
}
