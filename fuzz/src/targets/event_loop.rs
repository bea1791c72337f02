//! The loop itself: bytes that decode to hosts, connections, what their protocols do and what befalls them.
//!
//! Each stream carries numbered bytes, so each receiver knows what comes next. Whatever happens, what arrives is in
//! order and once, each connection is told its end once and nothing after it, nobody ends without a cause, the loops
//! come to rest, and no byte lies unread in a socket that is being read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, HostId, Network};
use switchboard::{CloseReason, ConnectError, ConnectionId, Limits, Protocol, TimerId, Transport};

use crate::input::Input;

pub const WORDS: &[&[u8]] = &[b"\0\x01\x02\x03", b"\x04\x05\x06\x07\x08", b"\x09\x0a\x0b", b"\xff\xff\xff\xff"];

const HOSTS: usize = 3;
const STEPS_MAX: usize = 60;
const PORT: u16 = 7;

/// The byte at a place of every stream.
fn byte_at(place: usize) -> u8 {
    (place * 31 + (place >> 8)) as u8
}

fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(byte_at).collect()
}

/// What is known of a connection's end.
#[derive(Debug, Default)]
struct End {
    made: bool,
    lost: bool,
    failed: bool,
    eof: bool,
    sent: usize,
    received: usize,
    /// How much of what was offered is left with the loop.
    kept: usize,
    paused: bool,
    wants_pause: bool,
    /// The program has ended it, or something was done to it that may.
    ended: bool,
}

#[derive(Default)]
struct World {
    ends: Vec<End>,
    ids: HashMap<usize, (HostId, ConnectionId)>,
    timers: Vec<(HostId, TimerId)>,
    calls_due: usize,
}

type Shared = Rc<RefCell<World>>;

/// A protocol, by its number in [`World::ends`]. What it consumes of each piece is decided by `appetite`.
struct Numbered {
    world: Shared,
    number: usize,
    host: HostId,
    appetite: usize,
}

impl Numbered {
    fn new(world: &Shared, host: HostId, appetite: usize) -> Numbered {
        let mut ends = world.borrow_mut();
        ends.ends.push(End::default());
        Numbered { world: world.clone(), number: ends.ends.len() - 1, host, appetite }
    }

    fn told(&self, of: &str, check: impl FnOnce(&mut End)) {
        let mut world = self.world.borrow_mut();
        let end = &mut world.ends[self.number];
        assert!(!end.lost && !end.failed, "{of} after the end: {end:?}");
        check(end);
    }
}

impl Protocol for Numbered {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.told("connection_made", |end| {
            assert!(!end.made, "made twice");
            end.made = true;
        });
        self.world.borrow_mut().ids.insert(self.number, (self.host, transport.id()));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        let taken = match self.appetite {
            0 => data.len(),
            most => data.len().min(most * 100),
        };
        self.told("data_received", |end| {
            assert!(end.made && !end.eof && !data.is_empty(), "{end:?}");
            assert!(data.len() > end.kept || data.len() == end.kept && !end.paused, "offered again for nothing");
            assert_eq!(data, bytes(end.received, data.len()), "in order, and once");
            end.received += taken;
            end.kept = data.len() - taken;
        });
        taken
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.told("eof_received", |end| {
            assert!(end.made && !end.eof, "{end:?}");
            assert_eq!(rest, bytes(end.received, rest.len()));
            end.received += rest.len();
            end.eof = true;
            end.ended = true;
        });
        transport.close();
    }

    fn pause_writing(&mut self, _: &mut Transport<'_>) {
        self.told("pause_writing", |end| {
            assert!(!end.wants_pause, "paused twice");
            end.wants_pause = true;
        });
    }

    fn resume_writing(&mut self, _: &mut Transport<'_>) {
        self.told("resume_writing", |end| {
            assert!(end.wants_pause, "resumed before it was paused");
            end.wants_pause = false;
        });
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, _: ConnectError) {
        self.told("connect_failed", |end| {
            assert!(!end.made, "failed after it was made");
            end.failed = true;
        });
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.told("connection_lost", |end| {
            assert!(end.made, "lost before it was made");
            end.lost = true;
            let is_ours = matches!(reason, CloseReason::Closed | CloseReason::Aborted);
            assert!(!is_ours || end.ended, "{reason:?} without a cause: {end:?}");
        });
        self.world.borrow_mut().ids.remove(&self.number);
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let faults = if input.byte() & 1 == 1 { Faults::all() } else { Faults::none() };
    let seed = u64::from(input.byte());
    let mut network = Network::new(seed, faults);
    let world = Shared::default();
    let limits = Limits::default().with_queue_bytes_high(2_000).with_queue_bytes_low(500);
    let hosts: Vec<HostId> = (0..HOSTS).map(|_| network.host_with_limits(limits.clone())).collect();
    for &host in &hosts {
        let (shared, address) = (world.clone(), network.address(host, PORT));
        let appetite = input.below(4);
        let listened = network.context(host).listen(address, move |_, _| Some(Numbered::new(&shared, host, appetite)));
        listened.expect("nothing else listens there");
    }
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS_MAX {
        steps += 1;
        step(&mut network, &world, &hosts, &mut input);
    }
    come_to_rest(&mut network, &world, &hosts);
}

