//! The examples `http_server` and `resp_server`, as `benches/measure.py` measures them: their protocols and limits
//! unchanged, but the loop does one turn for every byte on the standard input, and ends at the end of the input. So the
//! driver decides how many connections are ready at a poll.

#[allow(dead_code)] // Its own `main`.
#[path = "../../examples/http_server.rs"]
mod http_server;
#[allow(dead_code, clippy::duplicate_mod)] // Its own `main`; both programs have the modules in `support`.
#[path = "../../examples/resp_server.rs"]
mod resp_server;

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use http_server::http::Responses;
use http_server::support::{self, Failure};
use switchboard::{EventLoop, IntoProtocol, Limits};

/// A loop that listens at any port, and a turn of it for each byte, each byte read by a separate call.
fn serve<P: IntoProtocol + 'static>(limits: Limits, mut make: impl FnMut() -> P + 'static) -> Result<(), Failure> {
    let mut event_loop = EventLoop::with_limits(limits)?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = event_loop.context().listen(any_port, move |_, _| Some(make()))?;
    support::announce(&mut event_loop, listener)?;
    let mut go_ahead = File::open("/dev/stdin")?;
    while go_ahead.read(&mut [0])? > 0 {
        event_loop.turn(None)?;
    }
    Ok(())
}

fn http() -> Result<(), Failure> {
    let bounds = http_server::bounds::Bounds { timeout: http_server::IDLE_TIMEOUT, per_peer_max: None };
    let answers = Responses::new();
    serve(http_server::limits(&bounds), move || http_server::Client::new(answers.clone()))
}

fn resp() -> Result<(), Failure> {
    let bounds = resp_server::bounds::Bounds { timeout: resp_server::IDLE_TIMEOUT, per_peer_max: None };
    let server = resp_server::Server::new(resp_server::STORED_BYTES_MAX, resp_server::HELD_BYTES_MAX);
    serve(resp_server::limits(&bounds), move || resp_server::Client::new(&server, 1))
}

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1).as_deref() {
        Some("http_server") => http(),
        Some("resp_server") => resp(),
        _ => Err(Failure::from(io::Error::other("name a program: http_server or resp_server"))),
    }
}
