//! Rules J1 to J3 over random pairs: what peers send to each other through a relay arrives whole, with its end, however
//! the two are joined: by hand, as soon as both are there, or late, when much has already arrived.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::coverage::Coverage;
use crate::testing::{Faults, HostId, Network, Peer, PeerListener, Random};
use crate::{
    Address, CloseReason, ConnectError, ConnectionId, Context, Limits, LoopLimits, Protocol, Relay, Transport,
};

/// What happens in enough seeds.
pub(super) const EXPECTED: &[&str] =
    &["by hand", "joined at once", "joined late", "joined behind an end", "held up", "whole", "reset", "reset is seen"];

/// How two connections become a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ByHand,
    AtOnce,
    Late,
}

/// Connections that wait to be joined: each with its partner.
type Waiting = Rc<RefCell<Vec<(ConnectionId, ConnectionId)>>>;

/// One side of a pair that uses only the public interface, as the example did before `join` existed.
struct Side {
    other: ConnectionId,
}

impl Side {
    fn with_other(&self, transport: &mut Transport<'_>, act: impl FnOnce(&mut Transport<'_>)) {
        if let Some(mut other) = transport.context().connection(self.other) {
            act(&mut other);
        }
    }
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.with_other(transport, |other| other.resume_reading());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.with_other(transport, |other| other.write(data));
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.with_other(transport, |other| other.shutdown_write());
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        self.with_other(transport, |other| other.pause_reading());
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.with_other(transport, |other| other.resume_reading());
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, _: ConnectError) {
        self.with_other(transport, |other| other.abort());
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.with_other(transport, |other| match reason {
            CloseReason::PeerClosed | CloseReason::Closed => other.close(),
            _ => other.abort(),
        });
    }
}

/// Connects to the server for each accepted connection.
struct Onward {
    to: std::net::SocketAddr,
    way: Way,
    waiting: Waiting,
}

impl Protocol for Onward {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let (id, to) = (transport.id(), self.to);
        if self.way == Way::ByHand {
            transport.pause_reading();
        }
        let mut context = transport.context();
        let other = match self.way {
            Way::ByHand => context.connect(to, Side { other: id }),
            Way::AtOnce => context.connect(to, Relay::new(id)),
            Way::Late => context.connect(to, Leaves),
        };
        let other = other.expect("a simulated connect begins");
        match self.way {
            Way::ByHand => transport.set_protocol(Side { other }),
            Way::AtOnce => context.join(id, other).expect("both can write"),
            Way::Late => {
                self.waiting.borrow_mut().push((id, other));
                transport.set_protocol(Leaves);
            }
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        unreachable!("it is replaced before anything is read")
    }
}

/// Leaves input in the buffer, and what follows it in the kernel.
struct Leaves;

impl Protocol for Leaves {
    fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
        transport.pause_reading();
        0
    }

    fn eof_received(&mut self, _: &mut Transport<'_>, rest: &[u8]) {
        assert!(rest.is_empty(), "it pauses before");
    }
}

/// What one peer sends to the other, and how much of it has arrived.
struct Half {
    peer: Option<Peer>,
    sends: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
    has_ended: bool,
}

impl Half {
    fn new(peer: Peer, sends: Vec<u8>) -> Half {
        Half { peer: Some(peer), sends, sent: 0, got: Vec::new(), has_ended: false }
    }

    fn send(&mut self, most: usize) {
        let Some(peer) = self.peer.as_mut().filter(|peer| !self.has_ended && peer.is_connected()) else { return };
        let end = self.sends.len().min(self.sent.saturating_add(most));
        self.sent += peer.send(&self.sends[self.sent..end]);
        if self.sent == self.sends.len() {
            self.has_ended = true;
            peer.end();
        }
    }

    fn read(&mut self, most: usize) {
        if let Some(peer) = &mut self.peer {
            self.got.extend(peer.read_up_to(most));
        }
    }

    /// Whether its peer has met an error.
    fn is_reset(&mut self) -> bool {
        self.peer.as_mut().is_some_and(|peer| peer.error().is_some())
    }

