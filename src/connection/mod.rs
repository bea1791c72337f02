//! The state machine of one connection: owns its socket, reads and writes it.
//!
//! It knows no slab, no poller and no clock, and calls no user code: the loop above asks it to read or to send, tells
//! the protocol what came of it, and tells the connection what the protocol wants.

pub(crate) mod blocking;
pub(crate) mod detached;
mod ending;
mod extras;
mod filtered;
mod flags;
pub(crate) mod gathered;
pub(crate) mod input;
mod life;
mod notes;
pub(crate) mod outbox;
pub(crate) mod output;
pub(crate) mod read_buffer;
mod reading;
pub(crate) mod shared_log;
mod through;
mod urgent;
mod writing;

use std::io::{self, Read as _, Write as _};
use std::rc::Rc;

pub(crate) use self::extras::{Extras, Fixed, Follower, Own};
pub(crate) use self::flags::{Flag, Flags};
pub(crate) use self::life::{Event, Life, State};
pub(crate) use self::notes::{Note, Notes};
pub(crate) use self::urgent::{Ask, Urgent};
use crate::connect::attempts::Connector;
use crate::connection::detached::{Detached, Receiver};
use crate::connection::input::Input;
use crate::connection::output::OutputQueue;
use crate::ids::Id;
use crate::sys::{Blocked, HERE, Readiness, Stream};
use crate::time::idle::Idle;
use crate::{Address, Limits, Protocol};

/// A connection on its way out of the loop.
pub(crate) struct Handover {
    pub(crate) receiver: Receiver,
    /// What the receiver gets, once it is out.
    pub(crate) detached: Option<Detached>,
}

/// What the connections of one listener have in common, in one word of each.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// The listener that accepted them.
    pub(crate) listener: Option<Id>,
    /// What a connection began with whose settings have become its own since.
    initial: Option<Rc<Settings>>,
}

impl Settings {
    pub(crate) fn new(limits: Limits, listener: Option<Id>) -> Settings {
        Settings { limits: limits.without_zeros(), listener, initial: None }
    }
}

/// The other end.
enum Peer {
    Known(Address),
    /// Somebody beyond a proxy.
    Proxied(Box<Proxied>),
    /// It does not stand yet.
    Connecting(Box<Connector>),
    /// It never came to stand.
    Nobody,
}

/// The peer beyond a proxy, and the address of the proxy.
struct Proxied {
    peer: Address,
    proxy: Address,
}

pub(crate) struct Connection {
    /// None until it stands, and once it is lost.
    socket: Option<Stream>,
    /// None while one of its callbacks runs.
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    peer: Peer,
    pub(crate) settings: Rc<Settings>,
    /// Input that the protocol left, if any.
    input: Option<Box<Input>>,
    /// Output that the kernel has not taken, if any.
    output: Option<Box<OutputQueue>>,
    pub(crate) extras: Option<Box<Extras>>,
    /// Its idle timeout, if it has one.
    pub(crate) idle: Option<Box<Idle>>,
    /// When it came into the loop, in nanoseconds of the loop's own time.
    pub(crate) began_ns: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// No data is delivered before there is this much of it, or the end.
    input_low_bytes: u32,
    life: Life,
    pub(crate) notes: Notes,
    pub(crate) flags: Flags,
}

/// What of a connection is its own, as the tests of the guarantees see it.
#[cfg(all(test, feature = "testing"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspected {
    pub(crate) state: State,
    pub(crate) paused: bool,
    pub(crate) over_high: bool,
    pub(crate) produces: bool,
    pub(crate) made: bool,
    pub(crate) sends_later: bool,
    /// A timer is set by which the poller is asked again whether urgent data is there.
    pub(crate) asks_later: bool,
    pub(crate) kept_bytes: usize,
}

/// A protocol on its way through a callback.
pub(crate) struct CheckedOut {
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) room: usize,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Read {
    Data(usize),
    Blocked,
    /// It would block, but perhaps only since a signal was pending: an event had hinted at urgent data.
    Unconfirmed,
    /// The kernel lacks memory for it: only time tells when it has some again.
    Later,
    End,
    Failed(io::Error),
}

/// What a quick read brought.
pub(crate) enum Arrival {
    /// So many bytes, fewer than there was room for; for this protocol, which is out of its slot.
    Data(usize, Box<dyn Protocol>),
    Other(Read),
}

/// A callback may gather so much before the queue must be looked at; more is sent at once, though it goes on writing.
pub(crate) const GATHERED_BYTES_MAX: usize = 256 * 1024;

/// One read takes up to this. Measured on loopback: 16 KiB give 0.81 of its throughput, 256 KiB 0.94.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// What came of sending.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All is out.
    All,
    /// Some is queued.
    Blocked(Blocked),
    Failed(io::Error),
}

/// Which mark the output queue has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    High,
    Low,
}

