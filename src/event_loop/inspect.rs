//! For the tests of the guarantees: what a loop holds, and what is left in one that should hold nothing.

use std::time::Instant;

use super::slots::Tenant;
use super::{Core, Parts};
use crate::connection::Connection;
use crate::datagram::DatagramSocket;
use crate::ids::Id;
use crate::listener::Listener;

impl Core {
    /// Returns how many timers are set.
    pub(crate) fn timers(&self) -> usize {
        self.parts.time.counts().0
    }

    /// Returns the names of what is held besides `listening` listening sockets: between turns of a loop without
    /// connections, nothing.
    pub(crate) fn leftovers(&self, listening: usize) -> Vec<String> {
        let (timers, awaited) = self.parts.time.counts();
        let held = [
            ("connections", self.parts.slots.connections()),
            ("slots", self.parts.slots.ids(&|_| true).len() - listening),
            ("timers", timers),
            ("timers awaited", awaited),
            ("written to", self.parts.outbox.written_to().len()),
            ("followers", self.followers),
            ("commands", usize::from(self.parts.threads.has_commands())),
            ("gathered bytes", self.parts.outbox.gathered.bytes.len()),
            ("shares of broadcasts", usize::from(self.parts.outbox.is_shared())),
            ("broadcasting memory", usize::from(self.parts.outbox.log().holds_memory())),
            ("gathering memory", usize::from(self.parts.outbox.gathered.holds_memory())),
            ("queued bytes", self.parts.outbox.queued()),
            ("queues in use", self.parts.outbox.pool_ref().in_use()),
            ("queues kept", usize::from(self.parts.outbox.pool_ref().holds_memory())),
        ];
        let held = held.into_iter().chain(self.parts.work.counts()).chain(self.parts.admission.counts());
        held.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect()
    }
}

/// Returns whether a connection waits for memory, to be read then.
pub(crate) fn is_read_later(parts: &Parts, id: Id) -> bool {
    parts.work.waits_to_be_read(id)
}

impl Parts {
    pub(crate) fn now(&self) -> Instant {
        self.time.now()
    }

    pub(crate) fn each_connection(&self, mut look: impl FnMut(Id, &Connection)) {
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Connection(_))) {
            self.slots.connection(id).into_iter().for_each(|connection| look(id, connection));
        }
    }

    pub(crate) fn each_datagram(&self, mut look: impl FnMut(Id, &DatagramSocket)) {
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Datagram(_))) {
            self.slots.datagram(id).into_iter().for_each(|datagram| look(id, datagram));
        }
    }

    pub(crate) fn each_listener(&self, mut look: impl FnMut(Id, &Listener)) {
        for id in self.slots.ids(&|tenant| matches!(tenant, Tenant::Listener(_))) {
            self.slots.listener(id).into_iter().for_each(|listener| look(id, listener));
        }
    }
}
