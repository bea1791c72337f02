//! A listener on several addresses: one id, one factory, one set of limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use switchboard::{Address, EventLoop, Limits, Listen, ListenerId};

use crate::support::{Echo, any_port, connect, event_loop, turn_until};

/// Listens on so many ports of the system's choice.
fn listen(event_loop: &mut EventLoop, count: usize, limits: Limits) -> (ListenerId, Vec<SocketAddr>) {
    let listen = Listen::at(vec![any_port(); count]).limits(limits);
    let id = event_loop.context().listen(listen, |_, _| Some(Echo)).unwrap();
    let addresses = event_loop.context().listener(id).unwrap().local_addrs().unwrap();
    (id, addresses.iter().map(|address| address.as_inet().unwrap()).collect())
}

fn made(event_loop: &mut EventLoop, count: u64) {
    turn_until(event_loop, |context| context.counters().connections_made == count);
}

fn is_free(address: SocketAddr) -> bool {
    match TcpListener::bind(address) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            false
        }
    }
}

#[test]
fn a3_each_address_of_a_listener_is_served_and_all_are_closed_with_it() {
    let mut event_loop = event_loop();
    let (id, addresses) = listen(&mut event_loop, 3, Limits::default());
    assert_eq!(event_loop.context().listener(id).unwrap().local_addr().unwrap(), Address::Inet(addresses[0]));
    assert_eq!(addresses.len(), 3);
    for (count, &address) in addresses.iter().enumerate() {
        let mut client = connect(address);
        client.write_all(b"hello").unwrap();
        made(&mut event_loop, count as u64 + 1);
        turn_until(&mut event_loop, |context| context.counters().bytes_sent == 5 * (count as u64 + 1));
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        turn_until(&mut event_loop, |context| context.listener(id).unwrap().connection_count() == 1);
        drop(client);
        turn_until(&mut event_loop, |context| context.listener(id).unwrap().connection_count() == 0);
    }
    event_loop.context().listener(id).unwrap().close();
    assert!(event_loop.context().listener(id).is_none());
    for &address in &addresses {
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(is_free(address));
    }
}

#[test]
fn a4_a_cap_holds_for_all_addresses_together() {
    let mut event_loop = event_loop();
    let (_, addresses) = listen(&mut event_loop, 2, Limits::default().with_connections_max(1));
    let first = connect(addresses[0]);
    made(&mut event_loop, 1);
    let _second = connect(addresses[1]);
    for _ in 0..10 {
        event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
    }
    assert_eq!(event_loop.context().counters().connections_made, 1);
    drop(first);
    // It waited though no event of its own comes any more.
    made(&mut event_loop, 2);
}

/// One connection each: of a crowded address and a quiet one, the quiet one's only client is not the last.
#[test]
fn a3_addresses_take_turns() {
    let mut event_loop = event_loop();
    let limits = Limits::default().with_connections_max(2);
    let (id, addresses) = listen(&mut event_loop, 2, limits);
    let _crowd: Vec<_> = (0..8).map(|_| connect(addresses[0])).collect();
    let quiet = connect(addresses[1]);
    // Both have had their event when the first batch begins.
    event_loop.context().listener(id).unwrap().pause();
    event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
    event_loop.context().listener(id).unwrap().resume();
    made(&mut event_loop, 2);
    let peers = event_loop.context().connection_ids();
    let mut context = event_loop.context();
    let peer_of = |id| context.connection(id).unwrap().peer_addr().unwrap().as_inet().unwrap();
    let peers: Vec<_> = peers.into_iter().map(peer_of).collect();
    assert!(peers.contains(&quiet.local_addr().unwrap()), "{peers:?}");
}

#[test]
fn x5_nothing_is_left_of_a_listener_if_one_address_cannot_be_bound() {
    let mut event_loop = event_loop();
    let taken = TcpListener::bind(any_port()).unwrap();
    let free = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let error = event_loop.context().listen([free, taken.local_addr().unwrap()], |_, _| None::<Echo>).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert!(is_free(free));
    // No slot of it is left either: there is nothing to wait for.
    event_loop.run_until_idle().unwrap();
}

#[test]
fn l5_a_listener_in_the_background_keeps_no_loop_going_whatever_it_has() {
    let mut event_loop = event_loop();
    let (id, _) = listen(&mut event_loop, 3, Limits::default());
    assert!(event_loop.context().set_background(id, true));
    event_loop.run_until_idle().unwrap();
}

#[test]
fn nothing_to_listen_on_is_an_error() {
    let mut event_loop = event_loop();
    let none: [SocketAddr; 0] = [];
    assert_eq!(event_loop.context().listen(none, |_, _| None::<Echo>).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_is_shared_only_if_each_says_so() {
    let mut event_loop = event_loop();
    let share = Listen::at(any_port()).reuse_port(true);
    let id = event_loop.context().listen(share, |_, _| Some(Echo)).unwrap();
    let address = crate::support::address_of(&mut event_loop.context(), id);
    let alone = event_loop.context().listen(address, |_, _| None::<Echo>).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::AddrInUse);
    event_loop.context().listen(Listen::at(address).reuse_port(true), |_, _| None::<Echo>).unwrap();
}

#[cfg(unix)]
#[test]
fn n1_tcp_and_unix_are_one_listener_and_a_mode_needs_a_path() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use switchboard::UnixAddress;

    let path = |name: &str| std::env::temp_dir().join(format!("switchboard-several-{}-{name}", std::process::id()));
    let (first, second) = (path("first"), path("second"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut event_loop = event_loop();
    let listen = Listen::at(UnixAddress::Path(first.clone())).mode(0o600);
    let listen = listen.and(any_port()).and(UnixAddress::Path(second.clone())).mode(0o660);
    let id = event_loop.context().listen(listen, |_, _| Some(Echo)).unwrap();
    // The second mode is for those that had none.
    assert_eq!((mode(&first), mode(&second)), (0o600, 0o660));
    let addresses = event_loop.context().listener(id).unwrap().local_addrs().unwrap();
    let _unix = [UnixStream::connect(&first).unwrap(), UnixStream::connect(&second).unwrap()];
    let _tcp = connect(addresses[1].as_inet().unwrap());
    made(&mut event_loop, 3);
    event_loop.context().listener(id).unwrap().close();
    assert!(!first.exists() && !second.exists());
    for without_path in [Listen::at(any_port()), Listen::at(UnixAddress::Abstract(b"switchboard-several"[..].into()))] {
        let error = event_loop.context().listen(without_path.mode(0o600), |_, _| None::<Echo>).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let shared = Listen::at(UnixAddress::Path(first)).reuse_port(true);
    assert_eq!(event_loop.context().listen(shared, |_, _| None::<Echo>).unwrap_err().kind(), ErrorKind::Unsupported);
}