impl Connection {
    #[inline]
    pub(crate) fn new(
        socket: Stream,
        protocol: Box<dyn Protocol>,
        peer: Address,
        settings: Rc<Settings>,
    ) -> Connection {
        let mut connection = Connection::begin(Some(socket), protocol, Peer::Known(peer), settings, Life::new(true));
        connection.flags.set(Flag::Writable, true);
        connection
    }

    /// One that does not stand yet.
    pub(crate) fn connecting(connector: Connector, protocol: Box<dyn Protocol>, settings: Rc<Settings>) -> Connection {
        Connection::begin(None, protocol, Peer::Connecting(Box::new(connector)), settings, Life::new(false))
    }

    #[inline]
    fn begin(
        socket: Option<Stream>,
        protocol: Box<dyn Protocol>,
        peer: Peer,
        settings: Rc<Settings>,
        life: Life,
    ) -> Connection {
        let mut flags = Flags::default();
        let is_tight = settings.limits.are_tight();
        flags.set(Flag::Careful, is_tight);
        Connection {
            socket,
            protocol: Some(protocol),
            peer,
            settings,
            input: None,
            output: None,
            extras: None,
            idle: None,
            began_ns: 0,
            bytes_received: 0,
            bytes_sent: 0,
            input_low_bytes: 0,
            life,
            notes: Notes::default(),
            flags,
        }
    }

