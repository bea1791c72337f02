//! Rules of a test for packets: it sees each that goes out, and says what becomes of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::links::Sending;
use super::packet::Packet as Inner;
use super::world::{Kind, SocketId, World};

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketKind {
    /// A client asks for a connection (SYN).
    Connect,
    /// A listener agrees (SYN, ACK).
    Accept,
    /// The client has seen that.
    Connected,
    /// Bytes of a stream.
    Data,
    /// So many bytes have arrived, or there is room again.
    Ack,
    /// The end of a stream (FIN).
    End,
    /// That this end has arrived.
    EndAck,
    /// A reset (RST); also what a port answers where nobody listens.
    Reset,
    /// A datagram.
    Datagram,
    /// Nobody is bound there, says a host of a datagram (ICMP).
    Unreachable,
}

/// A packet that goes out, as a [rule](crate::testing::Network::add_rule) sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet<'a> {
    /// The address of the socket that it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it is.
    pub kind: PacketKind,
    /// What it carries: bytes of a stream, or those of a datagram.
    pub bytes: &'a [u8],
    /// When it goes out, since the network was made.
    pub at: Duration,
    /// How often it was lost before, and is sent once more.
    pub attempt: u32,
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packet { from, to, kind, bytes, attempt, .. } = self;
        write!(f, "{kind:?} of {} bytes from {from} to {to}", bytes.len())?;
        if *attempt > 0 {
            write!(f, ", sent again ({attempt})")?;
        }
        Ok(())
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It goes its way.
    Pass,
    /// It is lost. What belongs to a connection is sent again, after 200 ms, then 400 ms and so on, and what was sent behind
    /// it waits for it; after 924 seconds its sender gives up. A reset or a datagram is not sent again.
    Drop,
    /// It takes so much longer. What belongs to a connection keeps its order, so what is behind it waits; datagrams and
    /// acknowledgements are overtaken.
    Delay(Duration),
    /// It arrives twice. Of a connection no byte does, since its kernel sees to that.
    Duplicate,
    /// Bytes of a stream arrive in pieces of at most so many; anything else as it is.
    Split(usize),
    /// Something on the way ends the connection by a reset, for both ends. A datagram is lost.
    Reset,
}

/// What a test has said of packets, by a name. `None` leaves it to the next rule.
pub(crate) type Judge = Box<dyn FnMut(&Packet<'_>) -> Option<Fate> + Send>;

struct Rule {
    number: u64,
    name: String,
    judge: Judge,
    hits: u64,
}

/// The rules that there are, the first to be asked first.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    last: u64,
}

thread_local! {
    /// A rule is being asked on this thread.
    static JUDGES: AtomicBool = const { AtomicBool::new(false) };
}

/// # Panics
///
/// When a rule calls into the network whose packet it is asked about: that is in the middle of something.
pub(super) fn refuse_in_a_rule() {
    assert!(!JUDGES.with(|judges| judges.load(Ordering::Relaxed)), "a rule for packets has called into its network");
}

/// Says on this thread that a rule is being asked, until it is dropped.
struct Judging;

impl Judging {
    fn begin() -> Judging {
        JUDGES.with(|judges| judges.store(true, Ordering::Relaxed));
        Judging
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        JUDGES.with(|judges| judges.store(false, Ordering::Relaxed));
    }
}

impl World {
    pub(super) fn add_rule(&mut self, name: &str, judge: Judge) -> u64 {
        self.note(format_args!("from here on there is the rule {name:?}"));
        self.rules.last += 1;
        let number = self.rules.last;
        self.rules.rules.push(Rule { number, name: name.to_owned(), judge, hits: 0 });
        number
    }

    /// Returns the rule, for its destructor to run elsewhere.
    pub(super) fn remove_rule(&mut self, number: u64) -> Option<Judge> {
        let index = self.rules.rules.iter().position(|rule| rule.number == number)?;
        let Rule { name, judge, .. } = self.rules.rules.remove(index);
        self.note(format_args!("the rule {name:?} is gone"));
        Some(judge)
    }

    pub(super) fn rule_hits(&self, number: u64) -> u64 {
        self.rules.rules.iter().find(|rule| rule.number == number).map_or(0, |rule| rule.hits)
    }

    /// What becomes of a packet: what the first rule says that says something.
    pub(super) fn judge(&mut self, sending: &Sending) -> Fate {
        // Where a test fails, what it drops still sends its packets: a rule that panicked would do so again.
        if self.rules.rules.is_empty() || std::thread::panicking() {
            return Fate::Pass;
        }
        let Some((from, to)) = self.ends(sending) else { return Fate::Pass };
        let (kind, attempt, at) = (sending.packet.kind(), sending.attempt, self.now);
        let packet = Packet { from, to, kind, bytes: sending.packet.payload(), at, attempt };
        let judging = Judging::begin();
        let mut judged = None;
        for rule in &mut self.rules.rules {
            if let Some(fate) = (rule.judge)(&packet) {
                rule.hits += 1;
                judged = Some((fate, rule.name.clone()));
                break;
            }
        }
        drop(judging);
        let Some((fate, name)) = judged else { return Fate::Pass };
        self.note(format_args!("by the rule {name:?}: {fate:?} for {packet:?}"));
        fate
    }

    /// From which address to which a packet goes. None where both its sockets are gone.
    pub(super) fn ends(&self, sending: &Sending) -> Option<(SocketAddr, SocketAddr)> {
        let tcp_ends = |id: SocketId| match &self.sockets.get(&id)?.kind {
            Kind::Tcp(tcp) => Some((tcp.local, tcp.remote)),
            _ => None,
        };
        match &sending.packet {
            Inner::Datagram { from, to, .. } => Some((*from, *to)),
            Inner::Unreachable { to } => match &self.sockets.get(to)?.kind {
                Kind::Datagram(datagram) => Some((datagram.remote?, datagram.local)),
                _ => None,
            },
            packet => {
                let backwards = || packet.target().and_then(tcp_ends).map(|(local, remote)| (remote, local));
                tcp_ends(sending.sender).or_else(backwards)
            }
        }
    }
}
