//! Sets and reads socket options, and sends urgent data: the tutorial's `setsockopt`, `getsockopt` and `MSG_OOB`.
//!
//! Run `cargo run --example options localhost:1234` beside `cargo run --example echo_server`. For each option it prints
//! the old value, the value asked for, and the new value, which need not be the one asked for. Then it sends an urgent
//! byte between two ordinary pieces of data, and prints what comes back. An echo server that reads urgent data inline,
//! as all servers of this crate do, echoes the byte in its place; otherwise the byte is lost.
//!
//! The loop has no API for socket options: `Transport::socket` lends the socket, and `socket2` has typed setters and
//! getters for all of them.

#[path = "support/client.rs"]
mod client;

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use client::{Outcome, say};
use socket2::{SockRef, TcpKeepalive};
use switchboard::{CloseReason, ConnectError, EventLoop, Protocol, Timeout, Transport, escape};

const BEFORE: &[u8] = b"before ";
const URGENT: &[u8] = b"!";
const BEHIND: &[u8] = b" behind";

/// How long the server may be silent. Python's `settimeout` raises an exception then; here it is an event.
const SILENCE_MAX: Duration = Duration::from_secs(2);

struct Client {
    echoed: Vec<u8>,
    is_done: bool,
    outcome: Outcome,
}

/// Sets an option, and prints its value before and after.
fn change<T: Debug + Copy>(
    name: &str,
    get: impl Fn() -> io::Result<T>,
    set: impl Fn(T) -> io::Result<()>,
    wanted: T,
) -> io::Result<()> {
    let before = get()?;
    set(wanted)?;
    say(format_args!("{name}: {before:?}, asked for {wanted:?}, now {:?}", get()?));
    Ok(())
}

fn change_all(socket: &SockRef<'_>) -> io::Result<()> {
    // Linux doubles the value, to leave room for its own bookkeeping.
    change("SO_SNDBUF", || socket.send_buffer_size(), |bytes| socket.set_send_buffer_size(bytes), 65535)?;
    change("SO_RCVBUF", || socket.recv_buffer_size(), |bytes| socket.set_recv_buffer_size(bytes), 65535)?;
    // IPv6 has a different option, at a different level.
    if socket.local_addr()?.is_ipv4() {
        change("IP_TTL", || socket.ttl_v4(), |hops| socket.set_ttl_v4(hops), 32)?;
    }
    // The loop has set it: all that a callback writes is sent together, so Nagle's algorithm would gain nothing.
    change("TCP_NODELAY", || socket.tcp_nodelay(), |on| socket.set_tcp_nodelay(on), false)?;
    let probes = |on| match on {
        true => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60))),
        false => socket.set_keepalive(false),
    };
    change("SO_KEEPALIVE", || socket.keepalive(), probes, true)?;
    // How long `close` waits for the peer. The loop never blocks in `close`, and sends unsent data by itself, so this
    // is not the way to get it sent.
    let linger = Some(Duration::from_secs(3));
    change("SO_LINGER", || socket.linger(), |time| socket.set_linger(time), linger)?;
    socket.set_linger(None)
}

/// Sends an urgent byte. It bypasses the loop's queue, which must be empty: otherwise the byte would go out before data
/// that was written earlier.
fn send_urgently(transport: &Transport<'_>) -> io::Result<usize> {
    match transport.socket() {
        Some(socket) if transport.queued_bytes() == 0 => SockRef::from(&socket).send_out_of_band(URGENT),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Client {
    fn fail(&mut self, transport: &mut Transport<'_>, error: &io::Error) {
        self.outcome.failed(error);
        self.is_done = true;
        transport.abort();
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let socket = transport.socket();
        if let Some(Err(error)) = socket.map(|socket| change_all(&SockRef::from(&socket))) {
            return self.fail(transport, &error);
        }
        transport.set_timeout(Timeout::ReadIdle, Some(SILENCE_MAX));
        transport.write(BEFORE);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.echoed.extend_from_slice(data);
        if self.echoed == BEFORE {
            match send_urgently(transport) {
                Ok(_) => transport.write(BEHIND),
                Err(error) => self.fail(transport, &error),
            }
        }
        if self.echoed.ends_with(BEHIND) {
            say(format_args!("came back: {}", escape(&self.echoed)));
            self.is_done = true;
            transport.close();
        }
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if !self.is_done {
            self.outcome.failed(&format_args!("only {} came back: {reason}", escape(&self.echoed)));
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let server = client::server()?;
    let mut event_loop = EventLoop::new()?;
    let outcome = Outcome::default();
    let client = Client { echoed: Vec::new(), is_done: false, outcome: outcome.clone() };
    event_loop.context().connect(server, client)?;
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
