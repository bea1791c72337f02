//! Datagram sockets: how a ready one is served (rule U1).

use std::io;

use super::slots::Tenant;
use super::timers::{Due, Purpose, SEND_RETRY};
use super::work::{Discarded, Loss};
use super::{Core, Parts};
use crate::datagram::{DatagramSocket, Mark, Receive, Sending};
use crate::ids::Id;
use crate::reason::Timeout;
use crate::sys::{self, deadline_after};
use crate::{Address, CloseReason, DatagramError, DatagramProtocol, DatagramTransport};

/// How a datagram protocol is called.
type Callback<'a> = &'a mut dyn FnMut(&mut dyn DatagramProtocol, &mut DatagramTransport<'_>);

impl Core {
    /// Serves a datagram socket: calls `connection_made` first, sends what is queued, receives within its budget, and
    /// reports errors.
    pub(super) fn serve_datagram(&mut self, id: Id, buffer: &mut [u8]) {
        let Some(datagram) = self.parts.slots.alive_datagram_mut(id) else { return };
        if !std::mem::replace(&mut datagram.made, true) {
            log::debug!("datagram socket {id} is open");
            self.call_datagram(id, &mut |protocol, transport| protocol.connection_made(transport));
        }
        let goes_on = self.parts.flush_datagram(id);
        self.receive_whole(id, buffer);
        self.tell_datagram(id);
        self.parts.finish_serving_datagram(id, goes_on);
    }

    fn call_datagram(&mut self, id: Id, callback: Callback<'_>) {
        let protocol = self.parts.slots.datagram_mut(id).and_then(|datagram| datagram.protocol.take());
        let Some(mut protocol) = protocol else { return };
        let called = self.guard_each("a datagram protocol", &mut |core| {
            callback(&mut *protocol, &mut DatagramTransport::new(core, id));
        });
        if let Some(datagram) = self.parts.slots.datagram_mut(id) {
            datagram.protocol = Some(protocol);
        }
        if let Err(message) = called {
            self.parts.finish_datagram(id, Some(CloseReason::Panic(message)));
        }
    }

    /// Receives into a buffer that is large enough: the loop's own, or a larger one for sockets that accept longer
    /// datagrams.
    fn receive_whole(&mut self, id: Id, buffer: &mut [u8]) {
        let needed = self.parts.slots.datagram(id).map_or(0, DatagramSocket::buffer_bytes);
        if needed <= buffer.len() {
            return self.receive_datagrams(id, buffer);
        }
        let mut large = std::mem::take(&mut self.parts.buffers.large);
        self.receive_datagrams(id, large.get(needed));
        self.parts.buffers.large = large;
        self.parts.start_decay_of_large_buffer();
    }

    /// Receives and delivers datagrams, up to the budget of a turn.
    fn receive_datagrams(&mut self, id: Id, buffer: &mut [u8]) {
        let Some(datagram) = self.parts.slots.datagram_mut(id) else { return };
        let mut bytes_left = datagram.limits.read_bytes_per_turn_max;
        for _ in 0..datagram.limits.datagrams_per_turn_max {
            // Looked up each time: a callback may have closed it.
            let datagram = match self.parts.slots.datagram_mut(id) {
                Some(datagram) if datagram.wants_input() => datagram,
                _ => return,
            };
            if datagram.buffer_bytes() > buffer.len() {
                // A callback has asked for longer ones.
                break;
            }
            match datagram.receive(buffer) {
                Receive::Datagram { count, from, truncated } => {
                    self.deliver_datagram(id, &buffer[..count], &from, truncated);
                    bytes_left = bytes_left.saturating_sub(count);
                    if bytes_left == 0 {
                        break;
                    }
                }
                Receive::Failed => {}
                Receive::KeepsFailing => return self.parts.receive_later(id),
                Receive::Blocked => return,
                Receive::Invalid(error) => return self.parts.finish_datagram(id, Some(CloseReason::Io(error.into()))),
            }
        }
        if self.parts.slots.datagram(id).is_some_and(DatagramSocket::wants_input) {
            self.parts.carry_over(id);
        }
    }

    fn deliver_datagram(&mut self, id: Id, data: &[u8], from: &Address, truncated: bool) {
        self.parts.counters.datagrams_received += 1;
        self.parts.counters.datagrams_truncated += u64::from(truncated);
        self.call_datagram(id, &mut |protocol, transport| match truncated {
            false => protocol.datagram_received(transport, data, from),
            true => protocol.datagram_truncated(transport, data, from),
        });
    }

    /// Reports the errors that occurred before this began, and crossed write marks. Errors that this causes are
    /// reported in the next turn, so a protocol that sends again in `error_received` cannot starve others.
    fn tell_datagram(&mut self, id: Id) {
        let errors = match self.parts.slots.datagram(id) {
            Some(datagram) if datagram.has_news() => datagram.errors(),
            _ => return,
        };
        for _ in 0..errors {
            // Looked up each time: if a callback has closed it, the remaining errors are reported at its end.
            let error = match self.parts.slots.datagram_mut(id) {
                Some(datagram) if datagram.is_open() => datagram.take_error(),
                _ => break,
            };
            let Some(error) = error else { break };
            tell_error(self, id, &error);
        }
        if let Some(mark) = self.parts.slots.datagram_mut(id).and_then(DatagramSocket::take_mark) {
            self.call_datagram(id, &mut |protocol, transport| match mark {
                Mark::Pause => protocol.pause_writing(transport),
                Mark::Resume => protocol.resume_writing(transport),
            });
        }
    }

    /// Phase: losses, of datagram sockets.
    pub(super) fn deliver_datagram_loss(&mut self, id: Id, reason: CloseReason) {
        let Some(datagram) = self.parts.slots.datagram_mut(id) else { return };
        if datagram.made {
            // Unsent datagrams are reported, so that nobody takes them for sent (U1).
            while let Some(error) = self.parts.slots.datagram_mut(id).and_then(DatagramSocket::take_error) {
                tell_error(self, id, &error);
            }
            log::debug!("datagram socket {id} is lost: {reason}");
            let mut reason = Some(reason);
            self.call_datagram(id, &mut |protocol, transport| {
                if let Some(reason) = reason.take() {
                    protocol.connection_lost(transport, reason);
                }
            });
        }
        if let Some(protocol) = self.parts.slots.datagram_mut(id).and_then(|datagram| datagram.protocol.take()) {
            self.drop_guarded(Discarded::DatagramProtocol(protocol));
        }
        self.parts.work.free(id);
    }
}

fn tell_error(core: &mut Core, id: Id, error: &DatagramError) {
    core.call_datagram(id, &mut |protocol, transport| protocol.error_received(transport, error));
}

impl Parts {
    /// Puts a datagram socket into a slot and registers it. `connection_made` comes in the next turn.
    pub(crate) fn add_datagram(
        &mut self,
        socket: io::Result<sys::Datagram>,
        peer: Option<Address>,
        protocol: Box<dyn DatagramProtocol>,
    ) -> io::Result<Id> {
        let socket = match connected(socket, &peer) {
            Ok(socket) => socket,
            Err(error) => return Err(self.refuse(Discarded::DatagramProtocol(protocol), error)),
        };
        let datagram = DatagramSocket::new(socket, peer, protocol, self.settings.limits.clone());
        let id = self.slots.insert(Tenant::Datagram(Box::new(datagram)))?;
        let socket = self.slots.datagram_mut(id).and_then(DatagramSocket::socket_mut).expect("it was just inserted");
        if let Err(error) = socket.register(&self.poller, id.token()) {
            self.finish_datagram(id, None);
            return Err(error);
        }
        self.carry_over(id);
        Ok(id)
    }

    /// Receiving keeps failing: trying again at once would spin, and report each try.
    #[cold]
    fn receive_later(&mut self, id: Id) {
        let now = self.time.now();
        let Some(datagram) = self.slots.datagram_mut(id) else { return };
        let deadline = deadline_after(now, datagram.next_delay());
        datagram.set_backs_off(Some(self.time.set(deadline, Due::of(Purpose::Receive, id))));
    }

    pub(super) fn receive_again(&mut self, id: Id) {
        if let Some(datagram) = self.slots.datagram_mut(id) {
            datagram.set_backs_off(None);
            self.carry_over(id);
        }
    }

    /// Sends what is queued. Returns whether sending can go on at once: it has a budget too.
    fn flush_datagram(&mut self, id: Id) -> bool {
        let Some(datagram) = self.slots.datagram_mut(id) else { return false };
        let before = datagram.queued_cost();
        let goes_on = datagram.flush(datagram.limits.datagrams_per_turn_max);
        self.outbox.count(before, datagram.queued_cost());
        goes_on
    }

    /// Arranges what must come after a socket was served or sent to: its end, an event, or another turn.
    fn finish_serving_datagram(&mut self, id: Id, goes_on: bool) {
        let Some(datagram) = self.slots.alive_datagram_mut(id) else { return };
        if datagram.is_flushed() {
            return self.finish_datagram(id, None);
        }
        if datagram.needs_deadline() {
            let deadline = deadline_after(self.time.now(), datagram.limits.close_timeout);
            datagram.set_deadline(self.time.set(deadline, Due::of(Purpose::Close, id)));
        }
        let needs_turn = goes_on || datagram.has_news();
        if datagram.sending() == Sending::Blocked || datagram.needs_no_event() {
            self.await_room(id);
        }
        if needs_turn {
            self.carry_over(id);
        }
    }

    /// If a send would block, waits for an event, or for a timer where no event comes; otherwise stops waiting.
    fn await_room(&mut self, id: Id) {
        let Some(datagram) = self.slots.datagram_mut(id) else { return };
        let blocked = datagram.sending() == Sending::Blocked;
        let asked = datagram.awaits_event;
        let Some(socket) = datagram.socket_mut() else { return };
        let asks = blocked && socket.tells_when_writable();
        let asked = match asks == asked || socket.await_writable(&self.poller, id.token(), asks).is_ok() {
            true => asks,
            false => asked,
        };
        datagram.awaits_event = asked;
        if blocked {
            datagram.set_awaited();
            if !asked && !std::mem::replace(&mut datagram.sends_later, true) {
                self.time.set_after(SEND_RETRY, Due::of(Purpose::Send, id));
            }
        } else if !asked {
            // The datagram that blocked was dropped, and no event will report when another one can be sent.
            datagram.try_again();
        }
    }

    pub(super) fn send_datagrams_again(&mut self, id: Id) {
        if let Some(datagram) = self.slots.datagram_mut(id) {
            datagram.sends_later = false;
            datagram.try_again();
            self.carry_over(id);
        }
    }

    // What protocols ask of them.

    pub(crate) fn send_datagram(&mut self, id: Id, data: &[u8], to: Option<&Address>) {
        self.send_what_only_waits();
        self.keep_below_cap(Some(id));
        let has_room = !self.outbox.is_over_cap();
        match self.slots.datagram_mut(id) {
            Some(datagram) if datagram.is_open() => {
                let before = datagram.queued_cost();
                datagram.send(data, to, has_room);
                self.outbox.count(before, datagram.queued_cost());
                self.finish_serving_datagram(id, false);
            }
            _ => self.counters.late_writes += 1,
        }
    }

    /// Drops the queue of a datagram socket, to make room for others; the socket is told how many datagrams were
    /// dropped. Returns `false` if there is no such socket.
    pub(super) fn drop_queued_datagrams(&mut self, id: Id) -> bool {
        let Some(datagram) = self.slots.datagram_mut(id) else { return false };
        self.outbox.count(datagram.queued_cost(), 0);
        datagram.drop_queued();
        self.carry_over(id);
        true
    }

    pub(crate) fn close_datagram(&mut self, id: Id, reason: CloseReason) {
        if let Some(datagram) = self.slots.datagram_mut(id) {
            datagram.close(reason);
            self.finish_serving_datagram(id, false);
        }
    }

    /// The only way in which a datagram socket ends. `None`: for the reason that its end began with.
    pub(crate) fn finish_datagram(&mut self, id: Id, reason: Option<CloseReason>) {
        let Some(datagram) = self.slots.alive_datagram_mut(id) else { return };
        self.outbox.count(datagram.queued_cost(), 0);
        let (reason, [deadline, retry]) = datagram.end(reason);
        self.time.cancel(deadline);
        self.time.cancel(retry);
        self.work.add_loss(Loss { id, reason, handover: None });
        self.descriptor_closed();
    }

    pub(super) fn datagram_close_timed_out(&mut self, id: Id) {
        self.finish_datagram(id, Some(CloseReason::Timeout(Timeout::Close)));
    }
}

/// Connects a socket to its peer, if it has one.
fn connected(socket: io::Result<sys::Datagram>, peer: &Option<Address>) -> io::Result<sys::Datagram> {
    let mut socket = socket?;
    if let Some(peer) = peer {
        socket.connect(peer)?;
    }
    Ok(socket)
}
