//! Rules Y1 to Y7 over random pairs: what two protocols write to each other through filters arrives as it does without
//! them, with the same callbacks, whatever the filters do with the bytes, however these are cut, and with pauses on
//! both sides; and also through a pair of joined connections, each with its own filters. If connections are reset,
//! closed or aborted at random, each side gets what came before, and is told of an end only after all of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::coverage::{Coverage, name};
use super::system::OTHER_PLATFORMS;
use crate::testing::{Faults, HostId, Network, Platform, Random};
use crate::tests::filters::kinds::{Masked, Sealed};
use crate::{
    Address, CloseReason, Connect, ConnectError, Context, Limits, Listen, LoopLimits, Protocol, Rate, Relay, Transport,
};

/// What happens in enough seeds.
pub(super) const EXPECTED: &[&str] = &[
    "no filter",
    "one filter",
    "several filters",
    "put in later",
    "marks are told",
    "paused",
    "left unconsumed",
    "read at a rate",
    "written from a timer of the loop",
    "joined",
    "whole",
    "closed at random",
    "aborted at random",
    "cut off, and told so",
    "whole in spite of it",
    "never ready",
];

/// The kind of one filter of a chain.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Masked(u8, usize),
    Sealed(u8, usize),
}

impl Kind {
    fn random(random: &mut Random) -> Kind {
        let step = [1, 7, 100, 5000, 60_000][random.below(5) as usize];
        match random.hits(500) {
            true => Kind::Masked(random.below(256) as u8, step),
            false => Kind::Sealed(random.below(256) as u8, step),
        }
    }

    fn make(self, is_client: bool) -> Box<dyn crate::filter::Filter> {
        match self {
            Kind::Masked(key, step) => Box::new(Masked { key, step }),
            Kind::Sealed(key, record) if is_client => Box::new(Sealed::client(key, record)),
            Kind::Sealed(key, record) => Box::new(Sealed::server(!key, record)),
        }
    }
}

/// What one side has seen.
#[derive(Default)]
struct Seen {
    /// Everything but data, in order.
    callbacks: Vec<String>,
    bytes: Vec<u8>,
    marks: usize,
    pauses: usize,
    leaves: usize,
    /// How much it has written.
    said: usize,
    rates: usize,
    by_timer: usize,
    closes: usize,
    aborts: usize,
}

impl Seen {
    /// Whether these callbacks may come if connections end at random: one loss, after everything else.
    fn fits(&self, is_client: bool) -> bool {
        let callbacks: Vec<_> = self.callbacks.iter().map(String::as_str).collect();
        match callbacks[..] {
            [] => !is_client,
            [failed] => is_client && failed.starts_with("failed: "),
            // An end of the peer is reported as such, or does not count as one.
            ["made", lost] => lost.starts_with("lost: ") && lost != "lost: peer closed",
            ["made", "eof", lost] => lost.starts_with("lost: "),
            _ => false,
        }
    }

    fn note(&self, coverage: &mut Coverage) {
        let counts = [
            ("marks are told", self.marks),
            ("paused", self.pauses),
            ("left unconsumed", self.leaves),
            ("read at a rate", self.rates),
            ("written from a timer of the loop", self.by_timer),
            ("closed at random", self.closes),
            ("aborted at random", self.aborts),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0).for_each(|(what, _)| coverage.hit(what));
    }
}

/// Writes what it has to say in pieces, and ends its half.
struct Side {
    random: Random,
    says: Vec<u8>,
    said: usize,
    /// The filters it adds together, when it is made or when the other side says so.
    later: Vec<Kind>,
    is_client: bool,
    /// How often in a thousand it ends instead of going on.
    ends: u32,
    is_over: bool,
    seen: Rc<RefCell<Seen>>,
}

const NEXT: u16 = 1;
const RESUME: u16 = 2;
const GO: &[u8] = b"GO";