    fn saw_end(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::saw_end)
    }
}

struct Run {
    network: Network,
    relay: HostId,
    listener: PeerListener,
    random: Random,
    waiting: Waiting,
    limits: Limits,
    /// When each half was last read.
    read_at: Duration,
    /// The client's half and, once it is there, the server's.
    client: Half,
    server: Option<Half>,
    answer: Vec<u8>,
}

pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    for (way, name) in [(Way::ByHand, "by hand"), (Way::AtOnce, "joined at once"), (Way::Late, "joined late")] {
        let mut run = Run::new(seed, way, traced);
        coverage.hit(name);
        run.run(way, &mut coverage).map_err(|what| match traced {
            true => format!("{}\n{name}: {what}", run.network.trace()),
            false => format!("{name}: {what}"),
        })?;
    }
    Ok(coverage)
}

impl Run {
    fn new(seed: u64, way: Way, traced: bool) -> Run {
        let mut random = Random::new(seed.wrapping_mul(0xC2B2_AE3D_27D4_EB4F));
        let high = [0, 100, 3000, 64 * 1024][random.below(4) as usize];
        let mut limits = Limits::default()
            .with_queue_bytes_high(high)
            .with_queue_bytes_low([0, high / 4, high][random.below(3) as usize])
            .with_read_bytes_per_turn_max([100, 5000, 256 * 1024][random.below(3) as usize])
            .with_input_bytes_max(1 << 20);
        // When joined by hand, only the protocols themselves pause reading.
        limits.pause_reading_over_high = way != Way::ByHand && random.hits(500);
        let mut faults = if random.hits(700) { Faults::all().with_accept_errors_permille(0) } else { Faults::none() };
        faults = faults.with_lost_connects_permille(0);
        let buffer = [50, 2000, 64 * 1024][random.below(3) as usize];
        faults = faults.with_buffer_bytes_min(buffer).with_buffer_bytes_max(buffer);
        let mut network = Network::new(random.number(), faults);
        network.set_tracing(traced);
        let relay = network.host_with_limits(LoopLimits::from(limits.clone()));
        let listener = network.peer_listener(80, 10).expect("it is free");
        let (to, at) = (listener.local_addr(), network.address(relay, 7));
        let waiting = Waiting::default();
        let waits = waiting.clone();
        let factory = move |_: &mut Context<'_>, _: &Address| Some(Onward { to, way, waiting: waits.clone() });
        network.context(relay).listen(at, factory).expect("it is free");
        let mut bytes = |most: u64| {
            let count = if random.hits(200) { 0 } else { random.below(most) };
            (0..count).map(|_| random.below(256) as u8).collect::<Vec<_>>()
        };
        let most = if buffer < 100 { 3000 } else { 200_000 };
        let (question, answer) = (bytes(most), bytes(most));
        let client = Half::new(network.peer(at), question);
        let read_at = Duration::ZERO;
        Run { network, relay, listener, random, waiting, limits, read_at, client, server: None, answer }
    }

    fn run(&mut self, way: Way, coverage: &mut Coverage) -> Result<(), String> {
        let joins_after = self.random.below(30);
        let resets_after = if self.random.hits(300) { self.random.below(60) } else { u64::MAX };
        for step in 0..60 {
            self.act();
            if step == joins_after {
                self.join(coverage);
            }
            if step == resets_after {
                return self.reset(coverage);
            }
            self.check(way, coverage)?;
        }
        self.join(coverage);
        self.finish(coverage)
    }

