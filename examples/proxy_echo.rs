//! Echo behind a proxy: tells each client who it is, as the proxy says, and sends back what it gets.
//!
//! Run `cargo run --example proxy_echo --features proxy`, and a proxy in front of it, such as HAProxy with
//! `server echo 127.0.0.1:1234 send-proxy-v2`. Or be the proxy:
//! `printf 'PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nhello\n' | nc 127.0.0.1 1234`.
//! A line is printed for whoever comes and goes.
//!
//! With `--trust=ADDRESS`, an IP address and as often as wanted, only who connects from there is taken for a proxy. Where
//! others can reach the server, that must not be left out: whoever may send a header may be anybody.

mod support;

use std::net::IpAddr;

use switchboard::proxy::{AcceptProxy, Carried, tlv};
use switchboard::{CloseReason, EventLoop, Protocol, Transport, escape};

use support::say;

struct Echo;

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

/// What the proxy told, before the connection begins.
fn tell(carried: &Carried) {
    let proxy = carried.proxy();
    let Some((client, destination)) = carried.source().zip(carried.destination()) else {
        return say(format_args!("{:?}: the proxy {proxy} itself", carried.version()));
    };
    let asked_for = carried.tlv(tlv::AUTHORITY).map_or(String::new(), |name| format!(" for {}", escape(name)));
    say(format_args!("{:?}: {client} to {destination}{asked_for} through {proxy}", carried.version()));
}

fn main() -> Result<(), support::Failure> {
    let trusted: Vec<String> = std::env::args().filter(|argument| argument.starts_with("--trust=")).collect();
    let flags: Vec<&str> = trusted.iter().map(String::as_str).collect();
    let address = support::listening_address(&flags)?;
    let mut accept = AcceptProxy::new();
    if !trusted.is_empty() {
        let proxies: Result<Vec<IpAddr>, _> = flags.iter().map(|flag| flag["--trust=".len()..].parse()).collect();
        let proxies = proxies.map_err(std::io::Error::other)?;
        accept = accept.trusted(move |proxy| proxy.as_inet().is_some_and(|proxy| proxies.contains(&proxy.ip())));
    }
    let mut event_loop = EventLoop::new()?;
    let factory = accept.factory(|_, carried| {
        tell(carried);
        Some(Box::new(Echo))
    });
    let listener = event_loop.context().listen(address, factory).map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
