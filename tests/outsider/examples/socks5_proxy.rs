//! A SOCKS5 proxy (RFC 1928, RFC 1929): it connects for its clients, and relays.
//!
//! `curl --proxy socks5h://127.0.0.1:1234 http://example.org/`. After the address to listen on, `--user NAME:PASSWORD`
//! requires them; `--allow-local` allows targets that clients can reach only through the proxy, such as ports of its
//! own machine; `--timeout SECONDS` is how long both sides may be silent (300). A request has to come within 10 s.

mod support;
#[cfg(test)]
#[path = "socks5_proxy/tests.rs"]
mod tests;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use switchboard::{Address, CloseReason, Connect, ConnectError, ConnectionId, Context, Limits, Listen, ListenerId};
use switchboard::{Protocol, Timeout, Transport};

struct Options {
    /// Name and password, as they are sent.
    login: Option<String>,
    allows_local: bool,
    timeout: Duration,
}

/// The result of a request, with the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    Succeeded,
    Failed,
    NotAllowed,
    NetworkUnreachable,
    HostUnreachable,
    Refused,
    TimedOut,
    NoSuchCommand,
    NoSuchAddress,
}

/// The client's side, until it is joined with the target's.
struct Client {
    state: State,
    options: Rc<Options>,
}

enum State {
    Greeting,
    Login,
    Request,
    Connecting(ConnectionId),
}

/// The target's side, until it is established.
struct Target {
    client: ConnectionId,
    options: Rc<Options>,
}

impl Client {
    /// Takes one message, or nothing of an incomplete one. An error is the answer after which the connection ends.
    fn step(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Result<usize, Vec<u8>> {
        match self.state {
            State::Greeting => {
                let [5, rest @ ..] = data else { return Err(Vec::new()) };
                let Some((methods, _)) = counted(rest) else { return Ok(0) };
                let (method, next) = self.options.login.as_ref().map_or((0, State::Request), |_| (2, State::Login));
                if !methods.contains(&method) {
                    return Err(vec![5, 0xff]);
                }
                self.state = next;
                transport.write(&[5, method]);
                Ok(2 + methods.len())
            }
            State::Login => {
                let Some((name, rest)) = counted(&data[1..]) else { return Ok(0) };
                let Some((password, _)) = counted(rest) else { return Ok(0) };
                let login = [name, b":", password].concat();
                if data[0] != 1 || self.options.login.as_ref().is_none_or(|wanted| *wanted.as_bytes() != *login) {
                    return Err(vec![1, 1]);
                }
                self.state = State::Request;
                transport.write(&[1, 0]);
                Ok(2 + login.len())
            }
            State::Request => {
                let Some((target, bytes)) = self.parse(data).map_err(|reply| answer(reply, None))? else {
                    return Ok(0);
                };
                let side = Target { client: transport.id(), options: self.options.clone() };
                let target = transport.context().connect(target.timeout(Duration::from_secs(20)), side);
                self.state = State::Connecting(target.map_err(|error| answer(reply_to(&error), None))?);
                transport.set_timeout(Timeout::Handshake, None);
                // Input that arrives meanwhile is for the target, and waits in the kernel.
                transport.pause_reading();
                Ok(bytes)
            }
            State::Connecting(_) => Ok(0),
        }
    }

    /// Parses a request and returns its length, too; `None` if it is incomplete.
    fn parse(&self, data: &[u8]) -> Result<Option<(Connect, usize)>, Reply> {
        let &[version, command, _, kind, first, ..] = data else { return Ok(None) };
        let end = match (version, command, kind) {
            (5, 1, 1) => 8,
            (5, 1, 3) => 5 + usize::from(first),
            (5, 1, 4) => 20,
            (5, 1, _) => return Err(Reply::NoSuchAddress),
            (5, ..) => return Err(Reply::NoSuchCommand),
            _ => return Err(Reply::Failed),
        };
        let (Some(host), Some(port)) = (data.get(4..end), data.get(end..end + 2)) else { return Ok(None) };
        let port = u16::from_be_bytes([port[0], port[1]]);
        let ip = match kind {
            3 => {
                let name = std::str::from_utf8(&host[1..]).map_err(|_| Reply::HostUnreachable)?;
                return Ok(Some((Connect::to((name.to_owned(), port)), end + 2)));
            }
            1 => IpAddr::from(<[u8; 4]>::try_from(host).expect("it has four bytes")),
            _ => IpAddr::from(<[u8; 16]>::try_from(host).expect("it has sixteen bytes")).to_canonical(),
        };
        match self.options.allows_local || !is_local(ip) {
            true => Ok(Some((Connect::to(SocketAddr::new(ip, port)), end + 2))),
            false => Err(Reply::NotAllowed),
        }
    }
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.step(transport, data).unwrap_or_else(|answer| {
            transport.write(&answer);
            transport.close();
            data.len()
        })
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        if let State::Connecting(target) = self.state {
            if let Some(mut target) = transport.connection(target) {
                target.abort();
            }
        }
    }
}

