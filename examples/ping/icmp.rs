// ICMP echo requests and replies (RFC 792), on a socket that is an event source of the loop.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use switchboard::{Context, EventLoop, SourceAction};

use super::support::{self, Failure, say};

const PERIOD: Duration = Duration::from_secs(1);
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const HEADER_BYTES: usize = 8;
/// How many packets are read before other sources have their turn: a raw socket receives all ICMP packets of its peer.
const PACKETS_PER_CALL_MAX: usize = 64;

/// The socket, shared by the reading and the sending side.
struct Icmp(Rc<Socket>);

impl Source for Icmp {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

#[derive(Default)]
struct Asked {
    /// When each request was sent; `None` once it was answered.
    times: Vec<Option<Instant>>,
    answers: usize,
    /// Identifies the replies to our requests; `None` if the system filters them.
    id: Option<u16>,
}

impl Asked {
    /// Prints the packet if it is the first reply to one of our requests.
    fn heard(&mut self, from: Ipv4Addr, packet: &[u8], now: Instant) {
        // Some sockets deliver it with its IP header in front, whose length is in its first byte.
        let ip_bytes = packet.first().filter(|first| *first >> 4 == 4).map_or(0, |first| usize::from(first & 15) * 4);
        let Some(&[ECHO_REPLY, _, _, _, id_1, id_2, number_1, number_2, ..]) = packet.get(ip_bytes..) else {
            return;
        };
        let (id, number) = (u16::from_be_bytes([id_1, id_2]), u16::from_be_bytes([number_1, number_2]));
        let asked = self.times.get_mut(usize::from(number)).filter(|_| self.id.is_none_or(|ours| ours == id));
        if let Some(time) = asked.and_then(Option::take) {
            self.answers += 1;
            let bytes = packet.len() - ip_bytes;
            say(format_args!("{bytes} bytes from {from}: number {number}, after {:.3?}", now.duration_since(time)));
        }
    }
}

fn question(id: u16, number: u16) -> [u8; HEADER_BYTES] {
    let ([id_1, id_2], [number_1, number_2]) = (id.to_be_bytes(), number.to_be_bytes());
    let words = [u16::from(ECHO) << 8, id, number].map(u32::from);
    // The carry beyond 16 bits is added again, which may carry once more.
    let fold = |sum: u32| (sum >> 16) + (sum & 0xffff);
    let [sum_1, sum_2] = (!fold(fold(words.iter().sum())) as u16).to_be_bytes();
    [ECHO, 0, sum_1, sum_2, id_1, id_2, number_1, number_2]
}

fn read(icmp: &Icmp, from: Ipv4Addr, asked: &RefCell<Asked>, now: Instant) -> SourceAction {
    let mut packet = [0; 1500];
    for _ in 0..PACKETS_PER_CALL_MAX {
        match (&*icmp.0).read(&mut packet) {
            Ok(count) => asked.borrow_mut().heard(from, &packet[..count], now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return SourceAction::Wait,
            // The host may be unreachable, for instance, and reachable later.
            Err(error) => say(format_args!("{error}")),
        }
    }
    SourceAction::Again
}

/// Opens a socket, connected so that it receives packets from that peer only.
fn open(to: Ipv4Addr) -> io::Result<(Socket, Option<u16>)> {
    let icmp = Some(Protocol::ICMPV4);
    let (socket, id) = match Socket::new(Domain::IPV4, Type::RAW, icmp) {
        Ok(socket) => (socket, Some(std::process::id() as u16)),
        Err(_) => (Socket::new(Domain::IPV4, Type::DGRAM, icmp)?, None),
    };
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::from((to, 0)).into())?;
    Ok((socket, id))
}

pub(crate) fn run(to: Ipv4Addr, count: u16) -> Result<(), Failure> {
    let (socket, id) = open(to).map_err(|error| Failure::new(format!("cannot open an ICMP socket: {error}")))?;
    let socket = Rc::new(socket);
    let asked = Rc::new(RefCell::new(Asked { id, ..Asked::default() }));
    let mut event_loop = EventLoop::new()?;
    support::shut_down_on_signals(&mut event_loop)?;
    let mut context = event_loop.context();
    let heard = asked.clone();
    context.register(Icmp(socket.clone()), Interest::READABLE, move |context, icmp, _| {
        read(icmp, to, &heard, context.now())
    })?;
    let asking = asked.clone();
    let ask = move |context: &mut Context<'_>, _: u64| {
        let mut asked = asking.borrow_mut();
        let number = asked.times.len() as u16;
        if number == count {
            return context.stop();
        }
        asked.times.push(Some(context.now()));
        if let Err(error) = (&*socket).write(&question(id.unwrap_or_default(), number)) {
            say(format_args!("{error}"));
        }
    };
    ask(&mut context, 0);
    context.call_every(PERIOD, ask);
    event_loop.run()?;
    let asked = asked.borrow();
    say(format_args!("{} of {} were answered", asked.answers, asked.times.len()));
    if asked.answers > 0 { Ok(()) } else { Err(Failure::new(format!("{to} is not there, or does not answer"))) }
}

pub(crate) fn options() -> Result<(Ipv4Addr, u16), Failure> {
    let (mut to, mut count) = (Ipv4Addr::LOCALHOST, 3);
    for argument in std::env::args().skip(1) {
        let wrong = || Failure::new(format!("{argument:?} is not understood: see the first lines of this example"));
        match argument.strip_prefix("--count=") {
            Some(number) => count = number.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?,
            None => match argument.parse() {
                Ok(IpAddr::V4(ip)) => to = ip,
                _ => return Err(wrong()),
            },
        }
    }
    Ok((to, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u16, number: u16) -> [u8; HEADER_BYTES] {
        let mut answer = question(id, number);
        answer[0] = ECHO_REPLY;
        answer
    }

    #[test]
    fn ping_counts_the_first_answer_to_each_question_of_its_own_and_nothing_else() {
        let now = Instant::now();
        let mut asked = Asked { times: vec![Some(now); 2], answers: 0, id: Some(7) };
        let with_ip = |packet: &[u8]| [&[0x46; 24][..], packet].concat();
        for (packet, answers) in [
            (question(7, 0).to_vec(), 0), // A raw socket receives its own requests to this machine.
            (answer(8, 0).to_vec(), 0),
            (answer(7, 2).to_vec(), 0),
            (answer(7, 0)[..7].to_vec(), 0),
            (with_ip(&answer(7, 0)[..7]), 0),
            (vec![0x4f], 0),
            (vec![], 0),
            (with_ip(&answer(7, 0)), 1),
            (answer(7, 0).to_vec(), 1),
            ([&answer(7, 1)[..], b"more"].concat(), 2),
        ] {
            asked.heard(Ipv4Addr::LOCALHOST, &packet, now);
            assert_eq!(asked.answers, answers, "{packet:?}");
        }
        // If the system chooses the id, it is not checked.
        let mut asked = Asked { times: vec![Some(now)], answers: 0, id: None };
        asked.heard(Ipv4Addr::LOCALHOST, &answer(8, 0), now);
        assert_eq!(asked.answers, 1);
    }

    #[test]
    fn ping_sums_up_as_the_protocol_wants_it() {
        for (id, number) in [(0, 0), (1, 2), (0xffff, 0xffff), (0xf7ff, 0), (0x8000, 0x7801), (0xffff, 0xf800)] {
            let words = question(id, number);
            let sum: u32 = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
            assert_eq!(sum % 0xffff, 0, "of {id:x} and {number:x}");
        }
    }
}
