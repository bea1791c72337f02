//! Measuring a protocol on one loop and on two.

use std::time::{Duration, Instant};

use crate::client::{Clients, Load, Took};
use crate::served::{Kind, Server};

/// A protocol and its load.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Requests in flight on each connection.
    pub(crate) depth: usize,
    /// Connections for each loop of two.
    pub(crate) connections: usize,
}

/// How long a turn is, and how many pairs of turns there are.
pub(crate) struct Extent {
    pub(crate) turn: Duration,
    pub(crate) pairs: usize,
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
            let start = Instant::now();
            self.turn(clients, rounds);
            let took = start.elapsed();
            if took >= time / 2 {
                return (rounds as f64 * time.as_secs_f64() / took.as_secs_f64()).ceil() as usize;
            }
            rounds *= 2;
        }
    }
}

/// The turns of one loop, and those of two, in pairs.
pub(crate) struct Found {
    name: &'static str,
    turns: Vec<(Turn, Turn)>,
}

impl Found {
    /// Measures a row, on one of these cores and on both.
    pub(crate) fn measure(row: &Row, cores: [usize; 2], extent: &Extent) -> Found {
        let mut clients = cores.map(Clients::start);
        let one = Site::new(row, 0, &cores[..1], &mut clients);
        let two = Site::new(row, 1, &cores, &mut clients);
        let rounds = one.rounds_in(&mut clients, extent.turn);
        two.turn(&mut clients, rounds); // Its caches are cold.
        let pair = |n: usize| {
            if n % 2 == 0 {
                let of_one = one.turn(&mut clients, rounds);
                (of_one, two.turn(&mut clients, rounds))
            } else {
                let of_two = two.turn(&mut clients, rounds);
                (one.turn(&mut clients, rounds), of_two)
            }
        };
        Found { name: row.name, turns: (0..extent.pairs).map(pair).collect() }
    }

    /// Returns how many requests two loops answer for the CPU time in which one loop answers one, twice: the median.
    pub(crate) fn gain(&self) -> f64 {
        self.gains()[1]
    }

    fn gains(&self) -> [f64; 3] {
        self.quartiles(&|one, two| 2.0 * one.cpu_ns / two.cpu_ns)
    }

    fn quartiles(&self, figure: &dyn Fn(&Turn, &Turn) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.turns.iter().map(|(one, two)| figure(one, two)).collect();
        values.sort_by(f64::total_cmp);
        [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
    }

    /// Returns the heads of the columns, and the line below them.
    pub(crate) fn head() -> String {
        let columns = [
            "on two loops, relative to one",
            "in the same time",
            "for the same CPU time of a loop",
            "a second",
            "CPU of the loop for each, ns",
            "99th percentile, \u{b5}s",
        ];
        format!("| {} |\n|{}", columns.join(" | "), " --- |".repeat(columns.len()))
    }

    /// Returns a row of the table: medians, with the quartiles of ratios.
    pub(crate) fn row(&self) -> String {
        let ratio = |[low, middle, high]: [f64; 3]| format!("{middle:.2} ({low:.2}\u{2013}{high:.2})");
        let both = |figure: &dyn Fn(&Turn) -> f64| {
            let (one, two) = (self.quartiles(&|one, _| figure(one))[1], self.quartiles(&|_, two| figure(two))[1]);
            format!("{}, {}", grouped(one), grouped(two))
        };
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            self.name,
            ratio(self.quartiles(&|one, two| two.per_second / one.per_second)),
            ratio(self.gains()),
            both(&|turn| turn.per_second),
            both(&|turn| turn.cpu_ns),
            both(&|turn| turn.p99_us),
        )
    }
}

/// Formats a number with commas between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let first = (first > 0).then(|| digits[..first].to_owned());
    first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}
