//! The command line.

use std::time::Duration;

use lexopt::prelude::*;

use crate::pattern::PIECE_BYTES_MAX;

pub const USAGE: &str = "\
load_relay WAY [OPTION...]

WAY is one of
  one    the clients send
  both   the clients and the server send at once

  --pairs N   connections through the relay
  --bytes N   the size of a message
  --depth N   messages under way in each direction of each connection
  --limit S   how long anything else may take: connecting, the last messages, closing; 30 if not given
  --core N    the core to run on";

pub struct Options {
    pub both: bool,
    pub pairs: usize,
    pub message_bytes: usize,
    pub depth: usize,
    pub limit: Duration,
    pub core: Option<usize>,
}

pub fn parse() -> Result<Options, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut way = None;
    let (mut pairs, mut message_bytes, mut depth) = (1, PIECE_BYTES_MAX, 16);
    let (mut limit, mut core) = (30, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pairs") => pairs = parser.value()?.parse()?,
            Long("bytes") => message_bytes = parser.value()?.parse()?,
            Long("depth") => depth = parser.value()?.parse()?,
            Long("limit") => limit = parser.value()?.parse()?,
            Long("core") => core = Some(parser.value()?.parse()?),
            Value(value) if way.is_none() => way = Some(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let both = match way.as_deref() {
        Some("one") => false,
        Some("both") => true,
        _ => return Err("one way or both?".into()),
    };
    if pairs == 0 || depth == 0 || !(1..=PIECE_BYTES_MAX).contains(&message_bytes) {
        return Err(format!("at least a pair and a message, of 1 to {PIECE_BYTES_MAX} bytes").into());
    }
    Ok(Options { both, pairs, message_bytes, depth, limit: Duration::from_secs(limit), core })
}
