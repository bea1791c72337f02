//! One run: hosts, programs and peers on one network, all made from one seed.

use std::mem::ManuallyDrop;
use std::time::Duration;

use super::actions;
use super::checks;
use super::commands;
use super::coverage::Coverage;
use super::datagrams;
use super::dials;
use super::ledger::{Ledger, Side, with};
use super::pairs;
use super::peers::Client;
use super::program::{Program, delay};
use super::story::Story;
use crate::testing::{Faults, HostId, Network, Platform, Random};
use crate::{Limits, LoopLimits, PanicPolicy, WhenFull};

/// Runs a seed. Returns what has happened, or what did not hold, with the trace if it was asked for.
pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    run_system(System::new(seed, traced))
}

/// The same on hosts that run systems other than Linux, each a different one.
pub(super) fn run_elsewhere(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut system = System::new(seed, traced);
    for (number, &host) in (seed as usize..).zip(&system.hosts) {
        system.network.set_platform(host, OTHER_PLATFORMS[number % OTHER_PLATFORMS.len()]);
    }
    run_system(system)
}

/// The same with two system calls that fail. Connections may be lost to them, so that nothing here is patient.
pub(super) fn run_failing(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut system = System::new(seed, traced);
    system.patient = false;
    with(|ledger| (ledger.fatal, ledger.patient) = (true, false));
    pairs::arm(&mut system.network, &system.hosts, seed);
    run_system(system)
}

/// Each behaves in ways that Linux does not.
pub(super) const OTHER_PLATFORMS: [Platform; 3] = [Platform::MacOs, Platform::Bsd, Platform::Windows];

fn run_system(system: System) -> Result<Coverage, String> {
    // After a failure the system is not dropped: what a bug has left broken could panic again while it is dropped.
    let mut system = ManuallyDrop::new(system);
    for _ in 0..system.moves {
        system.move_on();
        if system.has_failed() {
            return Err(system.failure());
        }
    }
    system.drain();
    if system.has_failed() {
        return Err(system.failure());
    }
    system.end();
    if system.has_failed() {
        return Err(system.failure());
    }
    drop(ManuallyDrop::into_inner(system));
    Ok(with(|ledger| std::mem::take(&mut ledger.coverage)))
}

struct System {
    network: Network,
    hosts: Vec<HostId>,
    clients: Vec<Client>,
    moves: u64,
    /// Whether a connection that was closed is always given the time to finish.
    patient: bool,
    at_once: bool,
    traced: bool,
}

const PORT: u16 = 7;

impl System {
    fn new(seed: u64, traced: bool) -> System {
        let mut random = Random::new(seed.wrapping_mul(0xA076_1D64_78BD_642F));
        let mut setup = Setup::pick(&mut random);
        let at_once = setup.patient && random.hits(500);
        if at_once {
            setup.faults = setup.faults.with_latency_max(Duration::ZERO).with_stalls_permille(0);
        }
        let story = Story::told();
        setup.faults = story.of(setup.faults);
        let mut network = Network::new(random.number(), setup.faults.clone());
        network.set_tracing(traced);
        Ledger::begin(random.number(), setup.limits.clone());
        let count = 1 + usize::from(random.hits(300));
        let hosts: Vec<_> = (0..count).map(|_| network.host_with_limits(setup.limits.clone())).collect();
        // Most runs are short, so that there can be many; some are long, for what takes a while to happen.
        let scale = if random.hits(250) { 6 } else { 1 };
        let moves = story.moves_max.min(scale * (40 + random.below(160)));
        with(|ledger| {
            ledger.fatal = setup.fatal;
            ledger.copies_max = if setup.faults.doubled_datagrams_permille > 0 { 2 } else { 1 };
            ledger.patient = setup.patient;
            ledger.write_bound = setup.write_bound;
            ledger.actions = story.actions_max.min(scale * (20 + ledger.random.below(80))) as usize;
            if count > 1 {
                ledger.coverage.hit("two loops");
            }
        });
        for &host in &hosts {
            network.event_loop(host).set_panic_policy(PanicPolicy::Isolate);
            network.context(host).set_resolver(dials::resolve);
        }
        let at = network.address(hosts[0], PORT);
        let mut context = network.context(hosts[0]);
        with(|ledger| actions::listen_at(ledger, &mut context, 0, vec![at]));
        let mut system = System { network, hosts, clients: Vec::new(), moves, patient: setup.patient, at_once, traced };
        system.connect();
        system
    }

