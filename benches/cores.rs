//! What a second core brings to a protocol that is bound by computing: `cargo bench --features workers --bench cores`.
//!
//! A group of one loop and a group of two serve the same work, some hundred microseconds of hashing for each request. One
//! thread of clients keeps requests under way on each connection, so that no loop ever waits for one. Both groups live all
//! the time; each pair of rounds asks the one and then the other, in turn which goes first, and what counts is the ratio
//! of answers within a pair: a machine that is busy otherwise for a while spoils some pairs, and not the median of many.
//!
//! That needs two cores which nobody else uses. Behind it, on Linux, is what does not: how much time on a core each
//! answer took the loops, with one of them and with two, and the clients, and what follows for two cores.
//!
//! With `-- --check` it fails where two loops do less than 1.8 times what one does; with `-- --short` it runs for a moment
//! only, to see that it works.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::workers::{Distribution, EventLoopGroup, GroupListen};
use switchboard::{Address, Context, EventLoop, Protocol, Transport};

/// Bytes of a request, and of an answer.
const MESSAGE_BYTES: usize = 8;
/// How often the state is mixed for a request.
const MIXES: u64 = 400_000;
/// Connections that the clients have; many, since the kernel spreads them by chance.
const CONNECTIONS: usize = 32;
/// Requests that are under way on each of them, so that no loop ever waits for one.
const PIPELINED: usize = 2;

/// What two loops are to bring on two idle cores.
const RATIO_MIN: f64 = 1.8;

/// FNV-1a over a counter that starts with the request: nothing that a compiler can shorten, and no memory to wait for.
fn work(request: [u8; MESSAGE_BYTES]) -> [u8; MESSAGE_BYTES] {
    let mut hash = u64::from_le_bytes(request);
    for n in 0..MIXES {
        hash = (hash ^ (n & 0xff)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.to_le_bytes()
}

struct Worker {
    served: Arc<AtomicU64>,
}

impl Protocol for Worker {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        // One at a time: others have their turn in between.
        let Some(request) = data.first_chunk() else { return 0 };
        transport.write(&work(*request));
        self.served.fetch_add(1, Ordering::Relaxed);
        MESSAGE_BYTES
    }
}

/// Asks again for each answer.
struct Client {
    answered: Rc<Cell<u64>>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&[1; MESSAGE_BYTES * PIPELINED]);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let whole = data.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        self.answered.set(self.answered.get() + (whole / MESSAGE_BYTES) as u64);
        transport.write(&data[..whole]);
        whole
    }
}

/// How many requests of a moment's clients a server answers in a second.
fn rate(server: SocketAddr, time: Duration) -> f64 {
    let answered = Rc::new(Cell::new(0));
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    for _ in 0..CONNECTIONS {
        let client = Box::new(Client { answered: answered.clone() });
        event_loop.context().connect(server, client).expect("a descriptor is left");
    }
    // Until every loop that has connections is at work.
    run_for(&mut event_loop, time / 4);
    let before = answered.get();
    let start = Instant::now();
    run_for(&mut event_loop, time);
    let rate = (answered.get() - before) as f64 / start.elapsed().as_secs_f64();
    // What is still under way is not waited for.
    for id in event_loop.context().connection_ids() {
        if let Some(mut transport) = event_loop.context().connection(id) {
            transport.abort();
        }
    }
    event_loop.run_until_idle().expect("the poller works");
    rate
}

fn run_for(event_loop: &mut EventLoop, time: Duration) {
    event_loop.context().call_later(time, |context| context.stop());
    event_loop.run().expect("the poller works");
}

struct Server {
    group: EventLoopGroup,
    address: SocketAddr,
    served: Arc<AtomicU64>,
}

fn server(loops: usize, distribution: Distribution) -> Server {
    let group = EventLoopGroup::new(NonZeroUsize::new(loops).expect("some")).expect("threads are left");
    let target = GroupListen::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).distribution(distribution);
    let served = Arc::new(AtomicU64::new(0));
    let serves = served.clone();
    let factory =
        move |_: &mut Context<'_>, _: &Address| Some(Box::new(Worker { served: serves.clone() }) as Box<dyn Protocol>);
    let listener = group.listen(target, factory).expect("a port is left");
    Server { address: listener.local_addr().as_inet().expect("of TCP"), group, served }
}

impl Server {
    /// Until nothing of the last round is left to be worked off.
    fn settle(&self) {
        while self.ask(|context| context.connection_count()).iter().any(|&count| count > 0) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn ask<T: Send + 'static>(&self, question: impl Fn(&mut Context<'_>) -> T + Send + Sync + 'static) -> Vec<T> {
        let answers = self.group.handle().ask_each(Duration::from_secs(60), move |_, context| question(context));
        answers.expect("it turns").into_iter().flatten().collect()
    }

    /// Microseconds on a core that an answer took its loops, and how many answers there were.
    fn cpu_us(&self) -> Option<(f64, u64)> {
        let served = self.served.load(Ordering::Relaxed);
        let times: Option<Vec<_>> = self.ask(|_| cpu_time()).into_iter().collect();
        Some((times?.iter().sum::<Duration>().as_secs_f64() * 1e6 / served as f64, served))
    }
}

/// The time that this thread was on a core, where the system tells.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn main() -> ExitCode {
    let short = std::env::args().any(|argument| argument == "--short");
    let check = std::env::args().any(|argument| argument == "--check");
    let (time, pairs) = if short { (Duration::from_millis(40), 2) } else { (Duration::from_millis(200), 31) };
    let start = Instant::now();
    std::hint::black_box((0..20_u64).map(|n| work(n.to_le_bytes())[0]).max());
    println!("a request: {} us of computing", (start.elapsed() / 20).as_micros());
    let mut holds = true;
    for distribution in [Distribution::ReusePort, Distribution::Acceptor] {
        let (one, two) = (server(1, distribution), server(2, distribution));
        let cpu_before = cpu_time();
        let mut rounds: Vec<(f64, f64, f64)> = (0..pairs).map(|n| pair(&one, &two, time, n % 2 == 0)).collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, of_one, of_two) = rounds[rounds.len() / 2];
        println!(
            "{distribution}: two loops answer {ratio:.2} times what one does, median of {pairs} pairs ({:.2} to {:.2}); \
             in that one {of_two:.0} to {of_one:.0} a second",
            rounds[0].0,
            rounds[rounds.len() - 1].0,
        );
        print_cpu(&one, &two, cpu_before);
        holds &= ratio >= RATIO_MIN;
    }
    if check && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What does not depend on who else uses the machine: times on a core.
fn print_cpu(one: &Server, two: &Server, before: Option<Duration>) {
    let (Some((of_one, first)), Some((of_two, second))) = (one.cpu_us(), two.cpu_us()) else { return };
    let Some(clients) = before.and_then(|before| Some(cpu_time()? - before)) else { return };
    let client = clients.as_secs_f64() * 1e6 / (first + second) as f64;
    println!(
        "{}on a core, an answer takes one loop {of_one:.0} us, two {of_two:.0}, the clients {client:.0}: of which \
         follows {:.2} on two cores of their own",
        " ".repeat(4),
        2.0 * of_one / (of_two + client),
    );
}

/// The ratio, and the two rates.
fn pair(one: &Server, two: &Server, time: Duration, one_first: bool) -> (f64, f64, f64) {
    let measure = |server: &Server| {
        let rate = rate(server.address, time);
        server.settle();
        rate
    };
    let (of_one, of_two) = if one_first {
        (measure(one), measure(two))
    } else {
        let of_two = measure(two);
        (measure(one), of_two)
    };
    (of_two / of_one, of_one, of_two)
}
