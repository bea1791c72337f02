//! The test kit: rules for packets; links that lose packets, have little bandwidth or pass one way only; and captures.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchboard::testing::{Capturing, Fate, Faults, HostId, Network, Packet, PacketKind, Peer, seeds};
use switchboard::{CloseReason, Listen, Protocol, Transport};

use crate::support::{Echo, address_of, any_port, connect, event_loop, pattern, serve_while};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Echoes, and records how much arrived at once, and the end.
struct Noting(Rc<RefCell<Vec<String>>>);

impl Protocol for Noting {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().push(data.len().to_string());
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(reason.to_string());
    }
}

struct Served {
    network: Network,
    server: HostId,
    address: SocketAddr,
    noted: Rc<RefCell<Vec<String>>>,
}

fn served(seed: u64, faults: Faults) -> Served {
    let mut network = Network::new(seed, faults);
    let server = network.host();
    let address = network.address(server, 7);
    let noted = Rc::<RefCell<Vec<String>>>::default();
    let of_factory = noted.clone();
    network.context(server).listen(address, move |_, _| Some(Noting(of_factory.clone()))).unwrap();
    Served { network, server, address, noted }
}

/// Sends it, ends, and reads until the end comes back.
fn exchange(network: &mut Network, peer: &mut Peer, bytes: &[u8]) -> Vec<u8> {
    peer.queue(bytes);
    peer.end();
    network.read_to_end(peer)
}

#[test]
fn kit_any_packet_of_a_connection_may_be_lost_delayed_doubled_or_cut_and_no_byte_is() {
    for fate in [Fate::Drop, Fate::Delay(SECOND), Fate::Duplicate, Fate::Split(7)] {
        for faults in [Faults::none(), Faults::all()] {
            let mut hit_any = false;
            for which in 0.. {
                let mut served = served(which, faults.clone());
                let mut seen = 0;
                let rule = served.network.add_rule("one of them", move |_| {
                    seen += 1;
                    (seen - 1 == which).then_some(fate)
                });
                let mut peer = served.network.peer(served.address);
                let bytes = pattern(3000);
                let got = exchange(&mut served.network, &mut peer, &bytes);
                assert!(got == bytes, "{fate:?} of packet {which}: {} bytes\n{}", got.len(), served.network.trace());
                served.network.run_until_rest();
                assert_eq!(served.network.sockets(), 2, "{fate:?} of packet {which}: {}", served.network.trace());
                drop(peer);
                if served.network.rule_hits(rule) == 0 || which > 60 {
                    break;
                }
                hit_any = true;
            }
            assert!(hit_any);
        }
    }
}

#[test]
fn kit_what_is_lost_is_sent_again_later_and_later_until_its_sender_gives_up() {
    let mut served = served(0, Faults::none());
    let (send, seen) = std::sync::mpsc::channel();
    let server = served.address;
    served.network.add_rule("no answer ever", move |packet| {
        (packet.from == server && packet.kind == PacketKind::Data).then(|| {
            send.send((packet.at, packet.attempt)).unwrap();
            Fate::Drop
        })
    });
    let mut peer = served.network.peer(server);
    peer.queue(b"hello");
    served.network.run_for(2000 * SECOND);
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen[..4].iter().map(|(at, _)| at.as_millis()).collect::<Vec<_>>(), [0, 200, 600, 1400]);
    assert!(seen.iter().enumerate().all(|(index, &(_, attempt))| attempt as usize == index));
    let noted = served.noted.take();
    assert!(noted[0] == "5" && noted[1].contains(&timed_out()), "{noted:?}");
    let gave_up = seen.last().unwrap().0;
    assert!((800 * SECOND..924 * SECOND).contains(&gave_up), "{gave_up:?}");
}

