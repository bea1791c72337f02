//! How simulated TCP sockets end: one half, or all of it.

use std::io;

use super::Errno;
use super::listener::port_of;
use super::packet::Packet;
use super::tcp::Phase;
use super::world::{Kind, SocketId, World};

impl World {
    pub(super) fn shutdown_write(&mut self, id: SocketId) -> io::Result<()> {
        self.begin_call();
        // What is queued for a connection that is not established is sent once it is, and its end after that.
        let sends = self.tcp(id).filter(|tcp| matches!(tcp.phase, Phase::Connecting | Phase::Open));
        if sends.is_some_and(|tcp| tcp.queue.end_behind()) {
            return Ok(());
        }
        let named = self.is_named(id);
        let Some(tcp) = self.tcp(id).filter(|tcp| tcp.phase == Phase::Open) else {
            return if named { Ok(()) } else { Err(Errno::NotConnected.into()) };
        };
        if !std::mem::replace(&mut tcp.write_shut, true) {
            self.progress += 1;
        }
        self.note(format_args!("s{id} ends its half"));
        // Linux wakes a poll of the socket even for its own shutdown. A test that operates it by hand knows already.
        if self.is_registered(id) {
            self.wake(id);
        }
        self.pump(id);
        self.settle();
        Ok(())
    }

    /// Closes a socket, as dropping it does: with a reset if input is unread, otherwise with an end after all written
    /// data.
    pub(super) fn close(&mut self, id: SocketId) {
        self.settle();
        #[cfg(test)]
        self.note_abandoned(id);
        if self.is_named(id) {
            return self.close_named(id, false);
        }
        let Some(tcp) = self.tcp(id) else { return };
        if tcp.unread() > 0 && tcp.phase == Phase::Open {
            return self.reset(id);
        }
        tcp.orphan = true;
        tcp.write_shut = true;
        tcp.queue.clear();
        // What arrives from now on is not kept but answered with a reset: there is room for that.
        let stalled = std::mem::take(&mut tcp.stalled);
        let begun = matches!(tcp.phase, Phase::Open | Phase::Embryo(_));
        self.progress += 1;
        self.note(format_args!("s{id} is closed"));
        self.deregister(id);
        if stalled {
            self.open_window(id);
        }
        if begun {
            self.pump(id);
        } else {
            self.remove_tcp(id);
        }
        self.reap(id);
        self.settle();
    }

    /// Closes a socket with a reset, whatever is unsent or unread.
    pub(super) fn reset(&mut self, id: SocketId) {
        self.settle();
        #[cfg(test)]
        self.note_abandoned(id);
        if self.is_named(id) {
            return self.close_named(id, false);
        }
        let Some(tcp) = self.tcp(id) else { return };
        let phase = tcp.phase;
        let over = tcp.has_ended();
        let peer = tcp.peer;
        self.progress += 1;
        self.note(format_args!("s{id} is closed by a reset"));
        if let (Phase::Open | Phase::Embryo(_), false, Some(peer)) = (phase, over, peer) {
            self.send_in_order(id, Packet::Reset { to: peer, again: false });
        }
        self.remove_tcp(id);
        self.settle();
    }

    /// Records input that will never be read, of a socket in a loop.
    #[cfg(test)]
    fn note_abandoned(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if let (Some(registration), Kind::Tcp(tcp)) = (&socket.registration, &socket.kind) {
            if tcp.unread() > 0 {
                self.abandoned.push((socket.host, registration.token, tcp.unread()));
            }
        }
    }

    pub(super) fn remove_tcp(&mut self, id: SocketId) {
        self.drop_held(id);
        let Some(socket) = self.sockets.remove(&id) else { return };
        if let Kind::Tcp(tcp) = socket.kind {
            if tcp.bound {
                self.bound.remove(&port_of(true, socket.host, tcp.local));
            }
        }
    }
}
