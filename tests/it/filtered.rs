//! Connections with filters, in blocking threads: by hand, and in request handlers.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::filter::{Filter, Flow};
use switchboard::server::{Request, Requests, Serving, SocketServer};
use switchboard::{BlockingStream, Detached, EventLoop, Feeder, Listen, Protocol, Transport};

use crate::request_handlers::Errors;
use crate::support::{Echo, PATIENCE, any_port, connect, event_loop, join, pattern, read_all, serve_while, turn_until};

/// A handshake of a byte, lines whose bytes are masked, and an explicit end.
#[derive(Default)]
pub(crate) struct Masked {
    is_ready: bool,
}

const HELLO: u8 = b'H';
const MASK: u8 = 0x80;
/// Bytes that end the stream, break the rules, and make the filter panic.
const END: u8 = 0;
const WRONG: u8 = 0xff;
const PANIC: u8 = 0xfe;

impl Filter for Masked {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        if !self.is_ready {
            assert_eq!(data[0], HELLO);
            self.is_ready = true;
            flow.set_ready();
            return 1;
        }
        match data[0] {
            END => flow.end(),
            WRONG => {
                flow.down().push(b"alert");
                flow.fail("a wrong byte");
            }
            PANIC => panic!("a byte to panic at"),
            _ => {
                // Whole lines only, like records.
                let most = data.len().min(flow.up_room());
                let Some(end) = data[..most].iter().rposition(|byte| *byte == b'\n' ^ MASK) else { return 0 };
                data[..=end].iter_mut().for_each(|byte| *byte ^= MASK);
                flow.up().push(&data[..=end]);
                return end + 1;
            }
        }
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(&masked(data));
        data.len()
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        flow.down().push(&[END]);
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        flow.fail("no end was said");
    }
}

