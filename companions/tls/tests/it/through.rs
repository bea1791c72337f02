//! Features for plain connections, over TLS: lines and frames, broadcasts, writes from elsewhere, joins, reconnecting.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use switchboard::framing::{FrameHandler, Framed, LengthPrefixed, LineHandler, LineReceiver, send_line};
use switchboard::testing::{Faults, seeds};
use switchboard::{Address, Backoff, CloseReason, Connect, Context, Listen, Protocol, Reconnect, Relay, Transport};

use super::kit::*;

/// Sends each line back reversed, and ends at `bye`.
struct Lines;

impl LineHandler for Lines {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        let reversed: Vec<u8> = line.iter().rev().copied().collect();
        send_line(transport, &reversed);
        if line == b"bye" {
            transport.close();
        }
    }
}

/// Sends each frame back, twice.
struct Frames;

const PREFIX: LengthPrefixed = LengthPrefixed::u32_be(100_000);

impl FrameHandler for Frames {
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]) {
        (0..2).for_each(|_| PREFIX.send(transport, frame).unwrap());
    }
}

/// Runs a network with a TLS server of such protocols, under every fault that leaves connections whole, and a client
/// that has sent `said`, until it has received this much.
fn heard<P: Protocol>(seed: u64, make: fn() -> P, said: &[u8], count: usize) -> Vec<u8> {
    let version = BOTH[seed as usize % 2];
    let mut world = World::new(seed, Faults::all(), |listen| listen, idle);
    let to = world.network.address(world.server_host, 25);
    let listen = Listen::at(to).filter(switchboard_tls::listen(Arc::new(server(version))));
    let made = move |_: &mut Context<'_>, _: &Address| Some(make());
    world.network.context(world.server_host).listen(listen, made).unwrap();
    world.to = to;
    let id = world.dial(&Arc::new(client(version)), idle);
    world.network.context(world.client_host).connection(id).unwrap().write(said);
    let client = world.client.clone();
    assert!(world.network.run_until(|_| client.borrow().data.len() >= count), "{} bytes", client.borrow().data.len());
    if let Some(mut transport) = world.network.context(world.client_host).connection(id) {
        transport.abort();
    }
    world.network.run_until_rest();
    assert_eq!(world.connections(), (0, 0));
    client.borrow_mut().data.split_off(0)
}

#[test]
fn lines_and_frames_come_through() {
    let frames: Vec<Vec<u8>> = [0, 1, 100, 16_384, 40_000].map(bytes).to_vec();
    let framed = |times: usize| {
        let one = |frame: &Vec<u8>| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat().repeat(times);
        frames.iter().flat_map(one).collect::<Vec<u8>>()
    };
    seeds(|seed| {
        // Each needs a handshake, which costs more than everything else here.
        if seed % 5 > 0 {
            return;
        }
        let lines = heard(seed, || LineReceiver::new(Lines), b"hello\r\nline\n\nbye\n", 20);
        assert_eq!(lines, b"olleh\r\nenil\r\n\r\neyb\r\n");
        if seed % 10 == 0 {
            let expected = framed(2);
            assert!(same(&heard(seed, || Framed::new(PREFIX, Frames), &framed(1), expected.len()), &expected));
        }
    });
}

#[test]
fn what_is_written_by_id_by_a_handle_and_to_all_is_encrypted_for_each() {
    for version in BOTH {
        let mut world = World::of(server(version), idle);
        let config = Arc::new(client(version));
        let heard: Vec<Noted> = (0..5).map(|_| Noted::default()).collect();
        for noted in &heard {
            world.client = noted.clone();
            world.dial(&config, idle);
        }
        let plain = world.network.address(world.server_host, 80);
        let factory = |_: &mut Context<'_>, _: &Address| Some(Noting { noted: Noted::default(), act: idle });
        world.network.context(world.server_host).listen(plain, factory).unwrap();
        let mut plain = world.network.peer(plain);
        world.rest();
        let ids = world.network.context(world.server_host).connection_ids();
        assert_eq!(ids.len(), 6);
        let large = bytes(50_000);
        let handle = world.network.context(world.server_host).handle();
        let mut context = world.network.context(world.server_host);
        context.broadcast(ids.iter().copied(), b"to all");
        context.broadcast(ids.iter().copied(), &large);
        for id in &ids {
            context.connection(*id).unwrap().write(b"by id");
            handle.write(*id, b"by handle").unwrap();
        }
        world.network.run_for(20 * SECOND);
        let expected = [&b"to all"[..], &large, b"by id", b"by handle"].concat();
        for noted in &heard {
            assert!(same(&noted.borrow().data, &expected), "{version:?}: {}", noted.borrow().data.len());
        }
        assert!(same(&plain.read(), &expected), "one without a filter beside them");
        for id in ids {
            handle.close(id).unwrap();
        }
        world.rest();
        let ended = |noted: &Noted| noted.borrow().events == ["made", "eof", "lost: closed by the peer"];
        assert!(heard.iter().all(ended));
    }
}

