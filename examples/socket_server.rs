//! The tutorial's socket servers: a blocking handler that is called for each connection or datagram.
//!
//! Run `cargo run --example socket_server --features server`, then `telnet 127.0.0.1 1234`: it sends a greeting, and
//! echoes each line. It serves one client at a time, and the others wait; with `--threads=4` or `--processes=4` it
//! serves four at once. With `--udp`, `--unix` or `--unix-datagram` the same handler serves those sockets (a Unix
//! socket's address is a path); a datagram is just echoed. With `--once` it serves one request and exits.
//!
//! `--echo` runs the tutorial's echo handler, which prints what it receives; `cargo run --example echo_client` is its
//! client. `--refuse=ADDRESS` refuses clients from that IP address. Requests that fail are reported on stderr.
//!
//! Ctrl-C stops listening and gives running requests five seconds to finish; a second Ctrl-C ends them at once.

#[allow(dead_code)] // This example has its own command line, and other kinds of addresses.
mod support;

#[path = "socket_server/handlers.rs"]
mod handlers;

use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use handlers::{Echo, THANKS, run_child, thank};
use support::{Failure, complain, on_signals, say};
use switchboard::server::{Requests, SocketServer};

/// How long the server waits for running requests when it ends.
const GRACE: Duration = Duration::from_secs(5);

/// The command line.
struct Options {
    way: Way,
    kind: Kind,
    once: bool,
    echo: bool,
    refused: Vec<IpAddr>,
    address: Option<String>,
}

enum Way {
    Threads(NonZeroUsize),
    Processes(NonZeroUsize),
}

enum Kind {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
}

fn options() -> Result<Options, Failure> {
    // One at a time, on another thread. `Requests::one_at_a_time` would run the handler on the loop's own thread, and
    // while that waits for a silent client it handles no signals.
    let one_at_a_time = Way::Threads(NonZeroUsize::MIN);
    let (way, refused) = (one_at_a_time, Vec::new());
    let mut options = Options { way, kind: Kind::Tcp, once: false, echo: false, refused, address: None };
    for argument in std::env::args().skip(1) {
        let wrong = || Failure::new(format!("{argument:?} is not understood: see the first lines of this example"));
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--threads", count) => options.way = Way::Threads(count.parse().map_err(|_| wrong())?),
            ("--processes", count) => options.way = Way::Processes(count.parse().map_err(|_| wrong())?),
            ("--udp", "") => options.kind = Kind::Udp,
            ("--unix", "") => options.kind = Kind::Unix,
            ("--unix-datagram", "") => options.kind = Kind::UnixDatagram,
            ("--once", "") => options.once = true,
            ("--echo", "") => options.echo = true,
            ("--refuse", address) => options.refused.push(address.parse().map_err(|_| wrong())?),
            (flag, _) if flag.starts_with('-') || options.address.is_some() => return Err(wrong()),
            _ => options.address = Some(argument),
        }
    }
    match (&options.way, &options.kind) {
        (Way::Threads(_), Kind::Tcp | Kind::Unix) => Ok(options),
        // A child's stdout is the connection, so it cannot print.
        _ if options.echo => Err(Failure::new("--echo is for connections, and in threads".to_owned())),
        _ => Ok(options),
    }
}

#[cfg(unix)]
fn by_processes(processes: NonZeroUsize, thanks: &'static str) -> io::Result<Requests> {
    let this_program = std::env::current_exe()?;
    Ok(Requests::processes(processes, move |client| {
        handlers::greet(client);
        let mut command = std::process::Command::new(&this_program);
        command.arg(thanks);
        command
    }))
}

#[cfg(not(unix))]
fn by_processes(_: NonZeroUsize, _: &str) -> io::Result<Requests> {
    Err(io::ErrorKind::Unsupported.into())
}

fn requests(options: &Options, thanks: &'static str) -> io::Result<Requests> {
    let requests = match &options.way {
        Way::Threads(threads) if options.echo => Requests::threads(*threads, Echo::default),
        Way::Threads(threads) => Requests::threads(*threads, || thank),
        Way::Processes(processes) => by_processes(*processes, thanks)?,
    };
    let refused = options.refused.clone();
    let verified = requests.verify(move |client| client.as_inet().is_none_or(|client| !refused.contains(&client.ip())));
    Ok(verified.on_error(|_, client, error| complain(format_args!("the request from {client} failed: {error}"))))
}

fn serve(options: &Options) -> Result<SocketServer, Failure> {
    let is_stream = matches!(options.kind, Kind::Tcp | Kind::Unix);
    let requests = requests(options, if is_stream { "--child" } else { "--child-datagram" })?;
    let address = options.address.as_deref().unwrap_or("127.0.0.1:1234");
    let inet = || {
        let parsed = address.parse::<std::net::SocketAddr>();
        parsed.map_err(|_| Failure::new(format!("{address:?} is not an address to listen on")))
    };
    let server = match options.kind {
        Kind::Tcp => SocketServer::listen(inet()?, requests),
        Kind::Udp => SocketServer::bind_datagram(inet()?, requests),
        #[cfg(unix)]
        Kind::Unix => SocketServer::listen(switchboard::UnixAddress::path(address), requests),
        #[cfg(unix)]
        Kind::UnixDatagram => SocketServer::bind_datagram(switchboard::UnixAddress::path(address), requests),
        #[cfg(not(unix))]
        Kind::Unix | Kind::UnixDatagram => Err(io::ErrorKind::Unsupported.into()),
    };
    server.map_err(|error| Failure::new(format!("cannot listen on {address}: {error}")))
}

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1).as_deref() {
        Some("--child") => return run_child(THANKS),
        Some("--child-datagram") => return run_child(b""),
        _ => support::show_log(),
    }
    let options = options()?;
    let mut server = serve(&options)?;
    // The first signal ends `serve_forever`, the second one ends the wait in `shutdown`.
    on_signals(&mut server.context(), |context, _| context.stop())?;
    say(format_args!("listening on {}", server.local_addr()));
    match options.once {
        true => drop(server.handle_request(None)?),
        false => server.serve_forever()?,
    }
    server.shutdown(GRACE)?;
    Ok(())
}