#[test]
fn kit_what_is_behind_a_lost_packet_waits_for_it_and_the_other_direction_does_not() {
    let mut served = served(0, Faults::none());
    let server = served.address;
    let mut lost = false;
    served.network.add_rule("the first data", move |packet| {
        let first = packet.kind == PacketKind::Data && packet.to == server && !lost;
        lost |= first;
        first.then_some(Fate::Drop)
    });
    let mut peer = served.network.peer(server);
    served.network.run_until_rest();
    peer.queue(b"one");
    served.network.run_for(100 * MS);
    peer.queue(b"two");
    served.network.run_for(99 * MS);
    assert_eq!(served.noted.take(), [""; 0]);
    served.network.run_for(MS);
    assert_eq!(served.noted.take().iter().map(|count| count.parse::<usize>().unwrap()).sum::<usize>(), 6);
    assert_eq!(peer.read(), b"onetwo");
}

#[test]
fn kit_bytes_that_are_cut_in_pieces_are_read_in_pieces() {
    let mut served = served(0, Faults::none());
    served.network.add_rule("in fours", |packet| (packet.kind == PacketKind::Data).then_some(Fate::Split(4)));
    let mut peer = served.network.peer(served.address);
    peer.queue(b"hello, world");
    served.network.run_until_rest();
    assert_eq!(served.noted.take(), ["4", "4", "4"]);
    assert_eq!(peer.read(), b"hello, world");
}

#[test]
fn kit_something_on_the_way_may_reset_both_ends() {
    let mut served = served(0, Faults::none());
    let rule = served.network.add_rule("resets", |packet| packet.bytes.ends_with(b"!").then_some(Fate::Reset));
    let mut peer = served.network.peer(served.address);
    peer.queue(b"hello");
    served.network.run_until_rest();
    assert_eq!((served.noted.take(), peer.read()), (vec!["5".to_owned()], b"hello".to_vec()));
    peer.queue(b"stop!");
    served.network.run_until_rest();
    peer.read();
    assert!(peer.error().is_some());
    assert_eq!(served.noted.take(), ["reset by the peer"]);
    assert_eq!(served.network.rule_hits(rule), 1);
}

#[test]
fn kit_datagrams_are_lost_doubled_and_overtaken_as_a_rule_says() {
    let mut network = Network::new(0, Faults::none());
    let (mut one, two) = (network.datagram_peer(1).unwrap(), network.datagram_peer(2).unwrap());
    let mut two = two;
    let to = two.local_addr();
    network.add_rule("by their first letter", |packet| match packet.bytes.first() {
        Some(b'l') => Some(Fate::Drop),
        Some(b'd') => Some(Fate::Duplicate),
        Some(b's') => Some(Fate::Delay(SECOND)),
        _ => None,
    });
    for bytes in ["slow", "lost", "double", "usual"] {
        one.send(bytes.as_bytes(), Some(to)).unwrap();
    }
    network.run_until_rest();
    let mut got = Vec::new();
    while let Ok(Some((bytes, _))) = two.receive() {
        got.push(String::from_utf8(bytes).unwrap());
    }
    assert_eq!(got, ["double", "double", "usual", "slow"]);
}

#[test]
fn kit_the_first_rule_that_says_something_decides_and_the_trace_tells_which() {
    let mut served = served(0, Faults::none());
    let data = |packet: &Packet<'_>| packet.kind == PacketKind::Data;
    let none = served.network.add_rule("no opinion", |_| None);
    let first = served.network.add_rule("lets it pass", move |packet| data(packet).then_some(Fate::Pass));
    let second = served.network.add_rule("drops it", move |packet| data(packet).then_some(Fate::Drop));
    let mut peer = served.network.peer(served.address);
    peer.queue(b"hello");
    served.network.run_until_rest();
    assert_eq!(peer.read(), b"hello");
    let hits = [none, first, second].map(|rule| served.network.rule_hits(rule));
    assert_eq!(hits, [0, 2, 0]);
    served.network.remove_rule(first);
    peer.queue(b"again");
    served.network.run_for(SECOND);
    assert!(peer.read().is_empty());
    let trace = served.network.trace();
    let line = format!("rule \"drops it\": Drop for Data of 5 bytes from {} to {}", peer.local_addr(), served.address);
    assert!(trace.contains(&line), "{trace}");
    assert!(trace.contains(&format!("{line}, sent again (1)")), "{trace}");
}