    /// A client connects: a scripted peer, or a protocol of a loop.
    fn connect(&mut self) {
        let at = self.network.address(self.hosts[0], PORT);
        let host = self.hosts.len() - 1;
        if with(|ledger| ledger.random.hits(150)) {
            let mut context = self.network.context(self.hosts[host]);
            with(|ledger| dials::connect(ledger, &mut context, host));
        } else if self.hosts.len() > 1 && with(|ledger| ledger.random.hits(500)) {
            let program = with(|ledger| {
                let connection = ledger.connect(1, Side::Client, None);
                Program::new(ledger, connection, 0)
            });
            self.network.connect(self.hosts[1], at, program);
        } else {
            let peer = self.network.peer(at);
            self.clients.push(with(|ledger| Client::new(ledger, peer)));
        }
    }

    /// Makes one move: mostly, turns a loop or lets time pass up to the next packet.
    fn move_on(&mut self) {
        match with(|ledger| {
            ledger.step += 1;
            ledger.random.below(100)
        }) {
            0..=2 if self.clients.len() < 12 => self.connect(),
            3..=32 if !self.clients.is_empty() => {
                let pick = with(|ledger| ledger.random.below(self.clients.len() as u64) as usize);
                with(|ledger| self.clients[pick].act(ledger));
            }
            33..=37 => self.act_outside(),
            _ => self.step(),
        }
        self.check();
    }

    fn step(&mut self) {
        if !self.network.is_at_rest() {
            self.network.step();
            return;
        }
        self.check_rest();
        let time = with(|ledger| {
            ledger.coverage.hit("time passes");
            delay(ledger).min(Duration::from_secs(10))
        });
        self.network.run_for(time);
    }

    fn act_outside(&mut self) {
        let host = with(|ledger| ledger.random.below(self.hosts.len() as u64) as usize);
        let mut context = self.network.context(self.hosts[host]);
        with(|ledger| match ledger.random.hits(300) {
            true => commands::post(ledger, &mut context, host),
            false => actions::act_around(ledger, &mut context, host),
        });
    }

    fn check(&mut self) {
        for (host, &id) in self.hosts.iter().enumerate() {
            let event_loop = self.network.event_loop(id);
            with(|ledger| checks::between_turns(ledger, host, event_loop));
        }
        with(|ledger| checks::abandoned(ledger, &mut self.network));
    }

    fn check_rest(&mut self) {
        with(|ledger| {
            checks::at_rest(ledger, &mut self.network, &self.hosts);
            for client in &self.clients {
                client.check_rest(ledger);
            }
        });
    }

    // The end.

    /// Every peer reads what there is; after that nothing is queued.
    fn drain(&mut self) {
        with(|ledger| ledger.actions = 0);
        for client in &mut self.clients {
            with(|ledger| client.stall(ledger, false));
        }
        for (host, &id) in self.hosts.iter().enumerate() {
            let mut context = self.network.context(id);
            with(|ledger| {
                for index in 0..ledger.connections.len() {
                    let connection = &ledger.connections[index];
                    let stands = connection.host == host && connection.phase.is_live();
                    let id = connection.id.filter(|_| stands);
                    if let Some(mut transport) = id.and_then(|id| context.connection(id)) {
                        actions::resume(ledger, &mut transport, index);
                    }
                }
                for listener in ledger.listeners.iter_mut().filter(|listener| listener.host == host) {
                    listener.paused = false;
                    context.listener(listener.id).into_iter().for_each(|mut listener| listener.resume());
                }
            });
        }
        self.settle();
        if !self.has_failed() {
            self.check_rest();
            self.check_drained();
        }
    }

    /// Runs, with peers that read everything, until nothing more arrives.
    fn settle(&mut self) {
        let (mut quiet, mut received) = (0, 0);
        for _ in 0..MOVES_MAX {
            with(|ledger| ledger.step += 1);
            for client in &mut self.clients {
                with(|ledger| client.read(ledger, usize::MAX));
            }
            let rests = self.network.is_at_rest();
            if !rests {
                self.network.step();
                continue;
            }
            self.check();
            let before = std::mem::replace(&mut received, with(|ledger| ledger.received()));
            quiet = if received > before { 0 } else { quiet + 1 };
            if quiet > 3 || self.has_failed() {
                return;
            }
            // For sends and accepts that wait for time to pass.
            self.network.run_for(Duration::from_millis(1100));
        }
        with(|ledger| ledger.violated("it does not come to rest"));
    }

    /// Two loops may block each other forever if both read only once their output has gone down; peers do read.
    fn check_drained(&mut self) {
        for (host, &id) in self.hosts.iter().enumerate() {
            let core = &self.network.event_loop(id).core;
            with(|ledger| core.parts.each_connection(|id, connection| checks::drained(ledger, host, id, connection)));
        }
    }

