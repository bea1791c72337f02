//! Name lookups, as in the tutorial: hosts, addresses, services, protocols, and the two byte orders.
//!
//! Run `cargo run --example names`, or `cargo run --example names -- NAME` for a name other than `localhost`. Each line
//! shows one lookup as a call of Python's `socket` module, and its result or why it failed. Names from a name server
//! are shown escaped.
//!
//! The lookups use the system's own resolver, so `/etc/hosts` is respected, and each lookup of a host blocks. A program
//! with a loop passes the name to `connect` instead, as `examples/greeting_client.rs` does, which looks it up in
//! another thread.

#[allow(dead_code)] // Contains more than this example uses.
mod support;

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dns_lookup::{AddrFamily, AddrInfo, AddrInfoHints, SockType, getaddrinfo};
use support::say;
use switchboard::escape;

const DEFAULT_NAME: &str = "localhost";

/// What Python returns as a triple: the host's canonical name, its aliases and its addresses.
struct Host {
    name: String,
    aliases: Vec<String>,
    addresses: Vec<IpAddr>,
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_NAME.to_owned());
    hosts(&name);
    services_and_protocols();
    representations();
}

fn hosts(name: &str) {
    print("gethostname()", gethostname().map(|name| quoted(&name)));
    print("getfqdn()", getfqdn("").map(|name| quoted(&name)));
    let address = gethostbyname(name);
    // A name without an address is looked up as it is, to show that this fails too.
    let address_text = address.as_ref().map_or_else(|_| name.to_owned(), ToString::to_string);
    print(format_args!("gethostbyname({})", quoted(name)), address.map(|address| quoted(&address)));
    print(format_args!("gethostbyname_ex({})", quoted(name)), gethostbyname_ex(name).map(|host| triple(&host)));
    print(
        format_args!("gethostbyaddr({})", quoted(&address_text)),
        gethostbyaddr(&address_text).map(|host| triple(&host)),
    );
    print(format_args!("getfqdn({})", quoted(name)), getfqdn(name).map(|name| quoted(&name)));
}

fn services_and_protocols() {
    for (service, protocol) in [("http", "tcp"), ("telnet", "tcp"), ("domain", "udp")] {
        print(format_args!("getservbyname({service:?}, {protocol:?})"), getservbyname(service, protocol));
    }
    for protocol in ["tcp", "udp", "icmp"] {
        print(format_args!("getprotobyname({protocol:?})"), getprotobyname(protocol));
    }
}

/// Shows addresses and numbers as they are in memory and as they are sent over the network.
fn representations() {
    let address = [222, 76, 216, 16];
    let text = inet_ntoa(address);
    print(format_args!("inet_aton({})", quoted(&text)), inet_aton(&text).map(packed));
    print(format_args!("inet_ntoa({})", packed(address)), Ok(quoted(&text)));

    let (port, number) = (80_u16, u32::from_be_bytes(address));
    print(format_args!("htons({port})"), Ok(port.to_be()));
    print(format_args!("ntohs({})", port.to_be()), Ok(u16::from_be(port.to_be())));
    print(format_args!("htonl({number})"), Ok(number.to_be()));
    print(format_args!("ntohl({})", number.to_be()), Ok(u32::from_be(number.to_be())));

    print("INADDR_ANY", Ok(u32::from(Ipv4Addr::UNSPECIFIED)));
    print("INADDR_LOOPBACK", Ok(u32::from(Ipv4Addr::LOCALHOST)));
    print("INADDR_BROADCAST", Ok(u32::from(Ipv4Addr::BROADCAST)));
}

// The lookups, under Python's names.

fn gethostname() -> io::Result<String> {
    dns_lookup::get_hostname()
}

/// Returns the first IPv4 address.
fn gethostbyname(name: &str) -> io::Result<IpAddr> {
    let found = resolve(name, AddrFamily::Inet.into(), 0)?;
    found.first().map(|info| info.sockaddr.ip()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Returns the host with all of its IPv4 addresses. If a name server says that the name is an alias, the host has the
/// canonical name instead.
fn gethostbyname_ex(name: &str) -> io::Result<Host> {
    let found = resolve(name, AddrFamily::Inet.into(), canonical_name_flag())?;
    let canonical = found.iter().find_map(|info| info.canonname.clone()).unwrap_or_else(|| name.to_owned());
    let mut aliases = Vec::new();
    for line in lines_of_hosts().iter().filter(|line| line.ip4().is_some() && line.has(name)) {
        aliases.extend_from_slice(&line.names[1..]);
        aliases.extend(line.names.first().filter(|first| **first != canonical).cloned());
    }
    if aliases.is_empty() && !canonical.eq_ignore_ascii_case(name) {
        aliases.push(name.to_owned());
    }
    Ok(Host { name: canonical, aliases, addresses: found.iter().map(|info| info.sockaddr.ip()).collect() })
}

/// Looks up the name of an address. For a name, that is the name of its first address.
fn gethostbyaddr(text: &str) -> io::Result<Host> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => resolve(text, 0, 0)?.first().map(|info| info.sockaddr.ip()).ok_or(io::ErrorKind::NotFound)?,
    };
    let name = dns_lookup::lookup_addr(&address)?;
    let line = lines_of_hosts().into_iter().find(|line| line.is_of(address));
    let aliases = line.filter(|line| line.names[0] == name).map_or_else(Vec::new, |line| line.names[1..].to_vec());
    Ok(Host { name, aliases, addresses: vec![address] })
}

