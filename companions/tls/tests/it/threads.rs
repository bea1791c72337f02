//! Blocking handlers in threads, over TLS: real sockets on loopback, and rustls' own blocking client.

use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, Error, StreamOwned, SupportedProtocolVersion};
use switchboard::server::{Request, Requests, Serving};
use switchboard::{EventLoop, Listen};
use switchboard_tls::Tls;

use super::kit::{BOTH, NAME, V13, bytes, client, same, server};

/// Longer than anything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(20);

type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;
type Client = StreamOwned<ClientConnection, TcpStream>;

/// A service over TLS, and what its owner was told.
struct Service {
    event_loop: EventLoop,
    serving: Serving,
    address: SocketAddr,
    errors: Rc<RefCell<Vec<String>>>,
}

impl Service {
    fn new(
        version: &'static SupportedProtocolVersion,
        threads: usize,
        handler: impl Fn(&mut Request) -> Handled + Clone + Send + Sync + 'static,
    ) -> Service {
        let errors = Rc::new(RefCell::new(Vec::new()));
        let told = errors.clone();
        let requests = Requests::threads(NonZeroUsize::new(threads).unwrap(), move || handler.clone());
        let requests = requests.on_error(move |_, _, error| told.borrow_mut().push(error.to_string()));
        let mut event_loop = EventLoop::new().unwrap();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let at = Listen::at(any_port).filter(switchboard_tls::listen(Arc::new(server(version))));
        let serving = requests.listen(&mut event_loop.context(), at).unwrap();
        let address = serving.local_addr().as_inet().unwrap();
        Service { event_loop, serving, address, errors }
    }

    /// Runs a client in its own thread, and turns the loop until the client and all its connections are finished.
    fn serve<T: Send + 'static>(&mut self, client: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let (began, address) = (Instant::now(), self.address);
        let client = thread::spawn(move || client(address));
        loop {
            let is_over = self.serving.in_progress() == 0 && self.event_loop.context().connection_count() == 0;
            if client.is_finished() && is_over {
                return client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            assert!(began.elapsed() < 2 * PATIENCE, "it does not come to an end");
            self.event_loop.turn(Some(Duration::from_millis(20))).unwrap();
        }
    }
}

fn dial(address: SocketAddr, version: &'static SupportedProtocolVersion) -> Client {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(client(version)), NAME.try_into().unwrap()).unwrap(), socket)
}

/// Reads to the proper end: without `close_notify` this fails.
fn read_all(client: &mut Client) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    client.read_to_end(&mut all).map(|_| all)
}

/// Answers each line in capitals, until an empty one or the end.
fn capitals(request: &mut Request) -> Handled {
    let mut line = String::new();
    while request.read_line(&mut line)? > 1 {
        request.write_all(line.to_uppercase().as_bytes())?;
        line.clear();
    }
    Ok(())
}

