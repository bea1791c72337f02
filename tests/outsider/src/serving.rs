//! A server and its clients.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{
    Address, CloseReason, ConnectionId, Context, DatagramError, DatagramId, DatagramProtocol, DatagramTransport,
    EventLoop, Limit, Limits, Listener, ListenerError, ListenerId, PanicPolicy, Protocol, Rate, RateGroupId, Transport,
    WhenFull,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

const UPGRADE: &[u8] = b"upgrade";

/// What happened, in order, as the protocols below record it.
type Notes = Rc<RefCell<Vec<String>>>;

/// Echoes, records every callback, and tries the methods of a transport.
struct Noting(Notes);

impl Noting {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }
}

impl Protocol for Noting {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.note("made");
        let peer = transport.peer_addr().and_then(Address::as_inet).expect("over TCP");
        let own = transport.local_addr().expect("it stands").as_inet().expect("over TCP");
        assert_ne!(peer, own);
        #[cfg(unix)]
        assert!(transport.socket().is_some());
        let id: ConnectionId = transport.id();
        assert_eq!(transport.context().connection(id).map(|transport| transport.id()), Some(id));
        transport.set_write_marks(1 << 20, 1 << 10);
        transport.set_input_bytes_max(1 << 10);
        transport.set_input_low_bytes(1);
        transport.pause_reading();
        transport.resume_reading();
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if data.starts_with(UPGRADE) {
            // What follows is for the other protocol.
            transport.set_protocol(Hoarding(self.0.clone()));
            return UPGRADE.len();
        }
        match data {
            b"close" => transport.close(),
            b"fail" => transport.close_for("no such verb"),
            b"abort" => transport.abort(),
            b"end" => transport.shutdown_write(),
            b"large" => transport.write_owned(vec![b'x'; 4 << 20]),
            _ => {
                transport.write(&data[..1]);
                let id = transport.id();
                assert_eq!(transport.context().broadcast([id], b""), 0, "nothing is written to nobody");
                transport.write_shared(Arc::from(&data[1..]));
                write!(transport, "!").expect("a write never fails");
                assert_eq!(transport.queued_bytes(), data.len() + 1);
            }
        }
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.note(format!("end, {} left", rest.len()));
        transport.close();
    }

    fn pause_writing(&mut self, _: &mut Transport<'_>) {
        self.note("pause");
    }

    fn resume_writing(&mut self, _: &mut Transport<'_>) {
        self.note("resume");
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.note(reason.to_string());
    }
}

/// Consumes nothing, until the limit is exceeded.
struct Hoarding(Notes);

impl Protocol for Hoarding {
    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        // The list of reasons may grow, so a match needs an arm for the rest.
        let what = match reason {
            CloseReason::Limit(Limit::InputBytes) => "hoarded too much",
            _ => "another reason",
        };
        self.0.borrow_mut().push(what.to_owned());
    }
}

struct Server {
    event_loop: EventLoop,
    listener: ListenerId,
    address: SocketAddr,
    notes: Notes,
}

fn server() -> Server {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    let notes = Notes::default();
    let noted = notes.clone();
    let mut context = event_loop.context();
    let listener =
        context.listen(std::net::SocketAddr::from(ANY_PORT), move |_, _| Some(Noting(noted.clone()))).unwrap();
    let address = context.listener(listener).unwrap().local_addr().unwrap().as_inet().unwrap();
    Server { event_loop, listener, address, notes }
}

