//! The common case in one piece: an event of a connection that has nothing buffered, nothing queued and nothing due,
//! whose protocol consumes everything that a read brings, and whose answer the kernel takes at once.
//!
//! It does what `receive.rs`, `guard.rs` and `send.rs` would do, with two slot look-ups. Only `Connection::is_quick`
//! decides whether it applies. If anything else than the above happens, it hands over to the functions of those files,
//! and does not come back: this path does nothing that they do not. The tests in `tests/quick.rs` check that both make
//! the same callbacks and send the same bytes.

use std::thread;

use super::parts::finish_quickly;
use super::send::await_hang_up;
use super::{Core, filtering};
use crate::connection::{Arrival, CheckedOut, Flag, GATHERED_BYTES_MAX, READ_BYTES_MAX, Read};
use crate::health::About;
use crate::ids::Id;
use crate::{CloseReason, Protocol, Transport};

impl Core {
    /// Serves a connection for which `is_quick` held when this arrived.
    #[inline]
    pub(super) fn serve_quickly(&mut self, id: Id, arrival: Arrival, buffer: &mut [u8; READ_BYTES_MAX]) {
        let (count, mut protocol) = match arrival {
            Arrival::Data(count, protocol) => (count, protocol),
            Arrival::Other(read) => return self.receive_other(id, buffer, read, 0),
        };
        let data = &buffer[..count];
        self.parts.counters.bytes_received += count as u64;
        self.parts.outbox.gathered.begin_input(id, GATHERED_BYTES_MAX - self.parts.outbox.share_bytes(id));
        if self.parts.watch.times_callbacks() {
            return self.serve_timed(id, buffer, count, protocol);
        }
        let result = self.catch(|core| protocol.data_received(&mut Transport::new(core, id), data));
        self.end_quickly(id, buffer, count, protocol, result);
    }

    /// Continues after the callback.
    #[inline(always)]
    fn end_quickly(
        &mut self,
        id: Id,
        buffer: &mut [u8],
        count: usize,
        protocol: Box<dyn Protocol>,
        result: thread::Result<usize>,
    ) {
        match result {
            Ok(consumed) if consumed == count && !self.parts.outbox.gathered.is_disturbed() => {
                self.parts.outbox.gathered.end();
            }
            result => return self.deliver_slowly(id, buffer, count, protocol, result),
        }
        let connection = match self.parts.slots.connection_mut(id) {
            Some(connection) if connection.protocol.is_none() => connection,
            _ => return self.deliver_slowly(id, buffer, count, protocol, Ok(count)),
        };
        connection.protocol = Some(protocol);
        if connection.idle.is_some() {
            connection.touch_idle(self.parts.time.now_ns());
        }
        if connection.is_flushed_later_or_readable() {
            return self.receive_more(id, buffer, count);
        }
        match connection.send_quickly(&self.parts.outbox.gathered.bytes) {
            Ok(()) => {
                self.parts.counters.bytes_sent += self.parts.outbox.gathered.bytes.len() as u64;
                self.parts.outbox.gathered.bytes.clear();
            }
            Err(result) => self.send_slowly(id, result),
        }
    }

    /// Times the callback, which costs more than everything else here.
    #[cold]
    fn serve_timed(&mut self, id: Id, buffer: &mut [u8], count: usize, mut protocol: Box<dyn Protocol>) {
        let data = &buffer[..count];
        let began = self.parts.time.now();
        let result = self.catch(|core| protocol.data_received(&mut Transport::new(core, id), data));
        self.parts.watch.note("data_received", About::Connection(id), began, self.parts.time.now());
        self.end_quickly(id, buffer, count, protocol, result);
    }

