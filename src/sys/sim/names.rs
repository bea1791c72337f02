//! The names of a simulated network, and the look-ups in progress.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::packet::Alarm;
use super::world::{HostIndex, World};
use super::{Network, lock};
use crate::sys::names::{Answer, Found};

/// What is known of names. They are not case-sensitive.
#[derive(Default)]
pub(super) struct Names {
    known: BTreeMap<String, Name>,
    latency: (Duration, Duration),
    under_way: BTreeMap<u64, Lookup>,
    next: u64,
}

#[derive(Default)]
struct Name {
    /// `None` if only its failures are known.
    addresses: Option<Vec<IpAddr>>,
    /// How the next look-ups fail, and how many of them.
    fails: Option<(io::ErrorKind, u32)>,
}

/// A look-up by a loop.
struct Lookup {
    host: HostIndex,
    name: String,
    port: u16,
    answer: Answer,
}

impl Name {
    fn look_up(&mut self, port: u16) -> Found {
        if let Some((kind, left)) = self.fails.as_mut().filter(|(_, left)| *left > 0) {
            *left -= 1;
            return Err((*kind).into());
        }
        let addresses = self.addresses.as_ref().ok_or_else(unknown)?;
        Ok(addresses.iter().map(|&address| (address, port).into()).collect())
    }
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the simulated network has no such name")
}

impl World {
    /// Looks up a name for a loop. The answer comes once the latency has passed, with what the name means by then.
    pub(super) fn look_up(&mut self, host: HostIndex, name: &str, port: u16, answer: Answer) {
        let (low, high) = self.names.latency;
        let after = match high.is_zero() {
            true => Duration::ZERO,
            false => Duration::from_micros(self.random.between(low.as_micros() as u64, high.as_micros() as u64)),
        };
        self.note(format_args!("host {host} looks {name} up"));
        let id = self.names.next;
        self.names.next += 1;
        self.names.under_way.insert(id, Lookup { host, name: name.to_ascii_lowercase(), port, answer });
        self.set_alarm(after, Alarm::Lookup(id));
    }

    pub(super) fn is_looked_up(&self, id: u64) -> bool {
        self.names.under_way.contains_key(&id)
    }

    pub(super) fn answer_lookup(&mut self, id: u64) {
        let Some(Lookup { host, name, port, answer }) = self.names.under_way.remove(&id) else { return };
        let found = self.names.known.get_mut(&name).map_or_else(|| Err(unknown()), |name| name.look_up(port));
        match &found {
            Ok(addresses) => self.note(format_args!("host {host} resolves {name} to {addresses:?}")),
            Err(error) => self.note(format_args!("host {host} cannot resolve {name}: {error}")),
        }
        self.progress += 1;
        // This only wakes the loop, which takes the addresses in a later turn.
        answer(found);
    }

    /// The process that has asked is gone.
    pub(super) fn forget_lookups(&mut self, host: HostIndex) {
        self.names.under_way.retain(|_, lookup| lookup.host != host);
    }
}

impl Network {
    /// With `None`, the name is no longer known.
    pub(crate) fn set_name(&self, name: &str, addresses: Option<Vec<IpAddr>>) {
        let world = &mut *lock(&self.0);
        match &addresses {
            Some(addresses) => world.note(format_args!("the name {name} now resolves to {addresses:?}")),
            None => world.note(format_args!("the name {name} is removed")),
        }
        world.names.known.entry(name.to_ascii_lowercase()).or_default().addresses = addresses;
    }

    pub(crate) fn set_name_latency(&self, low: Duration, high: Duration) {
        let world = &mut *lock(&self.0);
        world.note(format_args!("look-ups take {low:?} to {high:?}"));
        world.names.latency = (low, high.max(low));
    }

    pub(crate) fn fail_name(&self, name: &str, kind: io::ErrorKind, times: u32) {
        let world = &mut *lock(&self.0);
        world.note(format_args!("look-ups of {name} fail {times} times: {kind:?}"));
        world.names.known.entry(name.to_ascii_lowercase()).or_default().fails = Some((kind, times));
    }
}
