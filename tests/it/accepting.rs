//! Listeners on real sockets.

use std::cell::RefCell;
#[cfg(target_os = "linux")]
use std::io::Read;
use std::io::{ErrorKind, Write};
#[cfg(target_os = "linux")]
use std::net::TcpStream;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

#[cfg(target_os = "linux")]
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};
use switchboard::{Address, Context};

use crate::support::{
    Echo, Ends, NotingEnd, address_of, any_port, connect, event_loop, listen, read_all, serve_while, turn_until,
};
#[cfg(target_os = "linux")]
use crate::support::{PATIENCE, join};

#[test]
fn a_port_in_use_is_an_error_and_leaves_nothing_behind() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    for _ in 0..2000 {
        let error = event_loop.context().listen(address, |_, _| None::<Echo>).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}

#[test]
fn an_address_is_free_again_at_once_though_a_connection_of_it_has_just_ended() {
    let mut first = event_loop();
    let address = listen(&mut first, || Echo);
    let client = connect(address);
    turn_until(&mut first, |context| context.connection_count() == 1);
    // The server closes first: its side is the one that stays in TIME_WAIT.
    first.shutdown(Duration::from_secs(5)).unwrap();
    drop(client);
    drop(first);
    let mut second = event_loop();
    second.context().listen(address, |_, _| None::<Echo>).unwrap();
}

#[test]
fn a4_a_backlog_of_0_serves() {
    let mut event_loop = event_loop();
    let at = switchboard::Listen::at(crate::support::any_port()).backlog(0);
    let listener = event_loop.context().listen(at, |_, _| Some(Echo)).unwrap();
    let address = crate::support::address_of(&mut event_loop.context(), listener);
    for _ in 0..10 {
        let back = serve_while(&mut event_loop, move || {
            let mut client = connect(address);
            client.write_all(b"served").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            read_all(&mut client)
        });
        assert_eq!(back, b"served");
    }
}

/// Connects that the kernel has no room for get no answer, and are retried after a second. If several arrive at once
/// then, Linux may let in more than it has room for, and resets them as soon as they send.
#[cfg(target_os = "linux")]
#[test]
fn a4_clients_that_found_the_queue_full_are_served_once_there_is_room() {
    let mut event_loop = event_loop();
    let at = switchboard::Listen::at(any_port()).backlog(1);
    let listener = event_loop.context().listen(at, |_, _| Some(Echo)).unwrap();
    let address = address_of(&mut event_loop.context(), listener);
    let clients = [(); 5].map(|()| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let error = client.connect(&address.into()).err();
        assert!(error.is_none_or(|error| error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)));
        client
    });
    // The handshakes of those with room are completed within the calls.
    let standing = clients.iter().filter(|client| client.peer_addr().is_ok()).count();
    assert!((1..5).contains(&standing), "{standing} of 5 have found room");
    let tries = serve_while(&mut event_loop, move || {
        let threads = clients.map(|client| {
            std::thread::spawn(move || {
                // It waits until it is let in, or the kernel gives up.
                let mut descriptor = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
                assert_eq!(poll(&mut descriptor, PollTimeout::from(10_000_u16)), Ok(1), "it is not let in");
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let (start, mut tries, mut client) = (Instant::now(), 1, TcpStream::from(client));
                while let Err(error) = ask(&mut client) {
                    // The kernel has let more in than it then had room for.
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    assert!(start.elapsed() < PATIENCE, "reset {tries} times");
                    tries += 1;
                    client = connect(address);
                }
                tries
            })
        });
        threads.map(join)
    });
    println!("{standing} of 5 have found room; served after so many tries: {tries:?}");
    let counters = event_loop.context().counters();
    assert_eq!((counters.connections_made, counters.accept_errors), (counters.accepts, 0));
    assert!(counters.accepts >= 5);
}

#[cfg(target_os = "linux")]
fn ask(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(b"served")?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut back = Vec::new();
    client.read_to_end(&mut back)?;
    assert_eq!(back, b"served");
    Ok(())
}

#[test]
fn r4_who_sent_and_left_before_being_accepted_is_heard() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let mut client = connect(address);
    client.write_all(b"gone already").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let back = serve_while(&mut event_loop, move || read_all(&mut client));
    assert_eq!(back, b"gone already");
}

#[test]
fn c8_who_reset_before_being_accepted_hurts_nobody() {
    let ends = Ends::default();
    let noted = ends.clone();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, move || NotingEnd { inner: Echo, ends: noted.clone() });
    for _ in 0..10 {
        let client = connect(address);
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
    }
    let mut client = connect(address);
    client.write_all(b"still served").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let back = serve_while(&mut event_loop, move || read_all(&mut client));
    assert_eq!(back, b"still served");
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    let counters = event_loop.context().counters();
    assert_eq!(counters.connections_made, counters.connections_lost);
    if cfg!(target_os = "linux") {
        // Linux returns such a connection, with the address of a peer that is gone: it is made, and lost.
        assert_eq!((counters.connections_made, counters.accept_errors), (11, 0));
    }
    assert!(ends.borrow().iter().filter(|end| *end != "reset by the peer").count() == 1, "{ends:?}");
}

#[test]
fn a_burst_of_connections_behind_one_event_is_accepted_whole() {
    let limits = switchboard::Limits::default().with_accepts_per_turn_max(7);
    let mut event_loop = switchboard::EventLoop::with_limits(limits).unwrap();
    let address = listen(&mut event_loop, || Echo);
    let clients: Vec<_> = (0..40).map(|_| connect(address)).collect();
    turn_until(&mut event_loop, |context| context.connection_count() == clients.len());
}

