//! Random programs whose hosts crash, restart, pause, are slow, have wrong clocks and run out of resources. Whatever
//! happens, bytes arrive in order; each protocol is told of one end, unless its host has crashed, and of nothing
//! afterwards; and once all faults are mended, every host gets an answer.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::coverage::Coverage;
use crate::sys::errno;
use crate::testing::{Call, Crash, Faults, HostId, Network, Random};
use crate::{CloseReason, Connect, ConnectError, Limits, LoopLimits, Protocol, Timeout, Transport};

/// What happens in enough seeds.
pub(super) const EXPECTED: &[&str] = &[
    "dial",
    "dial a name",
    "refused at once",
    "made",
    "connect failed",
    "whole",
    "lost in order",
    "lost by reset",
    "lost by a timeout",
    "lost otherwise",
    "crash: killed",
    "crash: reset",
    "crash: silent",
    "dropped by a crash",
    "restart",
    "pause",
    "slow",
    "clock",
    "jump",
    "call fails",
    "descriptors",
    "cut",
    "name moves",
    "name fails",
    "tried again",
];

const HOSTS: usize = 3;
const PORT: u16 = 7;
const SECOND: Duration = Duration::from_secs(1);

/// What has happened to a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Begun,
    Made,
    /// Its protocol was told of its end, or never had a connection.
    Over,
    /// Everything that it sent has come back.
    Whole,
}

#[derive(Default)]
struct Ledger {
    /// How often each host has crashed.
    crashes: [u32; HOSTS],
    dials: Vec<Fate>,
    /// How many protocols exist.
    alive: usize,
    wrong: Option<String>,
    coverage: Coverage,
}

type Shared = Rc<RefCell<Ledger>>;

/// Where a protocol lives, and after how many crashes it was made: after the next one it must be told of nothing.
struct Home {
    ledger: Shared,
    host: usize,
    crashes: u32,
    /// The dial that it belongs to, if it has dialled.
    dial: Option<usize>,
    is_told: bool,
}

impl Home {
    fn new(ledger: &Shared, host: usize, dial: Option<usize>) -> Home {
        let mut of = ledger.borrow_mut();
        of.alive += 1;
        Home { ledger: ledger.clone(), host, crashes: of.crashes[host], dial, is_told: false }
    }

    fn is_gone(&self) -> bool {
        self.ledger.borrow().crashes[self.host] != self.crashes
    }

    /// Whether its connect has failed at once, which is reported to the caller.
    fn is_refused(&self) -> bool {
        self.dial.is_some_and(|dial| self.ledger.borrow().dials[dial] == Fate::Over)
    }

    fn wrong(&self, what: String) {
        self.ledger.borrow_mut().wrong.get_or_insert(what);
    }

    fn hear(&mut self, what: &str, ends: bool) {
        if self.is_gone() || self.is_told {
            self.wrong(format!("{what} comes to a protocol whose host has crashed, or that was told of its end"));
        }
        self.is_told |= ends;
    }

    fn lost(&mut self, reason: &CloseReason) {
        self.hear("an end", true);
        self.ledger.borrow_mut().coverage.hit(match reason {
            CloseReason::PeerClosed | CloseReason::Closed => "lost in order",
            CloseReason::Reset => "lost by reset",
            CloseReason::Timeout(_) => "lost by a timeout",
            _ => "lost otherwise",
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.is_told && !self.is_gone() && !self.is_refused() {
            self.wrong("a protocol is dropped that was told of no end, though its host runs".to_owned());
        }
        let mut of = self.ledger.borrow_mut();
        of.alive -= 1;
        if !self.is_told && of.crashes[self.host] != self.crashes {
            of.coverage.hit("dropped by a crash");
        }
    }
}

/// A byte of what the dial of this number sends, which begins with the number.
fn byte(number: usize, index: usize) -> u8 {
    match index {
        0..4 => number.to_le_bytes()[index],
        _ => (number * 31 + index * 7 + index / 256) as u8,
    }
}

/// Sends `length` bytes, and closes when all are back.
struct Dialer {
    home: Home,
    number: usize,
    length: usize,
    got: usize,
}

impl Dialer {
    fn become_(&self, fate: Fate) {
        self.home.ledger.borrow_mut().dials[self.number] = fate;
    }
}

impl Protocol for Dialer {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.home.hear("connection_made", false);
        self.become_(Fate::Made);
        self.home.ledger.borrow_mut().coverage.hit("made");
        transport.set_timeout(Timeout::Idle, Some(60 * SECOND));
        let bytes: Vec<u8> = (0..self.length).map(|index| byte(self.number, index)).collect();
        transport.write_owned(bytes);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.home.hear("data", false);
        for &of in data {
            if of != byte(self.number, self.got) || self.got == self.length {
                self.home.wrong(format!("byte {} of dial {} comes back wrong", self.got, self.number));
            }
            self.got += 1;
        }
        if self.got == self.length {
            self.become_(Fate::Whole);
            self.home.ledger.borrow_mut().coverage.hit("whole");
            transport.close();
        }
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, _: ConnectError) {
        self.home.hear("connect_failed", true);
        self.become_(Fate::Over);
        self.home.ledger.borrow_mut().coverage.hit("connect failed");
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.home.lost(&reason);
        if self.got < self.length {
            self.become_(Fate::Over);
        }
    }
}

/// Echoes, and checks that what arrives is what a dialer sends.
struct Echo {
    home: Home,
    head: Vec<u8>,
    got: usize,
}

impl Protocol for Echo {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        self.home.hear("connection_made", false);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.home.hear("data", false);
        for &of in data {
            if self.got < 4 {
                self.head.push(of);
            } else {
                let number = u32::from_le_bytes([self.head[0], self.head[1], self.head[2], self.head[3]]);
                if of != byte(number as usize, self.got) {
                    self.home.wrong(format!("byte {} of dial {number} arrives wrong", self.got));
                }
            }
            self.got += 1;
        }
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.home.lost(&reason);
    }
}

