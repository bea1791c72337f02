//! Accepting without blocking, tried again every half second until somebody comes, as in the tutorial, and, with
//! `--ready`, the same by readiness.
//!
//! Run `cargo run --example accept_retry`, watch it try, then `telnet 127.0.0.1 1234`. Run it again with `-- --ready`:
//! nothing is tried while nobody is there, and whoever comes does not wait for the next try.
//!
//! The tutorial sleeps between its tries, so nothing else can happen meanwhile. Here a timer of the loop tries, and
//! clients that have come are served at the same time.

mod support;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use support::{complain, say};
use switchboard::{Address, Context, EventLoop, Protocol, Transport};

const RETRY: Duration = Duration::from_millis(500);

/// What is done for a client: a greeting, then an echo.
struct Request;

impl Protocol for Request {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b"Thank you for connecting. What you send comes back.\r\n");
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn process_request(peer: &Address) -> Request {
    say(format_args!("Got connection from {peer}"));
    Request
}

/// Tries to accept once. Where nobody is there, and after each who was, it is tried again later.
fn try_to_accept(context: &mut Context<'_>, listener: TcpListener, tries: u32) {
    let tries = match listener.accept() {
        Ok((stream, peer)) => {
            // Refused where the client is gone again, or the loop is shutting down.
            if let Err(error) = context.attach(stream, process_request(&peer.into())) {
                complain(format_args!("cannot serve {peer}: {error}"));
            }
            1
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            say(format_args!("try {tries}: nobody yet"));
            tries + 1
        }
        Err(error) => {
            complain(format_args!("try {tries}: {error}"));
            tries + 1
        }
    };
    let timer = context.call_later(RETRY, move |context| try_to_accept(context, listener, tries));
    context.set_background(timer, true);
}

fn accept_by_retrying(event_loop: &mut EventLoop, address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    say(format_args!("listening on {}", listener.local_addr()?));
    try_to_accept(&mut event_loop.context(), listener, 1);
    Ok(())
}

fn accept_when_ready(event_loop: &mut EventLoop, address: SocketAddr) -> io::Result<()> {
    let listener = event_loop.context().listen(address, |_, peer| Some(process_request(peer)))?;
    support::announce(event_loop, listener)
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&["--ready"])?;
    let by_readiness = std::env::args().any(|argument| argument == "--ready");
    let mut event_loop = EventLoop::new()?;
    support::shut_down_on_signals(&mut event_loop)?;
    let accepting = if by_readiness { accept_when_ready } else { accept_by_retrying };
    accepting(&mut event_loop, address).map_err(support::cannot_listen(address))?;
    event_loop.run()?;
    Ok(())
}
