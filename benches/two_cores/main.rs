//! What a second core gains for three protocols: `cargo bench --features workers --bench two_cores`. `cores.rs` measures
//! the same for computing, where the loop hardly matters; here it is nearly all there is.
//!
//! - The protocols of the examples `http_server` and `resp_server`, a loop each. Their states are a loop's own: with two
//!   loops of `resp_server` there are two stores, as with two Redis.
//! - The example `chat`, a room for each loop, which is how a large chat divides its members.
//! - One room whose members are spread over all loops: a line is posted to each other loop, and broadcast there.
//!
//! A group of one loop runs on one core, a group of two on two. Each loop shares its core with a thread of clients, which
//! are connected to that loop, so each core has the same work: requests, or lines, and nothing else. Both groups run all
//! the time, and turns alternate: the same rounds on one, then on the other. Within each pair of turns the requests a
//! second are compared, and the requests for the same CPU time of the loops, which other load hardly disturbs.
//!
//! It needs Linux, two cores, and `taskset`. With `-- --check` it fails if two loops do less than 1.8 times what one does
//! for their CPU time; with `-- --short` it runs only for a moment. Otherwise each argument is a part of the name of a
//! row to measure.

mod client;
mod placing;
mod served;

use std::process::ExitCode;
use std::time::Duration;

use client::{Clients, Load, Took};
use served::{Kind, Server};

/// The required gain of two loops, for the same CPU time. They do 1.95 on an idle machine; see benches/README.md.
const RATIO_MIN: f64 = 1.8;

/// What is measured.
struct Row {
    name: &'static str,
    kind: Kind,
    /// Requests in flight on each connection.
    depth: usize,
    /// Connections for each loop of two.
    connections: usize,
}

const ROWS: [Row; 6] = [
    Row { name: "http_server", kind: Kind::Http, depth: 1, connections: 25 },
    Row { name: "http_server, 16 deep", kind: Kind::Http, depth: 16, connections: 25 },
    Row { name: "resp_server", kind: Kind::Resp, depth: 1, connections: 25 },
    Row { name: "resp_server, 16 deep", kind: Kind::Resp, depth: 16, connections: 25 },
    Row { name: "chat, a room of 50 on each loop", kind: Kind::Rooms, depth: 1, connections: 50 },
    Row { name: "chat, a room of 100 across the loops", kind: Kind::Across, depth: 1, connections: 50 },
];

/// How long a turn is, and how many pairs of turns there are.
struct Extent {
    turn: Duration,
    pairs: usize,
}

/// A group, and the clients of each of its loops.
struct Site {
    server: Server,
    load: Load,
    /// The number that the clients know it by.
    number: usize,
}

/// What a turn has shown.
struct Turn {
    per_second: f64,
    /// Of the loops, for each request.
    cpu_ns: f64,
    p99_us: f64,
}

impl Site {
    /// Starts a group with a loop on each of these cores, and connects the clients.
    fn new(row: &Row, number: usize, cores: &[usize], clients: &mut [Clients]) -> Site {
        let server = Server::start(row.kind, cores);
        // The room across the loops is as large on one loop as on two.
        let connections = match row.kind {
            Kind::Across => 2 * row.connections / cores.len(),
            _ => row.connections,
        };
        let members = if row.kind == Kind::Across { 2 * row.connections } else { connections };
        let load = Load::new(row.kind, row.depth, members, server.addresses[0]);
        for (clients, &address) in clients.iter_mut().zip(&server.addresses) {
            clients.connect(number, &load, address, connections);
        }
        Site { server, load, number }
    }

    /// Each connection does this many rounds.
    fn turn(&self, clients: &mut [Clients], rounds: usize) -> Turn {
        let busy = &mut clients[..self.server.addresses.len()];
        let before = self.server.cpu_at_rest();
        busy.iter_mut().for_each(|clients| clients.begin(self.number, rounds));
        let all: Took = busy.iter_mut().map(|clients| clients.end()).reduce(Took::and).expect("there is a loop");
        let cpu = self.server.cpu_at_rest() - before;
        let answers = all.rounds() as f64 * self.load.answers as f64;
        Turn {
            per_second: answers / all.time().as_secs_f64(),
            cpu_ns: cpu.as_nanos() as f64 / answers,
            p99_us: all.percentile(0.99).as_secs_f64() * 1e6,
        }
    }

    /// Returns how many rounds take about this long.
    fn rounds_in(&self, clients: &mut [Clients], time: Duration) -> usize {
        let mut rounds = 1;
        loop {
            let start = std::time::Instant::now();
            self.turn(clients, rounds);
            let took = start.elapsed();
            if took >= time / 2 {
                return (rounds as f64 * time.as_secs_f64() / took.as_secs_f64()).ceil() as usize;
            }
            rounds *= 2;
        }
    }
}

/// Measures a row, prints it, and returns the gain for the same CPU time.
fn measure(row: &Row, cores: [usize; 2], extent: &Extent) -> f64 {
    let mut clients = cores.map(Clients::start);
    let one = Site::new(row, 0, &cores[..1], &mut clients);
    let two = Site::new(row, 1, &cores, &mut clients);
    let rounds = one.rounds_in(&mut clients, extent.turn);
    two.turn(&mut clients, rounds); // Its caches are cold.
    let turns: Vec<(Turn, Turn)> = (0..extent.pairs)
        .map(|n| {
            let first = if n % 2 == 0 { &one } else { &two };
            let second = if n % 2 == 0 { &two } else { &one };
            let (first, second) = (first.turn(&mut clients, rounds), second.turn(&mut clients, rounds));
            if n % 2 == 0 { (first, second) } else { (second, first) }
        })
        .collect();
    let of = |figure: &dyn Fn(&(Turn, Turn)) -> f64| median(turns.iter().map(figure).collect());
    let [low, gain, high] = quartiles(turns.iter().map(|(one, two)| two.per_second / one.per_second).collect());
    let [low_cpu, gain_cpu, high_cpu] =
        quartiles(turns.iter().map(|(one, two)| 2.0 * one.cpu_ns / two.cpu_ns).collect());
    println!(
        "{}: two loops do {gain:.2} ({low:.2} to {high:.2}) times what one does in the same time, {gain_cpu:.2} \
         ({low_cpu:.2} to {high_cpu:.2}) times for the same CPU time of a loop; {:.0} and {:.0} a second, {:.0} and {:.0} \
         ns of CPU each, 99th percentile {:.0} and {:.0} us",
        row.name,
        of(&|turns| turns.0.per_second),
        of(&|turns| turns.1.per_second),
        of(&|turns| turns.0.cpu_ns),
        of(&|turns| turns.1.cpu_ns),
        of(&|turns| turns.0.p99_us),
        of(&|turns| turns.1.p99_us),
    );
    gain_cpu
}

fn median(values: Vec<f64>) -> f64 {
    quartiles(values)[1]
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn main() -> ExitCode {
    let (flags, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|argument| argument == flag);
    let Some(cores) = placing::two_cores() else {
        println!("left out: it needs Linux with two cores and taskset");
        return ExitCode::SUCCESS;
    };
    let extent = match (has("--short"), has("--check")) {
        (true, _) => Extent { turn: Duration::from_millis(5), pairs: 2 },
        (_, true) => Extent { turn: Duration::from_millis(40), pairs: 9 },
        _ => Extent { turn: Duration::from_millis(150), pairs: 31 },
    };
    let mut holds = true;
    for row in &ROWS {
        if names.is_empty() || names.iter().any(|name| row.name.contains(name.as_str())) {
            holds &= measure(row, cores, &extent) >= RATIO_MIN;
        }
    }
    if has("--check") && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
