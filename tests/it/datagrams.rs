//! Datagram sockets of the system: UDP and, on Unix, Unix datagrams.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use switchboard::{
    Address, CloseReason, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, EventLoop, Limits,
};

use crate::support::{PATIENCE, any_port, event_loop, pattern, turn_until, uninterrupted};

/// Datagrams, and where they came from.
type Received = Rc<RefCell<Vec<(Vec<u8>, Address)>>>;

/// What a protocol was told: datagrams as they are, everything else as a line.
#[derive(Clone, Default)]
struct Log {
    datagrams: Received,
    lines: Rc<RefCell<Vec<String>>>,
}

impl Log {
    fn texts(&self) -> Vec<String> {
        let datagrams = self.datagrams.borrow();
        datagrams.iter().map(|(data, _)| String::from_utf8_lossy(data).into_owned()).collect()
    }

    fn push(&self, line: impl Into<String>) {
        self.lines.borrow_mut().push(line.into());
    }
}

/// Records its callbacks, and echoes if it is told to.
struct Recorder {
    log: Log,
    echoes: bool,
}

impl DatagramProtocol for Recorder {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.log.datagrams.borrow_mut().push((data.to_vec(), from.clone()));
        if self.echoes {
            transport.send_to(data, from);
        }
    }

    fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        self.log.push(format!("truncated {}", data.len()));
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        self.log.push(match error {
            DatagramError::Send { error, .. } => format!("send {:?}", error.kind()),
            DatagramError::Socket(error) => format!("socket {:?}", error.kind()),
            error => error.to_string(),
        });
    }

    fn pause_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.log.push("pause");
    }

    fn resume_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.log.push("resume");
    }

    fn connection_lost(&mut self, _: &mut DatagramTransport<'_>, reason: CloseReason) {
        self.log.push(reason.to_string());
    }
}

fn recorder(log: &Log) -> Recorder {
    Recorder { log: log.clone(), echoes: false }
}

fn echo(log: &Log) -> Recorder {
    Recorder { log: log.clone(), echoes: true }
}

fn address(event_loop: &mut EventLoop, id: DatagramId) -> Address {
    event_loop.context().datagram(id).unwrap().local_addr().unwrap()
}

/// A socket in the loop, with its address.
fn bind(event_loop: &mut EventLoop, protocol: impl DatagramProtocol) -> (DatagramId, SocketAddr) {
    let id = event_loop.context().bind_datagram(any_port(), protocol).unwrap();
    (id, address(event_loop, id).as_inet().unwrap())
}

/// A client that the test controls.
fn client() -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn u1_datagrams_are_echoed_the_empty_and_the_longest_too() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let (_, to) = bind(&mut event_loop, echo(&log));
    let client = client();
    let longest = pattern(65_507);
    for data in [&b"hello"[..], b"", &longest] {
        client.send_to(data, to).unwrap();
        let count = log.datagrams.borrow().len();
        turn_until(&mut event_loop, |_| log.datagrams.borrow().len() > count);
        let mut back = vec![0; 65_536];
        let (length, from) = uninterrupted(|| client.recv_from(&mut back)).unwrap();
        assert!(&back[..length] == data && from == to);
    }
    assert_eq!(log.datagrams.borrow()[0].1, client.local_addr().unwrap());
    assert_eq!(*log.lines.borrow(), [] as [&str; 0]);
}

#[test]
fn u1_one_byte_too_many_is_an_error_and_the_socket_lives() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let (id, _) = bind(&mut event_loop, recorder(&log));
    let client = client();
    let to = Address::from(client.local_addr().unwrap());
    {
        let mut context = event_loop.context();
        let mut transport = context.datagram(id).unwrap();
        transport.send_to(&pattern(65_508), &to);
        transport.send_to(&pattern(65_507), &to);
    }
    let mut back = vec![0; 65_536];
    assert_eq!(uninterrupted(|| client.recv(&mut back)).unwrap(), 65_507);
    turn_until(&mut event_loop, |_| !log.lines.borrow().is_empty());
    assert!(log.lines.borrow()[0].starts_with("send "), "{:?}", log.lines);
}

#[test]
fn u1_what_is_longer_than_is_received_whole_is_truncated_and_says_so() {
    let mut event_loop = EventLoop::with_limits(Limits::default().with_datagram_bytes_max(100)).unwrap();
    let log = Log::default();
    let (_, to) = bind(&mut event_loop, recorder(&log));
    let client = client();
    client.send_to(&[b'x'; 100], to).unwrap();
    client.send_to(&[b'x'; 101], to).unwrap();
    turn_until(&mut event_loop, |_| !log.lines.borrow().is_empty());
    assert_eq!((log.datagrams.borrow()[0].0.len(), log.datagrams.borrow().len()), (100, 1));
    assert_eq!(*log.lines.borrow(), ["truncated 100"]);
}

