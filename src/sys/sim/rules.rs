//! A test's rules for packets: a rule sees each packet that is sent, and decides what becomes of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::links::Sending;
use super::packet::Packet as Inner;
use super::world::{Kind, SocketId, World};

/// The kind of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketKind {
    /// A client asks for a connection (SYN).
    Connect,
    /// A listener accepts (SYN, ACK).
    Accept,
    /// The client acknowledges that.
    Connected,
    /// Bytes of a stream.
    Data,
    /// An acknowledgement of received bytes, news that there is room again, or a question whether there is.
    Ack,
    /// The end of a stream (FIN).
    End,
    /// The acknowledgement of that end.
    EndAck,
    /// A reset (RST); also the reply of a port where nothing listens.
    Reset,
    /// A datagram.
    Datagram,
    /// A host's reply to a datagram for a port where no socket is bound (ICMP).
    Unreachable,
}

/// A packet that is being sent, as a [rule](crate::testing::Network::add_rule) sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet<'a> {
    /// The address of the sending socket.
    pub from: SocketAddr,
    /// The address that it is sent to.
    pub to: SocketAddr,
    /// Its kind.
    pub kind: PacketKind,
    /// Its payload: bytes of a stream, or those of a datagram.
    pub bytes: &'a [u8],
    /// When it is sent, as the time since the network was made.
    pub at: Duration,
    /// How often it was lost before, if this is a retransmission.
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
    /// It is delivered.
    Pass,
    /// It is lost. Packets of a connection are retransmitted, after 200 ms, then 400 ms and so on, and what was sent
    /// after such a packet waits for it; after 924 seconds the sender gives up. A reset or a datagram is not
    /// retransmitted.
    Drop,
    /// It takes this much longer. Packets of a connection keep their order, so those behind it wait; datagrams and
    /// acknowledgements can be overtaken.
    Delay(Duration),
    /// It arrives twice. No byte of a connection does: the kernel discards duplicates.
    Duplicate,
    /// Bytes of a stream arrive in pieces of at most this size; anything else arrives unchanged.
    Split(usize),
    /// Something on the way resets the connection, for both ends. A datagram is lost.
    Reset,
}

/// A test's decision about packets. `None` leaves it to the next rule.
pub(crate) type Judge = Box<dyn FnMut(&Packet<'_>) -> Option<Fate> + Send>;

struct Rule {
    number: u64,
    name: String,
    judge: Judge,
    hits: u64,
}

/// The rules that exist, in the order in which they are asked.
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
/// Panics if a rule calls into the network whose packet it is asked about: the network is in the middle of a call.
pub(super) fn refuse_in_a_rule() {
    assert!(!JUDGES.with(|judges| judges.load(Ordering::Relaxed)), "a packet rule called into its network");
}

/// Marks this thread as asking a rule, until it is dropped.
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
        self.note(format_args!("the rule {name:?} is added"));
        self.rules.last += 1;
        let number = self.rules.last;
        self.rules.rules.push(Rule { number, name: name.to_owned(), judge, hits: 0 });
        number
    }

    /// Returns the rule, for its destructor to run elsewhere.
    pub(super) fn remove_rule(&mut self, number: u64) -> Option<Judge> {
        let index = self.rules.rules.iter().position(|rule| rule.number == number)?;
        let Rule { name, judge, .. } = self.rules.rules.remove(index);
        self.note(format_args!("the rule {name:?} is removed"));
        Some(judge)
    }

    pub(super) fn rule_hits(&self, number: u64) -> u64 {
        self.rules.rules.iter().find(|rule| rule.number == number).map_or(0, |rule| rule.hits)
    }

    /// Returns what becomes of a packet: the decision of the first rule that makes one.
    pub(super) fn judge(&mut self, sending: &Sending) -> Fate {
        // When a test fails, the objects that it drops still send packets: a rule that panicked would do so again.
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
        self.note(format_args!("rule {name:?}: {fate:?} for {packet:?}"));
        fate
    }

    /// Returns the addresses that a packet goes from and to. `None` if both its sockets are gone.
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