fn masked(data: &[u8]) -> Vec<u8> {
    data.iter().map(|byte| byte ^ MASK).collect()
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// Returns what a client gets that does the handshake and sends a line.
fn ask(address: SocketAddr, line: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(&[HELLO]).unwrap();
    stream.write_all(&masked(line)).unwrap();
    read_all(&mut stream)
}

/// An answer, whole and with its end.
fn answer(line: &[u8]) -> Vec<u8> {
    [&masked(line)[..], &[END]].concat()
}

type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn capitals(request: &mut Request) -> Handled {
    let mut line = Vec::new();
    request.read_until(b'\n', &mut line)?;
    request.write_all(&line.to_ascii_uppercase())?;
    Ok(())
}

/// A service whose connections have the filter.
fn serve(requests: Requests) -> (EventLoop, Serving, SocketAddr) {
    let mut event_loop = event_loop();
    let at = Listen::at(any_port()).filter(|_| Some(Masked::default()));
    let serving = requests.listen(&mut event_loop.context(), at).unwrap();
    let address = serving.local_addr().as_inet().unwrap();
    (event_loop, serving, address)
}

#[test]
fn handlers_read_and_write_through_filters_and_each_client_sees_the_end_that_they_say() {
    for requests in [Requests::one_at_a_time(|| capitals), Requests::threads(count(2), || capitals)] {
        let errors = Errors::default();
        let (mut event_loop, serving, address) = serve(requests.on_error(errors.hook()));
        serve_while(&mut event_loop, move || {
            let clients: Vec<_> = (0..20)
                .map(|number| {
                    thread::spawn(move || {
                        let line = format!("client no. {number}\n");
                        assert_eq!(
                            ask(address, format!("{line}more").as_bytes()),
                            answer(line.to_uppercase().as_bytes())
                        );
                    })
                })
                .collect();
            clients.into_iter().for_each(join);
        });
        turn_until(&mut event_loop, |context| context.connection_count() == 0);
        assert_eq!((serving.in_progress(), errors.take()), (0, vec![]));
    }
}

#[test]
fn handlers_are_bounded_however_many_connections_become_ready_at_once() {
    let (lets_go, may_go) = mpsc::channel();
    let may_go = std::sync::Arc::new(Mutex::new(may_go));
    let requests = Requests::threads(count(1), move || {
        let may_go = may_go.clone();
        move |request: &mut Request| {
            may_go.lock().unwrap().recv_timeout(PATIENCE)?;
            capitals(request)
        }
    });
    let errors = Errors::default();
    let (mut event_loop, serving, address) = serve(requests.on_error(errors.hook()));
    let mut clients: Vec<_> = (0..5).map(|_| connect(address)).collect();
    turn_until(&mut event_loop, |context| context.connection_count() == 5);
    clients.iter_mut().for_each(|client| client.write_all(&[&[HELLO][..], &masked(b"me\n")].concat()).unwrap());
    turn_until(&mut event_loop, |context| context.counters().connections_made == 5);
    assert_eq!(serving.in_progress(), 1);
    // One of the waiting clients gives up.
    drop(clients.pop());
    for number in 0..3 {
        lets_go.send(()).unwrap();
        let mut client = clients.remove(0);
        let heard = serve_while(&mut event_loop, move || read_all(&mut client));
        assert_eq!((heard, serving.in_progress()), (answer(b"ME\n"), 1), "{number}");
    }
    // Those that will not be served are rejected.
    let mut last = clients.pop().unwrap();
    let mut late = connect(address);
    drop(lets_go);
    serving.close(&mut event_loop.context());
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert!(last.read(&mut [0]).is_err() && late.read(&mut [0]).is_err());
}

#[test]
fn handlers_of_one_request_begin_no_other_whose_filters_are_ready() {
    let mut server = SocketServer::listen(
        Listen::at(any_port()).filter(|_| Some(Masked::default())),
        Requests::threads(count(2), || capitals),
    )
    .unwrap();
    let address = server.local_addr().as_inet().unwrap();
    let mut both = [connect(address), connect(address)];
    assert!(!server.handle_request(Some(Duration::from_millis(1))).unwrap(), "both are there, and not ready");
    both.iter_mut().for_each(|client| client.write_all(&[&[HELLO][..], &masked(b"me\n")].concat()).unwrap());
    let [mut first, mut second] = both;
    for _ in 0..2 {
        assert!(server.handle_request(Some(PATIENCE)).unwrap());
    }
    assert_eq!((read_all(&mut first), read_all(&mut second)), (answer(b"ME\n"), answer(b"ME\n")));
    assert!(server.shutdown(PATIENCE).unwrap().is_clean());
}

#[test]
fn handlers_are_told_of_a_stream_that_was_cut_off_and_of_a_broken_rule_and_reset_it() {
    for (sent, told) in [
        (&b"half a li"[..], "no end was said"),
        (&[WRONG ^ MASK][..], "a wrong byte"),
        (&[PANIC ^ MASK][..], "the handler panicked: a byte to panic at"),
    ] {
        let errors = Errors::default();
        let requests = Requests::threads(count(1), || {
            |request: &mut Request| {
                request.write_all(b"half an answer")?;
                capitals(request)
            }
        });
        let (mut event_loop, serving, address) = serve(requests.on_error(errors.hook()));
        let mut client = connect(address);
        client.write_all(&[&[HELLO][..], &masked(sent)].concat()).unwrap();
        let heard = serve_while(&mut event_loop, move || {
            if told == "no end was said" {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut heard = Vec::new();
            (client.read_to_end(&mut heard).map_err(|error| error.kind()), heard)
        });
        assert_eq!(heard.0, Err(ErrorKind::ConnectionReset), "{told}");
        assert!([&masked(b"half an answer")[..], b"alert"].concat().starts_with(&heard.1), "{:?}", heard.1);
        turn_until(&mut event_loop, |_| serving.in_progress() == 0);
        assert_eq!(errors.take(), [told]);
    }
}

#[test]
fn handlers_give_a_connection_back_with_its_filters() {
    let requests = Requests::threads(count(1), || {
        |request: &mut Request| {
            capitals(request)?;
            assert!(request.stream().is_some_and(|stream| stream.filter::<Masked>().is_some()));
            request.give_back(|| Echo);
            Ok(())
        }
    });
    let (mut event_loop, _, address) = serve(requests);
    let heard = serve_while(&mut event_loop, move || {
        let mut stream = connect(address);
        stream.write_all(&[&[HELLO][..], &masked(b"shout\nand then\n")].concat()).unwrap();
        let mut heard = vec![0; b"SHOUT\nand then\n".len()];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&answer(b"echo\n")).unwrap();
        stream.read_to_end(&mut heard).unwrap();
        heard
    });
    assert_eq!(heard, answer(b"SHOUT\nand then\necho\n"));
}

#[cfg(unix)]
#[test]
fn children_are_given_no_connection_that_has_filters_and_the_owner_is_told() {
    let errors = Errors::default();
    let requests = Requests::processes(count(1), |_| std::process::Command::new("cat")).on_error(errors.hook());
    let (mut event_loop, serving, address) = serve(requests);
    let mut client = connect(address);
    client.write_all(&[HELLO]).unwrap();
    turn_until(&mut event_loop, |_| !errors.0.borrow().is_empty());
    assert_eq!(errors.take(), ["a connection with filters cannot be given to a child process"]);
    turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Is detached when its filter is ready.
struct Leaves(mpsc::Sender<Detached>);

impl Protocol for Leaves {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let sender = self.0.clone();
        assert!(transport.detach(move |_, detached| sender.send(detached).unwrap()));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }
}

/// A detached connection with the filter, and its client.
fn left() -> (Detached, TcpStream) {
    let mut event_loop = event_loop();
    let (sender, receiver) = mpsc::channel();
    let at = Listen::at(any_port()).filter(|_| Some(Masked::default()));
    let id = event_loop.context().listen(at, move |_: &mut _, _: &_| Some(Leaves(sender.clone()))).unwrap();
    let mut client = connect(crate::support::address_of(&mut event_loop.context(), id));
    client.write_all(&[HELLO]).unwrap();
    turn_until(&mut event_loop, |context| context.counters().losses.detached == 1);
    (receiver.try_recv().unwrap(), client)
}

fn blocking(timeout: Option<Duration>) -> (BlockingStream, TcpStream) {
    let (detached, client) = left();
    (detached.into_blocking(timeout).unwrap(), client)
}

#[test]
fn y7_a_read_waits_no_longer_than_it_may_in_all_however_often_something_comes() {
    let timeout = Duration::from_millis(60);
    let (mut stream, mut client) = blocking(Some(timeout));
    let (ends, is_over) = mpsc::channel::<()>();
    let dribbles = thread::spawn(move || {
        // The client is slow on purpose: a byte now and then, and never a whole line.
        while is_over.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            client.write_all(b"x").unwrap();
        }
        client.write_all(&masked(b"\n")).unwrap();
        client
    });
    let began = Instant::now();
    for _ in 0..2 {
        let error = stream.fill_buf().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
    assert!(began.elapsed() < PATIENCE / 2);
    // The socket's own timeouts are unchanged.
    let rounded = |of: io::Result<Option<Duration>>| of.unwrap().unwrap().as_millis().div_ceil(10);
    let socket = socket2::SockRef::from(&stream);
    assert_eq!((rounded(socket.read_timeout()), rounded(socket.write_timeout())), (6, 6));
    drop(ends);
    let _client = join(dribbles);
    stream.set_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).unwrap();
    assert!(line.len() > 2 && line[..line.len() - 1].iter().all(|byte| *byte == b'x' ^ MASK));
}