/// Joins each client to a plain server, to which it connects.
struct Joins {
    onward: std::net::SocketAddr,
}

impl Protocol for Joins {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        let mut context = transport.context();
        let other = context.connect(self.onward, Relay::new(id)).unwrap();
        context.join(id, other).unwrap();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }
}

#[test]
fn a_join_of_tls_and_plain_passes_on_bytes_and_each_end_by_itself() {
    for version in BOTH {
        for client_ends_first in [true, false] {
            let mut world = World::of(server(version), idle);
            let mut onward = world.network.peer_listener(80, 1).unwrap();
            let (to, address) = (world.network.address(world.server_host, 1), onward.local_addr());
            let made = move |_: &mut Context<'_>, _: &Address| Some(Joins { onward: address });
            let listen = Listen::at(to).filter(switchboard_tls::listen(Arc::new(server(version))));
            world.network.context(world.server_host).listen(listen, made).unwrap();
            world.to = to;
            world.dial(&Arc::new(client(version)), stays);
            world.rest();
            let mut plain = onward.accept().unwrap();
            let sent = bytes(200_000);
            world.at_client(|transport| transport.write(&sent));
            let mut got = Vec::new();
            plain.queue(&sent);
            for _ in 0..40 {
                world.rest();
                got.extend(plain.read());
            }
            assert!(same(&got, &sent) && same(&world.client.borrow().data, &sent), "{version:?}");
            world.client.borrow_mut().data.clear();
            if client_ends_first {
                world.at_client(|transport| transport.shutdown_write());
                assert!(plain.saw_end() || plain.read().is_empty() && plain.saw_end());
                plain.send(b"still");
                world.rest();
                assert_eq!(world.client.borrow().data, b"still");
                assert_eq!(world.events().1, ["made"]);
                plain.end();
            } else {
                plain.end();
                world.rest();
                assert_eq!(world.events().1, ["made", "eof"]);
                world.at_client(|transport| transport.write(b"still"));
                assert_eq!(plain.read(), b"still");
                world.at_client(|transport| transport.shutdown_write());
                assert!(plain.read().is_empty() && plain.saw_end());
            }
            world.rest();
            assert_eq!(world.events().1.last().unwrap(), "lost: closed by the peer");
            assert_eq!(world.connections(), (0, 0));
        }
    }
}

#[test]
fn a_cut_of_one_that_is_joined_is_no_end_to_the_other() {
    // A plain end of the stream, without close_notify, resets the other side: half an answer is not the whole.
    let mut world = World::of(server(V13), idle);
    let mut onward = world.network.peer_listener(80, 1).unwrap();
    let (to, address) = (world.network.address(world.server_host, 1), onward.local_addr());
    let made = move |_: &mut Context<'_>, _: &Address| Some(Joins { onward: address });
    let listen = Listen::at(to).filter(switchboard_tls::listen(Arc::new(server(V13))));
    world.network.context(world.server_host).listen(listen, made).unwrap();
    world.to = to;
    let mut rogue = super::rogue::Rogue::dial(&mut world, V13);
    let mut plain = onward.accept().unwrap();
    let record = rogue.data(b"half");
    rogue.peer.send(&record);
    world.rest();
    assert_eq!(plain.read(), b"half");
    rogue.peer.end();
    world.rest();
    assert!(plain.error().is_some() && !plain.saw_end());
    assert_eq!(world.connections().0, 0);
}

#[test]
fn connecting_again_shakes_hands_anew_each_time() {
    for version in BOTH {
        let ends: Act = |event, transport| {
            if let Event::Data(_) = event {
                transport.write(b"bye");
                transport.close();
            }
        };
        let mut world = World::of(server(version), ends);
        let made = Rc::new(RefCell::new(Vec::new()));
        let noted = made.clone();
        let factory = move |_: &mut Context<'_>| (noted.borrow().len() < 4).then(|| Again { made: noted.clone() });
        let make = switchboard_tls::connect(Arc::new(client(version)), NAME.try_into().unwrap());
        let connect = Connect::to(world.to).filter(make);
        let mut context = world.network.context(world.client_host);
        let _going = Reconnect::new(connect, Backoff::new(SECOND / 10), factory).start(&mut context);
        world.network.run_for(60 * SECOND);
        world.does_not_spin();
        assert_eq!(*made.borrow(), [false, true, true, true].map(|resumed| (resumed, "closed by the peer".to_owned())));
        assert_eq!(world.connections(), (0, 0));
        assert_eq!(world.server.borrow().data, b"hihihihi");
    }
}