    /// Ends everything, in one way or another, and checks that nothing is left.
    fn end(&mut self) {
        let way = with(|ledger| ledger.random.below(5));
        let dropped = way == 3;
        match way {
            0 => self.end_by_peers(),
            1 => self.end_by_shutdown(),
            2 => self.end_by_abort(),
            4 => self.end_by_drain(),
            _ => self.end_by_drop(),
        }
        if !dropped {
            self.settle();
        }
        for _ in 0..3 {
            self.network.run_for(Duration::from_secs(4));
            for client in &mut self.clients {
                with(|ledger| client.read(ledger, usize::MAX));
            }
        }
        if self.patient && way == 0 {
            for client in &self.clients {
                with(|ledger| client.check_answer(ledger, self.at_once));
            }
        }
        self.clients.clear();
        // For the programs' own timers, for senders that give up, and for memory that is returned after a while.
        self.network.run_for(Duration::from_secs(10_000));
        with(|ledger| {
            checks::abandoned(ledger, &mut self.network);
            checks::at_the_end(ledger, &mut self.network, &self.hosts, dropped);
        });
    }

    fn end_by_peers(&mut self) {
        with(|ledger| ledger.coverage.hit("ends by its peers"));
        self.each_transport(actions::close);
        self.end_datagrams(false);
        self.settle();
        for client in &mut self.clients {
            with(|ledger| client.end(ledger));
        }
    }

    fn end_by_shutdown(&mut self) {
        let grace = with(|ledger| {
            ledger.coverage.hit("ends by shutdown");
            shuts_down(ledger);
            ledger.actions = 20;
            delay(ledger)
        });
        for &host in &self.hosts {
            self.network.context(host).shutdown(grace);
            self.network.context(host).handle().shutdown(grace / 2);
            with(|ledger| ledger.coverage.hit("handle shutdown"));
        }
    }

    /// Drains the loops: each connection is told, and closes.
    fn end_by_drain(&mut self) {
        with(|ledger| {
            ledger.coverage.hit("ends by drain");
            ledger.ending = [true; 2];
            ledger.actions = 0;
            ledger.drain_begins();
        });
        for &host in &self.hosts {
            self.network.context(host).drain(Duration::from_secs(200_000));
            self.network.context(host).handle().drain(Duration::from_secs(100_000));
            with(|ledger| ledger.coverage.hit("handle drain"));
        }
        self.settle();
        with(Ledger::drain_is_told);
        self.each_transport(actions::close);
        self.end_datagrams(false);
        self.settle();
        for client in &mut self.clients {
            with(|ledger| client.end(ledger));
        }
    }

    fn end_by_abort(&mut self) {
        with(|ledger| ledger.coverage.hit("ends by abort"));
        self.each_transport(actions::abort);
        self.end_datagrams(true);
        for client in &mut self.clients {
            with(|ledger| client.leave(ledger, false));
        }
    }

    fn end_by_drop(&mut self) {
        with(|ledger| {
            ledger.coverage.hit("ends by drop");
            shuts_down(ledger);
            ledger.drop_timers();
        });
        for &host in &self.hosts {
            self.network.drop_loop(host);
        }
    }

    fn end_datagrams(&mut self, aborts: bool) {
        for (host, &id) in self.hosts.iter().enumerate() {
            let mut context = self.network.context(id);
            with(|ledger| datagrams::end_all(ledger, &mut context, host, aborts));
        }
    }

