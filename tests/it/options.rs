//! Direct access to sockets: options, and peeking at data.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use switchboard::{Address, DatagramProtocol, DatagramTransport, Detached, EventLoop, Protocol, Transport};

use crate::support::{Echo, address_of, any_port, connect, event_loop, listen, turn_until};

struct Ignores;

impl DatagramProtocol for Ignores {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}
}

/// Sets options of each level, and reads them back.
fn set_and_read_back(socket: &SockRef<'_>, is_stream: bool) {
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    assert!(socket.recv_buffer_size().unwrap() >= 64 * 1024);
    socket.set_ttl_v4(7).unwrap();
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    if is_stream {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(77));
        socket.set_tcp_keepalive(&keepalive).unwrap();
        assert!(socket.keepalive().unwrap());
        socket.set_tcp_nodelay(false).unwrap();
        assert!(!socket.tcp_nodelay().unwrap());
    }
}

#[test]
fn every_socket_takes_any_option_through_its_descriptor() {
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let listener = context.listen(any_port(), |_, _| Some(Echo)).unwrap();
    let address = address_of(&mut context, listener);
    set_and_read_back(&SockRef::from(&context.listener(listener).unwrap().sockets().next().unwrap()), true);
    let datagram = context.bind_datagram(any_port(), Ignores).unwrap();
    set_and_read_back(&SockRef::from(&context.datagram(datagram).unwrap().socket().unwrap()), false);
    let ours = context.connect(address, Echo).unwrap();
    turn_until(&mut event_loop, |context| context.counters().connections_made == 2);
    let mut context = event_loop.context();
    set_and_read_back(&SockRef::from(&context.connection(ours).unwrap().socket().unwrap()), true);
    // They are the sockets themselves: accepted connections inherit what was set on the listener.
    let accepted = context.connection_ids().into_iter().find(|id| *id != ours).unwrap();
    let transport = context.connection(accepted).unwrap();
    assert!(cfg!(not(target_os = "linux")) || SockRef::from(&transport.socket().unwrap()).keepalive().unwrap());
}

/// Peeks at the data, and leaves it to the protocol that can read it.
struct Peeks(Rc<RefCell<Vec<String>>>);

impl Protocol for Peeks {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().push(String::from_utf8_lossy(data).into_owned());
        if data.len() >= 5 {
            transport.set_protocol(Echo);
        }
        0
    }
}

#[test]
fn r1_answering_0_is_a_peek() {
    let mut event_loop = event_loop();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = seen.clone();
    let address = listen(&mut event_loop, move || Peeks(sees.clone()));
    let mut client = connect(address);
    client.write_all(b"HE").unwrap();
    turn_until(&mut event_loop, |_| seen.borrow().len() == 1);
    client.write_all(b"LO!").unwrap();
    turn_until(&mut event_loop, |_| seen.borrow().len() == 2);
    assert_eq!(*seen.borrow(), ["HE", "HELO!"]);
    let mut back = [0; 5];
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"HELO!");
}

/// Longer than any test takes.
const LINGER: Duration = Duration::from_secs(30);

type Found = Rc<RefCell<Vec<(bool, bool, Option<Duration>)>>>;

/// Records the options of its socket, answers with more than its peer has room for and less than the kernel takes, and
/// closes.
struct AnswersUnread(Found);

impl Protocol for AnswersUnread {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let socket = transport.socket().unwrap();
        let socket = SockRef::from(&socket);
        let options = (socket.tcp_nodelay().unwrap(), socket.out_of_band_inline().unwrap(), socket.linger().unwrap());
        self.0.borrow_mut().push(options);
        transport.write_owned(vec![b'x'; 64 << 10]);
        transport.close();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// A client that has room for little, and reads nothing.
fn unreading_client(address: SocketAddr) -> socket2::Socket {
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    client.connect(&address.into()).unwrap();
    client
}

/// The next connection has the options of every stream, and its close does not wait for its peer.
fn assert_closes_at_once(event_loop: &mut EventLoop, found: &Found, how: &str) {
    let start = Instant::now();
    let ended = event_loop.context().counters().connections_lost + 1;
    turn_until(event_loop, |context| context.counters().connections_lost == ended);
    assert_eq!(found.take(), [(true, true, None)], "{how}");
    assert!(start.elapsed() < LINGER / 2, "the loop waited in close(2), {how}");
}

#[test]
fn x1_a_time_to_linger_that_a_listener_hands_on_holds_nobody_up() {
    let mut event_loop = event_loop();
    let found = Found::default();
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    SockRef::from(&listener).set_linger(Some(LINGER)).unwrap();
    // A connection in the backlog has the listener's earlier options, as with a service manager's socket.
    let _early = unreading_client(address);
    let notes = found.clone();
    event_loop.context().listen(listener, move |_, _| Some(AnswersUnread(notes.clone()))).unwrap();
    assert_closes_at_once(&mut event_loop, &found, "early");
    let _late = unreading_client(address);
    assert_closes_at_once(&mut event_loop, &found, "late");
}

#[test]
fn x1_a_time_to_linger_of_a_stream_that_is_taken_in_holds_nobody_up() {
    for how in ["attached", "fed", "given back"] {
        let mut event_loop = event_loop();
        let found = Found::default();
        let listener = TcpListener::bind(any_port()).unwrap();
        let _client = unreading_client(listener.local_addr().unwrap());
        let stream = listener.accept().unwrap().0;
        SockRef::from(&stream).set_linger(Some(LINGER)).unwrap();
        let mut context = event_loop.context();
        let protocol = AnswersUnread(found.clone());
        match how {
            "attached" => drop(context.attach(stream, protocol).unwrap()),
            "fed" => {
                let mut protocol = Some(protocol);
                let feeder = context.listen_fed(any_port().into(), 1024, move |_, _| protocol.take()).unwrap();
                feeder.feed(stream).unwrap();
            }
            _ => {
                let blocking = Detached::from(stream).into_blocking(None).unwrap();
                context.attach(blocking, protocol).unwrap();
            }
        }
        assert_closes_at_once(&mut event_loop, &found, how);
    }
}

#[test]
fn r6_who_waited_before_a_listener_was_handed_over_has_the_options_of_all_others() {
    let mut event_loop = event_loop();
    let found = Found::default();
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let _early = [unreading_client(address), unreading_client(address)];
    let notes = found.clone();
    event_loop.context().listen(listener, move |_, _| Some(AnswersUnread(notes.clone()))).unwrap();
    turn_until(&mut event_loop, |context| context.counters().connections_lost == 2);
    let _late = unreading_client(address);
    turn_until(&mut event_loop, |context| context.counters().connections_lost == 3);
    assert_eq!(found.take(), [(true, true, None); 3]);
}
