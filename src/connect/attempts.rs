//! The state machine of a connect: which addresses are tried, and what became of each.
//!
//! Owns the sockets that are connecting. Knows no slab, no poller and no clock, and calls no user code: the loop above
//! begins the attempts that this asks for, and reports when one of them may be established or time has run out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use crate::ids::Id;
use crate::sys::Stream;
use crate::time::heap::Key;
use crate::{Address, CloseReason, ConnectError};

pub(crate) struct Connector {
    /// The name and port that are still to be looked up.
    pub(crate) name: Option<(String, u16)>,
    pub(crate) local: Option<SocketAddr>,
    /// The addresses that have not been tried yet, in order.
    untried: vec::IntoIter<Address>,
    under_way: Vec<Attempt>,
    /// A Unix socket whose backlog was full, to be tried again.
    full: Option<Address>,
    /// The last delay before it was tried again.
    full_delay: Duration,
    failures: Vec<(Address, io::Error)>,
    /// Fires when connecting has taken too long.
    pub(crate) deadline: Option<Key>,
    /// Fires when the next address is to be tried.
    pub(crate) next: Option<Key>,
    /// Why it failed, once it has, unless a call ended it.
    failed: Option<ConnectError>,
}

/// A socket that is connecting.
pub(crate) struct Attempt {
    pub(crate) address: Address,
    pub(crate) stream: Stream,
    /// The slot whose token it is registered with; `None` if that is the connection's own.
    pub(crate) slot: Option<Id>,
}

/// The result of checking a socket that may be established (rule K1).
#[derive(Debug)]
pub(crate) enum Looked {
    Pending,
    /// Established, with this peer.
    Established(Address),
    Failed(io::Error),
}

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(320);

impl Connector {
    pub(crate) fn new(local: Option<SocketAddr>) -> Connector {
        Connector {
            name: None,
            local,
            untried: vec::IntoIter::default(),
            under_way: Vec::new(),
            full: None,
            full_delay: Duration::ZERO,
            failures: Vec::new(),
            deadline: None,
            next: None,
            failed: None,
        }
    }

    /// Sets the addresses to try, alternating between families (K3).
    pub(crate) fn set_addresses(&mut self, addresses: Vec<Address>) {
        self.untried = interleave(addresses).into_iter();
    }

    pub(crate) fn has_untried(&self) -> bool {
        self.untried.len() > 0
    }

    pub(crate) fn take_untried(&mut self) -> Option<Address> {
        match self.full.take() {
            None => self.untried.next(),
            full => full,
        }
    }

    /// Notes that the backlog of this Unix socket is full. Returns how long to wait before it is tried again: 10 ms at
    /// first, then twice as long each time, up to 320 ms (rule K2).
    pub(crate) fn note_full(&mut self, address: Address) -> Duration {
        self.full = Some(address);
        self.full_delay = (self.full_delay * 2).clamp(RETRY_FIRST, RETRY_MAX);
        self.full_delay
    }

    /// Returns whether no attempt is registered with the connection's own token.
    pub(crate) fn own_token_is_free(&self) -> bool {
        self.under_way.iter().all(|attempt| attempt.slot.is_some())
    }

    pub(crate) fn begun(&mut self, attempt: Attempt) {
        self.under_way.push(attempt);
    }

    pub(crate) fn note_failure(&mut self, address: Address, error: io::Error) {
        self.failures.push((address, error));
    }

    /// Returns whether no address is left that could still succeed.
    pub(crate) fn is_exhausted(&self) -> bool {
        !self.has_untried() && self.under_way.is_empty() && self.full.is_none()
    }

