//! Connecting: how the attempts of a connect are begun, checked and ended (rules K1 to K7).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::guard::guard_error;
use super::slots::Tenant;
use super::timers::{Due, Purpose};
use super::work::Discarded;
use super::{Core, Parts, filtering};
use crate::connect::Target;
use crate::connect::attempts::{Attempt, Connector, Looked};
use crate::connection::{Connection, Note, Settings};
use crate::filter::{ConnectFilter, Filter};
use crate::ids::Id;
use crate::sys::{AcceptError, Readiness, Stream};
use crate::{Address, CloseReason, Connect, ConnectError, Protocol};

/// The next address is tried this long after the previous one, if that has not responded by then (K3).
const STAGGER: Duration = Duration::from_millis(250);

impl Core {
    /// Begins to connect. A failure that is known at once is returned, and the protocol is dropped without a call.
    pub(crate) fn connect(&mut self, connect: Connect, protocol: Box<dyn Protocol>) -> io::Result<Id> {
        let Connect { target, local, timeout, limits, filters } = connect;
        if let Err(error) = self.parts.life.check_open() {
            self.parts.work.discard(Discarded::ConnectFilters(filters));
            return Err(self.parts.refuse(Discarded::Protocol(protocol), error));
        }
        let made = make_filters(&mut self.parts, filters);
        let settings = match limits {
            Some(limits) => Rc::new(Settings::new(limits, None)),
            None => self.parts.settings_of_clients.clone(),
        };
        let timeout = timeout.unwrap_or(self.parts.limits.connect_timeout);
        let mut connection = Connection::connecting(Connector::new(local), protocol, settings);
        connection.began_ns = self.parts.time.now_ns();
        for filter in made {
            connection.put_filter_in(filter, self.parts.outbox.pool());
            connection.notes.set(Note::BeginsFiltered, true);
        }
        let id = self.parts.slots.insert(Tenant::Connection(connection))?;
        self.parts.admission.one_more();
        match target {
            Target::Addresses(addresses) => {
                if let Some(connector) = self.parts.slots.connector_mut(id) {
                    connector.set_addresses(addresses);
                }
                self.parts.begin_attempts(id);
                if self.parts.slots.connector_mut(id).is_some_and(|connector| connector.is_exhausted()) {
                    return Err(self.parts.failed_at_once(id));
                }
            }
            Target::Name(name, port) => {
                if let Some(connector) = self.parts.slots.connector_mut(id) {
                    connector.name = Some((name, port));
                }
            }
        }
        let deadline = self.parts.time.set_after(timeout, Due::of(Purpose::ConnectDeadline, id));
        if let Some(connector) = self.parts.slots.connector_mut(id) {
            connector.deadline = Some(deadline);
            if connector.name.is_some() {
                self.look_name_up(id);
            }
        }
        Ok(id)
    }

    /// Handles an event of an attempt that has a token of its own.
    pub(super) fn on_attempt_event(&mut self, id: Id, slot: Id, readiness: Readiness) {
        if readiness.is_writable() || readiness.is_error() {
            self.look_at_attempt(id, Some(slot));
        }
    }

    /// Checks whether an attempt is established or has failed, and acts on it (K1).
    pub(super) fn look_at_attempt(&mut self, id: Id, slot: Option<Id>) {
        let Some(connector) = self.parts.slots.connector_mut(id) else { return };
        match connector.look(slot) {
            Looked::Pending => {}
            Looked::Established(peer) => self.attempt_succeeded(id, slot, peer),
            Looked::Failed(error) => {
                let Some(Attempt { address, stream, slot }) = connector.take(slot) else { return };
                // By reset: a socket that is connected to itself would keep its port from a server for a minute (K4).
                stream.reset();
                self.parts.attempt_failed(id, slot, address, error);
            }
        }
    }

