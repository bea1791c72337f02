//! Rule W4 over random crowds: peers that ask for much and read nothing end at the loop's cap; no peer that reads is
//! cut off because of them, and no datagram is dropped.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::coverage::Coverage;
use crate::testing::{Faults, HostId, Network, Peer, Random};
use crate::{
    Address, CloseReason, ConnectionId, Context, DatagramError, DatagramId, DatagramProtocol, DatagramTransport,
    Limits, LoopLimits, Protocol, Transport,
};

const KIB: usize = 1024;

/// What happens in enough seeds.
pub(super) const EXPECTED: &[&str] =
    &["hoarder", "hoarders end", "download", "reader", "broadcast", "datagrams", "datagrams queued"];

/// What the protocols of a run have seen.
#[derive(Default)]
struct Seen {
    members: Vec<ConnectionId>,
    hoarded: u64,
    datagrams_dropped: u64,
}

type Shared = Rc<RefCell<Seen>>;

/// Answers a request, which is a number and a newline, with that many bytes.
struct Server(Shared);

impl Protocol for Server {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.borrow_mut().members.push(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        let mut left: usize = String::from_utf8_lossy(&data[..end]).parse().unwrap_or(0);
        // In pieces of all sizes.
        while left > 0 {
            let count = left.min([700, 20 * KIB, usize::MAX][left % 3]);
            transport.write(&vec![b'x'; count]);
            left -= count;
        }
        end + 1
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        let mut seen = self.0.borrow_mut();
        seen.members.retain(|member| *member != transport.id());
        seen.hoarded += u64::from(matches!(reason, CloseReason::Limit(_)));
    }
}

struct Sender(Shared);

impl DatagramProtocol for Sender {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        if let DatagramError::Dropped(count) = error {
            self.0.borrow_mut().datagrams_dropped += count;
        }
    }
}

/// A peer that reads.
struct Reader {
    peer: Peer,
    asked: usize,
    taken: usize,
    /// The most it reads at a time.
    most: usize,
}

struct Crowd {
    network: Network,
    host: HostId,
    other: HostId,
    sender: DatagramId,
    random: Random,
    seen: Shared,
    cap: usize,
    hoarders: Vec<Peer>,
    readers: Vec<Reader>,
    asked_most: usize,
}

pub(super) fn run(seed: u64, traced: bool) -> Result<Coverage, String> {
    let mut crowd = Crowd::new(seed, traced).map_err(|error| error.to_string())?;
    let mut coverage = Coverage::default();
    for _ in 0..60 {
        crowd.act(&mut coverage);
        let step = Duration::from_millis(crowd.random.between(1, 300));
        crowd.network.run_for(step);
        crowd.read();
        crowd.check().map_err(|what| match traced {
            true => format!("{}\n{what}", crowd.network.trace()),
            false => what,
        })?;
    }
    if crowd.seen.borrow().hoarded > 0 {
        coverage.hit("hoarders end");
    }
    crowd.finish().map(|()| coverage)
}

impl Crowd {
    fn new(seed: u64, traced: bool) -> std::io::Result<Crowd> {
        let mut random = Random::new(seed.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let cap = random.between(100, 1000) as usize * KIB;
        let limits = LoopLimits::from(Limits::default().with_queue_bytes_low(random.between(0, 20_000) as usize))
            .with_loop_queue_bytes_max(cap);
        let buffers = random.between(1, 4) as usize * KIB;
        let faults = Faults::none().with_buffer_bytes_min(buffers).with_buffer_bytes_max(buffers);
        let mut network = Network::new(random.number(), faults);
        network.set_tracing(traced);
        let host = network.host_with_limits(limits);
        let (at, udp) = (network.address(host, 7), network.address(host, 9));
        let seen = Shared::default();
        let shared = seen.clone();
        network.context(host).listen(at, move |_: &mut Context<'_>, _: &Address| Some(Server(shared.clone())))?;
        let sender = network.context(host).bind_datagram(udp, Sender(seen.clone()))?;
        let other = network.host();
        let far = network.address(other, 9);
        network.context(other).bind_datagram(far, Sender(seen.clone()))?;
        network.slow(host, other, Duration::from_millis(50), Duration::from_millis(100));
        Ok(Crowd {
            network,
            host,
            other,
            sender,
            random,
            seen,
            cap,
            hoarders: Vec::new(),
            readers: Vec::new(),
            asked_most: 0,
        })
    }

    fn act(&mut self, coverage: &mut Coverage) {
        let at = self.network.address(self.host, 7);
        match self.random.below(10) {
            0..=3 => {
                coverage.hit("hoarder");
                // Few large ones, or many small ones. Beyond what kernels take, none is smaller than what others may
                // have queued.
                let (count, least) = if self.random.hits(500) { (3, self.cap / 3) } else { (20, self.cap / 12) };
                for _ in 0..count {
                    let mut peer = self.network.peer(at);
                    let asked = least + 40 * KIB + self.random.below(10_000) as usize;
                    self.asked_most = self.asked_most.max(asked);
                    peer.send(format!("{asked}\n").as_bytes());
                    self.hoarders.push(peer);
                }
            }
            4..=7 => {
                let is_download = self.random.hits(300);
                coverage.hit(if is_download { "download" } else { "reader" });
                let asked = if is_download { self.cap / 13 } else { self.random.between(1, 2000) as usize };
                let most = if is_download { self.random.between(500, 3000) as usize } else { usize::MAX };
                let mut peer = self.network.peer(at);
                peer.send(format!("{asked}\n").as_bytes());
                self.readers.push(Reader { peer, asked, taken: 0, most });
            }
            8 => {
                coverage.hit("broadcast");
                let members = self.seen.borrow().members.clone();
                let payload = vec![b'x'; self.random.between(1, 300) as usize];
                self.network.context(self.host).broadcast(members.iter().copied(), &payload);
            }
            _ => {
                // Queues no more than an honest peer may have, for a destination that receives slowly.
                coverage.hit("datagrams");
                let to: Address = self.network.address(self.other, 9).into();
                let (count, most) = (self.random.between(1, 400), self.cap / 14);
                if let Some(mut socket) = self.network.context(self.host).datagram(self.sender) {
                    for _ in 0..count {
                        if socket.queued_bytes() + 1100 < most {
                            socket.send_to(&[0; 1000], &to);
                        }
                    }
                    if socket.queued_bytes() > 0 {
                        coverage.hit("datagrams queued");
                    }
                }
            }
        }
    }

    fn read(&mut self) {
        for reader in &mut self.readers {
            reader.taken += reader.peer.read_up_to(reader.most).len();
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let queued = self.network.event_loop(self.host).core.parts.outbox.queued();
        let most = self.cap + self.asked_most + 64 * KIB;
        if queued > most {
            return Err(format!("{queued} bytes are queued in the loop, of {}", self.cap));
        }
        if self.seen.borrow().datagrams_dropped > 0 {
            return Err("datagrams are dropped for what connections hoard".into());
        }
        match self.readers.iter_mut().find_map(|reader| reader.peer.error().map(ToString::to_string)) {
            Some(error) => Err(format!("one that reads is cut off: {error}")),
            None => Ok(()),
        }
    }

    /// Checks that all readers have got their answers in the end.
    fn finish(mut self) -> Result<(), String> {
        for _ in 0..2000 {
            self.network.run_for(Duration::from_millis(100));
            self.read();
            self.check()?;
            if self.readers.iter().all(|reader| reader.taken >= reader.asked) {
                return Ok(());
            }
        }
        Err("one that reads never gets its answer".into())
    }
}