impl Protocol for Target {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let peer = transport.peer_addr().and_then(Address::as_inet);
        let local = transport.local_addr().ok().and_then(|local| local.as_inet());
        // A connection to one of this machine's own addresses also comes from that address.
        if !self.options.allows_local && peer.map(|peer| peer.ip()) == local.map(|local| local.ip()) {
            refuse(transport, self.client, Reply::NotAllowed);
            return transport.abort();
        }
        if let Some(mut client) = transport.connection(self.client) {
            client.write(&answer(Reply::Succeeded, local));
            client.set_timeout(Timeout::Idle, Some(self.options.timeout));
        }
        let target = transport.id();
        if transport.context().join(self.client, target).is_err() {
            transport.abort();
        }
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        let reply = match &error {
            ConnectError::Failed(tried) => tried.last().map_or(Reply::Failed, |(_, error)| reply_to(error)),
            ConnectError::Lookup(error) if error.kind() == ErrorKind::PermissionDenied => Reply::NotAllowed,
            ConnectError::Lookup(_) => Reply::HostUnreachable,
            ConnectError::Timeout(_) => Reply::TimedOut,
            _ => Reply::Failed,
        };
        refuse(transport, self.client, reply);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }
}

fn refuse(transport: &mut Transport<'_>, client: ConnectionId, reply: Reply) {
    if let Some(mut client) = transport.connection(client) {
        client.write(&answer(reply, None));
        client.close();
    }
}

/// Splits off a length byte and as many bytes as it says; returns these and the rest.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = data.split_first()?;
    rest.split_at_checked((*count).into())
}

/// The answer to a request: its result, and the local address of the connection to the target.
fn answer(reply: Reply, from: Option<SocketAddr>) -> Vec<u8> {
    let from = from.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
    let (kind, ip) = match from.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (4, ip.octets().to_vec()),
    };
    [&[5, reply as u8, 0, kind][..], &ip, &from.port().to_be_bytes()].concat()
}

fn reply_to(error: &io::Error) -> Reply {
    match error.kind() {
        ErrorKind::ConnectionRefused => Reply::Refused,
        ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
        ErrorKind::HostUnreachable => Reply::HostUnreachable,
        ErrorKind::TimedOut => Reply::TimedOut,
        _ => Reply::Failed,
    }
}

/// Returns whether only this machine, or hosts on its link, can reach the address.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast(),
    }
}

/// The system's resolver, without the addresses that are not allowed.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (local, others): (Vec<_>, Vec<_>) = (name, port).to_socket_addrs()?.partition(|address| is_local(address.ip()));
    if others.is_empty() && !local.is_empty() { Err(ErrorKind::PermissionDenied.into()) } else { Ok(others) }
}

fn listen(context: &mut Context<'_>, address: SocketAddr, options: Rc<Options>) -> io::Result<ListenerId> {
    if !options.allows_local {
        context.set_resolver(resolve);
    }
    let limits = Limits::default().with_handshake_timeout(Some(Duration::from_secs(10)));
    context.listen(Listen::at(address).limits(limits), move |_, _| {
        Some(Client { state: State::Greeting, options: options.clone() })
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag| arguments.iter().skip_while(|argument| *argument != flag).nth(1);
    let options = Options {
        login: value("--user").cloned(),
        allows_local: arguments.iter().any(|argument| argument == "--allow-local"),
        timeout: Duration::from_secs(value("--timeout").and_then(|seconds| seconds.parse().ok()).unwrap_or(300)),
    };
    support::serve(Limits::default(), |context, address| listen(context, address, options.into()))
}
