//! The header as a filter: below everything else, and gone when it has been read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard::filter::{Filter, Flow};
use switchboard::proxy::{Carried, HeaderError, ProxyHeader, tlv};
use switchboard::testing::{Faults, HostId, Network, Peer};
use switchboard::{Address, CloseReason, Limits, Listen, ListenerError};

use super::{LINE, Log, Noting, REQUEST, SECOND, v2, v2_tcp4};

const KEY: u8 = 0x55;

/// A filter to be put above the header, which changes every byte; ready when a byte of the peer has arrived.
struct Masked {
    knows_its_peer: bool,
}

impl Filter for Masked {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.down().push(b"?");
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        if !self.knows_its_peer {
            self.knows_its_peer = true;
            flow.set_ready();
            return data.len().min(1);
        }
        data.iter_mut().for_each(|byte| *byte ^= KEY);
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(&data.iter().map(|byte| byte ^ KEY).collect::<Vec<_>>());
        data.len()
    }
}

/// A server whose connections begin this way, and the calls of its protocols and its error hook.
struct Behind {
    network: Network,
    server: HostId,
    address: std::net::SocketAddr,
    log: Log,
}

impl Behind {
    fn new(limits: Limits, filtered: impl FnOnce(Listen) -> Listen) -> Behind {
        let mut network = Network::new(0, Faults::none());
        let server = network.host_with_limits(limits);
        let address = network.address(server, 7);
        let log = Log::default();
        let (of_factory, of_hook) = (log.clone(), log.clone());
        let mut context = network.context(server);
        let listen = filtered(Listen::at(address));
        let id = context.listen(listen, move |_, _| Some(Noting(of_factory.clone()))).unwrap();
        context.listener(id).unwrap().on_error(move |_, _, error| of_hook.push(told(error)));
        Behind { network, server, address, log }
    }

    fn peer(&mut self) -> Peer {
        let peer = self.network.peer(self.address);
        self.network.run_until_rest();
        peer
    }

    fn send(&mut self, peer: &mut Peer, bytes: &[u8]) {
        assert_eq!(peer.send(bytes), bytes.len());
        self.network.run_until_rest();
    }

    fn failed(&mut self) -> u64 {
        self.network.context(self.server).counters().handshakes_failed
    }
}

fn told(error: &ListenerError) -> String {
    match error {
        ListenerError::Handshake(_, CloseReason::Protocol(why)) => {
            format!("failed: {:?}", why.downcast_ref::<HeaderError>())
        }
        other => format!("failed: {other}"),
    }
}

fn header(proxy: &Address) -> Option<ProxyHeader> {
    Some(ProxyHeader::new(proxy))
}

#[test]
fn proxy_header_as_a_filter_is_read_in_every_cut_and_leaves() {
    for header_bytes in [LINE.to_vec(), v2_tcp4(b"\x02\0\x0bexample.com")] {
        let bytes = [&header_bytes[..], REQUEST].concat();
        for cut in 0..bytes.len() {
            let mut behind = Behind::new(Limits::default(), |listen| listen.filter(header));
            let mut peer = behind.peer();
            behind.send(&mut peer, &bytes[..cut]);
            assert_eq!(behind.log.take().is_empty(), cut < header_bytes.len());
            behind.send(&mut peer, &bytes[cut..]);
            peer.end();
            behind.network.run_until_rest();
            let log = behind.log.take();
            assert_eq!(log[log.len() - 2..], ["eof", "lost: closed by the peer"], "cut at {cut}");
            assert_eq!(behind.failed(), 0);
        }
    }
    let mut behind = Behind::new(Limits::default(), |listen| listen.filter(header));
    let mut peer = behind.peer();
    behind.send(&mut peer, &[LINE, REQUEST].concat());
    assert_eq!(behind.log.take(), ["made for 192.168.0.1:56324", &format!("data {}", REQUEST.escape_ascii())]);
    // No filter is left from here on: the stream can be detached as it is.
    behind.send(&mut peer, b"!");
    assert_eq!(behind.log.take(), ["data !", "lost: detached from the loop", "detached 192.168.0.1:56324"]);
}

