//! An echo server behind a proxy: greets each client with its address, as reported by the proxy, and echoes its data.
//!
//! Run `cargo run --example proxy_echo --features proxy`, and a proxy in front of it, such as HAProxy with
//! `server echo 127.0.0.1:1234 send-proxy-v2`. Or play the proxy yourself:
//! `printf 'PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nhello\n' | nc 127.0.0.1 1234`.
//! It prints a line for each client that connects or disconnects.
//!
//! A peer that has been silent for a minute, or `--timeout SECONDS`, is disconnected, and one that sends no header
//! after 5 s at the latest. `--per-peer N` limits the connections per client, by the address that the proxy reports.
//!
//! With `--trust=ADDRESS`, an IP address, only connections from there are accepted as a proxy's; it may be given
//! several times. It is essential wherever others can reach the server: any peer that may send a header can claim any
//! address.

#[path = "support/bounds.rs"]
mod bounds;
mod support;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bounds::Bounds;
use switchboard::proxy::{AcceptProxy, Carried, tlv};
use switchboard::{CloseReason, EventLoop, Limits, Protocol, Transport, escape};

use support::say;

/// How long a peer may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

struct Echo {
    _place: Place,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let Some(peer) = transport.peer_addr().map(ToString::to_string) else { return };
        say(format_args!("{peer} is connected"));
        transport.write(format!("hello {peer}\r\n").as_bytes());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        let Some(peer) = transport.peer_addr() else { return };
        say(format_args!("{peer} is gone: {reason}"));
    }
}

/// The number of connections per client. The loop's own limit counts by the socket's peer, which is the proxy.
#[derive(Clone)]
struct Clients {
    counts: Rc<RefCell<HashMap<IpAddr, usize>>>,
    per_peer_max: Option<usize>,
}

impl Clients {
    /// Returns `None` if the client has reached its limit. A proxy that connects on its own behalf is not counted.
    fn enter(&self, carried: &Carried) -> Option<Place> {
        let client = carried.source().and_then(|source| source.as_inet()).map(|source| match source.ip() {
            // An IPv6 client may use any address of its /64 network.
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            ip => ip,
        });
        if let Some(client) = client {
            let mut counts = self.counts.borrow_mut();
            let count = counts.entry(client).or_default();
            if self.per_peer_max.is_some_and(|max| *count >= max) {
                return None;
            }
            *count += 1;
        }
        Some(Place { clients: self.clone(), client })
    }
}

/// Counts as one connection of a client until it is dropped.
struct Place {
    clients: Clients,
    client: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut counts = self.clients.counts.borrow_mut();
        match counts.get_mut(&client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&client)),
        }
    }
}

/// Prints what the proxy reported, before the connection begins.
fn tell(carried: &Carried) {
    let proxy = carried.proxy();
    let Some((client, destination)) = carried.source().zip(carried.destination()) else {
        return say(format_args!("{:?}: the proxy {proxy} itself", carried.version()));
    };
    let asked_for = carried.tlv(tlv::AUTHORITY).map_or(String::new(), |name| format!(" for {}", escape(name)));
    say(format_args!("{:?}: {client} to {destination}{asked_for} through {proxy}", carried.version()));
}

fn main() -> Result<(), support::Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, IDLE_TIMEOUT)?;
    let (trusted, arguments): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|one| one.starts_with("--trust="));
    let [timeout, per_peer] = bounds::FLAGS;
    let address = support::listening_address_in(arguments, &["--trust=ADDRESS", timeout, per_peer])?;
    let mut accept = AcceptProxy::new();
    if !trusted.is_empty() {
        let proxies: Result<Vec<IpAddr>, _> = trusted.iter().map(|flag| flag["--trust=".len()..].parse()).collect();
        let proxies = proxies.map_err(std::io::Error::other)?;
        accept = accept.trusted(move |proxy| proxy.as_inet().is_some_and(|proxy| proxies.contains(&proxy.ip())));
    }
    let limits = Limits::default().with_idle_timeout(Some(bounds.timeout));
    let mut event_loop = EventLoop::with_limits(limits)?;
    let clients = Clients { counts: Rc::default(), per_peer_max: bounds.per_peer_max };
    let factory = accept.factory(move |_, carried| {
        tell(carried);
        Some(Echo { _place: clients.enter(carried)? })
    });
    let listener = event_loop.context().listen(address, factory).map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
