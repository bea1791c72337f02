//! The load generator of relays: the clients on one side of a relay, and the server on the other. It sends in bulk, one
//! way or both, verifies every byte that comes out, and prints one line of JSON for each turn. `relay.py` runs it for
//! each relay. It takes turns like `load`, and shares files with it.
//!
//! ```text
//! load_relay both --pairs 50
//! ```
//!
//! First it prints `{"target": "127.0.0.1:1234"}`, which is where the relay is to connect to, and reads the relay's
//! address and process id, `127.0.0.1:1235 4321`. Each further line is a turn, and says for how many seconds.
//!
//! Exit status 0 means that every byte was right, and that each end of a stream was passed on.

#![forbid(unsafe_code)]

#[path = "../load/address.rs"]
#[allow(dead_code)] // Unix sockets are of the other program.
mod address;
#[path = "../load/ending.rs"]
mod ending;
mod flows;
mod options;
mod pairs;
#[path = "../load/pattern.rs"]
mod pattern;
#[path = "../load/poller.rs"]
mod poller;
#[path = "../load/result.rs"]
mod result;
#[path = "../load/server.rs"]
mod server;
#[path = "../load/turn.rs"]
mod turn;

use std::io::{BufRead, Write};
use std::net::TcpListener;
use std::process::ExitCode;

use address::Address;
use flows::Flows;
use options::Options;
use result::{Doing, Failure, Result};
use server::Server;
use turn::{Bounds, Deadline, Load, Turn};

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("load_relay: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load_relay: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    server::stay_on_core(options.core)?;
    server::allow_descriptors(2 * options.pairs)?;
    let target = TcpListener::bind("127.0.0.1:0").doing(|| "the target".into())?;
    print(&serde_json::json!({ "target": target.local_addr()?.to_string() }))?;
    let mut lines = std::io::stdin().lock().lines();
    let line = lines.next().ok_or_else(|| Failure::new("no relay was named"))??;
    let (relay, server) = relay_in(&line).ok_or_else(|| Failure::new(format!("not an address and a pid: {line:?}")))?;
    let mut flows = Flows::open(options, &relay, &target, Deadline::after(options.limit))?;
    print(&serde_json::json!({ "ready": true }))?;
    for line in lines {
        let line = line?;
        let seconds = line.trim().parse::<f64>().ok().filter(|seconds| (0.0..1e6).contains(seconds));
        let seconds = seconds.ok_or_else(|| Failure::new(format!("not a number of seconds: {line:?}")))?;
        let mut turn = Turn::start(Bounds::new(Some(seconds), None, options.limit), Some(server))?;
        flows.take(&mut turn)?;
        print(&turn.finish()?)?;
    }
    flows.finish(Deadline::after(options.limit))
}

fn relay_in(line: &str) -> Option<(Address, Server)> {
    let (address, pid) = line.trim().split_once(' ')?;
    Some((address.parse().ok()?, Server { pid: pid.parse().ok()? }))
}

fn print(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