/// Sends hello, and records whether its session was resumed and how it ended.
struct Again {
    made: Rc<RefCell<Vec<(bool, String)>>>,
}

impl Protocol for Again {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let is_resumed = transport.filter::<switchboard_tls::Tls>().unwrap().is_resumed();
        self.made.borrow_mut().push((is_resumed, String::new()));
        transport.write(b"hi");
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        assert_eq!(data, b"bye");
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.made.borrow_mut().last_mut().unwrap().1 = reason.to_string();
    }
}

#[test]
fn tls_goes_through_tls() {
    seeds(|seed| {
        if seed % 20 > 0 {
            return;
        }
        let (outer, inner) = (BOTH[seed as usize / 20 % 2], BOTH[seed as usize / 40 % 2]);
        let (low, high) = (Arc::new(server(outer)), Arc::new(server(inner)));
        let stack = |listen: Listen| listen.filter(switchboard_tls::listen(low)).filter(switchboard_tls::listen(high));
        let mut world = World::new(seed, Faults::all(), stack, echo);
        let [low, high] =
            [outer, inner].map(|version| switchboard_tls::connect(Arc::new(client(version)), NAME.try_into().unwrap()));
        let id = world.connect(Connect::to(world.to).filter(low).filter(high), idle);
        let sent = bytes(30_000);
        world.network.context(world.client_host).connection(id).unwrap().write(&sent);
        let heard = world.client.clone();
        assert!(world.network.run_until(|_| heard.borrow().data.len() >= sent.len()));
        assert!(same(&heard.borrow().data, &sent));
        let version = world.of_client(|tls| tls.protocol_version());
        assert_eq!(version, Some(inner.version), "the one that is nearest to the protocol");
        world.network.context(world.client_host).connection(id).unwrap().shutdown_write();
        world.network.run_until(|_| heard.borrow().events.len() >= 3);
        assert_eq!(world.events().1, ["made", "eof", "lost: closed by the peer"]);
        world.network.run_until_rest();
        assert_eq!(world.connections(), (0, 0));
    });
}

/// Sends this many bytes, piece by piece, as its peer takes them, and ends.
struct Produces {
    left: usize,
    queued_most: Rc<RefCell<usize>>,
}

impl Protocol for Produces {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.start_producing();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn produce(&mut self, transport: &mut Transport<'_>) {
        let piece = self.left.min(50_000);
        self.left -= piece;
        transport.write_owned(vec![7; piece]);
        let mut most = self.queued_most.borrow_mut();
        *most = most.max(transport.queued_bytes());
        if self.left == 0 {
            transport.close();
        }
    }
}

#[test]
fn what_is_produced_for_a_slow_peer_waits_for_it_in_small_pieces() {
    const COUNT: usize = 4 << 20;
    for version in BOTH {
        let mut world = World::of(server(version), idle);
        let (to, queued_most) = (world.network.address(world.server_host, 1), Rc::new(RefCell::new(0)));
        let noted = queued_most.clone();
        let made = move |_: &mut Context<'_>, _: &Address| Some(Produces { left: COUNT, queued_most: noted.clone() });
        let listen = Listen::at(to).filter(switchboard_tls::listen(Arc::new(server(version))));
        world.network.context(world.server_host).listen(listen, made).unwrap();
        world.to = to;
        let id = world.dial(&Arc::new(client(version)), idle);
        world.rest();
        // It reads for a moment every second.
        for _ in 0..200 {
            if let Some(mut transport) = world.network.context(world.client_host).connection(id) {
                transport.resume_reading();
            }
            world.network.run_for(SECOND / 1000);
            if let Some(mut transport) = world.network.context(world.client_host).connection(id) {
                transport.pause_reading();
            }
            world.network.run_for(SECOND);
        }
        world.network.run_for(SECOND);
        assert_eq!(world.client.borrow().data.len(), COUNT, "{version:?}");
        assert!(world.client.borrow().data.iter().all(|byte| *byte == 7));
        let most = *queued_most.borrow();
        assert!((50_000..140_000).contains(&most), "{most}");
        world.does_not_spin();
    }
}
