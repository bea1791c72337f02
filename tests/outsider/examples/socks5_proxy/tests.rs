//! A greeting in every split; and a client, the proxy and a target on a network that loses and delays packets.

use super::*;
use switchboard::testing::{Faults, Harness, Network, every_cut, seeds};

fn options(login: Option<&str>) -> Options {
    Options { login: login.map(str::to_owned), allows_local: true, timeout: Duration::from_secs(3600) }
}

#[test]
fn socks_what_is_refused_is_told_however_it_is_cut() {
    every_cut(b"\x05\x02\x00\x02\x01\x02me\x06secret\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x19", |pieces| {
        let options = Rc::new(options(Some("me:secret")));
        let mut harness = Harness::new(Client { state: State::Greeting, options });
        pieces.iter().for_each(|piece| harness.feed(piece));
        // BIND is not offered.
        assert_eq!(harness.take_written(), b"\x05\x02\x01\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00");
        assert!(harness.saw_end());
    });
}

#[test]
fn socks_both_sides_are_joined_on_a_bad_network() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let (proxy, mut target) = (network.host(), network.peer_listener(7, 8).unwrap());
        let (at, to) = (network.address(proxy, 1080), target.local_addr());
        listen(&mut network.context(proxy), at, options(None).into()).unwrap();
        let mut client = network.peer(at);
        let IpAddr::V4(ip) = to.ip() else { panic!("{to} is no IPv4 address") };
        let request = [&b"\x05\x01\x00\x05\x01\x00\x01"[..], &ip.octets(), &to.port().to_be_bytes(), b"ping"].concat();
        client.queue(&request);
        let mut peer = network.accept(&mut target).unwrap();
        assert_eq!(network.read_exactly(&mut peer, 4), b"ping");
        peer.queue(b"pong");
        let answer = network.read_until(&mut client, |answer| answer.ends_with(b"pong"));
        assert!(answer.starts_with(b"\x05\x00\x05\x00\x00\x01") && answer.ends_with(b"pong"), "{answer:?}");
    });
}