#[test]
fn u1_a_refusal_comes_as_an_error_costs_one_turn_and_the_socket_lives() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let gone = client();
    let to = gone.local_addr().unwrap();
    let id = event_loop.context().connect_datagram(to, recorder(&log)).unwrap();
    drop(gone);
    event_loop.context().datagram(id).unwrap().send(b"is anybody there?");
    turn_until(&mut event_loop, |_| !log.lines.borrow().is_empty());
    assert_eq!(*log.lines.borrow(), ["socket ConnectionRefused"]);
    let start = Instant::now();
    event_loop.turn(Some(Duration::from_millis(5))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(5), "the error is told again and again");
    // The refusal of one does not prevent the next from being sent.
    event_loop.context().datagram(id).unwrap().send(b"still nobody?");
    let here = UdpSocket::bind(to).unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    event_loop.context().datagram(id).unwrap().send(b"hello");
    let mut back = [0; 100];
    let (count, from) = uninterrupted(|| here.recv_from(&mut back)).unwrap();
    assert_eq!(&back[..count], b"hello");
    here.send_to(b"answer", from).unwrap();
    client().send_to(b"of a stranger", from).unwrap();
    turn_until(&mut event_loop, |_| !log.datagrams.borrow().is_empty());
    assert_eq!(log.texts(), ["answer"]);
    assert_eq!(log.lines.borrow().len(), 2);
}

#[test]
fn u1_an_answered_datagram_costs_no_wake_up_when_it_has_left() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let (_, to) = bind(&mut event_loop, echo(&log));
    let client = client();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    for _ in 0..10 {
        client.send_to(b"message", to).unwrap();
        event_loop.turn(Some(PATIENCE)).unwrap();
        assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 7);
        let start = Instant::now();
        event_loop.turn(Some(Duration::from_millis(5))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5), "woken without a reason");
    }
}

/// Closes its socket at the first datagram.
struct ClosesAtFirst(Log);

impl DatagramProtocol for ClosesAtFirst {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.0.datagrams.borrow_mut().push((data.to_vec(), from.clone()));
        transport.close();
    }

    fn connection_lost(&mut self, _: &mut DatagramTransport<'_>, reason: CloseReason) {
        self.0.push(reason.to_string());
    }
}

#[test]
fn u1_a_close_in_a_callback_ends_delivery_and_the_loop_is_idle_then() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let (_, to) = bind(&mut event_loop, ClosesAtFirst(log.clone()));
    let client = client();
    client.send_to(b"first", to).unwrap();
    client.send_to(b"second", to).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!((log.texts(), log.lines.take()), (vec!["first".into()], vec!["closed by us".into()]));
    UdpSocket::bind(to).expect("its port is free again");
}

#[test]
fn u1_a_flood_leaves_room_for_others() {
    let mut event_loop = event_loop();
    let (flood, quiet) = (Log::default(), Log::default());
    let (_, to_flood) = bind(&mut event_loop, recorder(&flood));
    let (_, to_quiet) = bind(&mut event_loop, recorder(&quiet));
    let client = client();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    // As many as its buffer certainly holds.
    for _ in 0..150 {
        client.send_to(b"more", to_flood).unwrap();
    }
    client.send_to(b"one", to_quiet).unwrap();
    event_loop.turn(Some(PATIENCE)).unwrap();
    assert_eq!((flood.texts().len(), quiet.texts().len()), (64, 1));
    turn_until(&mut event_loop, |_| flood.texts().len() == 150);
}

#[test]
fn u1_broadcasting_needs_to_be_allowed() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let id = event_loop.context().bind_datagram(any_port(), recorder(&log)).unwrap();
    // The broadcast address of the loopback network, which goes nowhere else.
    let everybody = Address::from(SocketAddr::from(([127, 255, 255, 255], 9)));
    event_loop.context().datagram(id).unwrap().send_to(b"who is there?", &everybody);
    turn_until(&mut event_loop, |_| !log.lines.borrow().is_empty());
    assert_eq!(log.lines.take(), ["send PermissionDenied"]);
    let mut context = event_loop.context();
    let mut transport = context.datagram(id).unwrap();
    transport.set_broadcast(true).unwrap();
    transport.send_to(b"who is there?", &everybody);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(log.lines.take(), [] as [&str; 0]);
}

