//! Request handlers in child processes: `sh` and `cat` exist wherever these tests run.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::process::Command;
use std::time::Duration;

use switchboard::server::{Requests, Serving, SocketServer};
use switchboard::{EventLoop, Listen, UnixAddress};

use crate::request_handlers::{Errors, ask, tcp};
use crate::support::{PATIENCE, any_port, connect, event_loop, read_all, serve_while, turn_until, uninterrupted};

/// A script in `sh` for each request, at most `count` at a time.
fn script(count: usize, script: &'static str) -> Requests {
    Requests::processes(NonZeroUsize::new(count).unwrap(), move |_| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    })
}

fn udp(requests: Requests) -> (EventLoop, Serving, SocketAddr) {
    let mut event_loop = event_loop();
    let serving = requests.bind_datagram(&mut event_loop.context(), any_port()).unwrap();
    let address = serving.local_addr().as_inet().unwrap();
    (event_loop, serving, address)
}

/// Sends a datagram and answers what comes back.
fn ask_udp(address: SocketAddr, data: &[u8]) -> Vec<u8> {
    let client = UdpSocket::bind(any_port()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(data, address).unwrap();
    let mut answer = vec![0; 65_536];
    let count = uninterrupted(|| client.recv(&mut answer)).unwrap();
    answer.truncate(count);
    answer
}

#[test]
fn children_have_the_connection_as_input_and_output_and_know_their_client() {
    let requests = script(2, "read line; echo \"$line, $REMOTE_ADDR:$REMOTE_PORT\"");
    let (mut event_loop, serving, address) = tcp(requests);
    serve_while(&mut event_loop, move || {
        for _ in 0..5 {
            let mut stream = connect(address);
            // More than it reads, which must not cost the answer.
            stream.write_all(b"hello\n").unwrap();
            stream.write_all(&[b'x'; 10_000]).unwrap();
            let me = stream.local_addr().unwrap();
            assert_eq!(String::from_utf8(read_all(&mut stream)).unwrap(), format!("hello, {me}\n"));
        }
    });
    turn_until(&mut event_loop, |context| context.connection_count() == 0 && serving.in_progress() == 0);
}

#[test]
fn children_are_bounded_and_who_comes_while_all_are_busy_waits_and_is_served() {
    let (mut event_loop, serving, address) = tcp(script(2, "echo here; read line; echo \"$line\""));
    let mut clients: Vec<_> = (0..5).map(|_| connect(address)).collect();
    let mut here = [0; 5];
    for client in &mut clients[..2] {
        client.set_nonblocking(true).unwrap();
        turn_until(&mut event_loop, |_| client.read_exact(&mut here).is_ok());
        client.set_nonblocking(false).unwrap();
    }
    assert_eq!((serving.in_progress(), event_loop.context().counters().connections_made), (2, 2));
    serve_while(&mut event_loop, move || {
        clients.iter_mut().for_each(|client| client.write_all(b"go\n").unwrap());
        let heard: Vec<_> = clients.iter_mut().map(read_all).collect();
        assert!(heard[..2].iter().all(|heard| heard == b"go\n"));
        assert!(heard[2..].iter().all(|heard| heard == b"here\ngo\n"));
    });
}

#[test]
fn x3_children_have_a_process_group_of_their_own_so_that_an_interrupt_key_ends_no_request() {
    let (mut event_loop, _, address) = tcp(script(1, "kill -0 -$$ && echo leads"));
    let heard = serve_while(&mut event_loop, move || ask(address, b""));
    assert_eq!(heard, b"leads\n");
}

#[test]
fn children_that_hang_are_killed_and_their_half_answer_is_no_whole_one() {
    let errors = Errors::default();
    let requests = script(1, "echo half; exec sleep 1000").request_timeout(Some(Duration::from_millis(100)));
    let (mut event_loop, serving, address) = tcp(requests.on_error(errors.hook()));
    let end = serve_while(&mut event_loop, move || connect(address).read_to_end(&mut Vec::new()));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    let told = errors.take();
    assert!(told.len() == 1 && told[0].contains("signal: 9"), "{told:?}");
}

#[test]
fn x5_children_that_end_by_a_signal_of_their_own_reset_their_client_and_answer_no_datagram() {
    let cut = "echo half; kill -ABRT $$";
    let (mut event_loop, _, address) = tcp(script(1, cut));
    let end = serve_while(&mut event_loop, move || connect(address).read_to_end(&mut Vec::new()));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let errors = Errors::default();
    let (mut event_loop, _, address) = udp(script(1, cut).on_error(errors.hook()));
    let client = UdpSocket::bind(any_port()).unwrap();
    client.send_to(b"?", address).unwrap();
    turn_until(&mut event_loop, |_| !errors.0.borrow().is_empty());
    client.set_nonblocking(true).unwrap();
    assert_eq!(uninterrupted(|| client.recv(&mut [0; 10])).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn children_that_cannot_be_started_or_fail_are_told_of_and_others_are_served() {
    let errors = Errors::default();
    let (mut event_loop, _, address) = tcp(script(1, "echo all of it; exit 3").on_error(errors.hook()));
    let heard = serve_while(&mut event_loop, move || ask(address, b""));
    assert_eq!(heard, b"all of it\n", "whether that is an error is for the client to say");
    assert_eq!(errors.take(), ["the child process ended with exit status: 3"]);

    let requests = Requests::processes(NonZeroUsize::MIN, |_| Command::new("/no/such/program"));
    let (mut event_loop, serving, address) = tcp(requests.on_error(errors.hook()));
    let ends = serve_while(&mut event_loop, move || [0; 2].map(|_| connect(address).read(&mut [0])));
    for end in ends {
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    assert!(errors.take().iter().all(|error| error.contains("No such file")));
}

#[test]
fn children_answer_datagrams_long_and_empty_ones_too() {
    let (mut event_loop, serving, address) = udp(script(2, "cat; echo .").request_timeout(Some(PATIENCE)));
    serve_while(&mut event_loop, move || {
        let long = vec![b'x'; 60_000];
        assert_eq!(ask_udp(address, &long), [&long[..], b".\n"].concat());
        assert_eq!(ask_udp(address, b""), b".\n");
    });
    turn_until(&mut event_loop, |_| serving.in_progress() == 0);
    let (mut event_loop, _, address) = udp(script(2, "cat"));
    let heard = serve_while(&mut event_loop, move || [ask_udp(address, b""), ask_udp(address, b"x")]);
    assert_eq!(heard, [&b""[..], b"x"]);
    // A child that does not read its input is not an error.
    let errors = Errors::default();
    let (mut event_loop, _, address) = udp(script(1, "echo no").on_error(errors.hook()));
    let heard = serve_while(&mut event_loop, move || ask_udp(address, &vec![b'x'; 60_000]));
    assert_eq!(heard, b"no\n");
    assert!(errors.take().is_empty());
}

#[test]
fn children_that_answer_a_datagram_too_late_or_too_much_are_killed() {
    for (late, error) in [
        ("exec sleep 1000", "the request timed out"),
        // Its own child would keep the output open even after it was killed.
        ("sleep 3 & exec sleep 1000", "the request timed out"),
        ("exec cat /dev/zero", "the answer does not fit in a datagram"),
    ] {
        let errors = Errors::default();
        let timeout = if error.contains("time") { Duration::from_millis(100) } else { PATIENCE };
        let requests = script(1, late).request_timeout(Some(timeout)).on_error(errors.hook());
        let (mut event_loop, serving, address) = udp(requests);
        UdpSocket::bind(any_port()).unwrap().send_to(b"are you there", address).unwrap();
        turn_until(&mut event_loop, |_| !errors.0.borrow().is_empty());
        let told = errors.take();
        assert!(told == [error] || told[0].contains("signal: 9"), "{told:?}");
        assert_eq!(serving.in_progress(), 0);
    }
}

#[test]
fn children_are_killed_where_the_server_ends_before_they_do() {
    let folder = std::env::temp_dir().join(format!("switchboard-children-{}", std::process::id()));
    let address = UnixAddress::Path(folder.clone());
    let mut server =
        SocketServer::listen(Listen::at(address).mode(0o600), script(1, "echo here; exec sleep 1000")).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&folder).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let handle = server.handle();
    let client = std::thread::spawn(move || {
        client.read_exact(&mut [0; 5]).unwrap();
        handle.stop();
        client
    });
    server.serve_forever().unwrap();
    let mut client = crate::support::join(client);
    assert_eq!(server.in_progress(), 1);
    assert!(!server.shutdown(Duration::from_millis(10)).unwrap().is_clean(), "it was not answered");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "nobody has the connection any more");
    assert!(!folder.exists());
}