    /// What the tests of the guarantees look at.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn inspected(&self) -> Inspected {
        Inspected {
            state: self.state(),
            paused: self.is_paused(),
            over_high: self.flags.has(Flag::OverHigh),
            produces: self.flags.has(Flag::Produces),
            made: self.flags.has(Flag::Made),
            sends_later: self.flags.has(Flag::SendsLater),
            asks_later: self.notes.urgent() == Urgent::Waits,
            kept_bytes: self.input.as_deref().map_or(0, |input| input.rest().len()),
        }
    }

    /// Its limits, to be changed for it alone.
    pub(crate) fn limits_mut(&mut self) -> &mut Limits {
        if self.settings.initial.is_none() {
            let initial = Some(self.settings.clone());
            self.settings =
                Rc::new(Settings { limits: self.settings.limits.clone(), listener: self.settings.listener, initial });
        }
        &mut Rc::get_mut(&mut self.settings).expect("it shares its own with nobody").limits
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.life.state()
    }

    /// Returns the state that an event leads to.
    pub(crate) fn after(&self, event: Event) -> State {
        self.life.after(event)
    }

    pub(crate) fn socket(&self) -> Option<&Stream> {
        self.socket.as_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut Stream> {
        self.socket.as_mut()
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.state().is_connecting()
    }

    /// Whether an event has said, since the last call, that the attempt which has the connection's own token may stand.
    pub(crate) fn may_be_established(&mut self) -> bool {
        self.flags.replace(Flag::Writable, false)
    }

    /// No event will say that it may stand: it is looked at all the same.
    pub(crate) fn set_may_be_established(&mut self) {
        self.flags.set(Flag::Writable, true);
    }

    /// It is established. Returns the connector, which is not needed any more.
    pub(crate) fn established(&mut self, socket: Stream, peer: Address) -> Option<Box<Connector>> {
        self.socket = Some(socket);
        self.flags.set(Flag::Writable, true);
        self.life.step(Event::Established);
        let connector = self.take_connector();
        self.peer = Peer::Known(peer);
        connector
    }

    /// The peer's address, as users see it; none if it is not established.
    pub(crate) fn peer(&self) -> Option<&Address> {
        match &self.peer {
            Peer::Known(address) => Some(address),
            Peer::Proxied(proxied) => Some(&proxied.peer),
            Peer::Connecting(_) | Peer::Nobody => None,
        }
    }

    /// The address at the other end of its socket, which may be a proxy's.
    pub(crate) fn neighbour(&self) -> Option<&Address> {
        match &self.peer {
            Peer::Proxied(proxied) => Some(&proxied.proxy),
            _ => self.peer(),
        }
    }

    /// From here on the peer is somebody beyond the one whose socket it is. Nothing where it does not stand.
    pub(crate) fn set_peer(&mut self, peer: Address) {
        if let Some(proxy) = self.neighbour().cloned() {
            self.peer = Peer::Proxied(Box::new(Proxied { peer, proxy }));
        }
    }

    /// What connects it, until it stands.
    pub(crate) fn connector_mut(&mut self) -> Option<&mut Connector> {
        match &mut self.peer {
            Peer::Connecting(connector) => Some(connector),
            Peer::Known(_) | Peer::Proxied(_) | Peer::Nobody => None,
        }
    }

    pub(crate) fn take_connector(&mut self) -> Option<Box<Connector>> {
        if let Peer::Known(_) | Peer::Proxied(_) = self.peer {
            return None;
        }
        match std::mem::replace(&mut self.peer, Peer::Nobody) {
            Peer::Connecting(connector) => Some(connector),
            Peer::Known(_) | Peer::Proxied(_) | Peer::Nobody => None,
        }
    }

    /// Whether there is more to its beginning than to call its protocol: a timeout, a rate, or that it is not the first.
    #[inline]
    pub(crate) fn begins_specially(&self) -> bool {
        self.settings.limits.are_timed() || self.flags.has(Flag::Anew)
    }

    /// Whether it has not ended.
    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        self.state().is_alive()
    }

    /// Notes what an event says. Hints, all of them: what they are worth, only a read or a send tells (R6).
    #[inline]
    pub(crate) fn note(&mut self, readiness: Readiness) {
        if readiness.is_special() {
            return self.note_special(readiness);
        }
        self.flags.note(readiness);
    }

    #[cold]
    fn note_special(&mut self, readiness: Readiness) {
        self.flags.note_special(readiness);
        if readiness.is_priority() {
            self.notes.set_urgent(self.notes.urgent().hinted_at());
        }
    }

    /// Whether the quick path may serve an event: a read and a send may succeed, and nothing comes before them.
    #[inline]
    pub(crate) fn is_quick(&self, readiness: Readiness) -> bool {
        self.flags.are_quick(readiness) && self.has_nothing_waiting()
    }

    /// The same but for a hint that the peer may have ended its stream.
    #[inline]
    pub(crate) fn may_end_quickly(&self, readiness: Readiness) -> bool {
        self.flags.are_quick_at_end(readiness) && self.has_nothing_waiting()
    }

    #[inline]
    fn has_nothing_waiting(&self) -> bool {
        self.state() == State::Open && self.input.is_none() && self.output.is_none()
    }

    /// Of one that is quick: reads, and takes the protocol out for what came.
    #[inline]
    pub(crate) fn receive_quickly(&mut self, buffer: &mut [u8; READ_BYTES_MAX]) -> Arrival {
        match Stream::tcp_mut(&mut self.socket) {
            Some(stream) => {
                let result = stream.read(buffer);
                self.arrived(result, buffer, HERE.short_read_empties_tcp)
            }
            None => self.receive_from_other(buffer),
        }
    }

    /// As [`receive_quickly`](Connection::receive_quickly), of what is not TCP.
    #[inline(never)]
    fn receive_from_other(&mut self, buffer: &mut [u8; READ_BYTES_MAX]) -> Arrival {
        let (result, short_read_empties) = match &mut self.socket {
            Some(stream) => (stream.read(buffer), stream.short_read_empties()),
            None => (Err(io::ErrorKind::NotConnected.into()), false),
        };
        self.arrived(result, buffer, short_read_empties)
    }

    #[inline(always)]
    fn arrived(
        &mut self,
        result: io::Result<usize>,
        buffer: &mut [u8; READ_BYTES_MAX],
        short_read_empties: bool,
    ) -> Arrival {
        match (result, self.protocol.take()) {
            (Ok(count @ 1..READ_BYTES_MAX), Some(protocol)) => {
                self.flags.set_after_read(!short_read_empties);
                self.bytes_received += count as u64;
                Arrival::Data(count, protocol)
            }
            (result, protocol) => {
                self.protocol = protocol;
                self.flags.set_after_read(true);
                Arrival::Other(self.read_after(result, buffer))
            }
        }
    }

    /// Of one that is quick: sends what its callback has gathered. `Err` has the answer of a call that did not take all.
    #[inline(always)]
    pub(crate) fn send_quickly(&mut self, bytes: &[u8]) -> Result<(), io::Result<usize>> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(stream) = Stream::tcp_mut(&mut self.socket) else { return self.send_to_other(bytes) };
        match stream.write(bytes) {
            Ok(count) if count == bytes.len() => {
                self.bytes_sent += bytes.len() as u64;
                Ok(())
            }
            result => Err(result),
        }
    }

    /// As [`send_quickly`](Connection::send_quickly), to what is not TCP.
    #[inline(never)]
    fn send_to_other(&mut self, bytes: &[u8]) -> Result<(), io::Result<usize>> {
        let Some(stream) = &mut self.socket else { return Err(Err(io::ErrorKind::NotConnected.into())) };
        match stream.write(bytes) {
            Ok(count) if count == bytes.len() => {
                self.bytes_sent += count as u64;
                Ok(())
            }
            result => Err(result),
        }
    }

    /// Takes the protocol out of its slot for its last callback, if it was told that the connection is made.
    #[inline]
    pub(crate) fn check_out_made(&mut self) -> Option<CheckedOut> {
        match self.flags.has(Flag::Made) {
            true => Some(CheckedOut { protocol: self.protocol.take()?, room: 0 }),
            false => None,
        }
    }

    /// Takes the protocol out of its slot for a callback, with how much that may gather to be written: no more than
    /// `room`, and no more than fits below the cap (W4).
    #[inline]
    pub(crate) fn check_out(&mut self, room: usize) -> Option<CheckedOut> {
        let room = room.min(self.room());
        Some(CheckedOut { protocol: self.protocol.take()?, room })
    }
}