#[test]
#[should_panic = "a packet rule called into its network"]
fn kit_a_rule_that_calls_into_its_network_panics() {
    let mut served = served(0, Faults::none());
    let other = std::sync::Mutex::new(served.network.peer(served.address));
    served.network.add_rule("calls", move |_| {
        other.lock().unwrap().queue(b"x");
        None
    });
    served.network.peer(served.address);
}

#[test]
fn kit_a_link_that_is_cut_one_way_lets_the_other_way_pass() {
    let mut served = served(0, Faults::none());
    let mut peer = served.network.peer(served.address);
    peer.queue(b"one");
    served.network.run_until_rest();
    assert_eq!(peer.read(), b"one");
    let outside = served.network.outside();
    served.network.cut_one_way(served.server, outside);
    peer.queue(b"two");
    served.network.run_for(10 * SECOND);
    assert_eq!((served.noted.take(), peer.read()), (vec!["3".to_owned(), "3".to_owned()], Vec::new()));
    served.network.heal(outside, served.server);
    served.network.run_for(10 * SECOND);
    assert_eq!(peer.read(), b"two");
    // No acknowledgement arrives: the server gives up, and so does the peer.
    served.network.cut_one_way(served.server, outside);
    peer.queue(b"three");
    served.network.run_for(2000 * SECOND);
    let noted = served.noted.take();
    assert!(noted[0] == "5" && noted[1].contains(&timed_out()), "{noted:?}");
    assert!(peer.error().is_some());
}

#[test]
fn kit_a_link_that_loses_packets_loses_no_byte_of_a_connection() {
    seeds(|seed| {
        let mut served = served(seed, Faults::none());
        let outside = served.network.outside();
        served.network.lose(outside, served.server, 300);
        let mut peer = served.network.peer(served.address);
        let bytes = pattern(2000);
        let got = exchange(&mut served.network, &mut peer, &bytes);
        // A connect that is lost six times has failed.
        assert!(got == bytes || peer.error().is_some(), "{} bytes\n{}", got.len(), served.network.trace());
    });
}

#[test]
fn kit_a_narrow_link_takes_the_time_that_its_bytes_need() {
    for (bytes_per_second, least, most) in [(100_000, 1990, 2100), (10_000, 19_900, 21_000)] {
        let mut served = served(0, Faults::none());
        let outside = served.network.outside();
        served.network.set_bandwidth(outside, served.server, Some(bytes_per_second));
        let mut peer = served.network.peer(served.address);
        // Both ways at the same time: it takes as long as one way, plus the last piece's way back.
        let bytes = pattern(200_000);
        served.network.add_rule("small", |packet| (packet.bytes.len() > 1000).then_some(Fate::Split(1000)));
        peer.queue(&bytes);
        peer.end();
        served.network.run_until(|_| peer.queued() == 0);
        let noted = served.noted.clone();
        served.network.run_until(|_| {
            noted.borrow().iter().filter_map(|count| count.parse::<usize>().ok()).sum::<usize>() == 200_000
        });
        let took = served.network.now().as_millis();
        assert!((least..most).contains(&took), "{took} ms");
    }
}

// Captures.

struct Captured {
    at: Duration,
    ends: (u16, u16),
    protocol: u8,
    number: u32,
    flags: u8,
    payload: Vec<u8>,
}

fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for word in parts.concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Reads a capture, and checks each header.
fn read(file: &[u8]) -> Vec<Captured> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    assert_eq!((word(&file[..4]), &file[4..8], word(&file[20..24])), (0xa1b2_3c4d, &[2, 0, 4, 0][..], 101));
    let (mut packets, mut rest) = (Vec::new(), &file[24..]);
    while !rest.is_empty() {
        let at = Duration::new(word(&rest[..4]).into(), word(&rest[4..8]));
        let length = word(&rest[8..12]) as usize;
        assert_eq!(length, word(&rest[12..16]) as usize);
        let packet = &rest[16..16 + length];
        rest = &rest[16 + length..];
        let (addresses, protocol, segment) = if packet[0] == 0x45 {
            assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), length);
            assert_eq!(sum(&[&packet[..20]]), 0xffff);
            (&packet[12..20], packet[9], &packet[20..])
        } else {
            assert_eq!(packet[0], 0x60);
            assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), length - 40);
            (&packet[8..40], packet[6], &packet[40..])
        };
        let pseudo = [addresses, &(segment.len() as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat();
        let even = if segment.len() % 2 == 1 { &[0][..] } else { &[] };
        assert_eq!(sum(&[&pseudo, segment, even]), 0xffff);
        let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let (number, flags, header) = match protocol {
            6 => (u32::from_be_bytes(segment[4..8].try_into().unwrap()), segment[13], 20),
            _ => (0, 0, 8),
        };
        let payload = segment[header..].to_vec();
        packets.push(Captured { at, ends: (port(0), port(2)), protocol, number, flags, payload });
    }
    assert!(packets.windows(2).all(|pair| pair[0].at <= pair[1].at));
    packets
}

/// The bytes of a stream by their numbers, however often they were sent.
fn stream(packets: &[Captured], from: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets.iter().filter(|packet| packet.protocol == 6 && packet.ends.0 == from) {
        let start = packet.number as usize;
        if packet.payload.is_empty() {
            continue;
        }
        bytes.resize(bytes.len().max(start - 1 + packet.payload.len()), 0);
        bytes[start - 1..start - 1 + packet.payload.len()].copy_from_slice(&packet.payload);
    }
    bytes
}

/// However often an acknowledgement is sent: its number is that of the next byte.
fn assert_acknowledgements_are_behind_what_was_sent(packets: &[Captured]) {
    let mut next = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.protocol == 6) {
        let next = next.entry(packet.ends.0).or_insert(1);
        let is_acknowledgement = packet.flags == 0x10 && packet.payload.is_empty();
        assert!(!is_acknowledgement || packet.number == *next, "{} in place of {next}", packet.number);
        let end = packet.number + packet.payload.len() as u32 + u32::from(packet.flags & 3 != 0);
        *next = end.max(*next);
    }
}

#[test]
fn kit_a_capture_has_every_packet_with_headers_that_are_right() {
    for ipv6 in [false, true] {
        for is_rough in [false, true] {
            let mut served = served(3, if is_rough { Faults::all() } else { Faults::none() });
            served.network.begin_capture();
            let address = served.network.address_v6(served.server, 8);
            served.network.context(served.server).listen(address, |_, _| Some(Echo)).unwrap();
            let to = if ipv6 { address } else { served.address };
            let mut lost = 0;
            served.network.add_rule("each third is lost", move |packet| {
                let is_meant = [PacketKind::Data, PacketKind::Ack].contains(&packet.kind);
                lost += u32::from(is_meant);
                (is_meant && lost % 3 == 0).then_some(Fate::Drop)
            });
            let mut peer = served.network.peer(to);
            let bytes = pattern(40_000);
            let bytes = if is_rough { &bytes[..3000] } else { &bytes[..] };
            assert!(exchange(&mut served.network, &mut peer, bytes) == bytes);
            served.network.run_until_rest();
            let packets = read(&served.network.captured());
            let port = peer.local_addr().port();
            assert!(stream(&packets, port) == bytes);
            assert!(stream(&packets, to.port()) == bytes);
            let with = |flag: u8, from: u16| {
                packets.iter().filter(move |packet| packet.ends.0 == from && packet.flags & flag != 0)
            };
            assert!(with(2, port).count() >= 1 && with(2, to.port()).count() >= 1);
            assert_acknowledgements_are_behind_what_was_sent(&packets);
            // The end follows all bytes, and is acknowledged.
            for from in [port, to.port()] {
                assert!(with(1, from).all(|packet| packet.number as usize == bytes.len() + 1), "the end of {from}");
                assert_ne!(with(1, from).count(), 0);
            }
            // The end counts as a byte: what the client acknowledges after its own end has the next number.
            let mut behind =
                packets.iter().filter(|packet| packet.ends.0 == port && packet.number as usize == bytes.len() + 2);
            assert!(behind.next().is_some_and(|packet| packet.payload.is_empty()));
        }
    }
}