#[test]
fn y7_much_that_the_peer_reads_late_is_whole_though_writes_time_out() {
    let (mut stream, mut client) = blocking(Some(Duration::from_millis(1)));
    let all = pattern(8 << 20);
    let mut left = &all[..];
    let mut reader = None;
    while !left.is_empty() {
        match stream.write(left) {
            Ok(count) => left = &left[count..],
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                reader.get_or_insert_with(|| {
                    let mut client = client.try_clone().unwrap();
                    thread::spawn(move || read_all(&mut client))
                });
            }
        }
    }
    stream.set_timeout(Some(PATIENCE)).unwrap();
    stream.shutdown_write().unwrap();
    // It has written nothing, and is not disconnected.
    client.write_all(&[END]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    let heard = join(reader.expect("a write has timed out"));
    assert!(heard == answer(&all), "{} of {}", heard.len(), all.len() + 1);
}

#[test]
fn y7_what_wants_a_plain_stream_gives_one_with_filters_back() {
    let (detached, mut client) = left();
    let detached = detached.into_tcp().unwrap_err();
    #[cfg(unix)]
    let detached = detached.into_unix().unwrap_err();
    let mut event_loop = event_loop();
    let factory = |_: &mut switchboard::Context<'_>, _: &switchboard::Address| Some(Echo);
    let feeder: Feeder = event_loop.context().listen_fed(any_port().into(), 1, factory).unwrap();
    let detached = feeder.feed(detached).unwrap_err().into_inner();
    assert!(detached.has_filters());
    event_loop.context().attach(detached, Echo).unwrap();
    client.write_all(&answer(b"here\n")).unwrap();
    assert_eq!(serve_while(&mut event_loop, move || read_all(&mut client)), answer(b"here\n"));
}