/// Returns the first name of the host that has a dot, or else its canonical one, or the name itself if nothing is known
/// about it.
fn getfqdn(name: &str) -> io::Result<String> {
    let name = if name.is_empty() { gethostname()? } else { name.to_owned() };
    let Ok(host) = gethostbyaddr(&name) else { return Ok(name) };
    let names = [&host.name].into_iter().chain(&host.aliases);
    Ok(names.into_iter().find(|name| name.contains('.')).unwrap_or(&host.name).clone())
}

/// Returns the port of a service. The resolver knows that too, if asked for a socket of the protocol's type.
fn getservbyname(service: &str, protocol: &str) -> io::Result<u16> {
    let socktype = if protocol == "udp" { SockType::DGram } else { SockType::Stream };
    let hints = AddrInfoHints { socktype: socktype.into(), ..AddrInfoHints::default() };
    let mut found = getaddrinfo(None, Some(service), Some(hints))?;
    found.next().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())).map(|info| info.sockaddr.port())
}

/// Returns the number of a protocol, from the system's file if there is one: the resolver does not offer these.
fn getprotobyname(name: &str) -> io::Result<u8> {
    let table = std::fs::read_to_string("/etc/protocols")?;
    let mut lines = table.lines().map(|line| words(line).collect::<Vec<_>>());
    let number = lines.find(|words| words.iter().enumerate().any(|(n, word)| n != 1 && *word == name));
    number.and_then(|words| words.get(1)?.parse().ok()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn inet_aton(text: &str) -> io::Result<[u8; 4]> {
    text.parse::<Ipv4Addr>().map(|address| address.octets()).map_err(io::Error::other)
}

fn inet_ntoa(packed: [u8; 4]) -> String {
    Ipv4Addr::from(packed).to_string()
}

// Helpers of the lookups.

fn resolve(name: &str, family: i32, flags: i32) -> io::Result<Vec<AddrInfo>> {
    let hints = AddrInfoHints { address: family, socktype: SockType::Stream.into(), flags, ..AddrInfoHints::default() };
    // The crate panics if a canonical name is not UTF-8. Such a name must not end the program.
    let lookup = || getaddrinfo(Some(name), None, Some(hints))?.collect::<io::Result<Vec<_>>>();
    std::panic::catch_unwind(lookup).unwrap_or_else(|_| Err(io::ErrorKind::InvalidData.into()))
}

#[cfg(unix)]
fn canonical_name_flag() -> i32 {
    libc::AI_CANONNAME
}

/// The value on Windows, for which none of the crates already used has a name.
#[cfg(not(unix))]
fn canonical_name_flag() -> i32 {
    2
}

/// A line of `/etc/hosts`. The resolver does not return aliases; Python returns those that are listed there.
struct HostsLine {
    address: IpAddr,
    names: Vec<String>,
}

impl HostsLine {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other.eq_ignore_ascii_case(name))
    }

    /// Returns the IPv4 address that the line gives: the IPv6 loopback address gives the IPv4 one.
    fn ip4(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Ipv4Addr::LOCALHOST),
            IpAddr::V6(address) => address.to_ipv4_mapped(),
        }
    }

    fn is_of(&self, address: IpAddr) -> bool {
        self.address == address || self.ip4().is_some_and(|ip4| address == ip4)
    }
}

fn lines_of_hosts() -> Vec<HostsLine> {
    let table = std::fs::read("/etc/hosts").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let parse = |line| {
        let mut words = words(line);
        let address = words.next()?.parse().ok()?;
        let names: Vec<_> = words.map(str::to_owned).collect();
        (!names.is_empty()).then_some(HostsLine { address, names })
    };
    table.lines().filter_map(parse).collect()
}

/// Returns the words of a line, up to its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_whitespace()
}

// Output, in Python's notation.

fn print(call: impl Display, result: io::Result<impl Display>) {
    match result {
        Ok(value) => say(format_args!("{call} = {value}")),
        Err(error) => say(format_args!("{call} failed: {error}")),
    }
}

fn quoted(text: &(impl Display + ?Sized)) -> String {
    format!("\"{}\"", escape(text.to_string().as_bytes()).to_string().replace('"', "\\\""))
}

fn packed(bytes: [u8; 4]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}

fn triple(host: &Host) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let aliases = host.aliases.iter().map(quoted).collect();
    let addresses = host.addresses.iter().map(quoted).collect();
    format!("({}, {}, {})", quoted(&host.name), list(aliases), list(addresses))
}
