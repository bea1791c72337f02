//! Request handlers: `socketserver` on the loop, in threads and in child processes.

use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::server::{Request, RequestError, RequestHandler, Requests, Serving, SocketServer};
use switchboard::{Address, AnyId, Context, EventLoop, Limits, LoopLimits};

use crate::support::{
    Echo, PATIENCE, any_port, connect, event_loop, join, read_all, serve_while, turn_until, uninterrupted,
};

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Answers one line in capitals.
fn capitals(request: &mut Request) -> Handled {
    let mut line = Vec::new();
    request.read_until(b'\n', &mut line)?;
    request.write_all(&line.to_ascii_uppercase())?;
    Ok(())
}

/// The errors that the hook got.
#[derive(Clone, Default)]
pub(crate) struct Errors(pub(crate) Rc<RefCell<Vec<String>>>);

impl Errors {
    pub(crate) fn hook(&self) -> impl Fn(&mut Context<'_>, &Address, &RequestError) + 'static {
        let errors = self.clone();
        move |_, _, error| errors.0.borrow_mut().push(error.to_string())
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A service on TCP in a loop of the test's.
pub(crate) fn tcp(requests: Requests) -> (EventLoop, Serving, std::net::SocketAddr) {
    let mut event_loop = event_loop();
    let serving = requests.listen(&mut event_loop.context(), any_port()).unwrap();
    let address = serving.local_addr().as_inet().unwrap();
    (event_loop, serving, address)
}

/// Sends `line` and returns everything that comes back.
pub(crate) fn ask(address: std::net::SocketAddr, line: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(line).unwrap();
    read_all(&mut stream)
}

/// Every way to handle requests with the same handler.
fn ways() -> [Requests; 2] {
    [Requests::one_at_a_time(|| capitals), Requests::threads(count(2), || capitals)]
}

#[test]
fn handlers_answer_many_clients_and_each_sees_an_orderly_end() {
    for requests in ways() {
        let (mut event_loop, serving, address) = tcp(requests);
        serve_while(&mut event_loop, move || {
            let clients: Vec<_> = (0..20)
                .map(|number| {
                    thread::spawn(move || {
                        let line = format!("client no. {number}\n");
                        // More than is read, which must not cost the answer.
                        assert_eq!(ask(address, format!("{line}more").as_bytes()), line.to_uppercase().as_bytes());
                    })
                })
                .collect();
            clients.into_iter().for_each(join);
        });
        turn_until(&mut event_loop, |context| context.connection_count() == 0);
        assert_eq!(serving.in_progress(), 0);
    }
}

/// Notes the calls that it gets.
struct Noting(Arc<Mutex<Vec<&'static str>>>);

impl RequestHandler for Noting {
    fn setup(&mut self, request: &mut Request) -> Handled {
        self.0.lock().unwrap().push("setup");
        let refused = request.peer_addr().as_inet().is_none();
        if refused { Err(io::Error::from(io::ErrorKind::AddrNotAvailable))? } else { Ok(request.write_all(b"hello ")?) }
    }

    fn handle(&mut self, request: &mut Request) -> Handled {
        self.0.lock().unwrap().push("handle");
        let mut line = String::new();
        request.read_line(&mut line)?;
        if line == "fail\n" { Err("it is to fail".into()) } else { Ok(request.write_all(line.as_bytes())?) }
    }

    fn finish(&mut self, request: &mut Request) -> Handled {
        self.0.lock().unwrap().push("finish");
        request.write_all(b"bye\n")?;
        Ok(())
    }
}

#[test]
fn handlers_are_set_up_and_finished_around_each_request_and_a_failure_resets() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (noted, errors) = (calls.clone(), Errors::default());
    let requests = Requests::threads(count(1), move || Noting(noted.clone())).on_error(errors.hook());
    let (mut event_loop, serving, address) = tcp(requests);
    let answer = serve_while(&mut event_loop, move || {
        // It says something only when it was greeted.
        let mut stream = connect(address);
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"one\n").unwrap();
        read_all(&mut stream)
    });
    assert_eq!(answer, b"one\nbye\n");
    assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), ["setup", "handle", "finish"]);
    let end = serve_while(&mut event_loop, move || {
        let mut stream = connect(address);
        stream.write_all(b"fail\n").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).map(|_| heard)
    });
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "no answer is taken for a whole one");
    turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    assert_eq!(*calls.lock().unwrap(), ["setup", "handle", "finish"]);
    assert_eq!(errors.take(), ["it is to fail"]);
}

