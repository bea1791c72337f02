//! Senders whose peer has no room, or is gone: they ask until they are answered, and give up if they never are.
//!
//! Linux sends a probe of a closed window every so often. Here a receiver that has room says so, and what it says is not
//! lost, so a probe is sent where its answer brings something new or is overdue: after the peer has given up or its
//! machine has lost its power, and on a link that is cut.

use super::Errno;
use super::packet::Packet;
use super::tcp::{Phase, Tcp};
use super::world::{HostIndex, Kind, SocketId, World};

impl World {
    /// Asks the peer of a socket whether it has room, if the socket waits for that.
    fn probe(&mut self, id: SocketId) {
        let Some(tcp) = self.tcp(id).filter(|tcp| tcp.is_blocked() && tcp.names.is_none()) else { return };
        let Some(to) = tcp.peer else { return };
        if !std::mem::replace(&mut tcp.probes, true) {
            self.note(format_args!("s{id} asks whether s{to} has room"));
            self.send_back(id, Packet::Probe { to, from: id });
        }
    }

    /// Probes if no answer may come, since the link is cut one way or the other.
    pub(super) fn probe_if_cut(&mut self, id: SocketId) {
        let Some(host) = self.sockets.get(&id).map(|socket| socket.host) else { return };
        let Some(remote) = self.tcp(id).and_then(|tcp| tcp.remote_host) else { return };
        if self.is_cut(host, remote) || self.is_cut(remote, host) {
            self.probe(id);
        }
    }

    /// The link between two hosts was cut.
    pub(super) fn probe_through(&mut self, one: HostIndex, other: HostIndex) {
        self.probe_each(|host, tcp| {
            let remote = tcp.remote_host;
            (host == one && remote == Some(other)) || (host == other && remote == Some(one))
        });
    }

    /// A host has lost its power.
    pub(super) fn probe_vanished(&mut self, host: HostIndex) {
        self.probe_each(|_, tcp| tcp.remote_host == Some(host));
    }

    fn probe_each(&mut self, is_meant: impl Fn(HostIndex, &Tcp) -> bool) {
        let sockets = self.sockets.iter();
        let meant = sockets.filter(|(_, of)| matches!(&of.kind, Kind::Tcp(tcp) if is_meant(of.host, tcp)));
        let meant: Vec<_> = meant.map(|(&id, _)| id).collect();
        for id in meant {
            self.probe(id);
        }
    }

    pub(super) fn deliver_probe(&mut self, to: SocketId, from: SocketId) {
        match self.is_tcp(to, |tcp| tcp.phase != Phase::Closed) {
            true => self.send_back(to, Packet::Ack { to: from, count: 0 }),
            false => self.reset_unknown(from),
        }
    }

    /// Ends a socket that has waited too long for an answer of its peer, which is not told of it before it sends
    /// something itself.
    pub(super) fn give_up(&mut self, id: SocketId) {
        self.note(format_args!("s{id} gives up on its peer"));
        let peer = self.tcp(id).and_then(|tcp| tcp.peer);
        match self.is_tcp(id, |tcp| matches!(tcp.phase, Phase::Embryo(_))) {
            true => self.deliver_reset(id),
            false => self.fail(id, Errno::TimedOut),
        }
        if let Some(peer) = peer {
            self.probe(peer);
        }
    }
}
