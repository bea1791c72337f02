//! Simulated listeners.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::tcp::{Phase, Tcp};
use super::world::{HostIndex, Kind, Port, SocketId, World, address_of};
use super::{Call, Errno};
use crate::Address;
use crate::sys::Readiness;

pub(super) struct ListenerSocket {
    pub(super) local: SocketAddr,
    /// The name of a Unix socket, which has no address.
    pub(super) name: Option<Address>,
    /// Its path is not removed when it is closed.
    pub(super) leaves_path: bool,
    pub(super) backlog: usize,
    /// Connections that wait to be accepted.
    pub(super) queue: VecDeque<SocketId>,
    /// Connects that are in progress.
    pub(super) embryos: usize,
    /// How the next accepts fail, if a test has asked for that.
    pub(super) failures: VecDeque<io::Error>,
}

impl ListenerSocket {
    pub(super) fn new(local: SocketAddr, name: Option<Address>, backlog: u32) -> ListenerSocket {
        let (queue, failures) = (VecDeque::new(), VecDeque::new());
        ListenerSocket { local, name, leaves_path: false, backlog: backlog as usize, queue, embryos: 0, failures }
    }

    pub(super) fn readiness(&self) -> Readiness {
        match self.queue.is_empty() && self.failures.is_empty() {
            true => Readiness::default(),
            false => Readiness::READABLE,
        }
    }
}

/// The seed's choice of failing accepts: every error that a listener survives (rule A1).
const FAILURES: [Errno; 8] = [
    Errno::ConnectionAborted,
    Errno::Protocol,
    Errno::Permission,
    Errno::FilesPerProcess,
    Errno::FilesPerSystem,
    Errno::NoBuffers,
    Errno::NoMemory,
    Errno::Io,
];

impl World {
    pub(super) fn listener(&mut self, id: SocketId) -> Option<&mut ListenerSocket> {
        match &mut self.sockets.get_mut(&id)?.kind {
            Kind::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    pub(super) fn listen(&mut self, host: HostIndex, address: SocketAddr, backlog: u32) -> io::Result<SocketId> {
        self.check_opening(host, Call::Listen)?;
        let local = self.bind(true, host, address)?;
        let id = self.insert(host, Kind::Listener(ListenerSocket::new(local, None, backlog)));
        self.bound.insert(port_of(true, host, local), id);
        self.note(format_args!("s{id} of host {host} listens on {local}"));
        Ok(id)
    }

    /// Returns the address that a socket gets when it asks for this one: one of its host's, and a free port.
    pub(super) fn bind(&mut self, tcp: bool, host: HostIndex, mut address: SocketAddr) -> io::Result<SocketAddr> {
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && ip != address_of(host, address.is_ipv6()) {
            return Err(Errno::AddressNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.next_port(tcp, host, address.is_ipv6()));
        }
        match self.bound.contains_key(&port_of(tcp, host, address)) {
            true => Err(Errno::AddressInUse.into()),
            false => Ok(address),
        }
    }

    pub(super) fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, Address)> {
        self.begin_call();
        if let Some(host) = self.sockets.get(&id).map(|socket| socket.host) {
            self.check_opening(host, Call::Accept)?;
        }
        if self.is_interrupted() {
            return Err(Errno::Interrupted.into());
        }
        let fails = self.random.hits(self.faults.accept_errors_permille);
        let Some(listener) = self.listener(id) else { return Err(Errno::NotConnected.into()) };
        if let Some(error) = listener.failures.pop_front() {
            self.progress += 1;
            self.note(format_args!("s{id} cannot accept: {:?}", error.kind()));
            return Err(error);
        }
        if fails {
            let errno = FAILURES[self.random.below(FAILURES.len() as u64) as usize];
            self.progress += 1;
            self.note(format_args!("s{id} cannot accept: {errno:?}"));
            return Err(errno.into());
        }
        let Some(accepted) = listener.queue.pop_front() else { return Err(Errno::WouldBlock.into()) };
        if self.habits(id).accepts_without_address && self.is_tcp(accepted, Tcp::is_over) && !self.is_named(accepted) {
            self.progress += 1;
            self.note(format_args!("s{id} accepts s{accepted}, which has no address any more"));
            self.close(accepted);
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let remote = self.tcp(accepted).map(|tcp| match &tcp.names {
            Some(names) => names.peer.clone(),
            None => Address::of_socket(tcp.remote),
        });
        self.progress += 1;
        self.note(format_args!("s{id} accepts s{accepted}"));
        remote.map(|remote| (accepted, remote)).ok_or_else(|| Errno::ConnectionAborted.into())
    }

    /// Closes a listener, and resets the connections that wait in its backlog.
    pub(super) fn close_listener(&mut self, id: SocketId) {
        let Some(listener) = self.listener(id) else { return };
        let (local, name, leaves_path) = (listener.local, listener.name.take(), listener.leaves_path);
        let mut waiting: Vec<_> = listener.queue.drain(..).collect();
        waiting.extend(self.sockets.iter().filter_map(|(&embryo, socket)| match &socket.kind {
            Kind::Tcp(tcp) if tcp.phase == Phase::Embryo(id) => Some(embryo),
            _ => None,
        }));
        if let Some(socket) = self.sockets.remove(&id) {
            match name {
                Some(name) => self.give_name_back(socket.host, name, leaves_path),
                None => drop(self.bound.remove(&port_of(true, socket.host, local))),
            }
        }
        self.note(format_args!("s{id} is closed"));
        for id in waiting {
            if self.is_named(id) {
                self.close_named(id, true);
            } else {
                self.reset(id);
            }
        }
        self.settle();
    }
}

pub(super) fn port_of(tcp: bool, host: HostIndex, address: SocketAddr) -> Port {
    Port { tcp, host, ipv6: address.is_ipv6(), port: address.port() }
}