    /// Serves a connection that is quick except for the hint that its peer may have ended its stream. If it has, and
    /// the protocol closes with nothing left to send, as most do, the connection is over.
    #[inline(never)]
    pub(super) fn serve_end(&mut self, id: Id, buffer: &mut [u8; READ_BYTES_MAX]) {
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        connection.flags.set(Flag::Readable, true);
        connection.flags.set(Flag::Hinted, true);
        let protocol = match connection.read(buffer) {
            Read::End => connection.ended_quickly(),
            read => return self.receive_other(id, buffer, read, 0),
        };
        let Some(protocol) = protocol else { return };
        // `call_out` deducts the bytes of the connection's share from this.
        let mut out = CheckedOut { protocol, room: GATHERED_BYTES_MAX };
        let tell = |protocol: &mut dyn Protocol, transport: &mut Transport<'_>| protocol.eof_received(transport, &[]);
        let result = self.call_out(id, &mut out, "eof_received", tell);
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            if result.is_ok() && self.parts.outbox.gathered.bytes.is_empty() && connection.is_out_and_over() {
                connection.protocol = Some(out.protocol);
                return match connection.ends_specially() || self.parts.outbox.is_shared() {
                    true => self.parts.finish(id, CloseReason::PeerClosed),
                    false => finish_quickly(&mut self.parts, id),
                };
            }
        }
        self.end_slowly(id, out.protocol, result);
        await_hang_up(&mut self.parts, id);
    }

    /// Continues after a callback if there is more to do than to put its protocol back.
    #[cold]
    pub(super) fn end_slowly(&mut self, id: Id, protocol: Box<dyn Protocol>, result: thread::Result<()>) {
        self.end_call(id, protocol, result);
        self.flush(id);
    }

    /// Handles a read that brought something else than the first bytes.
    #[cold]
    fn receive_other(&mut self, id: Id, buffer: &mut [u8], read: Read, mut received: usize) {
        let mut more = false;
        match read {
            Read::Data(count) => {
                received += count;
                self.parts.counters.bytes_received += count as u64;
                if let Some(connection) = self.parts.slots.connection_mut(id) {
                    connection.has_received(count, self.parts.time.now_ns());
                    more = connection.is_readable();
                }
                filtering::deliver(self, id, &mut buffer[..count]);
            }
            nothing => self.receive_nothing(id, nothing),
        }
        self.receive_slowly(id, buffer, more, received);
    }

    /// Continues after a callback that did something other than write, or left input unconsumed.
    #[cold]
    fn deliver_slowly(
        &mut self,
        id: Id,
        buffer: &mut [u8],
        count: usize,
        protocol: Box<dyn Protocol>,
        result: thread::Result<usize>,
    ) {
        let mut more = false;
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            // As it was before the callback, which may have requested another read itself.
            more = !connection.is_emptied_by(count, buffer.len());
            if let Some(idle) = &mut connection.idle {
                idle.touch_by_input(self.parts.time.now_ns());
            }
        }
        self.parts.outbox.gathered.end();
        let answer = self.end_call(id, protocol, result);
        self.deliver_on(id, &buffer[..count], answer);
        self.receive_slowly(id, buffer, more, count);
    }

    /// Reads again if there may be more: for Unix sockets only would-block proves that there is none.
    fn receive_more(&mut self, id: Id, buffer: &mut [u8], received: usize) {
        if self.parts.confirms_later(id) {
            return self.flush(id);
        }
        let Some(connection) = self.parts.slots.connection_mut(id) else { return };
        if !connection.is_readable() {
            return self.flush(id);
        }
        let limits = &connection.settings.limits;
        if self.parts.outbox.gathered.bytes.len() + self.parts.outbox.share_bytes(id) > limits.queue_bytes_high
            || received >= limits.read_bytes_per_turn_max
        {
            return self.receive_slowly(id, buffer, true, received);
        }
        match connection.read(buffer) {
            Read::Blocked => self.flush(id),
            read => self.receive_other(id, buffer, read, received),
        }
    }

    fn receive_slowly(&mut self, id: Id, buffer: &mut [u8], more: bool, received: usize) {
        if more && self.reads_on(id, received) {
            self.receive(id, buffer, received);
        }
        self.flush(id);
    }
}