#[test]
fn proxy_header_stands_below_the_filters_that_are_added_after_it() {
    let sealed: Vec<u8> = REQUEST.iter().map(|byte| byte ^ KEY).collect();
    let bytes = [LINE, b"H", &sealed].concat();
    for cut in 0..bytes.len() {
        let mut behind = Behind::new(Limits::default(), |listen| {
            listen.filter(header).filter(|_| Some(Masked { knows_its_peer: false }))
        });
        let mut peer = behind.peer();
        behind.send(&mut peer, &bytes[..cut]);
        // The one above begins when the header has been read.
        assert_eq!(peer.read(), if cut < LINE.len() { &b""[..] } else { b"?" }, "cut at {cut}");
        behind.send(&mut peer, &bytes[cut..]);
        let log = behind.log.take();
        assert_eq!(log[0], "made for 192.168.0.1:56324", "cut at {cut}");
        assert_eq!(log[1..].concat().replace("data ", ""), REQUEST.escape_ascii().to_string(), "cut at {cut}");
    }
}

#[test]
fn proxy_header_that_is_none_is_told_to_the_owner_of_its_listener_and_to_no_protocol() {
    for (sent, why) in [
        (&b"GET / HTTP/1.1\r\n"[..], "NoHeader"),
        (b"PROXY TCP4 no\r\n", "BadLine"),
        (&v2(0x2f, 0x11, b""), "BadCommand(15)"),
        (&v2(0x21, 0x11, b"short"), "AddressesTooShort"),
    ] {
        let mut behind = Behind::new(Limits::default(), |listen| listen.filter(header));
        let mut peer = behind.peer();
        behind.send(&mut peer, sent);
        peer.read();
        assert!(peer.saw_end() || peer.error().is_some());
        drop(peer);
        behind.network.run_for(60 * SECOND);
        assert_eq!(behind.log.take(), [format!("failed: Some({why})")]);
        assert_eq!(behind.failed(), 1);
    }
}

#[test]
fn proxy_header_that_does_not_come_has_the_deadline_of_filters() {
    let limits = Limits::default().with_filter_timeout(Some(3 * SECOND));
    let mut behind = Behind::new(limits, |listen| listen.filter(header));
    let mut peer = behind.peer();
    behind.send(&mut peer, &LINE[..9]);
    behind.network.run_for(2 * SECOND);
    behind.send(&mut peer, &LINE[9..12]);
    assert_eq!(behind.log.take(), [""; 0]);
    behind.network.run_for(2 * SECOND);
    peer.read();
    assert!(peer.saw_end() || peer.error().is_some());
    let log = behind.log.take();
    assert!(log.len() == 1 && log[0].starts_with("failed: "), "{log:?}");
    assert_eq!(behind.failed(), 1);
}

#[test]
fn proxy_header_may_be_looked_at_and_its_client_turned_away() {
    let asked = Arc::new(AtomicUsize::new(0));
    let of_admit = asked.clone();
    let admit = move |carried: &Carried| {
        of_admit.fetch_add(1, Ordering::Relaxed);
        assert_ne!(carried.proxy(), carried.peer());
        carried.tlv(tlv::AUTHORITY) == Some(b"example.com")
    };
    let mut behind = Behind::new(Limits::default(), |listen| {
        listen.filter(move |proxy| Some(ProxyHeader::new(proxy).header_bytes_max(42).admit(admit.clone())))
    });
    let mut peer = behind.peer();
    behind.send(&mut peer, &v2_tcp4(b"\x02\0\x0bexample.com"));
    assert_eq!(behind.log.take(), ["made for 192.168.0.1:56324"]);
    let mut other = behind.peer();
    behind.send(&mut other, &v2_tcp4(b"\x02\0\x0bexample.org"));
    // Owners are told once a second.
    behind.network.run_for(60 * SECOND);
    let mut long = behind.peer();
    behind.send(&mut long, &v2_tcp4(b"\x02\0\x0cexample.comm"));
    drop((other, long));
    behind.network.run_for(60 * SECOND);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let log = behind.log.take();
    assert_eq!(log, ["failed: Some(NotAdmitted)", "failed: Some(TooLong { bytes: 43, bytes_max: 42 })"]);
}

#[test]
fn proxy_header_of_the_proxy_itself_leaves_the_address_as_it_is() {
    let mut behind = Behind::new(Limits::default(), |listen| listen.filter(header));
    let mut peer = behind.peer();
    behind.send(&mut peer, &v2(0x20, 0x00, b""));
    let log = behind.log.take();
    assert!(log.len() == 1 && log[0].starts_with("made for 10."), "{log:?}");
}