#[test]
fn a_handler_reads_lines_and_answers_them_and_its_end_is_said() {
    for version in BOTH {
        let mut service = Service::new(version, 2, capitals);
        service.serve(move |address| {
            let clients: Vec<_> = (0..8)
                .map(|number| {
                    thread::spawn(move || {
                        let mut client = dial(address, version);
                        for line in 0..3 {
                            let line = format!("line {line} of {number}\n");
                            client.write_all(line.as_bytes()).unwrap();
                            let mut answer = vec![0; line.len()];
                            client.read_exact(&mut answer).unwrap();
                            assert_eq!(answer, line.to_uppercase().into_bytes());
                        }
                        // One ends with an empty line, the other by ending its stream.
                        match number % 2 {
                            0 => client.write_all(b"\n").unwrap(),
                            _ => client.conn.send_close_notify(),
                        }
                        client.flush().unwrap();
                        assert_eq!(read_all(&mut client).unwrap(), b"");
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
        assert_eq!(*service.errors.borrow(), [""; 0]);
    }
}

#[test]
fn much_both_ways_is_whole_though_the_peer_reads_late() {
    const MUCH: usize = 6 << 20;
    for version in BOTH {
        let (says, said) = mpsc::channel();
        let mut service = Service::new(version, 1, move |request| {
            let mut all = vec![0; MUCH / 3];
            request.read_exact(&mut all)?;
            assert!(same(&all, &bytes(MUCH / 3)));
            for (index, piece) in bytes(MUCH).chunks(100_000).enumerate() {
                request.write_all(piece)?;
                request.flush()?;
                if index == 3 {
                    says.send(())?;
                }
            }
            Ok(())
        });
        let answer = service.serve(move |address| {
            let mut client = dial(address, version);
            client.write_all(&bytes(MUCH / 3)).unwrap();
            // By now more has been sent than the client has asked for.
            said.recv_timeout(PATIENCE).unwrap();
            read_all(&mut client).unwrap()
        });
        assert!(same(&answer, &bytes(MUCH)), "{} bytes", answer.len());
        assert_eq!(*service.errors.borrow(), [""; 0]);
    }
}

#[test]
fn a_peer_that_is_cut_off_in_the_middle_is_an_error_behind_what_it_has_said_and_is_reset() {
    for version in BOTH {
        let (says, said) = mpsc::channel();
        let mut service = Service::new(version, 1, move |request| {
            let mut read = Vec::new();
            let error = request.read_to_end(&mut read).unwrap_err();
            says.send((read, error.kind()))?;
            Err(error)?
        });
        service.serve(move |address| {
            let mut client = dial(address, version);
            client.write_all(b"half a li").unwrap();
            client.flush().unwrap();
            client.sock.shutdown(Shutdown::Write).unwrap();
            assert_eq!(said.recv_timeout(PATIENCE).unwrap(), (b"half a li".to_vec(), io::ErrorKind::UnexpectedEof));
            assert_eq!(read_all(&mut client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        });
        assert_eq!(*service.errors.borrow(), ["the stream ended without close_notify"]);
    }
}

#[test]
fn a_handler_that_fails_or_panics_leaves_no_answer_that_looks_whole() {
    for version in BOTH {
        for panics in [false, true] {
            let mut service = Service::new(version, 1, move |request| {
                request.write_all(b"half an answer")?;
                request.flush()?;
                assert!(!panics, "oh");
                Err("it is to fail".into())
            });
            service.serve(move |address| {
                let mut client = dial(address, version);
                client.flush().unwrap();
                assert!(read_all(&mut client).is_err());
            });
            let told = if panics { "the handler panicked: oh" } else { "it is to fail" };
            assert_eq!(*service.errors.borrow(), [told]);
        }
    }
}

#[test]
fn a_broken_record_is_an_error_of_rustls_and_its_alert_goes_out() {
    for version in BOTH {
        let (says, said) = mpsc::channel();
        let mut service = Service::new(version, 1, move |request| {
            let mut line = String::new();
            request.read_line(&mut line)?;
            let error = request.read_line(&mut line).unwrap_err();
            let is_of_tls = error.get_ref().is_some_and(|cause| cause.is::<Error>());
            says.send((line, error.kind(), is_of_tls))?;
            // It is closed in order.
            Ok(())
        });
        service.serve(move |address| {
            let mut client = dial(address, version);
            client.write_all(b"fine\n").unwrap();
            client.flush().unwrap();
            client
                .sock
                .write_all(&[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .unwrap();
            let told = said.recv_timeout(PATIENCE).unwrap();
            assert_eq!(told, ("fine\n".to_owned(), io::ErrorKind::InvalidData, true));
            let error = read_all(&mut client).unwrap_err();
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
        });
        assert_eq!(*service.errors.borrow(), [""; 0]);
    }
}

#[test]
fn new_keys_in_the_middle_of_a_request_change_nothing_and_the_handler_can_ask_what_was_negotiated() {
    let mut service = Service::new(V13, 1, |request| {
        let tls = request.stream().and_then(|stream| stream.filter::<Tls>()).expect("it is there");
        assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        capitals(request)
    });
    service.serve(|address| {
        let mut client = dial(address, V13);
        for number in 0..5 {
            client.write_all(b"before ").unwrap();
            client.conn.refresh_traffic_keys().unwrap();
            client.write_all(format!("and after {number}\n").as_bytes()).unwrap();
            client.flush().unwrap();
            let mut answer = vec![0; b"BEFORE AND AFTER 0\n".len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, format!("BEFORE AND AFTER {number}\n").into_bytes());
        }
        client.conn.send_close_notify();
        assert_eq!(read_all(&mut client).unwrap(), b"");
    });
    assert_eq!(*service.errors.borrow(), [""; 0]);
}

#[test]
fn a_connection_that_a_handler_gives_back_goes_on_over_tls_in_the_loop() {
    for version in BOTH {
        let mut service = Service::new(version, 1, |request| {
            let mut line = String::new();
            request.read_line(&mut line)?;
            request.write_all(line.to_uppercase().as_bytes())?;
            request.give_back(|| super::kit::Noting { noted: Default::default(), act: super::kit::echo });
            Ok(())
        });
        let answer = service.serve(move |address| {
            let mut client = dial(address, version);
            client.write_all(b"shout\nand then ").unwrap();
            client.flush().unwrap();
            let mut answer = vec![0; b"SHOUT\nand then ".len()];
            client.read_exact(&mut answer).unwrap();
            client.write_all(b"echo").unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            answer.extend(read_all(&mut client).unwrap());
            answer
        });
        assert_eq!(answer, b"SHOUT\nand then echo");
        assert_eq!(*service.errors.borrow(), [""; 0]);
    }
}
