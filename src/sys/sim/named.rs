//! Simulated Unix streams: sockets of one host that have names, and no network between them.
//!
//! They handle bytes like [`Tcp`] sockets. The differences were taken from Linux, with which the differential tests
//! compare them: a connect succeeds or fails at once, nothing is in flight, both halves of the peer see a close at
//! once, and a reset is a close.

use std::collections::BTreeMap;
use std::io;

use super::listener::ListenerSocket;
use super::packet::Packet;
use super::tcp::{NO_ADDRESS, Phase, Tcp};
use super::world::{HostIndex, Kind, SocketId, World};
use super::{Call, Errno};
use crate::Address;

/// The names of a Unix stream: its own and its peer's.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) own: Address,
    pub(super) peer: Address,
}

/// The owner of each name, by host.
pub(super) type Named = BTreeMap<(HostIndex, Address), SocketId>;

impl World {
    pub(super) fn listen_named(&mut self, host: HostIndex, name: Address, backlog: u32) -> io::Result<SocketId> {
        self.check_opening(host, Call::Listen)?;
        if !name.is_name() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.take_name(host, &name, true)?;
        let id = self.insert(host, Kind::Listener(ListenerSocket::new(NO_ADDRESS, Some(name.clone()), backlog)));
        self.named.insert((host, name.clone()), id);
        self.note(format_args!("s{id} of host {host} listens on {name}"));
        Ok(id)
    }

    /// Connects, or fails: `own` is the name of the new end, which has none.
    pub(super) fn connect_named(&mut self, host: HostIndex, (own, name): (Address, Address)) -> io::Result<SocketId> {
        self.begin_call();
        self.check_opening(host, Call::Connect)?;
        let at = self.find_named(host, &name, true)?;
        // Linux takes one more than the backlog says.
        if self.listener(at).is_none_or(|listener| listener.queue.len() > listener.backlog) {
            let refuses = self.hosts[host].habits.full_backlog_refuses;
            return Err(if refuses { Errno::ConnectionRefused } else { Errno::WouldBlock }.into());
        }
        let [id, accepted] = self.pair(host, (own, name.clone()), false);
        self.note(format_args!("s{id} of host {host} connects to {name}: s{accepted} waits at s{at}"));
        if let Some(listener) = self.listener(at) {
            listener.queue.push_back(accepted);
        }
        self.wake(at);
        self.settle();
        Ok(id)
    }

    /// Makes sure that this name is free, among listeners or datagram sockets. A path that was left behind is replaced.
    pub(super) fn take_name(&mut self, host: HostIndex, name: &Address, of_listener: bool) -> Result<(), Errno> {
        let key = (host, name.clone());
        let (same, other) = self.names_of(of_listener);
        // Each kind of socket has its own abstract names.
        if same.contains_key(&key) || (name.is_path() && other.contains_key(&key)) {
            return Err(Errno::AddressInUse);
        }
        self.left_paths.remove(&key);
        Ok(())
    }

    /// Returns the listener, or the datagram socket, with this name.
    pub(super) fn find_named(&self, host: HostIndex, name: &Address, listener: bool) -> Result<SocketId, Errno> {
        let key = (host, name.clone());
        let (same, other) = self.names_of(listener);
        match same.get(&key) {
            Some(&id) => Ok(id),
            None if !name.is_path() || self.left_paths.contains(&key) => Err(Errno::ConnectionRefused),
            None if other.contains_key(&key) => Err(Errno::Prototype),
            None => Err(Errno::NotFound),
        }
    }

    /// A listener with this name is closed. Its path is removed, unless it is left behind.
    pub(super) fn give_name_back(&mut self, host: HostIndex, name: Address, leaves_path: bool) {
        let key = (host, name);
        self.named.remove(&key);
        if leaves_path && key.1.is_path() {
            self.left_paths.insert(key);
        }
    }

    /// Returns the names of that kind of socket, and those of the other kind.
    fn names_of(&self, listeners: bool) -> (&Named, &Named) {
        match listeners {
            true => (&self.named, &self.named_datagrams),
            false => (&self.named_datagrams, &self.named),
        }
    }

    /// Returns two ends on one host that are connected with each other, with these names. `awaits_writable` says
    /// whether their loops are told of room from the beginning.
    pub(super) fn pair(
        &mut self,
        host: HostIndex,
        (one, other): (Address, Address),
        awaits_writable: bool,
    ) -> [SocketId; 2] {
        let names = [(one.clone(), other.clone()), (other, one)].map(|(own, peer)| Names { own, peer });
        let ends = names.map(|names| {
            let mut tcp = Tcp::named(self, host, names);
            tcp.phase = Phase::Open;
            tcp.awaits_writable = awaits_writable;
            self.insert(host, Kind::Tcp(Box::new(tcp)))
        });
        for [id, peer] in [ends, [ends[1], ends[0]]] {
            if let Some(tcp) = self.tcp(id) {
                tcp.peer = Some(peer);
            }
        }
        ends
    }

    /// Sets whether the loop of a Unix stream is told when there is room, at once if there is.
    pub(super) fn await_room(&mut self, id: SocketId, awaits: bool) {
        if let Some(tcp) = self.tcp(id).filter(|tcp| tcp.names.is_some() && tcp.awaits_writable != awaits) {
            tcp.awaits_writable = awaits;
            self.wake(id);
        }
    }

    pub(super) fn is_named(&self, id: SocketId) -> bool {
        self.is_tcp(id, |tcp| tcp.names.is_some())
    }

    /// There is nothing between the ends: what is sent has arrived.
    pub(super) fn hand_over(&mut self, packet: Packet) {
        let now = self.now;
        self.arrive_at(now, packet);
    }

    /// Closes one: what it had written belongs to its peer already, and both halves are closed. The peer sees a reset
    /// if input was left unread, or if the connection was never accepted.
    pub(super) fn close_named(&mut self, id: SocketId, was_waiting: bool) {
        let Some(tcp) = self.tcp(id) else { return };
        let peer = tcp.peer;
        let resets = was_waiting || tcp.unread() > 0;
        self.progress += 1;
        self.note(format_args!("s{id} is closed"));
        self.deregister(id);
        self.remove_tcp(id);
        if let Some(tcp) = peer.and_then(|peer| self.tcp(peer)) {
            tcp.is_hung_up(resets.then_some(Errno::ConnectionReset));
        }
        if let Some(peer) = peer {
            self.wake(peer);
        }
        self.settle();
    }

    pub(super) fn own_address(&mut self, id: SocketId) -> io::Result<Address> {
        let tcp = self.tcp(id).ok_or(Errno::NotConnected)?;
        Ok(tcp.names.as_ref().map_or(Address::of_socket(tcp.local), |names| names.own.clone()))
    }

    pub(super) fn address_of_peer(&mut self, id: SocketId) -> io::Result<Address> {
        let names = self.tcp(id).and_then(|tcp| tcp.names.clone());
        match names {
            // On Linux it belongs to the peer whether that still exists or not.
            Some(names) => self.check_over(id).map(|()| names.peer),
            None => self.peer_addr(id).map(Address::of_socket),
        }
    }
}
