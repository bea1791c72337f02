//! How fast the loop reads, and from how many connections, in virtual time.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{MS, SECOND};
use crate::testing::{Faults, HostId, Network, Peer};
use crate::{
    CloseReason, ConnectionId, Limits, ListenerId, LoopLimits, Protocol, Rate, RateGroupId, Timeout, Transport,
    WhenFull,
};

/// What a server has seen of one connection.
#[derive(Clone, Default)]
struct Seen {
    id: Rc<Cell<Option<ConnectionId>>>,
    bytes: Rc<Cell<usize>>,
    end: Rc<RefCell<Option<String>>>,
}

/// Counts what it receives.
struct Counting {
    seen: Seen,
    group: Option<RateGroupId>,
}

impl Protocol for Counting {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.seen.id.set(Some(transport.id()));
        transport.set_rate_group(self.group);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.seen.bytes.set(self.seen.bytes.get() + data.len());
        data.len()
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        transport.abort_on_timeout(timeout);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        *self.seen.end.borrow_mut() = Some(reason.to_string());
    }
}

struct World {
    network: Network,
    host: HostId,
    listener: ListenerId,
    address: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    group: Rc<Cell<Option<RateGroupId>>>,
}

fn world(limits: impl Into<LoopLimits>) -> World {
    let mut network = Network::new(0, Faults::none());
    let host = network.host_with_limits(limits);
    let (seen, group) = (Rc::<RefCell<Vec<Seen>>>::default(), Rc::<Cell<Option<RateGroupId>>>::default());
    let address = network.address(host, 7);
    let (all, of) = (seen.clone(), group.clone());
    let factory = move |_: &mut crate::Context<'_>, _: &crate::Address| {
        let seen = Seen::default();
        all.borrow_mut().push(seen.clone());
        Some(Counting { seen, group: of.get() })
    };
    let listener = network.context(host).listen(address, factory).unwrap();
    World { network, host, listener, address, seen, group }
}

impl World {
    fn peer(&mut self) -> Peer {
        let peer = self.network.peer(self.address);
        self.network.run_until_rest();
        peer
    }

    fn bytes(&self, number: usize) -> usize {
        self.seen.borrow()[number].bytes.get()
    }

    fn total(&self) -> usize {
        self.seen.borrow().iter().map(|seen| seen.bytes.get()).sum()
    }

    fn end(&self, number: usize) -> Option<String> {
        self.seen.borrow()[number].end.borrow().clone()
    }

