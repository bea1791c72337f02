//! The table of everything in a loop.

use std::io;
use std::num::NonZeroU64;

use slab::Slab;

use super::completions::Waiting;
use crate::connect::attempts::Connector;
use crate::connection::Connection;
use crate::datagram::DatagramSocket;
use crate::event_loop::source::SourceSlot;
use crate::ids::{Id, Range, SLOT_MAX, slot_of};
use crate::listener::Listener;
use crate::{LoopError, Protocol};

/// The table of slots: found by id or by token in O(1); a stale id or token finds nothing.
pub(crate) struct Slots {
    slab: Slab<Slot>,
    next_generation: NonZeroU64,
    connections: usize,
    /// How many connections are background.
    background_connections: usize,
    datagrams: usize,
    /// How many tenants are not background.
    foreground: usize,
}

struct Slot {
    generation: NonZeroU64,
    background: bool,
    tenant: Tenant,
}

// A connection is by far the most common tenant: boxing it would cost an allocation and a hop each.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Tenant {
    Connection(Connection),
    Listener(Box<Listener>),
    Source(SourceSlot),
    /// A further socket of the connection (one of several attempts) or the listener in the slot with this id.
    Further(Id),
    Datagram(Box<DatagramSocket>),
    Completion(Waiting),
}

impl Slots {
    pub(crate) fn new(numbers: Range) -> Slots {
        Slots {
            slab: Slab::new(),
            next_generation: numbers.first(),
            connections: 0,
            background_connections: 0,
            datagrams: 0,
            foreground: 0,
        }
    }

    /// Inserts a tenant; fails with [`LoopError::Full`] if no token could name its slot.
    pub(crate) fn insert(&mut self, tenant: Tenant) -> io::Result<Id> {
        let id = self.next_id()?;
        self.insert_at(id, tenant);
        Ok(id)
    }

    /// Inserts a tenant under the id that was returned last.
    #[inline(never)]
    pub(crate) fn insert_at(&mut self, id: Id, tenant: Tenant) {
        self.connections += usize::from(matches!(tenant, Tenant::Connection(_)));
        self.datagrams += usize::from(matches!(tenant, Tenant::Datagram(_)));
        self.foreground += 1;
        self.slab.insert(Slot { generation: id.generation, background: false, tenant });
    }