#[test]
fn handlers_fail_with_any_error_and_one_of_io_is_told_as_that() {
    let fails = |request: &mut Request| {
        let mut line = String::new();
        request.read_line(&mut line)?;
        if line.is_empty() {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        }
        line.trim().parse::<u32>()?;
        Ok(())
    };
    let told = Rc::new(RefCell::new(Vec::new()));
    let notes = told.clone();
    let requests = Requests::one_at_a_time(move || fails).on_error(move |_, _, error| {
        notes.borrow_mut().push(match error {
            RequestError::Io(error) => format!("{:?}", error.kind()),
            RequestError::Handler(error) => error.is::<std::num::ParseIntError>().to_string(),
            _ => error.to_string(),
        });
    });
    let (mut event_loop, _, address) = tcp(requests);
    serve_while(&mut event_loop, move || {
        for said in ["seven\n", ""] {
            let mut stream = connect(address);
            stream.write_all(said.as_bytes()).unwrap();
            // It may be reset already.
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    });
    assert_eq!(*told.borrow(), ["true", "UnexpectedEof"]);
}

#[test]
fn handlers_that_panic_end_their_request_only() {
    let panics = |request: &mut Request| {
        let mut line = String::new();
        request.read_line(&mut line)?;
        request.write_all(b"half an answer")?;
        request.flush()?;
        assert_ne!(line, "panic\n", "no panic");
        Ok(())
    };
    for requests in [Requests::one_at_a_time(move || panics), Requests::threads(count(1), move || panics)] {
        let errors = Errors::default();
        let (mut event_loop, _, address) = tcp(requests.on_error(errors.hook()));
        serve_while(&mut event_loop, move || {
            let mut stream = connect(address);
            stream.write_all(b"panic\n").unwrap();
            let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(ask(address, b"go on\n"), b"half an answer");
        });
        let told = errors.take();
        assert!(told.len() == 1 && told[0].contains("no panic"), "{told:?}");
    }
}

#[test]
fn handlers_are_bounded_and_who_comes_while_all_are_busy_waits_and_is_served() {
    const THREADS: usize = 3;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begins, begun) = mpsc::channel();
    let seen = most.clone();
    let requests = Requests::threads(count(THREADS), move || {
        let (running, most, begins) = (running.clone(), seen.clone(), begins.clone());
        move |request: &mut Request| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            begins.send(()).unwrap();
            let result = capitals(request);
            running.fetch_sub(1, Ordering::SeqCst);
            result
        }
    });
    let (mut event_loop, serving, address) = tcp(requests);
    let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
    let mut at_work = 0;
    turn_until(&mut event_loop, |_| {
        at_work += begun.try_iter().count();
        at_work == THREADS
    });
    for _ in 0..20 {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!((serving.in_progress(), event_loop.context().counters().connections_made), (THREADS, THREADS as u64));
    serve_while(&mut event_loop, move || {
        clients.iter_mut().for_each(|client| client.write_all(b"now\n").unwrap());
        clients.iter_mut().for_each(|client| assert_eq!(read_all(client), b"NOW\n"));
    });
    assert_eq!(most.load(Ordering::SeqCst), THREADS);
}