    fn with<R>(&mut self, number: usize, act: impl FnOnce(&mut Transport<'_>) -> R) -> R {
        let id = self.seen.borrow()[number].id.get().unwrap();
        act(&mut self.network.context(self.host).connection(id).unwrap())
    }

    fn alive(&self) -> usize {
        self.seen.borrow().iter().filter(|seen| seen.end.borrow().is_none()).count()
    }

    /// Returns how many turns a second takes while the peers send all they can.
    fn run_second(&mut self, peers: &mut [&mut Peer]) -> u64 {
        let before = self.network.turns();
        for _ in 0..100 {
            for peer in &mut *peers {
                peer.send(&[7; 10_000]);
            }
            self.network.run_for(10 * MS);
        }
        self.network.turns() - before
    }
}

fn saw_end(peer: &mut Peer) -> bool {
    peer.read();
    peer.saw_end()
}

fn rate(bytes_per_second: usize, burst_bytes: usize) -> Limits {
    Limits::default().with_read_rate(Some(Rate::new(bytes_per_second).burst(burst_bytes)))
}

#[test]
fn r5_a_connection_is_read_no_faster_than_its_rate_and_without_spinning() {
    let mut world = world(rate(10_000, 5000));
    let mut peer = world.peer();
    let turns = world.run_second(&mut [&mut peer]);
    assert!((14_800..=15_000).contains(&world.bytes(0)), "{}", world.bytes(0));
    assert!(turns <= 350, "{turns}");
    world.run_second(&mut [&mut peer]);
    assert!((24_800..=25_000).contains(&world.bytes(0)), "{}", world.bytes(0));
    // A pause fills the bucket up again, to the brim.
    let sent = world.bytes(0);
    world.with(0, |transport| transport.pause_reading());
    world.network.run_for(10 * SECOND);
    assert_eq!(world.bytes(0), sent);
    world.with(0, |transport| transport.resume_reading());
    world.network.run_for(MS);
    assert!((5000..=5020).contains(&(world.bytes(0) - sent)), "{}", world.bytes(0) - sent);
}

#[test]
fn r5_what_was_sent_before_the_end_is_read_at_its_rate_and_then_the_end() {
    let mut world = world(rate(1000, 10));
    let mut peer = world.peer();
    assert_eq!(peer.send(&[7; 3000]), 3000);
    peer.end();
    world.network.run_for(2900 * MS);
    assert!(world.bytes(0) < 3000 && world.end(0).is_none());
    world.network.run_for(200 * MS);
    assert_eq!((world.bytes(0), world.end(0).as_deref()), (3000, Some("closed by the peer")));
    assert_eq!(world.network.event_loop(world.host).time_to_next(), None, "no timer is left");
}

#[test]
fn r5_a_rate_can_be_changed_and_lifted_while_a_connection_waits() {
    let mut world = world(rate(1, 1));
    let mut peer = world.peer();
    peer.send(&[7; 10_000]);
    world.network.run_for(5 * SECOND);
    assert!((5..=6).contains(&world.bytes(0)), "{}", world.bytes(0));
    world.with(0, |transport| transport.set_read_rate(Some(Rate::new(1000).burst(1000))));
    world.network.run_for(SECOND);
    assert!((1900..=2010).contains(&world.bytes(0)), "{}", world.bytes(0));
    world.with(0, |transport| transport.set_read_rate(None));
    world.network.run_until_rest();
    assert_eq!(world.bytes(0), 10_000);
    assert_eq!(world.network.event_loop(world.host).time_to_next(), None, "no timer is left");
}

#[test]
fn r5_a_connection_that_ends_while_it_waits_leaves_no_timer() {
    let mut world = world(rate(1, 1));
    let mut peer = world.peer();
    peer.send(&[7; 100]);
    world.network.run_until_rest();
    assert!(world.network.event_loop(world.host).time_to_next().is_some());
    world.with(0, |transport| transport.abort());
    world.network.run_until_rest();
    assert_eq!(world.network.event_loop(world.host).time_to_next(), None);
}

#[test]
fn t5_an_idle_timeout_stands_still_while_a_connection_waits_to_be_read_from() {
    let mut world = world(rate(1, 1).with_idle_timeout(Some(SECOND / 2)));
    let mut peer = world.peer();
    peer.send(&[7; 5]);
    world.network.run_for(4 * SECOND + SECOND / 4);
    assert_eq!((world.bytes(0), world.end(0)), (5, None));
    world.network.run_for(2 * SECOND);
    assert!(world.end(0).is_some(), "it has nothing to wait for any more");
}

#[test]
fn r5_a_group_shares_its_rate_and_nobody_in_it_goes_short() {
    let mut world = world(Limits::default());
    let group = world.network.context(world.host).add_rate_group(Rate::new(100_000).burst(2000));
    world.group.set(Some(group));
    let mut peers: Vec<_> = (0..5).map(|_| world.peer()).collect();
    world.group.set(None);
    let mut free = world.peer();
    let mut senders: Vec<_> = peers.iter_mut().collect();
    let turns: u64 = (0..10).map(|_| world.run_second(&mut senders)).sum();
    let shares: Vec<_> = (0..5).map(|number| world.bytes(number)).collect();
    assert!((990_000..=1_003_000).contains(&world.total()), "{shares:?}");
    assert!(shares.iter().all(|share| (180_000..=220_000).contains(share)), "{shares:?}");
    assert!(turns < 6000, "{turns}");
    // A connection outside the group is not held back.
    assert_eq!(free.send(&[7; 50_000]), 50_000);
    world.network.run_for(MS);
    assert_eq!(world.bytes(5), 50_000);
    // A connection that does not read leaves its share to the others.
    world.with(0, |transport| transport.pause_reading());
    let before = world.total();
    let mut senders: Vec<_> = peers.iter_mut().collect();
    world.run_second(&mut senders);
    assert!((97_000..=103_000).contains(&(world.total() - before)), "{}", world.total() - before);
}

#[test]
fn r5_who_leaves_a_group_or_loses_it_reads_on() {
    for removes in [false, true] {
        let mut world = world(Limits::default());
        let group = world.network.context(world.host).add_rate_group(Rate::new(0).burst(0));
        world.group.set(Some(group));
        let (mut one, mut other) = (world.peer(), world.peer());
        one.send(&[7; 10_000]);
        other.send(&[7; 10_000]);
        world.network.run_for(5 * SECOND);
        assert!((5..=6).contains(&world.total()), "{}", world.total());
        if removes {
            assert!(world.network.context(world.host).remove_rate_group(group));
        } else {
            world.with(0, |transport| transport.set_rate_group(None));
        }
        world.network.run_for(5 * SECOND);
        assert_eq!(world.bytes(0), 10_000);
        let rest = world.bytes(1);
        assert_eq!(rest == 10_000, removes, "{rest}");
        assert_eq!(world.network.context(world.host).remove_rate_group(group), !removes);
    }
}

#[test]
fn r5_who_has_gone_over_to_another_group_gets_no_share_of_the_first() {
    let mut world = world(Limits::default());
    let mut add = |rate, burst| world.network.context(world.host).add_rate_group(Rate::new(rate).burst(burst));
    // The least rate is a byte a second.
    let (first, other) = (add(1000, 1000), add(0, 0));
    world.group.set(Some(first));
    let (mut one, mut two) = (world.peer(), world.peer());
    one.send(&[7; 10_000]);
    two.send(&[7; 10_000]);
    world.network.run_for(SECOND);
    world.with(0, |transport| transport.set_rate_group(Some(other)));
    let before = (world.bytes(0), world.bytes(1));
    world.network.run_for(5 * SECOND);
    let read = (world.bytes(0) - before.0, world.bytes(1) - before.1);
    assert!((4..=6).contains(&read.0) && (4_900..=5_100).contains(&read.1), "{read:?}");
}

#[test]
fn a4_a_peer_has_so_many_connections_and_others_are_not_concerned() {
    let mut world = world(Limits::default().with_connections_per_peer_max(Some(2)));
    let (mut first, _second) = (world.peer(), world.peer());
    let mut third = world.peer();
    assert_eq!((world.alive(), saw_end(&mut third)), (2, true));
    assert_eq!(world.network.context(world.host).counters().connections_refused, 1);
    // Another host is another peer.
    let other = world.network.host();
    world.network.connect(other, world.address, Counting { seen: Seen::default(), group: None });
    world.network.run_until_rest();
    assert_eq!(world.alive(), 3);
    // A connection that ends makes room.
    first.end();
    world.network.run_until_rest();
    let _fourth = world.peer();
    assert_eq!(world.alive(), 3);
    assert_eq!(world.network.context(world.host).counters().connections_refused, 1);
    world.peer();
    assert_eq!(world.network.context(world.host).counters().connections_refused, 2);
}

#[test]
fn a4_a_cap_for_each_peer_that_is_set_later_counts_who_is_there() {
    let mut world = world(Limits::default());
    let _peers: Vec<_> = (0..3).map(|_| world.peer()).collect();
    let (host, listener) = (world.host, world.listener);
    let set = |world: &mut World, max| {
        let limits = Limits::default().with_connections_per_peer_max(max);
        world.network.context(host).listener(listener).unwrap().set_limits(limits);
    };
    set(&mut world, Some(3));
    world.peer();
    assert_eq!((world.alive(), world.network.context(host).counters().connections_refused), (3, 1));
    set(&mut world, None);
    let _more = world.peer();
    set(&mut world, Some(4));
    world.peer();
    assert_eq!((world.alive(), world.network.context(host).counters().connections_refused), (4, 2));
}

#[test]
fn a4_r5_none_is_no_limit() {
    let of_each = Limits::default().with_connections_per_peer_max(None).with_read_rate(None);
    let mut world = world(LoopLimits::from(of_each).with_loop_connections_max(None));
    let mut peers: Vec<_> = (0..1000).map(|_| world.network.peer(world.address)).collect();
    world.network.run_until_rest();
    assert_eq!(world.alive(), 1000);
    let began = world.network.context(world.host).now();
    for _ in 0..100 {
        peers[0].send(&[7; 10_000]);
        world.network.run_until_rest();
    }
    assert_eq!(world.bytes(0), 1_000_000);
    assert!(world.network.context(world.host).now() - began < SECOND, "it never waited");
}

#[test]
fn a4_the_loop_has_so_many_connections_whatever_the_listener() {
    for when_full in [WhenFull::Wait, WhenFull::Refuse] {
        let mut world =
            world(LoopLimits::from(Limits::default().with_when_full(when_full)).with_loop_connections_max(Some(2)));
        let second = world.network.address(world.host, 8);
        let seen = world.seen.clone();
        let factory = move |_: &mut crate::Context<'_>, _: &crate::Address| {
            seen.borrow_mut().push(Seen::default());
            let seen = seen.borrow().last().unwrap().clone();
            Some(Counting { seen, group: None })
        };
        world.network.context(world.host).listen(second, factory).unwrap();
        let (mut one, _two) = (world.peer(), world.peer());
        // It waits at a different listener from the one whose connection ends.
        let mut third = world.network.peer(second);
        world.network.run_until_rest();
        assert_eq!(world.alive(), 2);
        assert_eq!(saw_end(&mut third), when_full == WhenFull::Refuse);
        one.end();
        world.network.run_until_rest();
        match when_full {
            WhenFull::Wait => assert_eq!((world.seen.borrow().len(), world.alive()), (3, 2), "it came in"),
            WhenFull::Refuse => assert_eq!((world.seen.borrow().len(), world.alive()), (2, 1)),
        }
        assert!(world.network.turns_without_progress_most() < 4);
    }
}

