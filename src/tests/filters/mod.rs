//! Rules Y1 to Y11: filters between a socket and a protocol.

mod again;
mod costs;
mod ends;
pub(crate) mod kinds;
mod later;
mod leaving;
mod orders;
mod ready;
mod stubborn;

use std::cell::RefCell;
use std::net::SocketAddr;

use self::kinds::Sealed;
use super::*;
use crate::testing::{Faults, HostId, Network, Peer as RawPeer};
use crate::{Address, Context, Listen, Listener};

/// The server's key, and the mask for a record's bytes: clients announce 0 as their own.
const KEY: u8 = 0x55;

/// Returns the bytes of a record.
fn record(payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().map(|byte| byte ^ KEY);
    [b'R', 0, payload.len() as u8].into_iter().chain(masked).collect()
}

/// A host whose connections have filters. What its peers do is scripted, byte by byte.
struct Wire {
    network: Network,
    host: HostId,
    log: Log,
    to: SocketAddr,
    listener: ListenerId,
    /// More turns in a row without progress mean that the loop spins.
    idle_turns_max: u64,
}

/// Consumes everything, and leaves its half open when its peer has ended the other one.
fn stays(event: Event<'_>, _: &mut Transport<'_>) -> usize {
    match event {
        Event::Data(data) => data.len(),
        _ => 0,
    }
}

impl Wire {
    /// A wire whose listener has the filter `Sealed`, and protocols that do what `act` does.
    fn sealed(act: fn(Event<'_>, &mut Transport<'_>) -> usize) -> Wire {
        Wire::new(Limits::default(), |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), act)
    }

    fn new(
        limits: impl Into<LoopLimits>,
        filtered: impl FnOnce(Listen) -> Listen,
        act: fn(Event<'_>, &mut Transport<'_>) -> usize,
    ) -> Wire {
        let mut network = Network::new(1, Faults::none());
        let host = network.host_with_limits(limits);
        let (log, to) = (Log::default(), network.address(host, 7));
        let noted = log.clone();
        let factory = move |_: &mut Context<'_>, _: &Address| Some(protocol(&noted, act));
        let listener = network.context(host).listen(filtered(Listen::at(to)), factory).unwrap();
        Wire { network, host, log, to, listener, idle_turns_max: 5 }
    }

    /// Returns a connected peer.
    fn peer(&mut self) -> RawPeer {
        let peer = self.network.peer(self.to);
        self.rest();
        peer
    }

    /// Returns a peer that has said hello and has been answered.
    fn shaken(&mut self) -> RawPeer {
        let mut peer = self.peer();
        peer.send(b"H\0");
        self.rest();
        assert_eq!(peer.read(), [b'S', KEY]);
        assert_eq!(self.log.take(), ["made"]);
        peer
    }

    fn rest(&mut self) {
        self.network.run_for(MS * 500);
        let turns = self.network.turns_without_progress_most();
        assert!(turns <= self.idle_turns_max, "it spins: {turns} turns");
    }

    fn send(&mut self, peer: &mut RawPeer, bytes: &[u8]) {
        assert_eq!(peer.send(bytes), bytes.len());
        self.rest();
    }

    /// Does something to the only connection.
    fn tell(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        let mut context = self.network.context(self.host);
        let id = context.connection_ids()[0];
        act(&mut context.connection(id).unwrap());
        self.rest();
    }

    /// Does the same if the connection is not gone yet.
    fn tell_if_there(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        if self.connections() > 0 {
            self.tell(act);
        }
        self.rest();
    }

    /// Returns how many timers the loop has once it has returned memory.
    fn timers(&mut self) -> usize {
        self.network.run_for(20 * SECOND);
        self.network.event_loop(self.host).core.timers()
    }

    fn connections(&mut self) -> usize {
        self.network.context(self.host).connection_count()
    }

    /// Collects the errors that the listener reports to its owner.
    fn errors(&mut self) -> Rc<RefCell<Vec<String>>> {
        let errors = Rc::new(RefCell::new(Vec::new()));
        let noted = errors.clone();
        let mut context = self.network.context(self.host);
        let mut listener: Listener<'_> = context.listener(self.listener).unwrap();
        listener.on_error(move |_, _, error| noted.borrow_mut().push(error.to_string()));
        errors
    }
}