/// Does one thing.
fn step(network: &mut Network, world: &Shared, hosts: &[HostId], input: &mut Input<'_>) {
    let action = input.below(14);
    let host = hosts[input.below(HOSTS)];
    match action {
        0 | 1 => {
            let (to, appetite) = (hosts[input.below(HOSTS)], input.below(4));
            let address = network.address(to, PORT + u16::from(input.byte() == 255));
            let protocol = Numbered::new(world, host, appetite);
            let number = protocol.number;
            if network.context(host).connect(address, protocol).is_err() {
                world.borrow_mut().ends[number].failed = true;
            }
        }
        2..=4 => {
            let count = input.below(256) * 20;
            with_one(network, world, input, |end, transport| {
                if !end.ended {
                    transport.write(&bytes(end.sent, count));
                    end.sent += count;
                }
            });
        }
        5 => with_one(network, world, input, |end, transport| {
            end.paused = !end.paused;
            if end.paused { transport.pause_reading() } else { transport.resume_reading() }
        }),
        6 => with_one(network, world, input, |end, transport| {
            end.ended = true;
            transport.close();
        }),
        7 => with_one(network, world, input, |end, transport| {
            end.ended = true;
            transport.abort();
        }),
        8 => with_one(network, world, input, |end, transport| {
            end.ended = true;
            transport.shutdown_write();
        }),
        9 => network.run_for(Duration::from_millis(input.below(256) as u64)),
        10 => {
            let (number, delay) = (world.clone(), Duration::from_millis(input.below(200) as u64));
            world.borrow_mut().calls_due += 1;
            let timer = network.context(host).call_later(delay, move |_| number.borrow_mut().calls_due -= 1);
            world.borrow_mut().timers.push((host, timer));
        }
        11 => {
            let due = world.borrow_mut().timers.pop();
            if let Some((host, timer)) = due {
                if network.context(host).cancel_timer(timer) {
                    world.borrow_mut().calls_due -= 1;
                }
            }
        }
        12 => {
            let other = hosts[input.below(HOSTS)];
            if input.byte() & 1 == 0 { network.cut(host, other) } else { network.heal(host, other) }
        }
        _ => {
            let address = network.address(host, PORT);
            let error = [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted][input.below(2)];
            network.fail_accept(address, error.into()).expect("it listens");
        }
    }
    while network.step() && input.byte() & 1 == 1 {}
}

/// Does something with the transport of one of the connections that are there.
fn with_one(
    network: &mut Network,
    world: &Shared,
    input: &mut Input<'_>,
    act: impl FnOnce(&mut End, &mut Transport<'_>),
) {
    let mut numbers: Vec<usize> = world.borrow().ids.keys().copied().collect();
    numbers.sort_unstable();
    let Some(&number) = numbers.get(input.below(numbers.len().clamp(1, 256))) else { return };
    let (host, id) = world.borrow().ids[&number];
    let mut context = network.context(host);
    // It may have ended, and not be told before the next turn.
    let Some(mut transport) = context.connection(id) else { return };
    act(&mut world.borrow_mut().ends[number], &mut transport);
}

fn come_to_rest(network: &mut Network, world: &Shared, hosts: &[HostId]) {
    for &one in hosts {
        for &other in hosts {
            network.heal(one, other);
        }
    }
    // Everybody reads, and everything ends.
    let ids: Vec<(usize, (HostId, ConnectionId))> =
        world.borrow().ids.iter().map(|(number, id)| (*number, *id)).collect();
    for (number, (host, id)) in ids {
        if let Some(mut transport) = network.context(host).connection(id) {
            transport.resume_reading();
            world.borrow_mut().ends[number].paused = false;
        }
    }
    network.run_for(Duration::from_secs(600));
    let unread = network.unread();
    assert!(unread.is_empty(), "unread: {unread:?}\n{:#?}\n{}", world.borrow().ends, network.trace());
    assert!(network.turns_without_progress_most() < 20, "{} turns in vain", network.turns_without_progress_most());
    assert_eq!(world.borrow().calls_due, 0, "timers that did not fire");
    for &host in hosts {
        network.context(host).shutdown(Duration::from_secs(5));
    }
    let ids: Vec<usize> = world.borrow().ids.keys().copied().collect();
    ids.into_iter().for_each(|number| world.borrow_mut().ends[number].ended = true);
    network.run_for(Duration::from_secs(600));
    let world = world.borrow();
    for (number, end) in world.ends.iter().enumerate() {
        assert!(!end.made || end.lost, "{number} is not told its end: {end:?}");
    }
}
