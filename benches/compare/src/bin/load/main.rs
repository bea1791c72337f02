//! The load generator: talks to one server, verifies every byte that comes back, and prints one line of
//! JSON. It measures one server, whichever it is; `compare.py` runs it for all of them.
//!
//! ```text
//! load echo 127.0.0.1:1234 --clients 50 --seconds 2
//! load fanout 127.0.0.1:1234 --clients 1000 --count 1000000
//! ```
//!
//! Exit status 0 means that every byte was right. A wrong, lost or duplicated byte, a closed connection, or a server
//! that stops answering ends it with status 1 and a line that says which; nothing here waits without a deadline.

#![forbid(unsafe_code)]

mod address;
mod connects;
mod crowd;
mod ending;
mod exchange;
mod fanout;
mod options;
mod pattern;
mod poller;
mod result;
mod server;
mod streams;
mod talk;
mod turn;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use options::{Options, Workload};
use result::{Failure, Result};
use turn::{Bounds, Deadline, Load, Turn};

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("load: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {}: {failure}", options.workload.name());
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    server::stay_on_core(options.core)?;
    server::allow_descriptors(options.clients + options.idle)?;
    let limit = Deadline::after(options.limit);
    let mut load: Box<dyn Load> = match options.workload {
        Workload::Echo | Workload::Pipelined | Workload::Bulk | Workload::Http | Workload::Resp => {
            Box::new(streams::Streams::open(options, limit)?)
        }
        Workload::Idle => Box::new(crowd::Crowd::open(options, limit)?),
        Workload::Connect => Box::new(connects::Connects::open(options)?),
        Workload::Fanout => Box::new(fanout::Fanout::open(options, limit)?),
    };
    if options.turns {
        turns_as_told(load.as_mut(), options)?;
    } else {
        print(&one_turn(load.as_mut(), options, options.seconds)?)?;
    }
    load.finish(Deadline::after(options.limit))
}

/// Takes a turn for each line of the input, which says for how many seconds. So a connection lasts for many short
/// turns, between which other servers have theirs; none of them includes the cost of connecting.
fn turns_as_told(load: &mut dyn Load, options: &Options) -> Result<()> {
    print(&serde_json::json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let seconds = line.trim().parse::<f64>().ok().filter(|seconds| (0.0..1e6).contains(seconds));
        let seconds = seconds.ok_or_else(|| Failure::new(format!("not a number of seconds: {line:?}")))?;
        print(&one_turn(load, options, Some(seconds))?)?;
    }
    Ok(())
}

fn one_turn(load: &mut dyn Load, options: &Options, seconds: Option<f64>) -> Result<serde_json::Value> {
    let bounds = Bounds::new(seconds, options.count, options.limit);
    let mut turn = Turn::start(bounds, options.server)?;
    load.take(&mut turn)?;
    let mut found = turn.finish()?;
    found["workload"] = options.workload.name().into();
    found["clients"] = options.clients.into();
    found["idle"] = options.idle.into();
    Ok(found)
}

fn print(line: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