#[test]
fn ready_made_listeners_and_streams_are_taken() {
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let ready_made = TcpListener::bind(any_port()).unwrap();
    let listener = context.listen(ready_made, |_, _| Some(Echo)).unwrap();
    let listened = address_of(&mut context, listener);
    let other = TcpListener::bind(any_port()).unwrap();
    let accepted_address = other.local_addr().unwrap();
    let mut to_attached = connect(accepted_address);
    let (stream, peer) = other.accept().unwrap();
    let id = context.attach(stream, Echo).unwrap();
    let transport = context.connection(id).unwrap();
    assert_eq!(transport.peer_addr().unwrap().as_inet(), Some(peer));
    assert_eq!(transport.local_addr().unwrap().as_inet(), Some(accepted_address));
    serve_while(&mut event_loop, move || {
        let mut to_listened = connect(listened);
        for client in [&mut to_listened, &mut to_attached] {
            client.write_all(b"taken").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_all(client), b"taken");
        }
    });
}

#[test]
fn accepted_streams_have_no_delay_and_urgent_data_in_line() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let _client = connect(address);
    let mut context = event_loop.context();
    let ready_made = TcpListener::bind(any_port()).unwrap();
    let second = ready_made.local_addr().unwrap();
    struct Check;
    impl switchboard::Protocol for Check {
        fn connection_made(&mut self, transport: &mut switchboard::Transport<'_>) {
            let socket = transport.socket().unwrap();
            assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
            assert!(SockRef::from(&socket).out_of_band_inline().unwrap());
        }

        fn data_received(&mut self, _: &mut switchboard::Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    context.listen(ready_made, |_, _| Some(Check)).unwrap();
    let _client = connect(second);
    turn_until(&mut event_loop, |context| context.counters().connections_made == 2);
}

#[test]
fn a_listener_on_ipv6_leaves_ipv4_to_others_and_mapped_peers_are_given_as_ipv4() {
    let mut event_loop = event_loop();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut context = event_loop.context();
    // Without IPv6 there is a clear error.
    let Ok(listener) = context.listen(any, |_, _| Some(Echo)) else { return };
    // Another socket may have this port in IPv4, such as a client whose port the system chose: then std cannot bind it
    // either.
    let mut both = |listener| {
        let port = address_of(&mut context, listener).port();
        let of_the_same_port = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let is_taken = TcpListener::bind(of_the_same_port).is_err();
        let listens = context.listen(of_the_same_port, |_, _| Some(Echo));
        (is_taken, listens, context.listen(any, |_, _| Some(Echo)).unwrap())
    };
    let mut next = listener;
    loop {
        let (is_taken, listens, another) = both(next);
        match listens {
            Ok(_) => break,
            Err(error) => assert!(is_taken, "the IPv4 port is another one: {error}"),
        }
        next = another;
    }
    // One that serves both, like std's where that is the system's default.
    let both = TcpListener::bind(any).unwrap();
    if SockRef::from(&both).only_v6().unwrap_or(true) {
        return;
    }
    let port = both.local_addr().unwrap().port();
    let peers = Rc::new(RefCell::new(Vec::new()));
    let noted = peers.clone();
    let refuse = move |_: &mut Context<'_>, peer: &Address| {
        noted.borrow_mut().push(peer.as_inet());
        None::<Echo>
    };
    context.listen(both, refuse).unwrap();
    let client = connect((Ipv4Addr::LOCALHOST, port).into());
    turn_until(&mut event_loop, |_| !peers.borrow().is_empty());
    assert_eq!(*peers.borrow(), [Some(client.local_addr().unwrap())]);
}

#[test]
fn c8_a_mapped_address_is_listened_on_as_ipv6_and_its_peers_are_given_as_ipv4() {
    let mut event_loop = event_loop();
    let asked = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)));
    let peers = Rc::new(RefCell::new(Vec::new()));
    let noted = peers.clone();
    let refuse = move |_: &mut Context<'_>, peer: &Address| {
        noted.borrow_mut().push(peer.as_inet());
        None::<Echo>
    };
    let mut context = event_loop.context();
    let Ok(id) = context.listen(asked, refuse) else {
        assert!(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err(), "there is IPv6");
        return;
    };
    let address = address_of(&mut context, id);
    assert!(address.is_ipv4());
    let listener = context.listener(id).unwrap();
    let socket = SockRef::from(&listener.sockets().next().unwrap()).local_addr().unwrap().as_socket().unwrap();
    assert!(socket.is_ipv6(), "{socket}");
    let client = connect(address);
    turn_until(&mut event_loop, |_| !peers.borrow().is_empty());
    assert_eq!(*peers.borrow(), [Some(client.local_addr().unwrap())]);
}

#[test]
fn a6_nothing_is_heard_any_more_of_a_closed_listener_whose_socket_another_process_has_too() {
    let mut event_loop = event_loop();
    let socket = TcpListener::bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    // As a program has it that got it passed.
    let theirs = socket.try_clone().unwrap();
    let id = event_loop.context().listen(socket, |_, _| Some(Echo)).unwrap();
    event_loop.context().listener(id).unwrap().close();
    let _client = connect(address);
    for _ in 0..3 {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(event_loop.context().counters().stale_events, 0);
    assert_eq!(event_loop.context().connection_count(), 0);
    // It waits for the other owner of the socket.
    theirs.set_nonblocking(false).unwrap();
    theirs.accept().unwrap();
}