    /// Sends and reads something, and lets some time pass.
    fn act(&mut self) {
        let amount = |random: &mut Random| random.below(20_000) as usize;
        if self.server.is_none() {
            let answer = &mut self.answer;
            self.server = self.listener.accept().map(|peer| Half::new(peer, std::mem::take(answer)));
        }
        // A step may take seconds: a peer that takes nothing for five of them is not waited for.
        let reads = self.network.now() > self.read_at + Duration::from_secs(1);
        if reads {
            self.read_at = self.network.now();
        }
        for half in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
            if self.random.hits(500) {
                half.send(amount(&mut self.random));
            }
            if self.random.hits(300) || reads {
                half.read(amount(&mut self.random));
            }
        }
        match self.random.hits(700) {
            true => _ = self.network.step(),
            false => self.network.run_for(Duration::from_millis(self.random.below(50))),
        }
    }

    /// Joins the connections that wait for it.
    fn join(&mut self, coverage: &mut Coverage) {
        for (a, b) in self.waiting.take() {
            let mut context = self.network.context(self.relay);
            let shown = context.connection(a).map(|transport| format!("{transport:?}")).unwrap_or_default();
            if shown.contains("ReadClosed") {
                coverage.hit("joined behind an end");
            }
            context.join(a, b).expect("nothing has ended them");
        }
    }

    /// Checks that what is queued stays near the mark.
    fn check(&mut self, way: Way, coverage: &mut Coverage) -> Result<(), String> {
        let ids = self.network.context(self.relay).connection_ids();
        let most = self.limits.queue_bytes_high + self.limits.read_bytes_per_turn_max + 64 * 1024;
        // Input left from before the join is passed on at once.
        let most = if way == Way::Late { most + (1 << 20) } else { most };
        for id in ids {
            let queued = self.network.context(self.relay).connection(id).map_or(0, |of| of.queued_bytes());
            if queued > self.limits.queue_bytes_high {
                coverage.hit("held up");
            }
            if queued > most {
                return Err(format!("{queued} bytes are queued, of {most}"));
            }
        }
        Ok(())
    }

    /// One peer resets in the middle: the other one learns of it, and has got no more than was sent.
    fn reset(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        coverage.hit("reset");
        self.join(coverage);
        let (client, server) = (&mut self.client, &mut self.server);
        let Some(server) = server else { return Ok(()) };
        let over = client.saw_end() && server.saw_end();
        let (gone, left) = if self.random.hits(500) { (client, server) } else { (server, client) };
        if let Some(peer) = gone.peer.take() {
            peer.reset();
        }
        for _ in 0..100 {
            self.network.run_for(Duration::from_millis(200));
            left.read(usize::MAX);
            left.send(usize::MAX);
        }
        if !gone.sends.starts_with(&left.got) {
            return Err("other bytes than were sent".into());
        }
        let ended_in_order = left.saw_end() && left.got.len() == gone.sends.len();
        if !left.is_reset() && !over && !ended_in_order {
            return Err("a reset is not passed on".into());
        }
        if left.is_reset() {
            coverage.hit("reset is seen");
        }
        self.is_over()
    }

    /// Checks that everything comes through, and then the ends.
    fn finish(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        for _ in 0..3000 {
            self.network.run_for(Duration::from_millis(20));
            if self.server.is_none() {
                self.act();
            }
            for half in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
                half.send(usize::MAX);
                half.read(usize::MAX);
            }
            if self.server.as_ref().is_some_and(|server| server.saw_end() && self.client.saw_end()) {
                break;
            }
        }
        let Some(server) = &mut self.server else { return Err("nobody is connected on".into()) };
        for (from, to, name) in [(&self.client, &*server, "question"), (&*server, &self.client, "answer")] {
            if to.got != from.sends || !to.saw_end() {
                let (got, all, end) = (to.got.len(), from.sends.len(), to.saw_end());
                return Err(format!("{got} of {all} bytes of the {name} came through, its end: {end}"));
            }
        }
        if self.client.is_reset() || server.is_reset() {
            return Err("a reset, though both have ended in order".into());
        }
        coverage.hit("whole");
        self.is_over()
    }

    /// Checks that nothing is left on the relay.
    fn is_over(&mut self) -> Result<(), String> {
        self.network.run_for(Duration::from_secs(10));
        match self.network.context(self.relay).connection_count() {
            0 => Ok(()),
            count => Err(format!("{count} connections are left")),
        }
    }
}
