//! The broker without sockets: one client in a harness, and several on a network.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Faults, Harness, Network, Peer};
use switchboard::{CloseReason, Timeout};

use super::{Broker, Client, Message, limits, matches, packet};

fn connect(name: &str, flags: u8) -> Vec<u8> {
    let length = (name.len() as u16).to_be_bytes();
    packet(0x10, &[b"\0\x04MQTT\x04", &[flags, 0, 60], &length, name.as_bytes()])
}

fn publish(topic: &str, payload: &str, qos: u8, id: u16, is_again: bool) -> Vec<u8> {
    Message::new(topic, payload.as_bytes(), qos, false).packet(id, is_again)
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const CLEAN: u8 = 2;

#[test]
fn one_client_hears_what_it_says() {
    let mut client = Harness::with_limits(Client::protocol(&Default::default()), limits());
    client.feed(&connect("one", CLEAN));
    client.feed(b"\x82\x08\x00\x07\x00\x03a/+\x02");
    client.feed(&publish("a/b", "hello", 1, 9, false));
    let heard = publish("a/b", "hello", 1, 1, false);
    assert_eq!(client.take_written(), [&CONNACK[..], &[0x90, 3, 0, 7, 1], &heard, &[0x40, 2, 0, 9]].concat());
    client.advance(Duration::from_secs(91));
    assert!(matches!(client.lost(), Some(CloseReason::Timeout(Timeout::ReadIdle))));
}

#[test]
fn what_is_no_mqtt_ends_the_connection() {
    let text = b"\x30\x07\x00\x03a/\xffhi";
    for (what, bytes) in [
        ("the longest length", &b"\x10\xff\xff\xff\x7f"[..]),
        ("a length of five bytes", b"\x10\x80\x80\x80\x80\x01"),
        ("another packet first", b"\xc0\x00"),
        ("the reserved flag of CONNECT", b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a"),
        ("CONNECT twice", &[connect("a", CLEAN), connect("a", CLEAN)].concat()),
        ("a wildcard in a topic", &[connect("a", CLEAN), publish("a/#", "", 0, 0, false)].concat()),
        ("what is not UTF-8", &[&connect("a", CLEAN)[..], text].concat()),
        ("reserved flags", &[&connect("a", CLEAN)[..], b"\xc1\x00"].concat()),
        ("QoS 2", &[connect("a", CLEAN), publish("a", "", 2, 1, false)].concat()),
        ("# before the end", &[&connect("a", CLEAN)[..], b"\x82\x08\x00\x01\x00\x03#/a\x00"].concat()),
    ] {
        let mut client = Harness::with_limits(Client::protocol(&Default::default()), limits());
        client.feed(bytes);
        assert!(client.saw_end() || client.saw_reset(), "{what}");
        client.hang_up();
        assert!(matches!(client.lost(), Some(CloseReason::Protocol(_))), "{what}: {:?}", client.lost());
    }
}

#[test]
fn a_length_over_the_limit_ends_the_connection_at_once() {
    for cut in 1..5 {
        let mut client = Harness::with_limits(Client::protocol(&Default::default()), limits());
        b"\x10\xc8\xa6\x01".chunks(cut).for_each(|piece| client.feed(piece));
        assert!(client.saw_end() || client.saw_reset(), "in pieces of {cut}");
    }
}

#[test]
fn other_versions_are_told_so() {
    for bytes in
        [&b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"[..], b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"]
    {
        let mut client = Harness::with_limits(Client::protocol(&Default::default()), limits());
        client.feed(bytes);
        assert_eq!(client.take_written(), [0x20, 2, 0, 1]);
    }
}

/// A network with a broker, and a function that connects a peer as this client and subscribes it to `a/#`.
fn served() -> (Network, impl Fn(&mut Network, &str, u8) -> Peer) {
    let mut network = Network::new(1, Faults::none());
    let (host, broker) = (network.host_with_limits(limits()), Rc::<RefCell<Broker>>::default());
    let address = network.address(host, 1883);
    let listener = network.context(host).listen(address, move |_, _| Some(Client::protocol(&broker)));
    listener.unwrap();
    (network, move |network, name, flags| {
        let mut peer = network.peer(address);
        peer.queue(&[&connect(name, flags)[..], b"\x82\x08\x00\x01\x00\x03a/#\x01"].concat());
        network.run_for(Duration::from_secs(1));
        peer
    })
}

#[test]
fn a_session_goes_on_where_its_connection_was_lost() {
    let (mut network, join) = served();
    let (away, mut sender) = (join(&mut network, "away", 0), join(&mut network, "sender", CLEAN));
    away.reset();
    sender.queue(&publish("a/b", "hello", 1, 5, false));
    network.run_for(Duration::from_secs(1));
    let mut back = join(&mut network, "away", 0);
    let heard = back.read();
    assert!(heard.starts_with(&[&[0x20, 2, 1, 0], &publish("a/b", "hello", 1, 1, false)[..]].concat()), "{heard:?}");
    back.reset();
    let mut again = join(&mut network, "away", 0);
    assert!(again.read()[4..].starts_with(&publish("a/b", "hello", 1, 1, true)), "it was not acknowledged");
    join(&mut network, "away", 0);
    again.read();
    assert!(again.saw_end(), "it was taken over");
}

#[test]
fn filters_match_topics() {
    for (filter, topic) in
        [("#", "a/b"), ("a/#", "a"), ("+/+", "/a"), ("a/+/c", "a//c"), ("$SYS/#", "$SYS/a"), ("/", "/")]
    {
        assert!(matches(filter, topic), "{filter} {topic}");
    }
    for (filter, topic) in [("a", "a/b"), ("a/+", "a"), ("+", "a/b"), ("#", "$SYS/a"), ("+/a", "$SYS/a"), ("A", "a")] {
        assert!(!matches(filter, topic), "{filter} {topic}");
    }
}
