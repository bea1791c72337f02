//! A protocol that computes, some hundred microseconds for each request, so that the loop hardly matters.
//!
//! A group of one loop and a group of two do the same work. One thread of clients keeps requests in flight on each
//! connection, so that no loop ever waits for one. Both groups run all the time; each pair of rounds measures one and
//! then the other, in alternating order, and the result is the ratio of answers within a pair: other load on the machine
//! spoils some pairs, but not the median of many.
//!
//! That needs two idle cores. After it, on Linux, a figure is printed that does not: how much CPU time each answer took
//! the loops, with one of them and with two, and the clients, and what follows for two cores.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
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
/// Connections of the clients; many, since the kernel spreads them at random.
const CONNECTIONS: usize = 32;
/// Requests in flight on each of them, so that no loop ever waits for one.
const PIPELINED: usize = 2;

/// FNV-1a over a counter that starts with the request: the compiler cannot shorten it, and it does not wait for memory.
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
        // One at a time: other connections have their turn in between.
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

/// Returns how many requests a server answers in a second, measured for a moment.
fn rate(server: SocketAddr, time: Duration) -> f64 {
    let answered = Rc::new(Cell::new(0));
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    for _ in 0..CONNECTIONS {
        let client = Client { answered: answered.clone() };
        event_loop.context().connect(server, client).expect("a descriptor is left");
    }
    // Until every loop that has connections is at work.
    run_for(&mut event_loop, time / 4);
    let before = answered.get();
    let start = Instant::now();
    run_for(&mut event_loop, time);
    let rate = (answered.get() - before) as f64 / start.elapsed().as_secs_f64();
    // Requests in flight are not waited for.
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
    let factory = move |_: &mut Context<'_>, _: &Address| Some(Worker { served: serves.clone() });
    let listener = group.listen(target, factory).expect("a port is left");
    Server { address: listener.local_addr().as_inet().expect("of TCP"), group, served }
}

impl Server {
    /// Waits until the last round's requests are done.
    fn settle(&self) {
        while self.ask(|context| context.connection_count()).iter().any(|&count| count > 0) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn ask<T: Send + 'static>(&self, question: impl Fn(&mut Context<'_>) -> T + Send + Sync + 'static) -> Vec<T> {
        let answers = self.group.handle().ask_each(Duration::from_secs(60), move |_, context| question(context));
        answers.expect("it turns").into_iter().flatten().collect()
    }

    /// Returns the microseconds of CPU time that an answer took the loops, and the number of answers.
    fn cpu_us(&self) -> Option<(f64, u64)> {
        let served = self.served.load(Ordering::Relaxed);
        let times: Option<Vec<_>> = self.ask(|_| cpu_time()).into_iter().collect();
        Some((times?.iter().sum::<Duration>().as_secs_f64() * 1e6 / served as f64, served))
    }
}

/// Returns the CPU time of this thread, if the system reports it.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Measures it, prints the results, and returns whether two loops do as much as they should.
pub(crate) fn measure(is_short: bool) -> bool {
    let (time, pairs) = if is_short { (Duration::from_millis(40), 2) } else { (Duration::from_millis(200), 31) };
    let start = Instant::now();
    std::hint::black_box((0..20_u64).map(|n| work(n.to_le_bytes())[0]).max());
    println!("computing, {} us for each request", (start.elapsed() / 20).as_micros());
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
        holds &= ratio >= crate::RATIO_MIN;
    }
    holds
}

/// Prints what does not depend on other load: CPU times.
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
