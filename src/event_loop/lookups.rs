//! Name look-ups, which run off the loop's thread (rule K7).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;

use super::Core;
use crate::ids::Id;
use crate::reason::cannot_start_thread;
use crate::sys::{Found, Poller, look_up};
use crate::{Address, Completion, Context};

/// Looks names up; blocks for as long as that takes.
pub(crate) type Resolver = Arc<dyn Fn(&str, u16) -> Found + Send + Sync>;

/// The look-ups of a loop. Those of the system cannot be cancelled: one that hangs keeps its thread, and counts, until
/// it returns. Nothing waits for it, not even the end of the loop.
pub(crate) struct Lookups {
    /// None if names are looked up in memory.
    pub(crate) resolver: Option<Resolver>,
    under_way: usize,
    /// How many may be under way; at least one.
    most: usize,
    /// Connects whose names are waiting to be looked up. Some may have ended meanwhile.
    waiting: VecDeque<Id>,
}

impl Lookups {
    pub(super) fn new(poller: &Poller, most: usize) -> Lookups {
        let resolver: Option<Resolver> = match poller.is_in_memory() {
            false => Some(Arc::new(look_up)),
            true => None,
        };
        Lookups { resolver, under_way: 0, most: most.max(1), waiting: VecDeque::new() }
    }
}

impl Core {
    pub(super) fn look_name_up(&mut self, id: Id) {
        self.parts.threads.lookups.waiting.push_back(id);
        self.start_lookups();
    }

    fn start_lookups(&mut self) {
        while self.parts.threads.lookups.under_way < self.parts.threads.lookups.most {
            let Some(id) = self.parts.threads.lookups.waiting.pop_front() else { return };
            let Some((name, port)) = self.parts.slots.connector_mut(id).and_then(|connector| connector.name.take())
            else {
                continue;
            };
            if let Err(error) = self.start_lookup(id, name, port) {
                self.parts.lookup_failed(id, error);
            }
        }
    }

    fn start_lookup(&mut self, id: Id, name: String, port: u16) -> io::Result<()> {
        let found = self.await_lookup(id)?;
        let completion = found.id();
        let Some(resolver) = self.parts.threads.lookups.resolver.clone() else {
            self.parts.poller.look_up(&name, port, Box::new(move |answer| drop(found.complete(answer))));
            return Ok(());
        };
        // If it panics, `found` is dropped, which reports that.
        let look_up = move || drop(found.complete(resolver(&name, port)));
        if self.parts.poller.is_in_memory() {
            self.guard("a resolver", |_| look_up());
        } else if let Err(error) = thread::Builder::new().name("switchboard name".to_owned()).spawn(look_up) {
            self.parts.threads.lookups.under_way -= 1;
            self.parts.cancel_completion(completion.0);
            // Reported like any other failure, in a later turn.
            drop(self.await_lookup(id)?.complete(Err(cannot_start_thread(error))));
        }
        Ok(())
    }

    /// Counts a look-up as under way. The loop does not wait for it: the connect that wants it may end before.
    fn await_lookup(&mut self, id: Id) -> io::Result<Completion<Found>> {
        let completion = Context::new(self).completion(move |context, found| context.core.looked_up(id, found))?;
        self.parts.slots.set_background(completion.id().0, true);
        self.parts.threads.lookups.under_way += 1;
        Ok(completion)
    }

    /// Handles the result of a look-up; the connect that wanted it may be gone.
    fn looked_up(&mut self, id: Id, found: Option<Found>) {
        self.parts.threads.lookups.under_way -= 1;
        self.start_lookups();
        let found = found.unwrap_or_else(|| Err(io::Error::other("the resolver panicked")));
        let Some(connector) = self.parts.slots.connector_mut(id) else { return };
        match found {
            Ok(addresses) if addresses.is_empty() => {
                let error = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
                self.parts.lookup_failed(id, error);
            }
            Ok(addresses) => {
                connector.set_addresses(Address::all_inet(&addresses));
                self.parts.connect_next(id);
            }
            Err(error) => self.parts.lookup_failed(id, error),
        }
    }
}
