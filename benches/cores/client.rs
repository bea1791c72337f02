//! The clients: a thread for each core, with a loop of its own and connections to the loop that shares its core.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{CloseReason, ConnectError, ConnectionId, EventLoop, Protocol, Transport};

use crate::placing::Thread;
use crate::served::Kind;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

const HTTP_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1234\r\n\r\n";
/// What `redis-benchmark` sends.
const RESP_SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\nVXK\r\n";
const RESP_GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n";
/// A line of 48 bytes.
const SAID: &[u8] = b"forty-eight bytes, as people say in such a room.";

/// What each connection sends and gets.
#[derive(Clone)]
pub(crate) struct Load {
    /// What the `nth` connection sends once, and how many bytes all of them get for that.
    first: fn(usize) -> Vec<u8>,
    greeting: fn(usize) -> usize,
    /// What is sent in a round, and how many bytes are the answer.
    request: Vec<u8>,
    answer_bytes: usize,
    /// How many answers, or lines, these are.
    pub(crate) answers: usize,
}

impl Load {
    pub(crate) fn new(kind: Kind, depth: usize, members: usize, server: SocketAddr) -> Load {
        let first: fn(usize) -> Vec<u8> = match kind {
            Kind::Http | Kind::Across => |_| Vec::new(),
            Kind::Resp => |_| RESP_SET.to_vec(),
            Kind::Rooms => |nth| format!("{}\r\n", name(nth)).into_bytes(),
        };
        let greeting: fn(usize) -> usize = match kind {
            Kind::Http | Kind::Across => |_| 0,
            Kind::Resp => |_| b"+OK\r\n".len(),
            Kind::Rooms => greeting,
        };
        let (request, answer_bytes, answers) = match kind {
            Kind::Http => (HTTP_GET.to_vec(), http_answer_bytes(server), 1),
            Kind::Resp => (RESP_GET.to_vec(), b"$3\r\nVXK\r\n".len(), 1),
            // A line from each of the others, in a room with the name before it.
            Kind::Rooms => (line(), (members - 1) * (name(0).len() + 2 + line().len()), members - 1),
            Kind::Across => (line(), (members - 1) * line().len(), members - 1),
        };
        let (answer_bytes, answers) = (depth * answer_bytes, depth * answers);
        Load { first, greeting, request: request.repeat(depth), answer_bytes, answers }
    }
}

fn line() -> Vec<u8> {
    [SAID, b"\r\n"].concat()
}

/// All names are equally long, and so are all lines.
fn name(nth: usize) -> String {
    format!("m{nth:04}")
}

/// Returns how much is said when the `nth` member comes: to that one, and to each that is there.
fn greeting(nth: usize) -> usize {
    let name = name(nth);
    let asked = "Your name?\r\n".len();
    let welcome = format!("Welcome, {name}. /who lists who is here, /quit leaves.\r\n").len();
    asked + welcome + nth * format!("* {name} has joined\r\n").len()
}

/// Asks once. The date in an answer changes, but not its length.
fn http_answer_bytes(server: SocketAddr) -> usize {
    let mut client = TcpStream::connect(server).expect("it listens");
    client.set_read_timeout(Some(LIMIT)).expect("it is not zero");
    client.write_all(HTTP_GET).expect("it reads");
    let mut answer = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = client.read(&mut some).expect("it answers");
        assert!(count > 0, "it answers");
        answer.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("it says its length");
        if answer.len() >= head.len() + 4 + length {
            assert!(head.starts_with("http/1.1 200"), "{head}");
            return head.len() + 4 + length;
        }
    }
}

/// What the clients of one core have seen in a turn.
pub(crate) struct Took {
    start: Instant,
    end: Instant,
    latencies: Vec<Duration>,
}

impl Took {
    /// Both, of two cores that were busy at once.
    pub(crate) fn and(mut self, other: Took) -> Took {
        self.latencies.extend(other.latencies);
        Took { start: self.start.min(other.start), end: self.end.max(other.end), latencies: self.latencies }
    }

    pub(crate) fn time(&self) -> Duration {
        self.end - self.start
    }

    pub(crate) fn rounds(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let mut all = self.latencies.clone();
        all.sort_unstable();
        all[((all.len() - 1) as f64 * part) as usize]
    }
}

enum Command {
    /// Connects so many to a server, which has a number from here on.
    Connect(usize, Load, SocketAddr, usize),
    /// A turn with that server, of so many rounds.
    Turn(usize, usize),
}

/// The thread of a core's clients.
pub(crate) struct Clients {
    commands: Sender<Command>,
    results: Receiver<Took>,
}

