//! The command line.

use std::time::Duration;

use lexopt::prelude::*;

use crate::address::Address;
use crate::pattern::PIECE_BYTES_MAX;
use crate::server::Server;

pub const USAGE: &str = "\
load WORKLOAD ADDRESS [OPTION...]

WORKLOAD is one of
  echo       each client sends a message and waits for its echo
  pipelined  the same with 16 messages under way on each connection
  bulk       large messages both ways at once
  idle       echo, beside many connections that do nothing
  connect    connect, one message echoed, close; so many clients at a time
  fanout     each client is a member: sends a line, and waits for the lines of all
  http       GET of the path /, which is a short text
  resp       GET of a key with 64 bytes, as Redis has it
ADDRESS is HOST:PORT, or the path of a Unix socket, with a `/` in it.

  --clients N   connections that talk
  --idle N      connections that do nothing
  --bytes N     the size of a message or line
  --depth N     messages under way on each connection
  --seconds S   how long new messages are begun; 1 if there is no --count
  --count N     how many messages are begun at most
  --turns       takes a turn for each line of standard input, which is a number of seconds
  --limit S     how long anything else may take: connecting, the last answers, closing; 30 if not given
  --core N      the core to run on
  --server PID  the process whose CPU time is measured";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    Echo,
    Pipelined,
    Bulk,
    Idle,
    Connect,
    Fanout,
    Http,
    Resp,
}

impl Workload {
    const ALL: [Self; 8] =
        [Self::Echo, Self::Pipelined, Self::Bulk, Self::Idle, Self::Connect, Self::Fanout, Self::Http, Self::Resp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Pipelined => "pipelined",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Fanout => "fanout",
            Self::Http => "http",
            Self::Resp => "resp",
        }
    }

    /// Clients, bytes of a message, messages in flight on each connection, idle connections.
    fn defaults(self) -> (usize, usize, usize, usize) {
        match self {
            Self::Echo | Self::Connect | Self::Http | Self::Resp => (50, 64, 1, 0),
            Self::Pipelined => (50, 64, 16, 0),
            Self::Bulk => (4, PIECE_BYTES_MAX, 16, 0),
            Self::Idle => (50, 64, 1, 10_000),
            Self::Fanout => (100, 64, 1, 0),
        }
    }
}

pub struct Options {
    pub workload: Workload,
    pub address: Address,
    pub clients: usize,
    pub idle: usize,
    pub message_bytes: usize,
    pub depth: usize,
    pub seconds: Option<f64>,
    pub count: Option<u64>,
    pub turns: bool,
    pub limit: Duration,
    pub core: Option<usize>,
    pub server: Option<Server>,
}

/// `None` is a request for help.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut positional = Vec::new();
    let (mut clients, mut idle, mut message_bytes, mut depth) = (None, None, None, None);
    let (mut seconds, mut count, mut core, mut server) = (None, None, None, None);
    let (mut turns, mut limit) = (false, 30.0);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("clients") => clients = Some(parser.value()?.parse()?),
            Long("idle") => idle = Some(parser.value()?.parse()?),
            Long("bytes") => message_bytes = Some(parser.value()?.parse()?),
            Long("depth") => depth = Some(parser.value()?.parse()?),
            Long("seconds") => seconds = Some(parser.value()?.parse()?),
            Long("count") => count = Some(parser.value()?.parse()?),
            Long("turns") => turns = true,
            Long("limit") => limit = parser.value()?.parse()?,
            Long("core") => core = Some(parser.value()?.parse()?),
            Long("server") => server = Some(Server { pid: parser.value()?.parse()? }),
            Value(value) => positional.push(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let [workload, address] = &positional[..] else { return Err("a workload and an address are needed".into()) };
    let workload = Workload::ALL.into_iter().find(|known| known.name() == workload);
    let workload = workload.ok_or_else(|| format!("no such workload: {}", positional[0]))?;
    let defaults = workload.defaults();
    let options = Options {
        workload,
        address: address.parse()?,
        clients: clients.unwrap_or(defaults.0),
        message_bytes: message_bytes.unwrap_or(defaults.1),
        depth: depth.unwrap_or(defaults.2),
        idle: idle.unwrap_or(defaults.3),
        seconds: seconds.or(if count.is_none() { Some(1.0) } else { None }),
        count,
        turns,
        limit: seconds_of(limit)?,
        core,
        server,
    };
    check(&options)?;
    Ok(Some(options))
}

fn check(options: &Options) -> Result<(), lexopt::Error> {
    if options.clients == 0 || options.depth == 0 {
        return Err("no load without a client and a message".into());
    }
    // A line has room for its sender and its round.
    let least = if options.workload == Workload::Fanout { crate::fanout::LINE_BYTES_MIN } else { 1 };
    if !(least..=PIECE_BYTES_MAX).contains(&options.message_bytes) {
        return Err(format!("a message has {least} to {PIECE_BYTES_MAX} bytes").into());
    }
    if let Some(seconds) = options.seconds {
        seconds_of(seconds)?;
    }
    Ok(())
}

fn seconds_of(seconds: f64) -> Result<Duration, lexopt::Error> {
    if seconds > 0.0 && seconds < 1e6 {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("not a length of time: {seconds} s").into())
}
