//! The bench itself; see `fanout.rs`.

mod by_hand;
mod members;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use switchboard::{CloseReason, ConnectionId, EventLoop, Protocol, Transport};

use self::by_hand::Gathers;
use self::members::Members;

/// Bytes of a line, including its end.
const LINE_BYTES: usize = 64;

/// How the lines reach the members.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Write,
    WriteShared,
    Broadcast,
}

type Room = Rc<RefCell<Vec<ConnectionId>>>;

struct Member {
    room: Room,
    way: Way,
}

impl Protocol for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.room.borrow_mut().push(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let lines = complete(data);
        let room = self.room.borrow();
        let mut context = transport.context();
        match self.way {
            Way::Write => {
                for &id in room.iter() {
                    if let Some(mut member) = context.connection(id) {
                        member.write(lines);
                    }
                }
            }
            Way::WriteShared => {
                let lines: Arc<[u8]> = lines.into();
                for &id in room.iter() {
                    if let Some(mut member) = context.connection(id) {
                        member.write_shared(lines.clone());
                    }
                }
            }
            Way::Broadcast => {
                context.broadcast(room.iter(), lines);
            }
        }
        lines.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _reason: CloseReason) {
        self.room.borrow_mut().retain(|&id| id != transport.id());
    }
}

/// The complete lines received.
fn complete(data: &[u8]) -> &[u8] {
    &data[..data.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1)]
}

fn serve(way: Way, started: &Sender<Started>) {
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let room = Room::default();
    let mut context = event_loop.context();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = context.listen(any_port, move |_, _| Some(Member { room: room.clone(), way }));
    let listener = listener.expect("a port is left");
    let address = context.listener(listener).and_then(|listener| listener.local_addr().ok()?.as_inet());
    started.send(Started::now(address.expect("it listens"))).expect("somebody waits for it");
    event_loop.run().expect("the poller works");
}

/// A running server.
struct Started {
    address: SocketAddr,
    /// Where the system reports how long its thread was on a core.
    schedstat: String,
}

impl Started {
    /// The one of the calling thread.
    fn now(address: SocketAddr) -> Started {
        let thread = std::fs::read_link("/proc/thread-self").expect("it is Linux");
        Started { address, schedstat: format!("/proc/{}/schedstat", thread.display()) }
    }

    fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(&self.schedstat).expect("its thread lives as long as the process");
        Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number comes first"))
    }
}

/// Starts a server on its own thread and core.
fn start(name: &str, server: impl FnOnce(&Sender<Started>) + Send + 'static) -> Started {
    let (sender, receiver) = std::sync::mpsc::channel();
    let run = move || {
        pin(0);
        server(&sender);
    };
    // It lives as long as the process.
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("threads are left");
    receiver.recv().expect("it starts")
}

/// Pins the calling thread to one core, if there are two.
fn pin(core: usize) {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let mut set = CpuSet::new();
        set.set(core);
        // If the system refuses, the figures are only less precise.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// How a server is made.
#[derive(Clone, Copy)]
enum Made {
    ByHand(Gathers),
    WithTheCrate(Way),
}

const SERVERS: [(&str, Made); 5] = [
    ("by hand", Made::ByHand(Gathers::ForEach)),
    ("by hand, one buffer", Made::ByHand(Gathers::Once)),
    ("write", Made::WithTheCrate(Way::Write)),
    ("write_shared", Made::WithTheCrate(Way::WriteShared)),
    ("broadcast", Made::WithTheCrate(Way::Broadcast)),
];

/// Measures rooms of this many members.
fn compare(members: usize, turns: usize, messages: usize) {
    let servers = SERVERS.map(|(name, made)| {
        start(name, move |started| match made {
            Made::ByHand(gathers) => by_hand::serve(gathers, started),
            Made::WithTheCrate(way) => serve(way, started),
        })
    });
    let mut rooms: Vec<Members> = servers.iter().map(|server| Members::join(server.address, members)).collect();
    let rounds = (messages / (members * members)).max(1);
    let mut times: Vec<Vec<f64>> = Vec::new();
    for turn in 0..turns + 1 {
        let mut of_turn = vec![0.0; servers.len()];
        for n in 0..servers.len() {
            let asked = (n + turn) % servers.len();
            let before = servers[asked].cpu_time();
            rooms[asked].talk(rounds);
            of_turn[asked] = (servers[asked].cpu_time() - before).as_secs_f64();
        }
        times.push(of_turn);
    }
    // The first round is for warming up.
    times.remove(0);
    let delivered = (rounds * members * members) as f64;
    println!("{members} members, each line to each of them, {turns} turns of {rounds} rounds:");
    for (n, (name, _)) in SERVERS.iter().enumerate() {
        let (low, ratio, high) = quartiles(times.iter().map(|of_turn| of_turn[n] / of_turn[0]));
        let (_, seconds, _) = quartiles(times.iter().map(|of_turn| of_turn[n]));
        let ns = seconds * 1e9 / delivered;
        println!(
            "    {name:<19} {ns:>6.1} ns on a core a line and receiver, {ratio:.2} of by hand ({low:.2} to {high:.2})"
        );
    }
}

fn quartiles(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 4], values[values.len() / 2], values[values.len() * 3 / 4])
}

/// Raises the limit of descriptors if it is too low; `Err` contains the limit that remains.
fn have_descriptors(needed: u64) -> Result<(), u64> {
    let mut limits = getrlimit(Resource::Nofile);
    let Some(allowed) = limits.current.filter(|&allowed| allowed < needed) else { return Ok(()) };
    limits.current = Some(needed);
    setrlimit(Resource::Nofile, limits).map_err(|_| allowed)
}

pub(crate) fn main() -> ExitCode {
    let short = std::env::args().any(|argument| argument == "--short");
    let wanted: Option<usize> = std::env::args().find_map(|argument| argument.parse().ok());
    let (sizes, turns, messages) = match (short, wanted) {
        (true, _) => (vec![20], 3, 4_000),
        (false, Some(size)) => (vec![size], 15, 1_000_000),
        (false, None) => (vec![100, 1000], 15, 1_000_000),
    };
    // Both ends of each connection, for each server, and some for other uses.
    let needed = sizes.iter().sum::<usize>() * 2 * SERVERS.len() + 100;
    if let Err(allowed) = have_descriptors(needed as u64) {
        eprintln!("this needs {needed} descriptors, and may have {allowed}: see `ulimit -n`, or ask for fewer members");
        return ExitCode::FAILURE;
    }
    pin(1);
    for members in sizes {
        compare(members, turns, messages);
    }
    ExitCode::SUCCESS
}