#[test]
fn handlers_do_not_wait_for_a_silent_client_longer_than_its_time() {
    for requests in [Requests::one_at_a_time(|| capitals), Requests::threads(count(1), || capitals)] {
        let errors = Errors::default();
        let requests = requests.request_timeout(Some(Duration::from_millis(50))).on_error(errors.hook());
        let (mut event_loop, serving, address) = tcp(requests);
        let silent = connect(address);
        turn_until(&mut event_loop, |_| !errors.0.borrow().is_empty());
        assert_eq!(errors.take(), ["the request timed out"]);
        // A client that sends a byte now and then gets no more time either.
        serve_while(&mut event_loop, move || {
            let mut dribbles = connect(address);
            let start = Instant::now();
            while dribbles.write_all(b"x").is_ok() {
                assert!(start.elapsed() < PATIENCE);
                // The client is slow on purpose: a byte now and then.
                thread::sleep(Duration::from_millis(5));
            }
        });
        turn_until(&mut event_loop, |_| serving.in_progress() == 0);
        drop(silent);
    }
}

/// A single wait for the client can be bounded: the handler goes on, and can tell the client.
#[test]
fn handlers_may_bound_each_wait_and_still_answer() {
    let requests = Requests::threads(count(1), || {
        |request: &mut Request| {
            request.set_timeout(Some(Duration::from_millis(20)));
            let error = request.read_until(b'\n', &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            request.write_all(b"too slow")?;
            Ok(())
        }
    });
    let (mut event_loop, _serving, address) = tcp(requests.request_timeout(Some(PATIENCE)));
    let began = Instant::now();
    let answer = serve_while(&mut event_loop, move || ask(address, b"half a li"));
    assert_eq!(answer, b"too slow");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn handlers_refuse_whom_they_do_not_want() {
    let asked = Rc::new(RefCell::new(0));
    let counts = asked.clone();
    let verify = move |_: &Address| {
        *counts.borrow_mut() += 1;
        *counts.borrow() > 1
    };
    let (mut event_loop, _, address) = tcp(Requests::threads(count(1), || capitals).verify(verify));
    serve_while(&mut event_loop, move || {
        assert!(read_all(&mut connect(address)).is_empty(), "the first is turned away");
        assert_eq!(ask(address, b"the second\n"), b"THE SECOND\n");
    });
    assert_eq!(*asked.borrow(), 2);
}

#[test]
fn handlers_give_a_connection_back_to_the_loop_with_what_they_have_not_read() {
    let upgrades = |request: &mut Request| {
        capitals(request)?;
        request.give_back(|| Echo);
        Ok(())
    };
    for requests in [Requests::one_at_a_time(move || upgrades), Requests::threads(count(1), move || upgrades)] {
        let (mut event_loop, serving, address) = tcp(requests);
        let heard = serve_while(&mut event_loop, move || {
            let mut stream = connect(address);
            stream.write_all(b"shout\nand then ").unwrap();
            let mut heard = vec![0; b"SHOUT\nand then ".len()];
            stream.read_exact(&mut heard).unwrap();
            stream.write_all(b"echo").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut heard).unwrap();
            heard
        });
        assert_eq!(heard, b"SHOUT\nand then echo");
        assert_eq!(serving.in_progress(), 0, "a connection of the loop's is no request");
    }
}

#[test]
fn handlers_of_one_request_return_after_it_and_the_next_client_waits() {
    for requests in ways() {
        let mut server = SocketServer::listen(any_port(), requests).unwrap();
        let address = server.local_addr().as_inet().unwrap();
        assert!(!server.handle_request(Some(Duration::ZERO)).unwrap(), "nobody has come");
        let clients = thread::spawn(move || {
            let mut both = [connect(address), connect(address)];
            both.iter_mut().for_each(|client| client.write_all(b"me\n").unwrap());
            both
        });
        let [mut first, mut second] = join(clients);
        assert!(server.handle_request(None).unwrap());
        assert_eq!(read_all(&mut first), b"ME\n");
        second.set_nonblocking(true).unwrap();
        assert_eq!(second.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        second.set_nonblocking(false).unwrap();
        assert!(server.handle_request(Some(PATIENCE)).unwrap());
        assert_eq!(read_all(&mut second), b"ME\n");
        assert!(server.shutdown(PATIENCE).unwrap().is_clean());
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn handlers_are_served_in_a_loop_of_the_limits_that_are_asked_for() {
    let limits = Limits::default().with_connections_max(3);
    let loop_limits = LoopLimits::from(limits).with_commands_max(5);
    let requests = || Requests::one_at_a_time(|| capitals);
    let mut server = SocketServer::listen_with(loop_limits.clone(), any_port(), requests()).unwrap();
    let AnyId::Listener(id) = server.id() else { panic!("it is a listener") };
    assert_eq!(*server.context().limits(), loop_limits);
    assert_eq!(server.context().listener(id).unwrap().limits().connections_max, 3);
    let mut server = SocketServer::bind_datagram_with(loop_limits.clone(), any_port(), requests()).unwrap();
    let AnyId::Datagram(id) = server.id() else { panic!("it is a datagram socket") };
    assert_eq!(server.context().datagram(id).unwrap().limits().connections_max, 3);
    assert_eq!(*server.context().limits(), loop_limits);
}

#[test]
fn handlers_of_one_request_do_not_begin_a_second_one() {
    for requests in ways() {
        let mut server = SocketServer::listen(any_port(), requests).unwrap();
        let address = server.local_addr().as_inet().unwrap();
        let clients = thread::spawn(move || {
            let mut both = [connect(address), connect(address)];
            both.iter_mut().for_each(|client| client.write_all(b"me\n").unwrap());
            both
        });
        let [mut first, mut second] = join(clients);
        assert!(server.handle_request(None).unwrap());
        // This waits for what has begun, so the second client has its answer if it was let in.
        assert!(server.shutdown(PATIENCE).unwrap().is_clean());
        assert_eq!(read_all(&mut first), b"ME\n");
        assert_eq!(second.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn handlers_serve_for_ever_until_they_are_stopped_and_finish_what_they_have_begun() {
    let (begins, begun) = mpsc::channel();
    let requests = Requests::threads(count(2), move || {
        let begins = begins.clone();
        move |request: &mut Request| {
            begins.send(()).unwrap();
            capitals(request)
        }
    });
    let mut server = SocketServer::listen(any_port(), requests).unwrap();
    let (address, handle) = (server.local_addr().as_inet().unwrap(), server.handle());
    let client = thread::spawn(move || {
        assert_eq!(ask(address, b"one\n"), b"ONE\n");
        begun.recv_timeout(PATIENCE).unwrap();
        let mut stream = connect(address);
        begun.recv_timeout(PATIENCE).unwrap();
        handle.stop();
        // Its handler has it.
        stream.write_all(b"two\n").unwrap();
        assert_eq!(read_all(&mut stream), b"TWO\n");
    });
    server.serve_forever().unwrap();
    assert!(server.shutdown(PATIENCE).unwrap().is_clean());
    join(client);
}

#[test]
fn x3_one_more_stop_ends_the_wait_for_requests_at_once() {
    let (begins, begun) = mpsc::channel();
    let requests = Requests::threads(count(1), move || {
        let begins = begins.clone();
        move |request: &mut Request| {
            begins.send(()).unwrap();
            capitals(request)
        }
    });
    let mut server = SocketServer::listen(any_port(), requests).unwrap();
    let (address, handle) = (server.local_addr().as_inet().unwrap(), server.handle());
    let stops = handle.clone();
    let silent = thread::spawn(move || {
        let silent = connect(address);
        begun.recv_timeout(PATIENCE).unwrap();
        stops.stop();
        silent
    });
    server.serve_forever().unwrap();
    let silent = join(silent);
    assert_eq!(server.in_progress(), 1);
    handle.stop();
    let start = Instant::now();
    assert!(!server.shutdown(2 * PATIENCE).unwrap().is_clean(), "it was not answered");
    assert!(start.elapsed() < PATIENCE, "the grace was waited for");
    drop(silent);
}

#[test]
fn handlers_answer_datagrams_and_what_comes_while_all_are_busy_waits_in_the_system() {
    for requests in ways() {
        let mut event_loop = event_loop();
        let serving = requests.bind_datagram(&mut event_loop.context(), any_port()).unwrap();
        let address = serving.local_addr().as_inet().unwrap();
        serve_while(&mut event_loop, move || {
            let client = UdpSocket::bind(any_port()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for number in 0..20 {
                client.send_to(format!("no. {number}").as_bytes(), address).unwrap();
            }
            let mut answers: Vec<_> = (0..20)
                .map(|_| {
                    let mut answer = [0; 100];
                    let (count, from) = uninterrupted(|| client.recv_from(&mut answer)).unwrap();
                    assert_eq!(from, address);
                    String::from_utf8(answer[..count].to_vec()).unwrap()
                })
                .collect();
            answers.sort_by_key(|answer| answer[4..].parse::<u32>().unwrap());
            assert_eq!(answers, (0..20).map(|number| format!("NO. {number}")).collect::<Vec<_>>());
        });
        turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    }
}

#[test]
fn handlers_answer_an_empty_datagram_by_an_empty_one_and_others_only_if_they_write() {
    let echoes = |request: &mut Request| match request.datagram().map(<[u8]>::to_vec) {
        Some(data) if data != b"silence" => Ok(request.write_all(&data)?),
        _ => Ok(()),
    };
    for requests in [Requests::one_at_a_time(move || echoes), Requests::threads(count(1), move || echoes)] {
        let mut event_loop = event_loop();
        let serving = requests.bind_datagram(&mut event_loop.context(), any_port()).unwrap();
        let address = serving.local_addr().as_inet().unwrap();
        serve_while(&mut event_loop, move || {
            let client = UdpSocket::bind(any_port()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            ["", "silence", "x"].iter().for_each(|data| assert!(client.send_to(data.as_bytes(), address).is_ok()));
            for answer in ["", "x"] {
                let mut heard = [0; 100];
                let count = uninterrupted(|| client.recv(&mut heard)).unwrap();
                assert_eq!(&heard[..count], answer.as_bytes());
            }
        });
    }
}

#[test]
fn handlers_that_panic_on_a_datagram_or_answer_too_much_leave_the_socket_open() {
    let answers = |request: &mut Request| match request.datagram() {
        Some(b"panic") => panic!("on a datagram"),
        Some(b"flood") => Ok(request.write_all(&[0; 65_508])?),
        Some(b"silence") => Ok(()),
        _ => capitals(request),
    };
    for requests in [Requests::one_at_a_time(move || answers), Requests::threads(count(1), move || answers)] {
        let errors = Errors::default();
        let mut event_loop = event_loop();
        let requests = requests.on_error(errors.hook());
        let serving = requests.bind_datagram(&mut event_loop.context(), any_port()).unwrap();
        let address = serving.local_addr().as_inet().unwrap();
        let heard = serve_while(&mut event_loop, move || {
            let client = UdpSocket::bind(any_port()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for data in ["panic", "flood", "silence", "heard"] {
                client.send_to(data.as_bytes(), address).unwrap();
            }
            let mut answer = [0; 100];
            let count = uninterrupted(|| client.recv(&mut answer)).unwrap();
            answer[..count].to_vec()
        });
        assert_eq!(heard, b"HEARD");
        assert_eq!(errors.take(), ["the handler panicked: on a datagram", "the answer does not fit in a datagram"]);
    }
}

#[test]
fn handlers_and_their_threads_leave_nothing_behind_after_many_requests() {
    let made = Arc::new(());
    let held = made.clone();
    let requests = Requests::threads(count(4), move || {
        let held = held.clone();
        move |request: &mut Request| {
            let _held = &held;
            capitals(request)
        }
    });
    let mut server = SocketServer::listen(any_port(), requests).unwrap();
    let (address, handle) = (server.local_addr().as_inet().unwrap(), server.handle());
    let clients = thread::spawn(move || {
        let clients: Vec<_> = (0..4)
            .map(|_| thread::spawn(move || (0..100).for_each(|_| assert_eq!(ask(address, b"a\n"), b"A\n"))))
            .collect();
        clients.into_iter().for_each(join);
        handle.stop();
    });
    server.serve_forever().unwrap();
    join(clients);
    assert!(server.shutdown(PATIENCE).unwrap().is_clean(), "its threads have ended");
    assert_eq!(Arc::strong_count(&made), 1, "and what they held is dropped");
}
