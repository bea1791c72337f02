//! Names are looked up off the loop's thread (rule K7).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread;

use super::Core;
use crate::ids::Id;
use crate::reason::cannot_start_thread;
use crate::sys::{Poller, look_up};
use crate::{Address, ConnectionId, Handle};

/// What looks names up; blocks, for as long as it takes.
pub(crate) type Resolver = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The look-ups of a loop. The system's cannot be cancelled: one that hangs keeps its thread, and counts, until it
/// returns. Nobody waits for it, the loop's end included.
pub(crate) struct Lookups {
    pub(crate) resolver: Resolver,
    under_way: usize,
    /// Connects whose names wait to be looked up. Some may have ended meanwhile.
    waiting: VecDeque<Id>,
}

impl Lookups {
    pub(super) fn new(poller: &Poller) -> Lookups {
        let resolver: Resolver = match poller.is_in_memory() {
            false => Arc::new(look_up),
            true => Arc::new(|_, _| Err(io::Error::new(io::ErrorKind::Unsupported, "no resolver was set"))),
        };
        Lookups { resolver, under_way: 0, waiting: VecDeque::new() }
    }
}

impl Core {
    pub(super) fn look_name_up(&mut self, id: Id) {
        self.lookups.waiting.push_back(id);
        self.start_lookups();
    }

    fn start_lookups(&mut self) {
        while self.lookups.under_way < self.terms.limits.lookups_max.max(1) {
            let Some(id) = self.lookups.waiting.pop_front() else { return };
            let Some((name, port)) = self.connector_mut(id).and_then(|connector| connector.name.take()) else {
                continue;
            };
            self.lookups.under_way += 1;
            let resolver = self.lookups.resolver.clone();
            let answer = Arc::new(Answer { handle: self.handle(), id: ConnectionId(id), found: OnceLock::new() });
            let found = answer.clone();
            let look_up = move || found.give(resolver(&name, port));
            if self.poller.is_in_memory() {
                self.guard("a resolver", |_| look_up());
            } else if let Err(error) = thread::Builder::new().name("switchboard name".to_owned()).spawn(look_up) {
                answer.give(Err(cannot_start_thread(error)));
            }
        }
    }

    /// A name was looked up; the connect that wanted it may be gone.
    pub(super) fn looked_up(&mut self, id: Id, found: io::Result<Vec<SocketAddr>>) {
        self.lookups.under_way -= 1;
        self.start_lookups();
        let Some(connector) = self.connector_mut(id) else { return };
        match found {
            Ok(addresses) if addresses.is_empty() => {
                let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                self.lookup_failed(id, error);
            }
            Ok(addresses) => {
                connector.set_addresses(addresses.into_iter().map(Address::Inet).collect());
                self.connect_next(id);
            }
            Err(error) => self.lookup_failed(id, error),
        }
    }
}

/// Tells the loop the result of a look-up when its last owner drops it: the thread of the look-up or, if that could not be
/// started, the loop.
struct Answer {
    handle: Handle,
    id: ConnectionId,
    found: OnceLock<io::Result<Vec<SocketAddr>>>,
}

impl Answer {
    fn give(&self, found: io::Result<Vec<SocketAddr>>) {
        // Only one of its owners gives it.
        let _ = self.found.set(found);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let nothing = || Err(io::Error::other("the resolver has panicked"));
        self.handle.looked_up(self.id, self.found.take().unwrap_or_else(nothing));
    }
}