#[test]
fn u1_multicast_groups_are_joined_and_left() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let id = event_loop.context().bind_datagram(any, recorder(&log)).unwrap();
    let port = address(&mut event_loop, id).as_inet().unwrap().port();
    // From the range for private use. The loopback interface takes part if it is named.
    let (group, interface) = (Ipv4Addr::new(239, 255, 77, 1), Ipv4Addr::LOCALHOST);
    let sender = client();
    socket2::SockRef::from(&sender).set_multicast_if_v4(&interface).unwrap();
    let heard = |event_loop: &mut EventLoop, text: &str| {
        sender.send_to(text.as_bytes(), (group, port)).unwrap();
        // On loopback, anything received is there already; this one certainly is.
        sender.send_to(b"end", (Ipv4Addr::LOCALHOST, port)).unwrap();
        turn_until(event_loop, |_| log.texts().last().is_some_and(|last| last == "end"));
        log.datagrams.take().len() == 2
    };
    assert!(!heard(&mut event_loop, "before"));
    event_loop.context().datagram(id).unwrap().join_multicast_v4(group, interface).unwrap();
    assert!(heard(&mut event_loop, "joined"));
    event_loop.context().datagram(id).unwrap().leave_multicast_v4(group, interface).unwrap();
    assert!(!heard(&mut event_loop, "left"));
    let mut context = event_loop.context();
    let transport = context.datagram(id).unwrap();
    assert!(transport.leave_multicast_v4(group, interface).is_err(), "it is no member");
    assert!(transport.join_multicast_v4(Ipv4Addr::LOCALHOST, interface).is_err(), "that is no group");
}

#[test]
fn u1_ipv4_peers_of_a_dual_stack_socket_are_given_and_answered_as_ipv4() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let Ok(socket) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) else { return };
    if socket2::SockRef::from(&socket).only_v6().unwrap_or(true) {
        return;
    }
    let port = socket.local_addr().unwrap().port();
    event_loop.context().attach_datagram(socket, echo(&log)).unwrap();
    let client = client();
    client.send_to(b"hello", (Ipv4Addr::LOCALHOST, port)).unwrap();
    turn_until(&mut event_loop, |_| !log.texts().is_empty());
    assert_eq!(log.datagrams.borrow()[0].1, client.local_addr().unwrap());
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 5);
}

#[test]
fn u1_a_mapped_address_is_bound_as_ipv6_and_its_peers_are_given_as_ipv4() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0));
    let Ok(id) = event_loop.context().bind_datagram(mapped, echo(&log)) else {
        assert!(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err(), "there is IPv6");
        return;
    };
    let to = address(&mut event_loop, id).as_inet().unwrap();
    assert!(to.is_ipv4());
    let client = client();
    client.send_to(b"hello", to).unwrap();
    turn_until(&mut event_loop, |_| !log.texts().is_empty());
    assert_eq!(log.datagrams.borrow()[0].1, client.local_addr().unwrap());
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 5);
    // An IPv4 socket sends and connects to a mapped address.
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), client.local_addr().unwrap().port());
    let (id, _) = bind(&mut event_loop, recorder(&log));
    event_loop.context().datagram(id).unwrap().send_to(b"mapped", &mapped.into());
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 6);
    let id = event_loop.context().connect_datagram(mapped, recorder(&log)).unwrap();
    event_loop.context().datagram(id).unwrap().send(b"connected");
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 9);
}

#[test]
fn u1_ipv6_serves_ipv6_alone() {
    let mut event_loop = event_loop();
    let log = Log::default();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let Ok(id) = event_loop.context().bind_datagram(any, echo(&log)) else { return };
    let port = address(&mut event_loop, id).as_inet().unwrap().port();
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the IPv4 port is somebody else's");
    let Ok(client) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"hello", (Ipv6Addr::LOCALHOST, port)).unwrap();
    turn_until(&mut event_loop, |_| !log.texts().is_empty());
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap(), 5);
    let to = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    event_loop.context().datagram(id).unwrap().send_to(b"of the other kind", &to);
    turn_until(&mut event_loop, |_| !log.lines.borrow().is_empty());
}

#[test]
fn u1_binding_twice_is_an_error_and_leaves_nothing_behind() {
    let mut event_loop = event_loop();
    let taken = client();
    let error = event_loop.context().bind_datagram(taken.local_addr().unwrap(), recorder(&Log::default()));
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    event_loop.run_until_idle().unwrap();
}