    /// Returns the id of the next tenant, which must be inserted under it.
    #[inline]
    pub(crate) fn next_id(&mut self) -> io::Result<Id> {
        let slot = self.slab.vacant_key();
        if slot > SLOT_MAX {
            return Err(LoopError::Full.into());
        }
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).expect("2^64 insertions take longer than any process lives");
        Ok(Id { slot: slot as u32, generation })
    }

    /// Inserts a connection under the id that was returned last, and builds it in place: it is too large to be moved
    /// around. Called from a single place, so that it is inlined there.
    #[inline(always)]
    pub(crate) fn insert_connection(&mut self, id: Id, connection: Connection) -> Option<&mut Connection> {
        self.connections += 1;
        self.foreground += 1;
        let slot = Slot { generation: id.generation, background: false, tenant: Tenant::Connection(connection) };
        match &mut self.slab.vacant_entry().insert(slot).tenant {
            Tenant::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// Inserts a slot for a further socket of a listener: in the background, since the listener's own slot counts.
    pub(crate) fn insert_further(&mut self, of: Id) -> io::Result<Id> {
        let id = self.insert(Tenant::Further(of))?;
        self.set_background(id, true);
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<Tenant> {
        self.slot(id)?;
        let slot = self.slab.remove(id.slot as usize);
        self.count_out(matches!(slot.tenant, Tenant::Connection(_)), slot.background);
        self.datagrams -= usize::from(matches!(slot.tenant, Tenant::Datagram(_)));
        Some(slot.tenant)
    }

    /// Like [`remove`](Slots::remove), but drops a connection in place: it is too large to be moved around.
    #[inline]
    pub(crate) fn free(&mut self, id: Id) {
        match self.slot_mut(id) {
            Some(slot) if matches!(slot.tenant, Tenant::Connection(_)) => {
                let is_background = slot.background;
                slot.tenant = Tenant::Further(id);
                self.count_out(true, is_background);
                std::mem::forget(self.slab.remove(id.slot as usize));
            }
            _ => drop(self.remove(id)),
        }
    }

    #[inline]
    fn count_out(&mut self, is_connection: bool, is_background: bool) {
        self.connections -= usize::from(is_connection);
        self.background_connections -= usize::from(is_connection && is_background);
        self.foreground -= usize::from(!is_background);
    }

    /// Returns the tenant with this token, if there is one.
    #[inline]
    pub(crate) fn by_token(&mut self, token: usize) -> Option<(Id, &mut Tenant)> {
        let slot = slot_of(token);
        let found = self.slab.get_mut(slot)?;
        let id = Id { slot: slot as u32, generation: found.generation };
        id.has_token(token).then_some((id, &mut found.tenant))
    }

    /// Returns the connection with this token, if it is a connection's.
    #[inline]
    pub(crate) fn connection_by_token(&mut self, token: usize) -> Option<(Id, &mut Connection)> {
        let slot = slot_of(token);
        match self.slab.get_mut(slot) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) => {
                let id = Id { slot: slot as u32, generation: *generation };
                id.has_token(token).then_some((id, connection))
            }
            _ => None,
        }
    }

    #[inline]
    fn slot(&self, id: Id) -> Option<&Slot> {
        match self.slab.get(id.slot as usize) {
            Some(slot) if slot.generation == id.generation => Some(slot),
            _ => None,
        }
    }

    #[inline]
    fn slot_mut(&mut self, id: Id) -> Option<&mut Slot> {
        match self.slab.get_mut(id.slot as usize) {
            Some(slot) if slot.generation == id.generation => Some(slot),
            _ => None,
        }
    }

    // Functions that are rarely called are not inlined: that would add to the crate's build time.

    #[inline(never)]
    pub(crate) fn tenant_mut(&mut self, id: Id) -> Option<&mut Tenant> {
        Some(&mut self.slot_mut(id)?.tenant)
    }

    #[inline(never)]
    pub(crate) fn connection(&self, id: Id) -> Option<&Connection> {
        match &self.slot(id)?.tenant {
            Tenant::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn connection_mut(&mut self, id: Id) -> Option<&mut Connection> {
        match self.slab.get_mut(id.slot as usize) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) if *generation == id.generation => {
                Some(connection)
            }
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn listener(&self, id: Id) -> Option<&Listener> {
        match &self.slot(id)?.tenant {
            Tenant::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    /// Puts a protocol back into its slot. Returns it if it was replaced meanwhile, or the connection is gone.
    #[inline(always)]
    pub(crate) fn put_back(&mut self, id: Id, protocol: Box<dyn Protocol>) -> Result<(), Box<dyn Protocol>> {
        match self.connection_mut(id) {
            Some(connection) if connection.protocol.is_none() => {
                connection.protocol = Some(protocol);
                Ok(())
            }
            _ => Err(protocol),
        }
    }

    /// Returns a connection that has not ended.
    #[inline]
    pub(crate) fn alive_mut(&mut self, id: Id) -> Option<&mut Connection> {
        match self.connection_mut(id) {
            Some(connection) if connection.is_alive() => Some(connection),
            _ => None,
        }
    }

    /// Returns a connection to which timeouts still apply: one that is closing has a deadline of its own.
    #[inline(never)]
    pub(crate) fn judged_mut(&mut self, id: Id) -> Option<&mut Connection> {
        match self.connection_mut(id) {
            Some(connection) if connection.state().is_timed() => Some(connection),
            _ => None,
        }
    }

    /// Returns the connector of a connection that is not established yet, and has not ended.
    #[inline(never)]
    pub(crate) fn connector_mut(&mut self, id: Id) -> Option<&mut Connector> {
        match self.connection_mut(id) {
            Some(connection) if connection.is_connecting() => connection.connector_mut(),
            _ => None,
        }
    }

    pub(crate) fn listener_mut(&mut self, id: Id) -> Option<&mut Listener> {
        match &mut self.slot_mut(id)?.tenant {
            Tenant::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn source_mut(&mut self, id: Id) -> Option<&mut SourceSlot> {
        match &mut self.slot_mut(id)?.tenant {
            Tenant::Source(source) => Some(source),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn datagram(&self, id: Id) -> Option<&DatagramSocket> {
        match &self.slot(id)?.tenant {
            Tenant::Datagram(datagram) => Some(datagram),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn datagram_mut(&mut self, id: Id) -> Option<&mut DatagramSocket> {
        match &mut self.slot_mut(id)?.tenant {
            Tenant::Datagram(datagram) => Some(datagram),
            _ => None,
        }
    }

    /// Returns a datagram socket that has not ended.
    #[inline(never)]
    pub(crate) fn alive_datagram_mut(&mut self, id: Id) -> Option<&mut DatagramSocket> {
        match self.datagram_mut(id) {
            Some(datagram) if datagram.is_alive() => Some(datagram),
            _ => None,
        }
    }

    pub(crate) fn take_completion(&mut self, id: Id) -> Option<Waiting> {
        if !self.is_completion(id) {
            return None;
        }
        match self.remove(id) {
            Some(Tenant::Completion(waiting)) => Some(waiting),
            _ => None,
        }
    }

    pub(crate) fn is_completion(&self, id: Id) -> bool {
        self.slot(id).is_some_and(|slot| matches!(slot.tenant, Tenant::Completion(_)))
    }

    /// Sets whether a tenant is background. Returns `false` if it is gone.
    pub(crate) fn set_background(&mut self, id: Id, background: bool) -> bool {
        let Some(slot) = self.slot_mut(id) else { return false };
        let is_connection = matches!(slot.tenant, Tenant::Connection(_));
        let was_background = std::mem::replace(&mut slot.background, background);
        self.foreground = self.foreground + usize::from(was_background) - usize::from(background);
        if is_connection {
            self.background_connections =
                self.background_connections + usize::from(background) - usize::from(was_background);
        }
        true
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    pub(crate) fn foreground_connections(&self) -> usize {
        self.connections - self.background_connections
    }

    pub(crate) fn datagrams(&self) -> usize {
        self.datagrams
    }

    pub(crate) fn foreground(&self) -> usize {
        self.foreground
    }

    /// Iterates over all tenants, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Tenant)> {
        self.slab.iter().map(|(slot, of)| (Id { slot: slot as u32, generation: of.generation }, &of.tenant))
    }

    /// Returns the ids of all tenants that `matches` selects.
    pub(crate) fn ids(&self, matches: &dyn Fn(&Tenant) -> bool) -> Vec<Id> {
        let mut ids = Vec::new();
        for (id, tenant) in self.iter() {
            if matches(tenant) {
                ids.push(id);
            }
        }
        ids
    }
}
