// Shared by the examples that may run on an open network: how long a peer may be silent, and how many connections one
// peer may have.

use std::str::FromStr;
use std::time::Duration;

use super::support::Failure;
use switchboard::Limits;

/// These options, as the usage line shows them.
#[allow(dead_code)] // An example with its own usage line does not use this.
pub(crate) const FLAGS: [&str; 2] = ["--timeout SECONDS", "--per-peer N"];

/// The values of these options.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) timeout: Duration,
    /// Behind a load balancer, or from a load generator, all connections come from one address, so there is no limit
    /// unless one is requested.
    pub(crate) per_peer_max: Option<usize>,
}

impl Bounds {
    /// Removes `--timeout SECONDS` and `--per-peer N` from the arguments. `timeout` is the default.
    pub(crate) fn take_from(arguments: &mut Vec<String>, timeout: Duration) -> Result<Bounds, Failure> {
        let seconds: Option<u32> = take_number(arguments, "--timeout")?;
        let per_peer_max = take_number(arguments, "--per-peer")?;
        let timeout = seconds.map_or(timeout, |seconds| Duration::from_secs(seconds.into()));
        Ok(Bounds { timeout, per_peer_max })
    }

    /// Returns limits under which no peer may be idle for longer, or have more connections.
    #[allow(dead_code)] // Some examples use the timeout for something else, or count peers themselves.
    pub(crate) fn limits(&self) -> Limits {
        Limits::default().with_idle_timeout(Some(self.timeout)).with_connections_per_peer_max(self.per_peer_max)
    }
}

/// Removes a flag and its number from the arguments: `--per-peer 4` or `--per-peer=4`.
pub(crate) fn take_number<N: FromStr + Default + PartialEq>(
    arguments: &mut Vec<String>,
    flag: &str,
) -> Result<Option<N>, Failure> {
    let is_flag = |argument: &String| argument.split('=').next() == Some(flag);
    let Some(index) = arguments.iter().position(is_flag) else { return Ok(None) };
    let argument = arguments.remove(index);
    let number = match argument.split_once('=') {
        Some((_, number)) => Some(number.to_owned()),
        None => (index < arguments.len()).then(|| arguments.remove(index)),
    };
    let number = number.and_then(|number| number.parse().ok()).filter(|number| *number != N::default());
    number.map(Some).ok_or_else(|| Failure::new(format!("{flag} needs a number, 1 or more")))
}
