//! Rules X1, X4 and T5 over random paces: a peer that takes 64 KiB within each deadline gets its whole answer, however
//! little of that its kernel shows, and one that takes nothing is ended in time.
//!
//! Each peer of one server gets an answer of some megabytes. After it the server closes or leaves the connection to an
//! idle timeout, or it writes the answer in two parts. Each peer reads at its own pace, which this file decides and
//! which the loop sees only as room to send.
//! room to send.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::coverage::Coverage;
use crate::testing::{Faults, Network, Peer, Random};
use crate::{CloseReason, Limits, Protocol, Timeout, Transport};

const KIB: usize = 1024;

/// What happens in enough seeds.
pub(super) const EXPECTED: &[&str] = &["steady", "in steps", "deaf"];

/// What a server has recorded of the ends of its connections, by the peers' addresses: the reason and the time.
type Ends = Rc<RefCell<BTreeMap<SocketAddr, (String, Duration)>>>;

/// How a server sends its answer.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It writes everything and closes.
    Closes,
    /// It writes everything, and an idle timeout ends the connection.
    Leaves,
    /// It writes most of it, then the rest when that is nearly gone, and closes.
    InParts,
}

struct Server {
    way: Way,
    left: usize,
    began: std::time::Instant,
    ends: Ends,
}

impl Server {
    fn write(&mut self, transport: &mut Transport<'_>, count: usize) {
        self.left -= count;
        transport.write_owned(vec![b'x'; count]);
        transport.set_answering(self.left > 0);
        if self.left == 0 && !matches!(self.way, Way::Leaves) {
            transport.close();
        }
    }
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let count = if let Way::InParts = self.way { self.left - 100 * KIB } else { self.left };
        self.write(transport, count);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.write(transport, self.left);
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        let after = transport.context().now() - self.began;
        if let Some(peer) = transport.peer_addr().and_then(crate::Address::as_inet) {
            self.ends.borrow_mut().insert(peer, (reason.to_string(), after));
        }
    }
}

/// How a peer takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// At least 64 KiB within each deadline.
    Steady,
    /// 64 KiB within each deadline, which its kernel reports in large steps, as Linux does over loopback.
    InSteps,
    /// Nothing.
    Never,
}

struct Client {
    peer: Peer,
    pace: Pace,
    next: Duration,
    steps: usize,
    taken: usize,
}

impl Client {
    /// Takes what is due by now, and decides when to take more.
    fn act(&mut self, random: &mut Random, now: Duration, deadline: Duration) {
        while self.pace != Pace::Never && self.next <= now {
            let (bytes, after) = match (self.pace, self.steps) {
                (Pace::InSteps, 0) => (66_660, deadline * 1977 / 1000),
                (Pace::InSteps, 1) => (129_584, deadline * 1453 / 1000),
                (Pace::InSteps, _) => (95_232, deadline * 1453 / 1000),
                _ => {
                    let most = deadline.as_micros() as u64 - 1;
                    let after = Duration::from_micros(random.between(most / 10, most));
                    (64 * KIB + random.below(64 * 1024) as usize, after)
                }
            };
            self.taken += self.peer.read_up_to(bytes).len();
            self.next += after;
            self.steps += 1;
        }
    }
}

pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut random = Random::new(seed.wrapping_mul(0x9FB2_1C65_1E98_DF25));
    let deadline = Duration::from_millis(random.between(50, 5000));
    let limits = Limits::default().with_close_timeout(deadline).with_idle_timeout(Some(deadline));
    let buffers = 256 * KIB;
    let faults = Faults::none().with_buffer_bytes_min(buffers).with_buffer_bytes_max(buffers);
    let mut network = Network::new(random.number(), faults);
    network.set_tracing(traced);
    let host = network.host_with_limits(limits);
    let (at, ends) = (network.address(host, 7), Ends::default());
    let total = random.between(2200, 2700) as usize * KIB;
    let (told, mut ways) = (ends.clone(), Random::new(random.number()));
    let factory = move |context: &mut crate::Context<'_>, _: &crate::Address| {
        let way = [Way::Closes, Way::Leaves, Way::InParts][ways.below(3) as usize];
        let server = Server { way, left: total, began: context.now(), ends: told.clone() };
        Some(server)
    };
    network.context(host).listen(at, factory).map_err(|error| error.to_string())?;
    let mut clients: Vec<_> = (0..random.between(1, 6))
        .map(|_| {
            let pace = [Pace::Steady, Pace::Steady, Pace::InSteps, Pace::Never][random.below(4) as usize];
            Client { peer: network.peer(at), pace, next: deadline * 999 / 1000, steps: 0, taken: 0 }
        })
        .collect();
    // Twice as long as the slowest peer needs.
    let end = deadline * 2 * (total / (64 * KIB) + 10) as u32;
    while network.now() < end {
        let next = clients.iter().filter(|client| client.pace != Pace::Never).map(|client| client.next).min();
        let now = network.now();
        network.run_for(next.unwrap_or(end).min(end).saturating_sub(now).max(Duration::from_micros(1)));
        let now = network.now();
        clients.iter_mut().for_each(|client| client.act(&mut random, now, deadline));
    }
    let mut coverage = Coverage::default();
    for client in &mut clients {
        check(client, &ends, total, deadline, &mut coverage).map_err(|what| match traced {
            true => format!("{}\n{what}", network.trace()),
            false => what,
        })?;
    }
    Ok(coverage)
}

fn check(
    client: &mut Client,
    ends: &Ends,
    total: usize,
    deadline: Duration,
    coverage: &mut Coverage,
) -> Result<(), String> {
    let end = ends.borrow().get(&client.peer.local_addr()).cloned();
    let Some((reason, after)) = end else { return Err(format!("one that takes {:?} never ends", client.pace)) };
    if client.pace == Pace::Never {
        coverage.hit("deaf");
        // The kernel takes what fits at once; the rest is waited for as with a peer that takes data slowly.
        let in_time = after <= deadline * 2 + Duration::from_secs(1);
        let timed_out = [Timeout::Close, Timeout::Idle].map(|timeout| CloseReason::Timeout(timeout).to_string());
        return match in_time && timed_out.contains(&reason) {
            true => Ok(()),
            false => Err(format!("one that takes nothing ends after {after:?} of {deadline:?}: {reason}")),
        };
    }
    coverage.hit(if client.pace == Pace::Steady { "steady" } else { "in steps" });
    let whole = client.taken == total && client.peer.saw_end() && client.peer.error().is_none();
    match whole {
        true => Ok(()),
        false => Err(format!("{:?}: {} of {total} bytes, {deadline:?}: {reason}", client.pace, client.taken)),
    }
}