impl Side {
    fn begins(&mut self, transport: &mut Transport<'_>) {
        for kind in std::mem::take(&mut self.later) {
            assert!(transport.set_filter(kind.make(self.is_client)));
            assert!(!transport.is_reading(), "not before it has begun");
        }
        self.say(transport);
    }

    fn say(&mut self, transport: &mut Transport<'_>) {
        if !self.is_over {
            self.say_more(transport);
            self.seen.borrow_mut().said = self.said;
            self.go_on(transport);
        }
    }

    fn go_on(&mut self, transport: &mut Transport<'_>) {
        let after = Duration::from_millis(self.random.below(20));
        self.is_over = true;
        let mut seen = self.seen.borrow_mut();
        if self.random.hits(self.ends) {
            seen.closes += 1;
            transport.close();
        } else if self.random.hits(self.ends) {
            seen.aborts += 1;
            transport.abort();
        } else if self.said == self.says.len() {
            transport.shutdown_write();
        } else if self.random.hits(200) {
            self.is_over = false;
            seen.by_timer += 1;
            let id = transport.id();
            transport.context().call_later(after, move |context| {
                let _ = context.with_protocol(id, |side: &mut Side, transport| side.say(transport));
            });
        } else {
            self.is_over = false;
            transport.set_timer(NEXT, after);
        }
    }

    fn say_more(&mut self, transport: &mut Transport<'_>) {
        for _ in 0..=self.random.below(3) {
            let most = [10, 300, 30_000][self.random.below(3) as usize];
            let end = self.says.len().min(self.said + self.random.below(most) as usize);
            let piece = &self.says[self.said..end];
            match self.random.below(4) {
                0 => transport.write_owned(piece.to_vec()),
                1 => transport.write_shared(piece.into()),
                2 => {
                    let id = transport.id();
                    transport.context().broadcast([id], piece);
                }
                _ => transport.write(piece),
            }
            self.said = end;
        }
    }
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.seen.borrow_mut().callbacks.push("made".into());
        if self.random.hits(200) {
            self.seen.borrow_mut().rates += 1;
            transport.set_read_rate(Some(Rate::new(50_000).burst(1000)));
        }
        match (self.later.is_empty(), self.is_client) {
            (true, _) => self.say(transport),
            // It is told when to begin.
            (false, true) => {}
            (false, false) => {
                transport.write(GO);
                self.begins(transport);
            }
        }
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if !self.later.is_empty() {
            if data.len() < GO.len() {
                return 0;
            }
            assert_eq!(&data[..GO.len()], GO);
            self.begins(transport);
            return GO.len();
        }
        let mut seen = self.seen.borrow_mut();
        let mut consumed = data.len();
        if self.random.hits(100) {
            consumed = self.random.below(data.len() as u64 + 1) as usize;
            seen.leaves += 1;
        }
        seen.bytes.extend(&data[..consumed]);
        // Rarely: a record may be one byte.
        if self.random.hits(10) {
            seen.pauses += 1;
            transport.pause_reading();
            transport.set_timer(RESUME, Duration::from_millis(self.random.below(50)));
        }
        consumed
    }

    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        match key {
            NEXT => self.say(transport),
            _ => transport.resume_reading(),
        }
    }

    fn pause_writing(&mut self, _: &mut Transport<'_>) {
        self.seen.borrow_mut().marks += 1;
    }

    fn eof_received(&mut self, _: &mut Transport<'_>, rest: &[u8]) {
        let mut seen = self.seen.borrow_mut();
        seen.bytes.extend(rest);
        seen.callbacks.push("eof".into());
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.seen.borrow_mut().callbacks.push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.seen.borrow_mut().callbacks.push(format!("lost: {}", name(&reason)));
    }
}

/// Relays each connection onward, through its own filters.
struct Onward {
    to: Option<Connect>,
}

impl Protocol for Onward {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        let to = self.to.take().expect("it is made once");
        let mut context = transport.context();
        let other = context.connect(to, Relay::new(id)).expect("a simulated connect begins");
        context.join(id, other).expect("both are open");
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        unreachable!("it has another protocol by then")
    }
}