    /// Checks whether the attempt of this slot is established (K1): first the error of the socket, then whether it has
    /// a peer, or has had one.
    pub(crate) fn look(&self, slot: Option<Id>) -> Looked {
        let Some(attempt) = self.under_way.iter().find(|attempt| attempt.slot == slot) else { return Looked::Pending };
        match attempt.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Looked::Failed(error),
        }
        match attempt.stream.peer_addr() {
            // Both directions may have ended between the two calls.
            Err(error) if attempt.stream.has_lost_peer(&error) => match attempt.stream.take_error() {
                Ok(None) => Looked::Established(attempt.address.clone()),
                Ok(Some(error)) | Err(error) => Looked::Failed(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Looked::Pending,
            Err(error) => Looked::Failed(error),
            Ok(peer) if is_itself(&attempt.stream, &peer) => Looked::Failed(met_itself()),
            Ok(peer) => Looked::Established(peer),
        }
    }

    /// Returns the slots of the attempts that are under way.
    pub(crate) fn slots_under_way(&self) -> Vec<Option<Id>> {
        let mut slots = Vec::new();
        for attempt in &self.under_way {
            slots.push(attempt.slot);
        }
        slots
    }

    /// Takes the attempt of this slot out.
    pub(crate) fn take(&mut self, slot: Option<Id>) -> Option<Attempt> {
        let index = self.under_way.iter().position(|attempt| attempt.slot == slot)?;
        Some(self.under_way.remove(index))
    }

    /// Stops everything: closes the sockets, and returns the slots that they had.
    pub(crate) fn stop(&mut self) -> Vec<Id> {
        self.name = None;
        self.untried = vec::IntoIter::default();
        self.full = None;
        let mut slots = Vec::new();
        for attempt in &self.under_way {
            if let Some(slot) = attempt.slot {
                slots.push(slot);
            }
        }
        self.under_way.clear();
        slots
    }

    /// Notes that all addresses have failed.
    pub(crate) fn fail(&mut self) {
        self.failed = Some(ConnectError::Failed(std::mem::take(&mut self.failures)));
    }

    /// Notes that the deadline has passed, which fails the attempts under way, too.
    pub(crate) fn time_out(&mut self) {
        let mut failures = std::mem::take(&mut self.failures);
        for attempt in &self.under_way {
            failures.push((attempt.address.clone(), io::ErrorKind::TimedOut.into()));
        }
        if let Some(address) = self.full.take() {
            failures.push((address, io::Error::new(io::ErrorKind::TimedOut, "its backlog is full")));
        }
        self.failed = Some(ConnectError::Timeout(failures));
    }

    pub(crate) fn fail_lookup(&mut self, error: io::Error) {
        self.failed = Some(ConnectError::Lookup(error));
    }

    /// Returns whether it has failed by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Returns why it failed; `reason` if a call has ended it.
    pub(crate) fn into_error(mut self, reason: CloseReason) -> ConnectError {
        self.failed.take().unwrap_or(ConnectError::Cancelled(reason))
    }

    /// Returns why it failed, for a caller of `connect` that is told at once. A single error is returned as it is.
    pub(crate) fn into_io_error(mut self) -> io::Error {
        match self.failures.len() {
            1 => self.failures.remove(0).1,
            2.. => {
                let kind = self.failures[self.failures.len() - 1].1.kind();
                io::Error::new(kind, ConnectError::Failed(std::mem::take(&mut self.failures)))
            }
            0 => io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"),
        }
    }
}

/// Returns whether a socket is connected to itself: TCP does that, by its simultaneous open, if the port that is
/// connected to happens to be the socket's own (rule K4).
fn is_itself(stream: &Stream, peer: &Address) -> bool {
    peer.as_inet().is_some() && stream.local_addr().is_ok_and(|local| local == *peer)
}

fn met_itself() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "connected to itself: nobody listens there")
}

/// Alternates between the families, beginning with that of the first address. Each family keeps its own order.
fn interleave(addresses: Vec<Address>) -> Vec<Address> {
    let family = |address: &Address| address.as_inet().map(|address| address.is_ipv6());
    let Some(first) = addresses.first().map(family) else { return addresses };
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for address in addresses {
        if family(&address) == first { own.push(address) } else { others.push(address) }
    }
    let (mut mixed, mut others) = (Vec::new(), others.into_iter());
    for address in own {
        mixed.push(address);
        if let Some(other) = others.next() {
            mixed.push(other);
        }
    }
    mixed.extend(others);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::Inet(text.parse().unwrap())
    }

    #[test]
    fn k3_families_take_turns_beginning_with_that_of_the_first() {
        let mixed = |texts: &[&str]| {
            let addresses = texts.iter().map(|text| address(text)).collect();
            interleave(addresses).iter().map(Address::to_string).collect::<Vec<_>>()
        };
        let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
        let (x, y) = ("[fd00::1]:1", "[fd00::2]:1");
        assert_eq!(mixed(&[x, y, a, b, c]), [x, a, y, b, c]);
        assert_eq!(mixed(&[a, b, c, x]), [a, x, b, c]);
        assert_eq!(mixed(&[a, b]), [a, b]);
        assert!(mixed(&[]).is_empty());
    }

    #[test]
    fn k2_a_full_backlog_is_waited_for_from_10_to_320_ms() {
        let mut connector = Connector::new(None);
        let delays: Vec<_> = (0..8).map(|_| connector.note_full(address("10.0.0.1:1")).as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 320, 320]);
        assert!(!connector.is_exhausted());
        assert_eq!(connector.take_untried(), Some(address("10.0.0.1:1")));
        assert!(connector.is_exhausted());
    }

    #[test]
    fn k3_what_fails_at_once_is_one_error_as_it_is_or_a_list_of_all() {
        let mut connector = Connector::new(None);
        connector.note_failure(address("10.0.0.1:1"), io::ErrorKind::NetworkUnreachable.into());
        assert_eq!(connector.into_io_error().kind(), io::ErrorKind::NetworkUnreachable);
        let mut connector = Connector::new(None);
        connector.note_failure(address("10.0.0.1:1"), io::ErrorKind::NetworkUnreachable.into());
        connector.note_failure(address("10.0.0.2:1"), io::ErrorKind::AddrNotAvailable.into());
        let error = connector.into_io_error();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        let shown = error.to_string();
        assert!(shown.contains("10.0.0.1:1: ") && shown.contains("10.0.0.2:1: "), "{shown}");
    }
}
