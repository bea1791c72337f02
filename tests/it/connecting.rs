//! Connecting, over real sockets.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{CloseReason, Connect, ConnectError, EventLoop, Limits, LoopLimits, Protocol, Transport};

use crate::support::{Echo, PATIENCE, any_port, event_loop, join, listen, pattern, read_all, serve_while, turn_until};

/// What was recorded, in order.
type Notes = Rc<RefCell<Vec<String>>>;

/// Records its callbacks, and keeps what it receives.
#[derive(Default)]
struct Client {
    notes: Notes,
    got: Rc<RefCell<Vec<u8>>>,
}

impl Protocol for Client {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        self.notes.borrow_mut().push("made".into());
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.got.borrow_mut().extend_from_slice(data);
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.notes.borrow_mut().push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.notes.borrow_mut().push(format!("lost: {reason}"));
    }
}

impl Client {
    fn noting(notes: &Notes) -> Client {
        Client { notes: notes.clone(), ..Client::default() }
    }
}

/// An address on which nobody listens, and nobody else can while this is held.
fn nobody() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&any_port().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// A server that does not answer connects: its backlog is full.
fn black_hole() -> (SocketAddr, Vec<Box<dyn Send>>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&any_port().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held: Vec<Box<dyn Send>> = vec![Box::new(socket)];
    for _ in 0..4 {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        held.push(Box::new(filler));
    }
    (address, held)
}

#[test]
fn k1_made_data_lost_against_a_server_that_closes_at_once() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"banner").unwrap());
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let client = Client::noting(&notes);
    let got = client.got.clone();
    event_loop.context().connect(address, client).unwrap();
    event_loop.run_until_idle().unwrap();
    join(server);
    assert_eq!(*got.borrow(), b"banner");
    assert_eq!(*notes.borrow(), ["made", "lost: closed by the peer"]);
}

#[test]
fn k1_a_refused_connect_fails_once_with_the_error_of_the_system() {
    let (address, _held) = nobody();
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    event_loop.context().connect(address, Client::noting(&notes)).unwrap();
    event_loop.run_until_idle().unwrap();
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(notes.borrow().len(), 1);
    let note = notes.borrow()[0].to_lowercase();
    assert!(note.starts_with(&format!("failed: cannot connect: {address}: {refused}")), "{note}");
}

#[test]
fn k2_a_black_hole_fails_at_the_deadline() {
    let (address, _held) = black_hole();
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let timeout = Duration::from_millis(300);
    let begun = Instant::now();
    event_loop.context().connect(Connect::to(address).timeout(timeout), Client::noting(&notes)).unwrap();
    event_loop.run_until_idle().unwrap();
    let took = begun.elapsed();
    assert!(took >= timeout && took < PATIENCE, "{took:?}");
    assert_eq!(*notes.borrow(), [format!("failed: connecting took too long: {address}: timed out")]);
}

#[test]
fn k2_the_local_address_is_bound_and_one_that_cannot_be_is_an_error_at_once() {
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let address = listen(&mut event_loop, || Echo);
    let ours = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 7), 0));
    let id = event_loop.context().connect(Connect::to(address).local_addr(ours), Client::noting(&notes)).unwrap();
    turn_until(&mut event_loop, |_| !notes.borrow().is_empty());
    let local = event_loop.context().connection(id).unwrap().local_addr().unwrap().as_inet().unwrap();
    assert_eq!(local.ip(), ours.ip());
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let (taken, _held) = nobody();
    let wrong = [(foreign, io::ErrorKind::AddrNotAvailable), (taken, io::ErrorKind::AddrInUse)];
    for (local, kind) in wrong {
        let connect = Connect::to(address).local_addr(local);
        let error = event_loop.context().connect(connect, Client::noting(&notes)).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    assert_eq!(*notes.borrow(), ["made"], "what fails at once is told once");
}