#[test]
fn a4_a_lingering_connection_makes_room_for_who_comes() {
    for limits in [
        LoopLimits::default().with_loop_connections_max(Some(1)),
        Limits::default().with_connections_per_peer_max(Some(1)).into(),
    ] {
        let mut world = world(limits);
        let mut lingers = world.peer();
        world.network.run_for(Duration::ZERO);
        world.with(0, |transport| transport.close());
        lingers.send(b"it goes on sending");
        world.network.run_until_rest();
        let _next = world.peer();
        assert_eq!(world.seen.borrow().len(), 2);
        assert_eq!((world.end(0).as_deref(), world.end(1)), (Some("closed by us"), None));
    }
}

#[test]
fn r5_a_rate_is_read_back_as_it_was_set() {
    let mut world = world(rate(10_000, 5000));
    let _peer = world.peer();
    let given = Some(Rate::new(10_000).burst(5000));
    assert_eq!(world.with(0, |transport| transport.read_rate()), given);
    for set in [Some(Rate::new(1).burst(2)), Some(Rate::new(usize::MAX).burst(usize::MAX)), None] {
        world.with(0, |transport| transport.set_read_rate(set));
        assert_eq!(world.with(0, |transport| transport.read_rate()), set);
    }
    assert_eq!(world.with(0, |transport| transport.limits().read_rate), given, "it begins with this one");
}
