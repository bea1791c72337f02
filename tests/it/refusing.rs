//! What refused peers receive, on real sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;

use switchboard::workers::{Distribution, EventLoopGroup, GroupListen};
use switchboard::{EventLoop, Limits, Listen, WhenFull};

use crate::support::{Echo, any_port, connect, serve_while};

const WORDS: &[u8] = b"-ERR max number of clients reached\r\n";

fn for_one() -> Limits {
    Limits::default().with_connections_max(1).with_when_full(WhenFull::Refuse)
}

/// What a refused client reads that sends this much first, and more after it has read the refusal.
fn told<C: Read + Write>(mut client: C, waits: impl Fn(&C), bytes: usize) -> Vec<u8> {
    client.write_all(&vec![b'x'; bytes]).unwrap();
    waits(&client);
    client.write_all(b"more").unwrap();
    client.write_all(b"and more").unwrap();
    let mut told = Vec::new();
    client.read_to_end(&mut told).unwrap();
    told
}

#[test]
fn a4_who_is_refused_reads_why_whatever_it_has_sent() {
    let mut event_loop = EventLoop::with_limits(for_one()).unwrap();
    let at = Listen::at([any_port(), any_port()]).refusal(WORDS);
    let listener = event_loop.context().listen(at, |_, _| Some(Echo)).unwrap();
    let addresses = event_loop.context().listener(listener).unwrap().local_addrs().unwrap();
    let addresses: Vec<_> = addresses.iter().map(|address| address.as_inet().unwrap()).collect();
    let told = serve_while(&mut event_loop, move || {
        let mut served = connect(addresses[0]);
        served.write_all(b"served").unwrap();
        served.read_exact(&mut [0; 6]).unwrap();
        let all: Vec<_> =
            [0, 1, 100_000].into_iter().flat_map(|bytes| addresses.iter().map(move |at| (*at, bytes))).collect();
        let told: Vec<_> =
            all.into_iter().map(|(at, bytes)| told(connect(at), |client| drop(client.peek(&mut [0])), bytes)).collect();
        served.shutdown(Shutdown::Write).unwrap();
        told
    });
    assert!(told.iter().all(|told| told == WORDS), "{told:?}");
}

#[test]
#[cfg(unix)]
fn a4_who_is_refused_at_a_unix_socket_reads_why_too() {
    use std::mem::MaybeUninit;

    use socket2::SockRef;

    let path = std::env::temp_dir().join(format!("switchboard-refusing-{}", std::process::id()));
    let mut event_loop = EventLoop::with_limits(for_one()).unwrap();
    let at = Listen::at(switchboard::UnixAddress::Path(path.clone())).refusal(WORDS);
    event_loop.context().listen(at, |_, _| Some(Echo)).unwrap();
    let told = serve_while(&mut event_loop, move || {
        let peeks =
            |client: &std::os::unix::net::UnixStream| drop(SockRef::from(client).peek(&mut [MaybeUninit::new(0)]));
        let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
        let mut served = connect();
        served.write_all(b"served").unwrap();
        served.read_exact(&mut [0; 6]).unwrap();
        [0, 1, 100_000].map(|bytes| told(connect(), peeks, bytes))
    });
    assert!(told.iter().all(|told| told == WORDS), "{told:?}");
}

#[test]
fn a4_in_a_group_who_is_refused_reads_why() {
    let spread = [Some(Distribution::Acceptor), cfg!(target_os = "linux").then_some(Distribution::ReusePort)];
    for distribution in spread.into_iter().flatten() {
        let group = EventLoopGroup::builder(NonZeroUsize::new(1).unwrap()).limits(for_one()).start().unwrap();
        let target = GroupListen::from(Listen::at(any_port()).refusal(WORDS)).distribution(distribution);
        let listener = group.listen(target, |_, _| Some(Echo)).unwrap();
        let address = listener.local_addr().as_inet().unwrap();
        let mut served = connect(address);
        served.write_all(b"served").unwrap();
        served.read_exact(&mut [0; 6]).unwrap();
        assert_eq!(told(connect(address), |client| drop(client.peek(&mut [0])), 1), WORDS, "{distribution:?}");
    }
}
