//! What a second core gains: `cargo bench --features workers --bench cores`.
//!
//! `computing.rs` measures a protocol that computes. Then come protocols in which the loop is nearly all there is:
//!
//! - Those of the examples `http_server` and `resp_server`, a loop each. Their states are a loop's own: two loops of
//!   `resp_server` have two stores, as two Redis have.
//! - The example `chat`, with a room for each loop, which is how a large chat divides its members.
//! - One room whose members are spread over all loops: a line is posted to the other loops, and broadcast there.
//!
//! A group of one loop runs on one core, a group of two on two. Each loop shares its core with a thread of clients, which
//! are connected to that loop, so each core has the same work: requests, or lines, and nothing else. Both groups run all
//! the time, and turns alternate: the same rounds on one, then on the other. Within each pair of turns the requests a
//! second are compared, and the requests for the same CPU time of the loops, which other load hardly disturbs. These need
//! Linux, two cores, and `taskset`.
//!
//! With `-- --check` it fails if two loops do less than 1.8 times what one does: in the same time when they compute, and
//! otherwise for the CPU time of a loop, which takes some seconds; the room across the loops has no such bound. With `--
//! --short` everything runs only for a moment, to check that it works. Other arguments are parts of the names of what to
//! measure, such as `http`, `resp`, `each loop` or `computing`. With `-- --write-readme` the table of the
//! protocols is written into benches/README.md.

mod client;
mod computing;
mod measuring;
mod placing;
mod served;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use measuring::{Extent, Found, Row};
use served::Kind;

/// The required gain of two loops on two idle cores, or for the CPU time of a loop.
const RATIO_MIN: f64 = 1.8;

/// What is measured.
const ROWS: [Row; 6] = [
    Row { name: "http_server", kind: Kind::Http, depth: 1, connections: 25 },
    Row { name: "http_server, 16 deep", kind: Kind::Http, depth: 16, connections: 25 },
    Row { name: "resp_server", kind: Kind::Resp, depth: 1, connections: 25 },
    Row { name: "resp_server, 16 deep", kind: Kind::Resp, depth: 16, connections: 25 },
    Row { name: "chat, a room of 50 on each loop", kind: Kind::Rooms, depth: 1, connections: 50 },
    Row { name: "chat, a room of 100 across the loops", kind: Kind::Across, depth: 1, connections: 50 },
];

const COMMAND: &str = "cargo bench --features workers --bench cores";

/// The page with the table, and the lines around it.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");
const MARKS: [&str; 2] = ["<!-- cores: begin -->\n", "<!-- cores: end -->\n"];

fn main() -> ExitCode {
    let (flags, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|argument| argument == flag);
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let mut holds = !wanted("computing") || computing::measure(has("--short"));
    let Some(cores) = placing::two_cores() else {
        println!("the rest is left out: it needs Linux with two cores and taskset");
        return exit_code(holds || !has("--check"));
    };
    let extent = match (has("--short"), has("--check")) {
        (true, _) => Extent { turn: Duration::from_millis(5), pairs: 2 },
        (_, true) => Extent { turn: Duration::from_millis(40), pairs: 9 },
        _ => Extent { turn: Duration::from_millis(150), pairs: 31 },
    };
    let mut table = Found::head() + "\n";
    print!("\n{table}");
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let found = Found::measure(row, cores, &extent);
        println!("{}", found.row());
        table += &(found.row() + "\n");
        holds &= found.gain() >= RATIO_MIN || row.kind == Kind::Across;
    }
    if has("--write-readme") && names.is_empty() {
        write(&format!("{}\n\n{table}", taken(extent.pairs))).expect("the page has the two lines");
    }
    exit_code(holds || !has("--check"))
}

fn exit_code(is_success: bool) -> ExitCode {
    if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says when, how and where it was measured.
fn taken(pairs: usize) -> String {
    let now = httpdate::fmt_http_date(SystemTime::now());
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "Measured on {} by `{COMMAND} -- --write-readme`: {}; medians of {pairs} pairs of turns, quartiles in brackets; \
         where there are two figures, on one loop and on two.",
        &now["Mon, ".len().."Mon, 30 Nov 2026".len()],
        model.map_or("an unknown processor", |(_, model)| model),
    )
}

/// Writes the table into the page.
fn write(text: &str) -> io::Result<()> {
    let page = fs::read_to_string(PAGE)?;
    let parts = page.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let (before, after) = parts.ok_or(io::ErrorKind::InvalidData)?;
    fs::write(PAGE, [before, MARKS[0], text, MARKS[1], after].concat())
}
