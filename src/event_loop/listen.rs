//! Listening: how a listener is made and closed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::Parts;
use super::slots::{Slots, Tenant};
use super::work::Discarded;
use crate::ids::Id;
use crate::listener::listen::Target;
use crate::listener::refused::check_refusal;
use crate::listener::sockets::Sockets;
use crate::listener::{Accepting, Listener};
use crate::protocol::Factory;
use crate::sys::{self, Backlog, Poller};
use crate::{Address, Limits, Listen};

impl Parts {
    pub(crate) fn listen(&mut self, mut listen: Listen, factory: Factory) -> io::Result<Id> {
        let (limits, refusal, filters) = (listen.take_limits(), listen.take_refusal(), listen.take_filters());
        let sockets = self.life.check_listens().and_then(|()| {
            check_refusal(&refusal)?;
            open(&self.poller, listen)
        });
        let id = self.add_listener(sockets, limits, factory);
        match id.as_ref().ok().and_then(|id| self.slots.listener_mut(*id)) {
            Some(listener) => {
                listener.refusal = refusal;
                listener.filters = Rc::new(filters);
            }
            None => self.work.discard(Discarded::Filters(Rc::new(filters))),
        }
        id
    }

    /// Adds a listener, whose limits are the loop's unless it has its own.
    pub(crate) fn add_listener(
        &mut self,
        sockets: io::Result<Sockets>,
        limits: Option<Limits>,
        factory: Factory,
    ) -> io::Result<Id> {
        let sockets = match sockets {
            Ok(sockets) => sockets,
            Err(error) => return Err(self.refuse(Discarded::Factory(factory), error)),
        };
        let limits = limits.unwrap_or_else(|| self.settings.limits.clone());
        let id = self.slots.insert(Tenant::Listener(Box::new(Listener::new(sockets, factory, limits))))?;
        if let Err(error) = register(&mut self.slots, &self.poller, id) {
            self.close_listener(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Adds a listener without a socket, which takes connections from a backlog, under a number.
    pub(crate) fn add_fed_listener(
        &mut self,
        backlog: Arc<Backlog>,
        taker: usize,
        address: Address,
        limits: Option<Limits>,
        factory: Factory,
    ) -> io::Result<Id> {
        let socket = sys::FedListener::new(address, backlog, taker);
        let socket = self.life.check_listens().map(|()| Sockets::new(sys::Listener::Fed(socket)));
        let id = self.add_listener(socket, limits, factory)?;
        let wake = self.threads.wake_of(id);
        if let Some(listener) = self.slots.listener(id) {
            listener.sockets.first().join(wake);
            self.tell_room(id);
        }
        Ok(id)
    }

    pub(crate) fn close_listener(&mut self, id: Id) {
        if self.slots.listener(id).is_none() {
            return;
        }
        if let Some(Tenant::Listener(mut listener)) = self.slots.remove(id) {
            if let Accepting::BackingOff(timer) = listener.accepting {
                self.time.remove(timer);
                self.admission.end_back_off(id);
            }
            if listener.factory.is_none() {
                // Its factory is running, and closes it: the connection that the factory is asked about still needs
                // this.
                self.admission.keep_orphaned_rest(listener.sockets.first_mut().take_rest());
            }
            self.work.discard_any(listener.factory.take().map(Discarded::Factory));
            self.work.discard_any(listener.hook.take().map(Discarded::Hook));
            self.work.discard_any(listener.receiver.take().map(Discarded::AcceptHook));
            self.work.discard(Discarded::Filters(std::mem::take(&mut listener.filters)));
            let sockets = &mut listener.sockets;
            for index in 0..sockets.len() {
                let Some(slot) = sockets.take_slot(index) else { continue };
                if let Err(error) = sockets.get_mut(index).deregister(&self.poller) {
                    log::warn!("cannot deregister the listener {id}: {error}");
                }
                // A further slot; the listener's own is free already.
                self.slots.remove(slot);
            }
        }
        self.descriptor_closed();
    }
}

/// Opens the sockets to listen on: all of them or, on an error, none.
fn open(poller: &Poller, listen: Listen) -> io::Result<Sockets> {
    let (targets, backlog, shares_port) = listen.into_targets()?;
    let is_one_of_several = targets.len() > 1;
    let mut sockets: Option<Sockets> = None;
    for target in targets {
        let name = if is_one_of_several { target.address() } else { None };
        match (open_one(poller, target, backlog, shares_port), &mut sockets, name) {
            (Ok(socket), Some(sockets), _) => sockets.push(socket),
            (Ok(socket), None, _) => sockets = Some(Sockets::new(socket)),
            (Err(error), _, Some(name)) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
            (Err(error), _, None) => return Err(error),
        }
    }
    match sockets {
        Some(sockets) => Ok(sockets),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on")),
    }
}

fn open_one(poller: &Poller, target: Target, backlog: u32, shares_port: bool) -> io::Result<sys::Listener> {
    match target {
        Target::Inet(address) => sys::Listener::bind(poller, address, backlog, shares_port),
        Target::Tcp(listener) => sys::Listener::from_std(poller, listener),
        #[cfg(unix)]
        Target::Unix(address, mode) => sys::Listener::bind_unix(poller, &address, mode, backlog),
        #[cfg(unix)]
        Target::UnixSocket(listener) => sys::Listener::from_std_unix(poller, listener),
        // It only registers with a poller of its own network.
        #[cfg(feature = "testing")]
        Target::Simulated(listener) => Ok(sys::Listener::Memory(Box::new(listener))),
        Target::Refused(kind, why) => Err(io::Error::new(kind, why)),
    }
}

/// Registers the sockets of a new listener. All but the first have slots of their own, in the background: they stay as
/// long as the listener's.
fn register(slots: &mut Slots, poller: &Poller, id: Id) -> io::Result<()> {
    let listener = slots.listener_mut(id).expect("it was just inserted");
    Rc::get_mut(&mut listener.settings).expect("it was just made").listener = Some(id);
    for index in 0..listener.sockets.len() {
        let slot = if index == 0 { Ok(id) } else { slots.insert_further(id) };
        let sockets = &mut slots.listener_mut(id).expect("it was just inserted").sockets;
        let registered = slot.and_then(|slot| sockets.set_slot(index, slot).register(poller, slot.token()));
        if let Err(error) = registered {
            // The listener is closed in the usual way, except for this socket, which nothing waits for.
            match sockets.take_slot(index) {
                Some(slot) if slot != id => drop(slots.remove(slot)),
                _ => {}
            }
            return Err(error);
        }
    }
    Ok(())
}
