//! Listeners behind a proxy: which peers they trust, what they count, and real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use switchboard::proxy::AcceptProxy;
use switchboard::testing::{Faults, HostId, Network, Peer, seeds};
use switchboard::{CloseReason, Limits, Protocol};

use super::{LINE, Log, Noting, REQUEST, shown};
use crate::support::{Echo, address_of, any_port, connect, event_loop, serve_while};

/// A network with a server that listens behind a proxy, and notes all.
fn network_of(
    seed: u64,
    faults: Faults,
    accept: AcceptProxy,
    limits: Limits,
) -> (Network, HostId, impl Fn(&mut Network) -> Peer, Log) {
    let mut network = Network::new(seed, faults);
    let server = network.host_with_limits(limits);
    let address = network.address(server, 7);
    let log = Log::default();
    let of_factory = log.clone();
    let factory = accept.factory(move |_, carried| {
        of_factory.push(shown(carried));
        Some(Noting(of_factory.clone()))
    });
    network.context(server).listen(address, factory).unwrap();
    (network, server, move |network: &mut Network| network.peer(address), log)
}

#[test]
fn proxy_who_is_not_trusted_is_refused_before_anything_is_read() {
    let asked = Rc::new(());
    let of_trust = asked.clone();
    let accept = AcceptProxy::new().trusted(move |_| {
        let _asked = &of_trust;
        false
    });
    let (mut network, server, peer, log) = network_of(0, Faults::none(), accept, Limits::default());
    let mut peer = peer(&mut network);
    network.run_until_rest();
    peer.send(LINE);
    network.run_until_rest();
    peer.read();
    assert!(peer.saw_end() || peer.error().is_some());
    assert_eq!(log.take(), [""; 0]);
    let counters = network.context(server).counters();
    assert_eq!((counters.connections_refused, counters.connections_made, counters.bytes_received), (1, 0, 0));
}

#[test]
fn proxy_who_is_trusted_is_served() {
    let accept = AcceptProxy::new().trusted(|proxy| proxy.as_inet().is_some_and(|proxy| proxy.is_ipv4()));
    let (mut network, _, peer, log) = network_of(0, Faults::none(), accept, Limits::default());
    let mut peer = peer(&mut network);
    peer.send(LINE);
    network.run_until_rest();
    assert_eq!(log.take().len(), 2);
    assert!(peer.is_connected());
}

#[test]
fn proxy_trust_is_asked_of_a_single_connection_too() {
    use switchboard::testing::Harness;
    let protocol = AcceptProxy::new().trusted(|_| false).protocol(|_, _| Some(Echo));
    let harness = Harness::new(protocol);
    assert!(matches!(harness.lost(), Some(CloseReason::Aborted)) && harness.saw_reset());
}

#[test]
fn proxy_connections_per_peer_are_counted_by_the_proxy_s_address() {
    let limits = Limits::default().with_connections_per_peer_max(Some(2));
    let (mut network, _, peer, log) = network_of(0, Faults::none(), AcceptProxy::new(), limits);
    let mut peers = Vec::new();
    for client in 1..=3 {
        let mut peer = peer(&mut network);
        peer.send(format!("PROXY TCP4 192.0.2.{client} 192.0.2.9 1 2\r\n").as_bytes());
        network.run_until_rest();
        peers.push(peer);
    }
    // All of them are one proxy's.
    assert_eq!(log.take().iter().filter(|what| what.starts_with("made")).count(), 2);
    drop(peers.remove(0));
    network.run_until_rest();
    log.take();
    let mut peer = peer(&mut network);
    peer.send(LINE);
    network.run_until_rest();
    assert_eq!(log.take().len(), 2, "there is room for one again");
}

#[test]
fn proxy_under_all_faults_a_protocol_has_its_whole_life_or_none() {
    let mut made = 0;
    seeds(|seed| {
        let (mut network, _, peer, log) = network_of(seed, Faults::all(), AcceptProxy::new(), Limits::default());
        let mut peer = peer(&mut network);
        let bytes = [LINE, REQUEST].concat();
        let mut unsent = &bytes[..];
        let mut left = 50;
        network.run_until(|_| {
            unsent = &unsent[peer.send(unsent)..];
            peer.read();
            left -= 1;
            unsent.is_empty() || left == 0 || peer.error().is_some()
        });
        drop(peer);
        network.run_for(std::time::Duration::from_secs(60));
        let log = log.take();
        let Some(first) = log.first() else { return };
        made += 1;
        assert_eq!(first, "V1 192.168.0.1:56324 -> 192.168.0.11:443");
        assert_eq!(log[1], "made for 192.168.0.1:56324");
        assert_eq!(log.iter().filter(|what| what.starts_with("lost")).count(), 1, "{log:?}");
        assert!(log.last().unwrap().starts_with("lost"), "{log:?}");
    });
    assert_ne!(made, 0, "no header has come through");
}

/// What a connection gets back that begins with a header.
fn greeted(mut client: impl Read + Write, end: impl FnOnce()) -> String {
    client.write_all(&[LINE, b"hello"].concat()).unwrap();
    end();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends the peer's address, and echoes.
struct Greets;

impl Protocol for Greets {
    fn connection_made(&mut self, transport: &mut switchboard::Transport<'_>) {
        let peer = transport.peer_addr().unwrap().to_string();
        transport.write(format!("{peer}: ").as_bytes());
    }

    fn data_received(&mut self, transport: &mut switchboard::Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

#[test]
fn proxy_a_tcp_listener_serves_who_comes_through_a_proxy() {
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let factory = AcceptProxy::new().factory(|_, _| Some(Greets));
    let listener = context.listen(any_port(), factory).unwrap();
    let address = address_of(&mut context, listener);
    let answer = serve_while(&mut event_loop, move || {
        let client: TcpStream = connect(address);
        let end = client.try_clone().unwrap();
        greeted(client, move || end.shutdown(std::net::Shutdown::Write).unwrap())
    });
    assert_eq!(answer, "192.168.0.1:56324: hello");
}

#[cfg(target_os = "linux")]
#[test]
fn proxy_a_unix_listener_serves_who_comes_through_a_proxy() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};

    use switchboard::UnixAddress;

    let name = format!("switchboard-proxy-{}", std::process::id());
    let mut event_loop = event_loop();
    let address = UnixAddress::Abstract(name.as_bytes().into());
    let factory = AcceptProxy::new().factory(|_, carried| {
        assert_eq!(carried.proxy().to_string(), "unix:(unnamed)");
        Some(Greets)
    });
    event_loop.context().listen(address, factory).unwrap();
    let answer = serve_while(&mut event_loop, move || {
        let client = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        client.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        let end = client.try_clone().unwrap();
        greeted(client, move || end.shutdown(std::net::Shutdown::Write).unwrap())
    });
    assert_eq!(answer, "192.168.0.1:56324: hello");
}
