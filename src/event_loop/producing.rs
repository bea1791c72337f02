//! Producing: a protocol is called for more output as its peer takes what there is (rule W8).
//!
//! A connection is on the ready list whenever it has room for output that its protocol is to produce. So a protocol is
//! called once a turn, and waits for the others on the list.

use super::guard::Callback;
use super::{Core, Parts};
use crate::connection::{Connection, Flag};
use crate::ids::Id;

impl Core {
    /// Serves a connection of the ready list whose protocol produces output: reads, then calls for more. The result is
    /// sent together with what earlier callbacks wrote.
    #[cold]
    pub(super) fn serve_producer(&mut self, id: Id) {
        let mut buffer = std::mem::take(&mut self.parts.buffers.read);
        self.receive(id, buffer.get(), 0);
        self.parts.buffers.read = buffer;
        let (written, waiting) = written_bytes(&self.parts, id);
        let room = self.parts.outbox.room();
        let out = match self.parts.slots.connection_mut(id) {
            Some(connection) if connection.has_room_to_produce(waiting) => connection.check_out(room),
            _ => None,
        };
        if let Some(mut out) = out {
            let produce: Callback<'_> = &mut |protocol, transport| protocol.produce(transport);
            let result = self.call_out(id, &mut out, "produce", produce);
            let wrote_nothing = written_bytes(&self.parts, id).0 == written;
            match self.parts.slots.connection_mut(id) {
                // If the protocol was replaced, it is up to the new one to stop producing.
                Some(connection) if wrote_nothing && connection.protocol.is_none() => {
                    connection.flags.set(Flag::Produces, false);
                }
                _ => {}
            }
            self.end_call(id, out.protocol, result);
        }
        // This puts it on the list again if there is still room.
        self.flush(id);
    }
}

/// Returns how many bytes were written to a connection that is being served, and how many of them are not in its queue
/// yet.
fn written_bytes(parts: &Parts, id: Id) -> (u64, usize) {
    let waiting = parts.outbox.gathered.bytes.len() + parts.outbox.share_bytes(id);
    (parts.slots.connection(id).map_or(0, Connection::written_bytes) + waiting as u64, waiting)
}

/// Schedules a call of the protocol of a connection for the next turn, if it produces output and there is room.
pub(super) fn produce_later(parts: &mut Parts, id: Id) {
    if parts.slots.connection(id).is_some_and(|connection| connection.has_room_to_produce(0)) {
        parts.carry_over(id);
    }
}

/// Sets whether a connection's protocol is to produce output.
pub(super) fn set_producing(parts: &mut Parts, id: Id, produces: bool) {
    if let Some(connection) = parts.slots.connection_mut(id) {
        connection.flags.set(Flag::Produces, produces);
        produce_later(parts, id);
    }
}
