//! Accepting without blocking: the program tries every half second until a client connects, as in the tutorial. With
//! `--ready` it waits for readiness instead.
//!
//! Run `cargo run --example accept_retry`, watch it try, then `telnet 127.0.0.1 1234`. Run it again with `-- --ready`:
//! it never tries while there are no clients, and a client does not have to wait for the next try.
//!
//! The tutorial sleeps between its tries, so nothing else can happen meanwhile. Here a timer of the loop makes the
//! tries, and clients that are already connected are served between them.

mod support;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use support::{complain, say};
use switchboard::{Address, Context, EventLoop, Protocol, Transport};

const RETRY: Duration = Duration::from_millis(500);

/// Serves one client: a greeting, then an echo.
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

/// Tries to accept once, then schedules the next try, whether or not a client was there.
fn try_to_accept(context: &mut Context<'_>, listener: TcpListener, tries: u32) {
    let tries = match listener.accept() {
        Ok((stream, peer)) => {
            // Fails if the client is already gone, or if the loop is shutting down.
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