struct Run {
    network: Network,
    hosts: Vec<HostId>,
    /// Connections may be reset, and end at random.
    is_fatal: bool,
    seen: [Rc<RefCell<Seen>>; 2],
    says: [Vec<u8>; 2],
}

pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    run_on(seed, traced, &[Platform::Linux])
}

/// The same on hosts that run systems other than Linux, each a different one.
pub(super) fn run_elsewhere(seed: u64, traced: bool) -> Result<Coverage, String> {
    run_on(seed, traced, &OTHER_PLATFORMS)
}

fn run_on(seed: u64, traced: bool, platforms: &[Platform]) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let count = [0, 1, 1, 1, 2, 3][random.below(6) as usize];
    let mut kinds: Vec<_> = (0..count).map(|_| Kind::random(&mut random)).collect();
    let is_later = count > 0 && random.hits(300);
    if is_later {
        // A filter whose server waits for its client: otherwise the server's bytes might come together with those that
        // the filter is to begin after.
        kinds[0] = Kind::Sealed(random.below(256) as u8, 1000);
    }
    coverage.hit(["no filter", "one filter", "several filters"][count.min(2)]);
    if is_later {
        coverage.hit("put in later");
    }
    let mut run = Run::new(&mut random, &kinds, is_later, traced);
    for (number, &host) in (seed as usize..).zip(&run.hosts) {
        run.network.set_platform(host, platforms[number % platforms.len()]);
    }
    run.finish(&mut coverage).map_err(|what| match traced {
        true => format!("{}\n{kinds:?}, later: {is_later}: {what}", run.network.trace()),
        false => format!("{kinds:?}, later: {is_later}: {what}"),
    })?;
    Ok(coverage)
}

fn limits(random: &mut Random) -> Limits {
    let high = [0, 100, 3000, 64 * 1024][random.below(4) as usize];
    let mut limits = Limits::default()
        .with_queue_bytes_high(high)
        .with_queue_bytes_low([0, high / 4, high][random.below(3) as usize])
        .with_read_bytes_per_turn_max([100, 5000, 256 * 1024][random.below(3) as usize])
        .with_filter_timeout(Some(Duration::from_secs(600)))
        // A relay whose other side has filters of one byte a step may take nothing for longer than a close waits by
        // default.
        .with_close_timeout(Duration::from_secs(30))
        .with_input_bytes_max(1 << 20);
    limits.pause_reading_over_high = false;
    limits
}

fn faults(random: &mut Random, is_fatal: bool, buffer: usize) -> Faults {
    let mut faults = if random.hits(700) { Faults::all() } else { Faults::none() };
    faults = faults.with_buffer_bytes_min(buffer).with_buffer_bytes_max(buffer);
    faults = faults.with_accept_errors_permille(0).with_lost_connects_permille(0);
    if is_fatal && random.hits(500) {
        let fatal = Faults::fatal();
        faults = faults.with_refused_connects_permille(fatal.refused_connects_permille);
        faults = faults.with_resets_permille(fatal.resets_permille);
        faults = faults.with_overtaking_resets_permille(fatal.overtaking_resets_permille);
    }
    faults
}