#[test]
fn k3_a_list_reaches_the_first_that_answers() {
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let (hole, _held) = black_hole();
    let (refuses, _held_too) = nobody();
    let address = listen(&mut event_loop, || Echo);
    let begun = Instant::now();
    let id = event_loop.context().connect(vec![hole, refuses, address], Client::noting(&notes)).unwrap();
    turn_until(&mut event_loop, |_| !notes.borrow().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert_eq!(*notes.borrow(), ["made"]);
    let peer = event_loop.context().connection(id).unwrap().peer_addr().unwrap().as_inet();
    assert_eq!(peer, Some(address));
    // It was moved to another token, and still gets events.
    let mut context = event_loop.context();
    let mut transport = context.connection(id).unwrap();
    transport.write(b"hello");
    transport.shutdown_write();
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(*notes.borrow(), ["made", "lost: closed by the peer"]);
}

#[cfg(target_os = "linux")]
#[test]
fn k4_a_connect_to_ones_own_port_counts_as_refused_and_leaves_it_free() {
    let (address, held) = nobody();
    drop(held);
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    event_loop.context().connect(Connect::to(address).local_addr(address), Client::noting(&notes)).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(
        *notes.borrow(),
        [format!("failed: cannot connect: {address}: connected to itself: nobody listens there")]
    );
    // Without SO_REUSEADDR, so that TIME_WAIT would show.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
}

#[test]
fn k6_what_was_written_before_it_stands_arrives() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let id = event_loop.context().connect(listener.local_addr().unwrap(), Client::noting(&notes)).unwrap();
    let mut context = event_loop.context();
    let mut transport = context.connection(id).unwrap();
    transport.write(b"early ");
    transport.write(b"bird");
    transport.shutdown_write();
    let got = serve_while(&mut event_loop, move || read_all(&mut listener.accept().unwrap().0));
    assert_eq!(got, b"early bird");
}

// K7

#[test]
fn k7_localhost_is_found_by_the_systems_resolver() {
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    let address = listen(&mut event_loop, || Echo);
    event_loop.context().connect(("localhost", address.port()), Client::noting(&notes)).unwrap();
    turn_until(&mut event_loop, |_| !notes.borrow().is_empty());
    assert_eq!(*notes.borrow(), ["made"]);
}

#[test]
fn k7_a_name_that_cannot_be_one_is_an_error_of_the_lookup() {
    let (mut event_loop, notes) = (event_loop(), Notes::default());
    event_loop.context().connect(("a\0b", 80), Client::noting(&notes)).unwrap();
    event_loop.run_until_idle().unwrap();
    assert!(notes.borrow()[0].starts_with("failed: cannot look up the name: "), "{notes:?}");
}

/// A loop whose look-ups hang until the sender is dropped, and the names that were looked up.
fn with_hanging_lookups(limits: LoopLimits) -> (EventLoop, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let (asked, names) = mpsc::channel();
    let (release, hangs) = mpsc::channel::<()>();
    let hangs = std::sync::Mutex::new(hangs);
    event_loop.context().set_resolver(move |name, _| {
        asked.send(name.to_owned()).unwrap();
        let _ = hangs.lock().unwrap().recv();
        Err(io::ErrorKind::NotFound.into())
    });
    (event_loop, names, release)
}

#[test]
fn k7_a_lookup_that_hangs_ends_at_the_deadline_and_holds_up_neither_loop_nor_its_end() {
    let (mut event_loop, names, release) = with_hanging_lookups(LoopLimits::default());
    let notes = Notes::default();
    let connect = Connect::to(("db.example", 80)).timeout(Duration::from_millis(100));
    event_loop.context().connect(connect, Client::noting(&notes)).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(*notes.borrow(), ["failed: connecting took too long"]);
    assert_eq!(names.recv().unwrap(), "db.example");
    drop(event_loop);
    drop(release);
}