impl Server {
    fn listening(&mut self, look: impl FnOnce(&mut Listener<'_>)) {
        look(&mut self.event_loop.context().listener(self.listener).expect("it listens"));
    }

    /// Serves a client, which runs in a separate thread, until its connection is gone.
    fn serve<T: Send + 'static>(&mut self, client: impl FnOnce(TcpStream) -> T + Send + 'static) -> T {
        let address = self.address;
        let client = thread::spawn(move || client(connect(address)));
        self.turn_until(|context| client.is_finished() && context.connection_count() == 0);
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn turn_until(&mut self, done: impl Fn(&mut Context<'_>) -> bool) {
        let start = Instant::now();
        while !done(&mut self.event_loop.context()) {
            assert!(start.elapsed() < PATIENCE, "in vain");
            self.event_loop.turn(Some(Duration::from_millis(20))).unwrap();
        }
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.notes.borrow_mut())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends, and reads to the end.
fn say(message: &'static [u8]) -> impl FnOnce(TcpStream) -> usize + Send {
    move |mut client| {
        client.write_all(message).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap_or(0)
    }
}

#[test]
fn an_echo_comes_back_and_the_end_is_told() {
    let mut server = server();
    let echoed = server.serve(|mut client| {
        client.write_all(b"hello").unwrap();
        let mut back = [0; 6];
        client.read_exact(&mut back).unwrap();
        back
    });
    assert_eq!(&echoed, b"hello!");
    assert_eq!(server.take_notes(), ["made", "end, 0 left", "closed by the peer"]);
    let counters = server.event_loop.context().counters();
    assert_eq!((counters.connections_made, counters.connections_lost, counters.late_writes), (1, 1, 0));
}

#[test]
fn each_way_to_end_has_its_reason() {
    let mut server = server();
    for (verb, reason) in
        [(&b"close"[..], "closed by us"), (b"fail", "protocol error: no such verb"), (b"abort", "aborted by us")]
    {
        server.serve(say(verb));
        assert_eq!(server.take_notes(), ["made", reason]);
    }
    server.serve(say(b"end"));
    assert_eq!(server.take_notes()[0], "made");
}

#[test]
fn marks_are_told() {
    let mut server = server();
    let taken = server.serve(|mut client| {
        client.write_all(b"large").unwrap();
        let mut taken = vec![0; 4 << 20];
        client.read_exact(&mut taken).unwrap();
        taken.len()
    });
    assert_eq!(taken, 4 << 20);
    let notes = server.take_notes();
    let pauses = notes.iter().filter(|note| *note == "pause").count();
    let resumes = notes.iter().filter(|note| *note == "resume").count();
    assert_eq!(pauses, resumes, "{notes:?}");
}

#[test]
fn an_upgrade_takes_what_comes_and_its_limit_holds() {
    let mut server = server();
    server.serve(|mut client| {
        client.write_all(UPGRADE).unwrap();
        // Until the reset.
        while client.write_all(&[0; 512]).is_ok() {}
    });
    assert_eq!(server.take_notes(), ["made", "hoarded too much"]);
}

#[test]
fn a_listener_refuses_pauses_and_closes() {
    let mut server = server();
    let limits = Limits::default().with_connections_max(0).with_when_full(WhenFull::Refuse);
    server.listening(|listening| {
        listening.on_error(|_: &mut Context<'_>, _: ListenerId, error: &ListenerError| panic!("{error}"));
        listening.set_limits(limits);
        listening.pause();
        listening.resume();
        assert_eq!(listening.connection_count(), 0);
    });
    assert_eq!(server.serve(|mut client| client.read_to_end(&mut Vec::new()).unwrap_or(0)), 0);
    server.turn_until(|context| context.counters().connections_refused == 1);
    let listener = server.listener;
    server.listening(|listening| {
        assert_eq!(listening.id(), listener);
        listening.close();
    });
    assert!(server.event_loop.context().listener(listener).is_none());
    assert!(!server.event_loop.context().set_background(listener, true));
}

#[test]
fn sockets_that_others_made_are_taken_in() {
    let mut server = server();
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    let mut context = server.event_loop.context();
    context.listen(listener, |_, _| None::<Noting>).unwrap();
    let other = TcpListener::bind(ANY_PORT).unwrap();
    let mut client = connect(other.local_addr().unwrap());
    let (stream, _) = other.accept().unwrap();
    let id = context.attach(stream, Noting(server.notes.clone())).unwrap();
    // A connection is written to by its id, from anywhere.
    context.connection(id).unwrap().write(b"hello");
    server.turn_until(|context| context.counters().connections_made == 1);
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    let refused = connect(address);
    server.turn_until(|context| context.counters().connections_refused == 1);
    drop(refused);
    server.event_loop.context().shutdown(Duration::ZERO);
    drop(client);
    server.event_loop.run().unwrap();
    assert_eq!(server.event_loop.context().connection_count(), 0);
}

/// A datagram that is answered, one that is truncated, and errors.
struct Answering(Rc<RefCell<Vec<String>>>);

impl DatagramProtocol for Answering {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        transport.send_to(data, from);
        transport.send(b"to nobody, since it is not connected");
    }

    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        if let DatagramError::Send { to: None, .. } = error {
            self.0.borrow_mut().push(error.to_string());
            transport.close();
        }
    }
}

#[test]
fn a_datagram_is_answered() {
    let mut event_loop = EventLoop::new().unwrap();
    let errors = Rc::new(RefCell::new(Vec::new()));
    let mut context = event_loop.context();
    let protocol = Answering(errors.clone());
    let id: DatagramId = context.bind_datagram(SocketAddr::from(ANY_PORT), protocol).unwrap();
    let address = context.datagram(id).unwrap().local_addr().unwrap().as_inet().unwrap();
    let client = UdpSocket::bind(ANY_PORT).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"hello", address).unwrap();
    event_loop.run_until_idle().unwrap();
    let mut back = [0; 10];
    assert_eq!(client.recv_from(&mut back).unwrap(), (5, address));
    assert_eq!(errors.borrow().len(), 1);
    assert!(event_loop.context().datagram(id).is_none());
}

/// A read rate for one connection, and a shared one.
struct Slow(RateGroupId);

impl Protocol for Slow {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_read_rate(Some(Rate::new(1 << 20).burst(1 << 16)));
        transport.set_rate_group(Some(self.0));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        transport.close();
        data.len()
    }
}

#[test]
fn a_rate_is_shared_in_a_group() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut context = event_loop.context();
    let group: RateGroupId = context.add_rate_group(Rate::new(1 << 20).burst(1 << 16));
    let factory = move |_: &mut Context<'_>, _: &Address| Some(Slow(group));
    let listener = context.listen(std::net::SocketAddr::from(ANY_PORT), factory).unwrap();
    let address = context.listener(listener).unwrap().local_addr().unwrap().as_inet().unwrap();
    context.set_background(listener, true);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    while event_loop.context().counters().connections_lost == 0 {
        event_loop.turn(Some(PATIENCE)).unwrap();
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"hello");
    assert!(event_loop.context().remove_rate_group(group));
}
