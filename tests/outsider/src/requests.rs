//! Request handlers, as somebody coming from `socketserver` writes them.

use std::cell::RefCell;
use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use switchboard::server::{Request, RequestError, RequestHandler, Requests, Serving, SocketServer};
use switchboard::{Address, AnyId, EventLoop};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Capitals {
    greeting: &'static str,
}

impl RequestHandler for Capitals {
    fn setup(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(write!(request, "{}, {}: ", self.greeting, request.peer_addr().as_inet().unwrap().ip())?)
    }

    fn handle(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
        assert!(request.stream().is_some() && request.datagram().is_none() && request.time_left().is_some());
        let mut line = String::new();
        request.read_line(&mut line)?;
        request.write_all(line.to_uppercase().as_bytes())?;
        Ok(())
    }
}

fn ask(address: &Address) -> thread::JoinHandle<String> {
    let address = address.as_inet().unwrap();
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"shout\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

#[test]
fn a_server_of_threads_answers_one_request() {
    let requests = Requests::threads(NonZeroUsize::MIN, || Capitals { greeting: "hello" })
        .verify(|client| client.as_inet().is_some())
        .request_timeout(Some(PATIENCE));
    let mut server = SocketServer::listen(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), requests).unwrap();
    let client = ask(server.local_addr());
    assert!(server.handle_request(Some(PATIENCE)).unwrap());
    assert_eq!(client.join().unwrap(), "hello, 127.0.0.1: SHOUT\n");
    assert_eq!(server.in_progress(), 0);
    server.handle().stop();
    server.serve_forever().unwrap();
    assert!(server.shutdown(PATIENCE).unwrap().is_clean());
}

#[test]
fn requests_live_in_a_loop_beside_other_things_and_tell_what_goes_wrong() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    let notes = told.clone();
    let requests =
        Requests::one_at_a_time(|| |_: &mut Request| Err("out of order".into())).on_error(move |context, _, error| {
            if let RequestError::Handler(error) = error {
                notes.borrow_mut().push(error.to_string());
            }
            context.stop();
        });
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let serving: Serving = requests.bind_datagram(&mut event_loop.context(), Address::Inet(address)).unwrap();
    assert!(matches!(serving.id(), AnyId::Datagram(_)));
    let client = UdpSocket::bind(address).unwrap();
    client.send_to(b"?", serving.local_addr().as_inet().unwrap()).unwrap();
    event_loop.run().unwrap();
    assert_eq!(*told.borrow(), ["out of order"]);
    serving.close(&mut event_loop.context());
    assert_eq!(serving.in_progress(), 0);
}

#[cfg(unix)]
#[test]
fn a_process_answers() {
    let requests = Requests::processes(NonZeroUsize::MIN, |_| {
        let mut command = std::process::Command::new("head");
        command.args(["-n", "1"]);
        command
    });
    let mut server = SocketServer::listen(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), requests).unwrap();
    let client = ask(server.local_addr());
    assert!(server.handle_request(Some(PATIENCE)).unwrap());
    assert_eq!(client.join().unwrap(), "shout\n");
    assert!(server.shutdown(PATIENCE).unwrap().is_clean());
}