    /// An attempt is established: it wins, and the others under way are closed (K3).
    fn attempt_succeeded(&mut self, id: Id, slot: Option<Id>, peer: Address) {
        let Some(Attempt { address, mut stream, slot }) = self.parts.slots.connector_mut(id).and_then(|c| c.take(slot))
        else {
            return;
        };
        let poller = &self.parts.poller;
        let moved = match slot {
            Some(_) => stream.deregister(poller).and_then(|()| stream.register(poller, id.token())),
            None => stream.await_writable(poller, id.token(), false),
        };
        if let Err(error) = moved {
            stream.reset();
            return self.parts.attempt_failed(id, slot, address, error);
        }
        self.parts.work.free_any(slot);
        let Some(connector) =
            self.parts.slots.connection_mut(id).and_then(|connection| connection.established(stream, peer))
        else {
            return;
        };
        self.parts.end_connector(*connector);
        match self.parts.slots.connection(id).is_some_and(Connection::is_shut) {
            true => filtering::begin(self, id),
            false => {
                self.tell_follower_of_made(id);
                self.call_made(id);
            }
        }
    }

    /// The deadline of a connect has passed (K2).
    pub(super) fn connect_timed_out(&mut self, id: Id) {
        // One may be established by now, though no event has reported it yet.
        let Some(connector) = self.parts.slots.connector_mut(id) else { return };
        for slot in connector.slots_under_way() {
            self.look_at_attempt(id, slot);
        }
        let Some(connector) = self.parts.slots.connector_mut(id) else { return };
        connector.time_out();
        self.parts.finish(id, CloseReason::Aborted);
    }

    /// Tells a protocol that its connection was not established.
    pub(super) fn deliver_connect_failure(&mut self, id: Id, error: ConnectError) {
        self.parts.counters.connects_failed += 1;
        guard_error(self, &mut |_| log::debug!("connection {id} was not established: {error}"));
        let mut error = Some(error);
        self.call(id, "connect_failed", &mut |protocol, transport| {
            if let Some(error) = error.take() {
                protocol.connect_failed(transport, error);
            }
        });
    }
}

impl Parts {
    fn failed_at_once(&mut self, id: Id) -> io::Error {
        let Some(Tenant::Connection(mut connection)) = self.slots.remove(id) else {
            return io::ErrorKind::NotConnected.into();
        };
        self.one_less_in_loop();
        self.work.discard_any(connection.protocol.take().map(Discarded::Protocol));
        self.work.discard_any(connection.extras.take().map(Discarded::Extras));
        connection.take_connector().map_or(io::ErrorKind::NotConnected.into(), |connector| connector.into_io_error())
    }

    /// Begins the next attempt, and sets a timer for the one after it. Does not fail if all attempts have: the caller
    /// checks.
    fn begin_attempts(&mut self, id: Id) {
        loop {
            let Some(connector) = self.slots.connector_mut(id) else { return };
            let timer = connector.next.take();
            let address = connector.take_untried();
            if let Some(timer) = timer {
                self.time.remove(timer);
            }
            let Some(address) = address else { return };
            match self.begin_attempt(id, &address) {
                Ok(()) => break,
                Err(error) if is_backlog_full(&address, &error) => return self.wait_for_backlog(id, address),
                Err(error) => self.note_failure(id, address, error),
            }
        }
        if self.slots.connector_mut(id).is_some_and(|connector| connector.has_untried()) {
            let timer = self.time.set_after(STAGGER, Due::of(Purpose::ConnectNext, id));
            if let Some(connector) = self.slots.connector_mut(id) {
                connector.next = Some(timer);
            }
        }
    }

    /// The backlog of a Unix socket is full: it is tried again later, within the deadline (K2).
    fn wait_for_backlog(&mut self, id: Id, address: Address) {
        let Some(connector) = self.slots.connector_mut(id) else { return };
        let delay = connector.note_full(address);
        let timer = self.time.set_after(delay, Due::of(Purpose::ConnectNext, id));
        if let Some(connector) = self.slots.connector_mut(id) {
            connector.next = Some(timer);
        }
    }