#[test]
fn k7_no_more_lookups_than_the_cap_run_at_once() {
    let (mut event_loop, names, release) = with_hanging_lookups(LoopLimits::default().with_lookups_max(2));
    let notes = Notes::default();
    for name in ["a", "b", "c", "d", "e"] {
        event_loop.context().connect((name, 80), Client::noting(&notes)).unwrap();
    }
    let mut first = [names.recv().unwrap(), names.recv().unwrap()];
    first.sort();
    assert_eq!(first, ["a", "b"]);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert!(names.try_recv().is_err(), "the others wait");
    drop(release);
    event_loop.run_until_idle().unwrap();
    assert_eq!(names.try_iter().count(), 3);
    assert_eq!(notes.borrow().len(), 5);
}

#[test]
fn k7_a_name_whose_deadline_passes_while_it_waits_is_never_looked_up() {
    let (mut event_loop, names, release) = with_hanging_lookups(LoopLimits::default().with_lookups_max(1));
    let notes = Notes::default();
    for name in ["hangs", "waits"] {
        let connect = Connect::to((name, 80)).timeout(Duration::from_millis(50));
        event_loop.context().connect(connect, Client::noting(&notes)).unwrap();
    }
    event_loop.run_until_idle().unwrap();
    assert_eq!(*notes.borrow(), ["failed: connecting took too long"; 2]);
    event_loop.context().connect(("last", 80), Client::noting(&notes)).unwrap();
    drop(release);
    event_loop.run_until_idle().unwrap();
    assert_eq!(names.try_iter().collect::<Vec<_>>(), ["hangs", "last"]);
}

// Two loops

/// Sends this much of a pattern in one write when it is made, shuts down its half, and expects what the other sends.
struct Swap {
    pattern: Arc<Vec<u8>>,
    sends: usize,
    wants: usize,
    got: usize,
    ended: Rc<RefCell<Option<String>>>,
}

impl Swap {
    fn new(pattern: &Arc<Vec<u8>>, sends: usize, wants: usize) -> Swap {
        Swap { pattern: pattern.clone(), sends, wants, got: 0, ended: Rc::default() }
    }
}

impl Protocol for Swap {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&self.pattern[..self.sends]);
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        assert!(self.pattern[self.got..].starts_with(data), "another byte behind {}", self.got);
        self.got += data.len();
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        assert_eq!((self.got, reason.to_string().as_str()), (self.wants, "closed by the peer"));
        *self.ended.borrow_mut() = Some(reason.to_string());
    }
}

/// Two of our own loops: the one that connects sends `there`, and the one that listens, with these limits, `back`.
fn swap(limits: Limits, there: usize, back: usize) {
    let (tell, address) = mpsc::channel();
    let pattern = Arc::new(pattern(there.max(back)));
    let other = pattern.clone();
    let server = thread::spawn(move || {
        let mut event_loop = EventLoop::with_limits(limits).unwrap();
        event_loop.set_panic_policy(switchboard::PanicPolicy::Propagate);
        let swap = Swap::new(&other, back, there);
        let (ended, mut swap) = (swap.ended.clone(), Some(swap));
        tell.send(listen(&mut event_loop, move || swap.take().unwrap())).unwrap();
        turn_until(&mut event_loop, |_| ended.borrow().is_some());
    });
    let mut event_loop = event_loop();
    let swap = Swap::new(&pattern, there, back);
    let ended = swap.ended.clone();
    event_loop.context().connect(address.recv().unwrap(), swap).unwrap();
    turn_until(&mut event_loop, |_| ended.borrow().is_some());
    join(server);
}

#[test]
fn two_loops_exchange_16_mib_in_both_directions_at_once() {
    swap(Limits::default().with_pause_reading_over_high(false), 16 << 20, 16 << 20);
}

#[test]
fn a_client_goes_on_reading_so_that_a_server_which_does_not_is_not_stuck() {
    swap(Limits::default(), 16 << 20, 16 << 20);
}

#[test]
fn one_write_of_64_mib_arrives_whole() {
    swap(Limits::default(), 64 << 20, 0);
}