impl Clients {
    pub(crate) fn start(core: usize) -> Clients {
        let (commands, told) = mpsc::channel();
        let (tell, results) = mpsc::channel();
        thread::spawn(move || {
            assert!(Thread::this().is_some_and(|thread| thread.stay_on(core)), "it was possible before");
            let mut mine = Mine { event_loop: EventLoop::new().expect("a descriptor is left"), servers: Vec::new() };
            for command in told {
                let took = match command {
                    Command::Connect(number, load, address, count) => mine.connect(number, load, address, count),
                    Command::Turn(number, rounds) => mine.turn(number, rounds),
                };
                if tell.send(took).is_err() {
                    return;
                }
            }
        });
        Clients { commands, results }
    }

    pub(crate) fn connect(&mut self, number: usize, load: &Load, address: SocketAddr, count: usize) {
        self.commands.send(Command::Connect(number, load.clone(), address, count)).expect("the thread runs");
        self.end();
    }

    pub(crate) fn begin(&mut self, number: usize, rounds: usize) {
        self.commands.send(Command::Turn(number, rounds)).expect("the thread runs");
    }

    pub(crate) fn end(&mut self) -> Took {
        self.results.recv_timeout(2 * LIMIT).expect("the turn ends")
    }
}

/// What the thread has.
struct Mine {
    event_loop: EventLoop,
    /// By number, with their connections.
    servers: Vec<Option<(Rc<Run>, Vec<ConnectionId>)>>,
}

/// The state of a turn, or of connecting.
#[derive(Default)]
struct Run {
    /// Connections that have not done all their rounds.
    busy: Cell<usize>,
    /// What is still to come of a greeting.
    greeting: Cell<usize>,
    latencies: RefCell<Vec<Duration>>,
}

struct Client {
    run: Rc<Run>,
    load: Rc<Load>,
    nth: usize,
    /// How many bytes are to come. Less than none if others have said more in the meantime.
    due: isize,
    /// Whether a round is under way, and how many are not begun.
    is_busy: bool,
    left: usize,
    begun: Instant,
}

impl Client {
    fn begin(&mut self, transport: &mut Transport<'_>) {
        self.left -= 1;
        self.is_busy = true;
        self.due += self.load.answer_bytes as isize;
        self.begun = Instant::now();
        transport.write(&self.load.request);
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&(self.load.first)(self.nth));
        if self.run.greeting.get() == 0 {
            transport.context().stop();
        }
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Run { busy, greeting, latencies } = &*self.run.clone();
        if greeting.get() > 0 {
            match greeting.get().checked_sub(data.len()) {
                Some(left) => greeting.set(left),
                None => fail("a greeting is longer than it should be"),
            }
            if greeting.get() == 0 {
                transport.context().stop();
            }
            return data.len();
        }
        self.due -= data.len() as isize;
        // Fast members may have said so much that a slow one has more than one round behind it.
        while self.is_busy && self.due <= 0 {
            latencies.borrow_mut().push(self.begun.elapsed());
            if self.left > 0 {
                self.begin(transport);
                continue;
            }
            self.is_busy = false;
            busy.set(busy.get() - 1);
            if busy.get() == 0 {
                transport.context().stop();
            }
        }
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if !matches!(reason, CloseReason::Shutdown) {
            fail(&format!("the server has ended a connection: {reason:?}"));
        }
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        fail(&format!("a client cannot connect: {error}"));
    }
}

/// A panic would end one connection only, and the others would wait for it.
fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}

impl Mine {
    /// Connects one after the other, so that it is known which members of a room see which others come.
    fn connect(&mut self, number: usize, load: Load, address: SocketAddr, count: usize) -> Took {
        let (run, load) = (Rc::new(Run::default()), Rc::new(load));
        let start = Instant::now();
        let mut ids = Vec::new();
        for nth in 0..count {
            run.greeting.set((load.greeting)(nth));
            let client =
                Client { run: run.clone(), load: load.clone(), nth, due: 0, is_busy: false, left: 0, begun: start };
            ids.push(self.event_loop.context().connect(address, client).expect("a descriptor is left"));
            self.event_loop.run().expect("the poller works");
        }
        self.servers.resize_with(self.servers.len().max(number + 1), || None);
        self.servers[number] = Some((run, ids));
        Took { start, end: Instant::now(), latencies: Vec::new() }
    }

    fn turn(&mut self, number: usize, rounds: usize) -> Took {
        let (run, ids) = self.servers[number].as_ref().expect("it is connected");
        run.busy.set(ids.len());
        let start = Instant::now();
        for &id in ids {
            let mut context = self.event_loop.context();
            let begun = context.with_protocol(id, |client: &mut Client, transport| {
                client.left = rounds;
                client.begin(transport);
            });
            begun.expect("the connection is there");
        }
        self.event_loop.run().expect("the poller works");
        let end = Instant::now();
        Took { start, end, latencies: run.latencies.take() }
    }
}
