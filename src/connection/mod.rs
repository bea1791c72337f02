//! The state machine of one connection: owns its socket, reads and writes it.
//!
//! It knows no slab, no poller and no clock, and calls no user code: the loop above asks it to read or to send, tells
//! the protocol the outcome, and tells the connection what the protocol wants.

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
    /// What the receiver gets, once it is out of the loop.
    pub(crate) detached: Option<Detached>,
}

/// What the connections of one listener have in common, so that each needs only one word for it.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// The listener that accepted them.
    pub(crate) listener: Option<Id>,
    /// The settings that the connection began with, if it has its own by now.
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
    /// A peer beyond a proxy.
    Proxied(Box<Proxied>),
    /// It is not established yet.
    Connecting(Box<Connector>),
    /// It was never established.
    Nobody,
}

/// The peer beyond a proxy, and the address of the proxy.
struct Proxied {
    peer: Address,
    proxy: Address,
}

pub(crate) struct Connection {
    /// `None` until it is established, and once it is lost.
    socket: Option<Stream>,
    /// `None` while one of its callbacks runs.
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
    /// When it was added to the loop, in nanoseconds of the loop's own time.
    pub(crate) began_ns: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// No data is delivered before there is this much of it, or the end.
    input_low_bytes: u32,
    life: Life,
    pub(crate) notes: Notes,
    pub(crate) flags: Flags,
}

/// The state of a connection that the tests of the guarantees look at.
#[cfg(all(test, feature = "testing"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspected {
    pub(crate) state: State,
    pub(crate) paused: bool,
    pub(crate) over_high: bool,
    pub(crate) produces: bool,
    pub(crate) made: bool,
    pub(crate) sends_later: bool,
    /// A timer is set to ask the poller again whether there is urgent data.
    pub(crate) asks_later: bool,
    pub(crate) kept_bytes: usize,
}

/// A protocol that is taken out for a callback.
pub(crate) struct CheckedOut {
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) room: usize,
}

/// The result of a read.
#[derive(Debug)]
pub(crate) enum Read {
    Data(usize),
    Blocked,
    /// It would block, but perhaps only because a signal was pending: an event had hinted at urgent data.
    Unconfirmed,
    /// The kernel lacks memory for it: no event tells when it has some again.
    Later,
    End,
    Failed(io::Error),
}

/// The result of a quick read.
pub(crate) enum Arrival {
    /// This many bytes, fewer than there was room for, and the protocol, taken out to receive them.
    Data(usize, Box<dyn Protocol>),
    Other(Read),
}

/// A callback may gather this much before the queue must be checked; more is sent at once, even if the callback writes
/// on.
pub(crate) const GATHERED_BYTES_MAX: usize = 256 * 1024;

/// The most that one read takes. Measured on loopback: 16 KiB give 0.81 of its throughput, 256 KiB 0.94.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// The result of a send.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Everything is sent.
    All,
    /// Some is queued.
    Blocked(Blocked),
    Failed(io::Error),
}

/// The mark that the output queue has crossed.
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
        began_ns: u64,
    ) -> Connection {
        let mut connection = Connection::begin(Some(socket), protocol, Peer::Known(peer), settings, Life::new(true));
        connection.began_ns = began_ns;
        connection.flags.set(Flag::Writable, true);
        connection
    }

    /// Returns a connection that is not established yet.
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

    /// Returns what the tests of the guarantees look at.
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

    /// Returns its limits, to be changed for this connection alone.
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

    /// Returns whether an event has said, since the last call, that the attempt with the connection's own token may be
    /// established.
    pub(crate) fn may_be_established(&mut self) -> bool {
        self.flags.replace(Flag::Writable, false)
    }

    /// No event will say that it may be established, so it is checked anyway.
    pub(crate) fn set_may_be_established(&mut self) {
        self.flags.set(Flag::Writable, true);
    }

    /// It is established. Returns the connector, which is no longer needed.
    pub(crate) fn established(&mut self, socket: Stream, peer: Address) -> Option<Box<Connector>> {
        self.socket = Some(socket);
        self.flags.set(Flag::Writable, true);
        self.life.step(Event::Established);
        let connector = self.take_connector();
        self.peer = Peer::Known(peer);
        connector
    }

    /// Returns the peer's address, as users see it; `None` if it is not established.
    pub(crate) fn peer(&self) -> Option<&Address> {
        match &self.peer {
            Peer::Known(address) => Some(address),
            Peer::Proxied(proxied) => Some(&proxied.peer),
            Peer::Connecting(_) | Peer::Nobody => None,
        }
    }

    /// Returns the address at the other end of its socket, which may be a proxy's.
    pub(crate) fn neighbour(&self) -> Option<&Address> {
        match &self.peer {
            Peer::Proxied(proxied) => Some(&proxied.proxy),
            _ => self.peer(),
        }
    }

    /// From now on the peer is one beyond the other end of its socket, which is a proxy. Does nothing if the connection
    /// is not established.
    pub(crate) fn set_peer(&mut self, peer: Address) {
        if let Some(proxy) = self.neighbour().cloned() {
            self.peer = Peer::Proxied(Box::new(Proxied { peer, proxy }));
        }
    }

    /// Returns the connector, until it is established.
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

    /// Returns whether beginning takes more than calling its protocol: it has a timeout or a rate, or the protocol is
    /// not the first.
    #[inline]
    pub(crate) fn begins_specially(&self) -> bool {
        self.settings.limits.are_timed() || self.flags.has(Flag::Anew)
    }

    /// Returns whether it has not ended.
    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        self.state().is_alive()
    }

    /// Records what an event says. These are all hints: only a read or a send tells what they are worth (R6).
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

    /// Returns whether the quick path may serve an event: a read and a send may succeed, and nothing else comes first.
    #[inline]
    pub(crate) fn is_quick(&self, readiness: Readiness) -> bool {
        self.flags.are_quick(readiness) && self.has_nothing_waiting()
    }

    /// The same, except for a hint that the peer may have ended its stream.
    #[inline]
    pub(crate) fn may_end_quickly(&self, readiness: Readiness) -> bool {
        self.flags.are_quick_at_end(readiness) && self.has_nothing_waiting()
    }

    #[inline]
    fn has_nothing_waiting(&self) -> bool {
        self.state() == State::Open && self.input.is_none() && self.output.is_none()
    }

    /// For a quick connection: reads, and takes the protocol out to receive the data.
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

    /// Like [`receive_quickly`](Connection::receive_quickly), for sockets other than TCP.
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

    /// For a quick connection: sends what its callback has gathered. `Err` has the result of a call that did not take
    /// everything.
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

    /// Like [`send_quickly`](Connection::send_quickly), for sockets other than TCP.
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

    /// Takes the protocol out of its slot for a callback, with how much the callback may gather: no more than `room`,
    /// and no more than fits below the cap (W4).
    #[inline]
    pub(crate) fn check_out(&mut self, room: usize) -> Option<CheckedOut> {
        let room = room.min(self.room());
        Some(CheckedOut { protocol: self.protocol.take()?, room })
    }
}