    fn begin_attempt(&mut self, id: Id, address: &Address) -> io::Result<()> {
        let Some(connector) = self.slots.connector_mut(id) else { return Ok(()) };
        let local = connector.local;
        let own_token_is_free = connector.own_token_is_free();
        let mut stream = self.open(address, local)?;
        // An attempt beside another one has a token of its own. It does not count as something else to wait for.
        let slot = if own_token_is_free { None } else { Some(self.slots.insert(Tenant::Further(id))?) };
        if let Some(slot) = slot {
            self.slots.set_background(slot, true);
        }
        let token = slot.unwrap_or(id).token();
        let registered = stream.register(&self.poller, token).and_then(|()| match address.as_inet() {
            Some(_) => stream.await_writable(&self.poller, token, true),
            // It is established at once, or fails.
            None => Ok(()),
        });
        if let Err(error) = registered {
            self.work.free_any(slot);
            return Err(error);
        }
        if let Some(connector) = self.slots.connector_mut(id) {
            connector.begun(Attempt { address: address.clone(), stream, slot });
        }
        // One that is established already has raised its edge, or never will: it is checked without an event.
        if address.as_inet().is_none() {
            if let Some(connection) = self.slots.connection_mut(id) {
                connection.set_may_be_established();
                self.carry_over(id);
            }
        }
        Ok(())
    }

    /// Opens a socket and begins to connect it. If descriptors have run out, lingering connections are given up for it.
    fn open(&mut self, address: &Address, local: Option<std::net::SocketAddr>) -> io::Result<Stream> {
        loop {
            let opened = match address {
                Address::Inet(address) => Stream::connect(&self.poller, *address, local),
                #[cfg(unix)]
                Address::Unix(address) => Stream::connect_unix(&self.poller, address),
            };
            match opened {
                Err(error) if AcceptError::of(&error) == AcceptError::Overload && self.give_up_lingering() => {}
                opened => return opened,
            }
        }
    }

    fn note_failure(&mut self, id: Id, address: Address, error: io::Error) {
        if let Some(connector) = self.slots.connector_mut(id) {
            connector.note_failure(address, error);
        }
    }

    fn attempt_failed(&mut self, id: Id, slot: Option<Id>, address: Address, error: io::Error) {
        self.work.free_any(slot);
        self.descriptor_closed();
        self.note_failure(id, address, error);
        self.connect_next(id);
    }

    fn end_connector(&mut self, mut connector: Connector) {
        self.time.cancel(connector.deadline);
        self.time.cancel(connector.next);
        let mut closes_any = false;
        for slot in connector.stop() {
            self.work.free(slot);
            closes_any = true;
        }
        if closes_any {
            self.descriptor_closed();
        }
    }

    /// Tries the next address; if there is none and nothing is under way, the connect has failed.
    pub(super) fn connect_next(&mut self, id: Id) {
        self.begin_attempts(id);
        match self.slots.connector_mut(id) {
            Some(connector) if connector.is_exhausted() => {
                connector.fail();
                self.finish(id, CloseReason::Aborted);
            }
            _ => {}
        }
    }

    pub(super) fn lookup_failed(&mut self, id: Id, error: io::Error) {
        let Some(connector) = self.slots.connector_mut(id) else { return };
        connector.fail_lookup(error);
        self.finish(id, CloseReason::Aborted);
    }
}

/// Makes the filters of a new connection. Both the caller and the functions that make the filters are user code.
fn make_filters(parts: &mut Parts, makers: Vec<ConnectFilter>) -> Vec<Box<dyn Filter>> {
    let mut made = Vec::new();
    for ConnectFilter(make) in &makers {
        made.push(make());
    }
    if !makers.is_empty() {
        parts.work.discard(Discarded::ConnectFilters(makers));
    }
    made
}

/// Returns whether the error means that a Unix socket's backlog is full, as reported by Linux. (Other systems refuse.)
fn is_backlog_full(address: &Address, error: &io::Error) -> bool {
    address.as_inet().is_none() && error.kind() == io::ErrorKind::WouldBlock
}