struct Run {
    network: Network,
    hosts: Vec<HostId>,
    /// Whether each host has a loop.
    up: [bool; HOSTS],
    random: Random,
    ledger: Shared,
}

pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut run = Run::new(seed, traced);
    let outcome = run.run();
    let trace = if traced { run.network.trace() } else { String::new() };
    // Protocols that are dropped with the network count as gone, as after a crash.
    for crashes in &mut run.ledger.borrow_mut().crashes {
        *crashes += 1;
    }
    let ledger = run.ledger.clone();
    drop(run);
    outcome.map_err(|what| format!("{trace}\n{what}"))?;
    let coverage = ledger.borrow().coverage.clone();
    Ok(coverage)
}

impl Run {
    fn new(seed: u64, traced: bool) -> Run {
        let mut random = Random::new(seed.wrapping_mul(0xA24B_AED4_963E_E407));
        let faults = [Faults::none(), Faults::all(), Faults::fatal()][random.below(3) as usize].clone();
        let mut network = Network::new(random.number(), faults);
        network.set_tracing(traced);
        network.name_latency(Duration::ZERO, SECOND);
        let each = Limits::default().with_idle_timeout(Some(60 * SECOND));
        let hosts: Vec<_> = (0..HOSTS).map(|_| network.host_with_limits(LoopLimits::from(each.clone()))).collect();
        let mut run = Run { network, hosts, up: [true; HOSTS], random, ledger: Shared::default() };
        for host in 0..HOSTS {
            run.listen(host);
        }
        run
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..80 {
            self.act();
            let step = Duration::from_millis(self.random.between(0, 3000));
            self.network.run_for(step);
            self.check()?;
        }
        self.mend();
        for host in 0..HOSTS {
            self.gets_an_answer(host)?;
        }
        // Longer than any timeout, and than any retransmission goes on.
        self.network.run_for(1200 * SECOND);
        self.check()?;
        for &host in &self.hosts {
            let context = self.network.context(host);
            if context.connection_count() > 0 {
                return Err(format!("{host:?} has connections left, of {}", self.ledger.borrow().alive));
            }
        }
        match self.ledger.borrow().alive {
            0 => Ok(()),
            alive => Err(format!("{alive} protocols are left")),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let idle = self.network.turns_without_progress_most();
        match self.ledger.borrow().wrong.clone() {
            Some(wrong) => Err(wrong),
            None if idle >= 10 => Err(format!("{idle} turns in a row have brought nothing about")),
            None => Ok(()),
        }
    }

    fn hit(&self, what: &'static str) {
        self.ledger.borrow_mut().coverage.hit(what);
    }

    fn listen(&mut self, host: usize) {
        let ledger = self.ledger.clone();
        for address in [self.network.address(self.hosts[host], PORT), self.network.address_v6(self.hosts[host], PORT)] {
            let ledger = ledger.clone();
            let factory = move |_: &mut crate::Context<'_>, _: &crate::Address| {
                Some(Echo { home: Home::new(&ledger, host, None), head: Vec::new(), got: 0 })
            };
            // It fails if descriptors have run out, or if it was made to fail; then nobody listens there.
            let _ = self.network.context(self.hosts[host]).listen(address, factory);
        }
    }

    /// Returns the number of the dial.
    fn dial(&mut self, host: usize, to: impl Into<Connect>) -> usize {
        let number = self.ledger.borrow().dials.len();
        self.ledger.borrow_mut().dials.push(Fate::Begun);
        let bits = self.random.below(15);
        let length = 4 + self.random.below(1 << bits) as usize;
        let home = Home::new(&self.ledger, host, Some(number));
        let dialer = Dialer { home, number, length, got: 0 };
        let refused = self.network.context(self.hosts[host]).connect(to, dialer).is_err();
        if refused {
            self.hit("refused at once");
            self.ledger.borrow_mut().dials[number] = Fate::Over;
        }
        number
    }