impl Run {
    fn new(random: &mut Random, kinds: &[Kind], is_later: bool, traced: bool) -> Run {
        let limits = limits(random);
        let (is_fatal, buffer) = (random.hits(400), [50, 2000, 64 * 1024][random.below(3) as usize]);
        let faults = faults(random, is_fatal, buffer);
        let mut network = Network::new(random.number(), faults);
        network.set_tracing(traced);
        let count = if random.hits(300) { 3 } else { 2 };
        let host = |()| network.host_with_limits(LoopLimits::from(limits.clone()));
        let hosts: Vec<HostId> = std::iter::repeat_n((), count).map(host).collect();
        let seen = <[Rc<RefCell<Seen>>; 2]>::default();
        let most = if buffer < 100 { 3000 } else { 100_000 };
        let says = [(); 2].map(|()| {
            let count = if random.hits(100) { 0 } else { random.below(most) };
            (0..count).map(|_| random.below(256) as u8).collect::<Vec<_>>()
        });
        let mut side = |index: usize| Side {
            random: Random::new(random.number()),
            says: says[index].clone(),
            said: 0,
            later: if is_later { kinds.to_vec() } else { Vec::new() },
            is_client: index == 0,
            ends: if is_fatal { 50 } else { 0 },
            is_over: false,
            seen: seen[index].clone(),
        };
        let (client, server) = (side(0), side(1));
        let hop = |to: HostId, kinds: &[Kind]| {
            let address = network.address(to, 7);
            let (mut listen, mut connect) = (Listen::at(address), Connect::to(address).limits(limits.clone()));
            for kind in kinds.iter().copied().filter(|_| !is_later) {
                listen = listen.filter(move |_| Some(kind.make(false)));
                connect = connect.filter(move || kind.make(true));
            }
            (listen, connect)
        };
        let (listen, mut connect) = hop(hosts[1], kinds);
        if let Some(&relay) = hosts.get(2) {
            let (between, first) = hop(relay, &[Kind::random(random)]);
            let mut to = Some(std::mem::replace(&mut connect, first));
            let factory = move |_: &mut Context<'_>, _: &Address| to.take().map(|to| Onward { to: Some(to) });
            network.context(relay).listen(between, factory).expect("it is free");
        }
        let mut server = Some(server);
        let factory = move |_: &mut Context<'_>, _: &Address| server.take();
        network.context(hosts[1]).listen(listen, factory).expect("it is free");
        network.context(hosts[0]).connect(connect, client).expect("a simulated connect begins");
        Run { network, hosts, is_fatal, seen, says }
    }

    fn finish(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        let is_over = |network: &mut Network, hosts: &[HostId]| {
            hosts.iter().all(|&host| network.context(host).connection_count() == 0)
        };
        for _ in 0..2000 {
            self.network.run_for(Duration::from_millis(200));
            if is_over(&mut self.network, &self.hosts) {
                break;
            }
        }
        for (index, other) in [(0, 1), (1, 0)] {
            let seen = self.seen[index].borrow();
            let who = ["the client", "the server"][index];
            let callbacks: Vec<_> = seen.callbacks.iter().map(String::as_str).collect();
            let said = &self.says[other][..self.seen[other].borrow().said];
            let (is_fitting, is_whole) = match self.is_fatal {
                true => (seen.fits(index == 0), callbacks.contains(&"eof")),
                false => (callbacks == ["made", "eof", "lost: peer closed"], true),
            };
            if !is_fitting {
                return Err(format!("{who} has seen {callbacks:?}"));
            }
            if !said.starts_with(&seen.bytes) || is_whole && said.len() != seen.bytes.len() {
                let (got, said) = (seen.bytes.len(), said.len());
                return Err(format!("{who} has got {got} bytes of {said}, or others, and seen {callbacks:?}"));
            }
            seen.note(coverage);
            coverage.hit(match (self.is_fatal, is_whole, callbacks.first()) {
                (false, ..) => "whole",
                (true, true, _) => "whole in spite of it",
                (true, false, Some(&"made")) => "cut off, and told so",
                (true, false, _) => "never ready",
            });
        }
        if self.hosts.len() > 2 {
            coverage.hit("joined");
        }
        self.check_leftovers()
    }

    /// Checks that nothing is left of what has ended: no timer, no buffer, no byte that counts.
    fn check_leftovers(&mut self) -> Result<(), String> {
        self.network.run_for(Duration::from_secs(10));
        for (index, &host) in self.hosts.iter().enumerate() {
            let left = self.network.event_loop(host).core.leftovers(usize::from(index > 0));
            if !left.is_empty() {
                return Err(format!("left on host {index}: {left:?}"));
            }
        }
        Ok(())
    }
}
