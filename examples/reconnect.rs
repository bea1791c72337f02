//! A client that stays connected: prints the lines that a server sends, and reconnects whenever the connection ends.
//!
//! Run `cargo run --example embed_thread`, and `cargo run --example reconnect localhost:1234` beside it: what you type
//! there is printed here. Stop the server and start it again: the client reconnects after a delay, which grows with
//! each failure up to 10 s.
//!
//! With `--silence=SECONDS` a server that has been silent for that long is considered gone, since a machine that loses
//! power sends no FIN. With `--hosts=FILE` names are looked up in that file before the system is asked; it has the
//! format of `/etc/hosts` and is read again for each attempt. All addresses of a name are tried in turn.

#[path = "support/client.rs"]
#[allow(dead_code)] // Some of it is for clients that connect once.
mod client;
#[allow(dead_code)] // Some of it is for servers.
mod support;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Failure, say};
use switchboard::framing::{LineHandler, LineReceiver};
use switchboard::{Backoff, CloseReason, Connect, ConnectError, EventLoop, Reconnect, Timeout, Transport, escape};

const FIRST_DELAY: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(10);
/// If a server accepts a connection but closes it within this time, the delay keeps growing.
const STABLE_AFTER: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The handler of one connection: each new connection gets a new one.
struct Subscriber {
    silence: Option<Duration>,
}

impl LineHandler for Subscriber {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let server = transport.peer_addr().map(ToString::to_string).unwrap_or_default();
        say(format_args!("connected to {server}"));
        transport.set_timeout(Timeout::ReadIdle, self.silence);
    }

    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        say(escape(line));
    }

    /// The default closes the connection too, but gracefully.
    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        transport.abort_on_timeout(timeout);
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        say(format_args!("cannot connect: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        say(format_args!("disconnected: {reason}"));
    }
}

/// Called on a separate thread, so it may block.
fn look_up(hosts: &Path, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string(hosts)?.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(ip.map(|ip| SocketAddr::from((ip, port))));
        }
    }
    match found.is_empty() {
        true => Ok((name, port).to_socket_addrs()?.collect()),
        false => Ok(found),
    }
}

struct Options {
    server: (String, u16),
    silence: Option<Duration>,
    hosts: Option<PathBuf>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { server: ("127.0.0.1".to_owned(), 1234), silence: None, hosts: None };
    for argument in std::env::args().skip(1) {
        let wrong = || Failure::new(format!("{argument:?} is not understood: see the first lines of this example"));
        match argument.split_once('=') {
            Some(("--silence", seconds)) => {
                let seconds = seconds.parse().map_err(|_| wrong())?;
                options.silence = Some(Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?);
            }
            Some(("--hosts", file)) => options.hosts = Some(file.into()),
            _ => options.server = client::name_and_port(&argument).map_err(Failure::new)?,
        }
    }
    Ok(options)
}

fn main() -> Result<(), Failure> {
    support::show_log();
    let Options { server, silence, hosts } = options()?;
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    if let Some(hosts) = hosts {
        context.set_resolver(move |name, port| look_up(&hosts, name, port));
    }
    // When a server loses all its clients at once, they must not all reconnect at once: jitter spreads them out.
    let backoff = Backoff::new(FIRST_DELAY).max_delay(DELAY_MAX).jitter(0.2);
    let connect = Connect::to(server).timeout(CONNECT_TIMEOUT);
    Reconnect::new(connect, backoff, move |_| Some(LineReceiver::new(Subscriber { silence })))
        .stable_after(STABLE_AFTER)
        .start(&mut context);
    support::shut_down_on_signals(&mut event_loop)?;
    event_loop.run()?;
    Ok(())
}