#[test]
fn kit_a_capture_has_datagrams_and_resets() {
    let mut served = served(0, Faults::none());
    served.network.begin_capture();
    let (mut one, two) = (served.network.datagram_peer(1).unwrap(), served.network.datagram_peer(2).unwrap());
    one.send(b"odd", Some(two.local_addr())).unwrap();
    let peer = served.network.peer(served.address);
    served.network.run_until_rest();
    peer.reset();
    served.network.run_until_rest();
    let packets = read(&served.network.captured());
    assert_eq!((packets[0].protocol, packets[0].ends, &packets[0].payload[..]), (17, (1, 2), &b"odd"[..]));
    assert_ne!(packets.last().unwrap().flags & 4, 0);
    assert!(Network::new(0, Faults::none()).captured().is_empty());
}

/// A shared file that is full at some length.
#[derive(Clone)]
struct File(Arc<Mutex<Vec<u8>>>, usize);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.lock().unwrap();
        if file.len() + bytes.len() > self.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn kit_a_filter_captures_a_real_connection_and_lets_it_pass() {
    for most in [usize::MAX, 200] {
        let file = File(Arc::default(), most);
        let mut event_loop = event_loop();
        let (of_filter, own) = (file.clone(), SocketAddr::from(([127, 0, 0, 1], 7)));
        let listen = Listen::at(any_port())
            .filter(move |peer| Some(Capturing::new(of_filter.clone(), own, peer.as_inet().unwrap())));
        let listener = event_loop.context().listen(listen, |_, _| Some(Echo)).unwrap();
        let address = address_of(&mut event_loop.context(), listener);
        let bytes = pattern(100_000);
        let (sent, port) = serve_while(&mut event_loop, move || {
            let mut client = connect(address);
            let port = client.local_addr().unwrap().port();
            let mut sender = client.try_clone().unwrap();
            let sending = std::thread::spawn(move || {
                sender.write_all(&bytes).unwrap();
                sender.shutdown(Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            sending.join().unwrap();
            (received, port)
        });
        assert!(sent == pattern(100_000));
        let file = file.0.lock().unwrap();
        if most == 200 {
            assert!((24..=200).contains(&file.len()));
            continue;
        }
        let packets = read(&file);
        assert!(stream(&packets, port) == sent && stream(&packets, 7) == sent);
        let begins: Vec<_> = packets[..3].iter().map(|packet| (packet.ends.0, packet.flags)).collect();
        assert_eq!(begins, [(port, 2), (7, 0x12), (port, 0x10)]);
        for from in [port, 7] {
            let mut ends = packets.iter().filter(|packet| packet.ends.0 == from && packet.flags & 1 != 0);
            assert_eq!(ends.next().unwrap().number, 100_001);
            assert!(ends.next().is_none());
        }
    }
}

/// The system's error for a connection that it has given up.
fn timed_out() -> String {
    #[cfg(unix)]
    let code = libc::ETIMEDOUT;
    #[cfg(not(unix))]
    let code = 10060;
    std::io::Error::from_raw_os_error(code).to_string()
}