    fn act(&mut self) {
        let host = self.random.below(HOSTS as u64) as usize;
        let other = (host + 1 + self.random.below(HOSTS as u64 - 1) as usize) % HOSTS;
        let (id, other_id) = (self.hosts[host], self.hosts[other]);
        match self.random.below(20) {
            0..=6 if self.up[host] => {
                self.hit("dial");
                let v6 = self.random.hits(500);
                let ip = if v6 { self.network.ip_v6(other_id) } else { self.network.ip(other_id) };
                self.dial(host, (ip.to_string(), PORT));
            }
            7 | 8 if self.up[host] => {
                self.hit("dial a name");
                self.dial(host, ("moves.example", PORT));
            }
            9 | 10 if self.up[host] => self.crash(host),
            0..=10 if !self.up[host] => self.restart(host),
            11 => {
                self.hit("pause");
                self.network.pause(id);
            }
            12 => self.network.resume(id),
            13 => {
                self.hit("slow");
                let most = Duration::from_millis([0, 1, 50][self.random.below(3) as usize]);
                self.network.slow_host(id, Duration::ZERO, most);
            }
            14 => {
                self.hit("clock");
                self.network.set_clock_rate(id, [0.5, 0.9999, 1.0, 1.0001, 3.0][self.random.below(5) as usize]);
            }
            15 => {
                self.hit("jump");
                let by = Duration::from_millis(self.random.between(1, 30_000));
                self.network.jump_clock(id, by);
            }
            16 => self.fail_a_call(id),
            17 => {
                self.hit("descriptors");
                let most = self.random.between(0, 8) as usize;
                self.network.set_descriptors_max(id, (most > 3).then_some(most));
            }
            18 if self.random.hits(500) => {
                self.hit("cut");
                self.network.cut(id, other_id);
            }
            18 => self.network.heal(id, other_id),
            _ if self.random.hits(300) => {
                self.hit("name fails");
                self.network.fail_name("moves.example", io::ErrorKind::TimedOut, self.random.below(3) as u32);
            }
            _ => {
                self.hit("name moves");
                let addresses = [self.network.ip_v6(id), self.network.ip(id), self.network.ip(other_id)];
                self.network.set_name("moves.example", addresses);
            }
        }
    }

    fn fail_a_call(&mut self, id: HostId) {
        self.hit("call fails");
        let (call, error) = match self.random.below(5) {
            0 => (Call::Accept, errno::EMFILE),
            1 => (Call::Connect, errno::ENOBUFS),
            2 => (Call::Read, errno::ENOMEM),
            3 => (Call::Read, errno::ETIMEDOUT),
            _ => (Call::Write, errno::ENOBUFS),
        };
        let kth = self.random.between(1, 10);
        self.network.fail_call(id, call, kth, io::Error::from_raw_os_error(error));
    }

    fn crash(&mut self, host: usize) {
        let (how, name) =
            [(Crash::Killed, "crash: killed"), (Crash::Reset, "crash: reset"), (Crash::Silent, "crash: silent")]
                [self.random.below(3) as usize];
        self.hit(name);
        self.ledger.borrow_mut().crashes[host] += 1;
        self.network.crash(self.hosts[host], how);
        self.up[host] = false;
    }

    fn restart(&mut self, host: usize) {
        self.hit("restart");
        self.network.restart(self.hosts[host]);
        self.up[host] = true;
        self.listen(host);
    }

    /// Mends everything from here on, except calls that are still to fail.
    fn mend(&mut self) {
        self.network.set_faults(Faults::none());
        for host in 0..HOSTS {
            let id = self.hosts[host];
            self.network.set_descriptors_max(id, None);
            self.network.slow_host(id, Duration::ZERO, Duration::ZERO);
            self.network.set_clock_rate(id, 1.0);
            for other in &self.hosts[..host] {
                self.network.heal(id, *other);
            }
            // Starts the host anew, since it may listen nowhere.
            if self.up[host] {
                self.ledger.borrow_mut().crashes[host] += 1;
                self.network.crash(id, Crash::Killed);
            }
            self.restart(host);
            self.network.resume(id);
        }
    }

    /// A host that dials again after a failed dial gets through in the end.
    fn gets_an_answer(&mut self, host: usize) -> Result<(), String> {
        let to = self.network.address(self.hosts[(host + 1) % HOSTS], PORT);
        for _ in 0..30 {
            let number = self.dial(host, to);
            self.network.run_for(100 * SECOND);
            self.check()?;
            if self.ledger.borrow().dials[number] == Fate::Whole {
                return Ok(());
            }
            self.hit("tried again");
        }
        Err(format!("host {host} gets no answer, though all is well"))
    }
}