    fn each_transport(&mut self, act: fn(&mut Ledger, &mut crate::Transport<'_>, usize)) {
        for (host, &id) in self.hosts.iter().enumerate() {
            let mut context = self.network.context(id);
            with(|ledger| {
                for index in 0..ledger.connections.len() {
                    let id = ledger.connections[index].id.filter(|_| ledger.connections[index].host == host);
                    if let Some(mut transport) = id.and_then(|id| context.connection(id)) {
                        act(ledger, &mut transport, index);
                    }
                }
            });
        }
    }

    // Failing.

    fn has_failed(&self) -> bool {
        with(|ledger| !ledger.violations.is_empty())
    }

    fn failure(&self) -> String {
        let violations = with(|ledger| ledger.violations.join("\n"));
        match self.traced {
            true => format!("{}\n{violations}", self.network.trace()),
            false => violations,
        }
    }
}

/// A run with more moves has met something that never ends.
const MOVES_MAX: u64 = 50_000;

fn shuts_down(ledger: &mut Ledger) {
    ledger.ending = [true; 2];
    for index in 0..ledger.connections.len() {
        ledger.closes(index);
    }
    ledger.close_bound();
}

/// The limits and faults that a seed chooses.
struct Setup {
    limits: LoopLimits,
    faults: Faults,
    fatal: bool,
    patient: bool,
    write_bound: usize,
}

impl Setup {
    fn pick(random: &mut Random) -> Setup {
        let fatal = random.hits(200);
        let mut faults = match random.below(4) {
            _ if fatal => Faults::fatal(),
            0 => Faults::none(),
            1 => some_faults(random),
            _ => Faults::all(),
        };
        let patient = !fatal && random.hits(300);
        if patient {
            faults = faults.with_accept_errors_permille(0);
        }
        // Kernel buffers: tiny, small, ample.
        let (least, most, write_bound) = match random.below(4) {
            0 => (1, 24, 200),
            1 | 2 => (24, 2048, 8000),
            _ => (2048, 128 * 1024, 40_000),
        };
        let faults = faults.with_buffer_bytes_min(least).with_buffer_bytes_max(most);
        let faults = faults.with_bytes_per_second_min(pick(random, &[0, 8192]));
        let faults = faults.with_failing_receives_permille(pick(random, &[0, 0, 50, 500]));
        let limits = pick_limits(random, patient);
        // A run that takes many turns for a few bytes has no large writes either.
        let write_bound = if limits.each.read_bytes_per_turn_max < 100 { write_bound.min(1000) } else { write_bound };
        Setup { limits, faults, fatal, patient, write_bound }
    }
}

fn some_faults(random: &mut Random) -> Faults {
    let mut faults = Faults::all();
    for permille in [
        &mut faults.tiny_segments_permille,
        &mut faults.early_packets_permille,
        &mut faults.partial_writes_permille,
        &mut faults.portable_sockets_permille,
        &mut faults.urgent_would_blocks_permille,
        &mut faults.interrupted_permille,
        &mut faults.out_of_buffers_permille,
        &mut faults.spurious_events_permille,
        &mut faults.late_hints_permille,
        &mut faults.shuffled_events_permille,
        &mut faults.lagging_loops_permille,
        &mut faults.accept_errors_permille,
        &mut faults.stalls_permille,
        &mut faults.lost_datagrams_permille,
        &mut faults.doubled_datagrams_permille,
    ] {
        *permille *= if random.hits(500) { 0 } else { 3 };
    }
    faults
}

fn pick<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len() as u64) as usize]
}

fn pick_limits(random: &mut Random, patient: bool) -> LoopLimits {
    let high = pick(random, &[0, 100, 3000, 64 * 1024]);
    let seconds = Duration::from_secs;
    let each = Limits::default()
        .with_accepts_per_turn_max(pick(random, &[1, 1, 2, 64]))
        .with_read_bytes_per_turn_max(pick(random, &[1, 7, 100, 256 * 1024, 256 * 1024]))
        .with_input_bytes_max(pick(random, &[50, 1000, 64 * 1024, 64 * 1024]))
        .with_queue_bytes_high(high)
        .with_queue_bytes_low(pick(random, &[0, high / 4, high]))
        .with_queue_bytes_max(pick(random, &[2000, 50_000, 1 << 24, 1 << 24]));
    let mut limits = LoopLimits::from(each).with_loop_queue_bytes_max(pick(random, &[6000, 1 << 28, 1 << 28, 1 << 28]));
    limits.each.pause_reading_over_high = random.hits(600);
    limits.commands_max = pick(random, &[1, 1, 5, 65_536]);
    limits.commands_per_turn_max = pick(random, &[1, 1024]);
    limits.each.datagrams_per_turn_max = pick(random, &[1, 64]);
    limits.lookups_max = pick(random, &[1, 4]);
    let each = &mut limits.each;
    each.close_timeout = pick(random, &[seconds(5), Duration::from_millis(30)]);
    if patient {
        (each.linger_timeout, each.close_timeout) = (seconds(3000), seconds(3000));
    } else {
        each.connections_max = pick(random, &[1, 2, 65_536, 65_536]);
        each.when_full = pick(random, &[WhenFull::Wait, WhenFull::Wait, WhenFull::Refuse]);
        each.linger_bytes_max = pick(random, &[10, 1024 * 1024]);
        each.idle_timeout = pick(random, &[None, None, None, Some(Duration::from_millis(700))]);
        each.read_idle_timeout = pick(random, &[None, None, None, Some(Duration::from_millis(900))]);
        each.total_timeout = pick(random, &[None, None, None, Some(seconds(4))]);
        each.handshake_timeout = pick(random, &[None, None, None, None, Some(seconds(3))]);
    }
    limits
}
