//! The load generator over TLS: talks to one echo server, verifies every byte that comes back, and prints one line of
//! JSON for each turn. It is one program for all servers; `tls.py` runs it. It takes turns like `load`, and shares
//! files with it.
//!
//! ```text
//! load_tls echo 127.0.0.1:1234 --ca certificate.pem --clients 50 --depth 16 --turns
//! ```
//!
//! Exit status 0 means that each byte was right, each connection ended by `close_notify` (unless not requested), and
//! each handshake was of the requested kind.

#![forbid(unsafe_code)]

#[path = "../load/address.rs"]
#[allow(dead_code)] // Unix sockets are of the other program.
mod address;
mod client;
mod handshakes;
mod options;
#[path = "../load/pattern.rs"]
mod pattern;
#[path = "../load/poller.rs"]
#[allow(dead_code)] // This one asks for all edges at once.
mod poller;
#[path = "../load/result.rs"]
mod result;
#[path = "../load/server.rs"]
mod server;
mod streams;
#[path = "../load/turn.rs"]
mod turn;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use options::{Options, Workload};
use result::{Failure, Result};
use turn::{Bounds, Deadline, Load, Turn};

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("load_tls: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load_tls: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a turn for each line of the input, which says for how many seconds.
fn measure(options: &Options) -> Result<()> {
    server::stay_on_core(options.core)?;
    server::allow_descriptors(options.clients)?;
    let limit = Deadline::after(options.limit);
    let mut load: Box<dyn Load> = match options.workload {
        Workload::Echo => Box::new(streams::Streams::open(options, limit)?),
        Workload::Full | Workload::Resumed => Box::new(handshakes::Handshakes::open(options, limit)?),
    };
    print(&serde_json::json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let seconds = line.trim().parse::<f64>().ok().filter(|seconds| (0.0..1e6).contains(seconds));
        let seconds = seconds.ok_or_else(|| Failure::new(format!("not a number of seconds: {line:?}")))?;
        let mut turn = Turn::start(Bounds::new(Some(seconds), None, options.limit), options.server)?;
        load.take(&mut turn)?;
        print(&turn.finish()?)?;
    }
    load.finish(Deadline::after(options.limit))
}

fn print(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
