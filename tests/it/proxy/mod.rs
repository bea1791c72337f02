//! The PROXY protocol, inbound: the protocol proper begins after the header, with the address that it carries, and
//! never where there is none.

mod filtering;
mod headers;
mod listening;
mod reference;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use switchboard::proxy::{AcceptProxy, Carried};
use switchboard::testing::Harness;
use switchboard::{CloseReason, Limits, PanicPolicy, Protocol, Timeout, Transport};

const SECOND: Duration = Duration::from_secs(1);

/// The example of the specification.
const LINE: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// The same addresses as those of [`LINE`], in version 2, with something behind them.
fn v2_tcp4(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb], tlvs].concat())
}

/// The calls of a factory and of the protocols that it made, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn push(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

fn shown(carried: &Carried) -> String {
    let ends = carried.source().zip(carried.destination());
    let ends = ends.map_or("itself".to_owned(), |(source, destination)| format!("{source} -> {destination}"));
    let tlvs: String = carried.tlvs().map(|(kind, value)| format!(" {kind:#x}={}", value.escape_ascii())).collect();
    format!("{:?} {ends}{tlvs}", carried.version())
}

/// Records its callbacks. Leaves input that begins with `-`; detaches at `!`.
struct Noting(Log);

impl Protocol for Noting {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.push(format!("made for {}", transport.peer_addr().unwrap()));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if data.starts_with(b"-") {
            return 0;
        }
        if data == b"!" {
            let log = self.0.clone();
            transport.detach(move |_, detached| log.push(format!("detached {}", detached.peer_addr().unwrap())));
        }
        let mut log = self.0.0.borrow_mut();
        match log.last_mut().filter(|last| last.starts_with("data ")) {
            // However it was cut.
            Some(last) => last.push_str(&data.escape_ascii().to_string()),
            None => log.push(format!("data {}", data.escape_ascii())),
        }
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.0.push("eof");
        transport.close();
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        self.0.push(format!("{timeout:?}"));
        transport.abort_on_timeout(timeout);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.push(format!("lost: {reason}"));
    }
}

/// A connection that begins with a header, and whose inner protocol records everything.
fn harness_of(accept: AcceptProxy, limits: Limits) -> (Harness, Log) {
    let log = Log::default();
    let of_factory = log.clone();
    let protocol = accept.protocol(move |_, carried| {
        of_factory.push(shown(carried));
        Some(Noting(of_factory))
    });
    (Harness::with_limits(protocol, limits), log)
}

fn harness() -> (Harness, Log) {
    harness_of(AcceptProxy::new(), Limits::default())
}

#[test]
fn proxy_a_connection_begins_after_its_header_with_the_address_that_it_carries() {
    let (mut harness, log) = harness();
    let proxy = harness.transport().unwrap().peer_addr().unwrap().clone();
    harness.feed(&LINE[..LINE.len() - 1]);
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(harness.transport().unwrap().peer_addr(), Some(&proxy));
    harness.feed(b"\n");
    assert_eq!(log.take(), ["V1 192.168.0.1:56324 -> 192.168.0.11:443", "made for 192.168.0.1:56324"]);
    harness.feed(REQUEST);
    harness.end();
    let data = format!("data {}", REQUEST.escape_ascii());
    assert_eq!(log.take(), [&data, "eof", "lost: closed by the peer"]);
    assert!(harness.saw_end() && !harness.saw_reset());
}

#[test]
fn proxy_the_carried_address_stays_with_a_connection_that_is_taken_out() {
    let (mut harness, log) = harness();
    harness.feed(LINE);
    harness.feed(b"!");
    assert_eq!(log.take()[2..], ["data !", "lost: detached from the loop", "detached 192.168.0.1:56324"]);
}

#[test]
fn proxy_what_the_header_carries_is_all_there() {
    let protocol = AcceptProxy::new().protocol(|context, carried| {
        assert_eq!(carried.peer().as_inet(), Some(SocketAddr::from(([192, 168, 0, 1], 56324))));
        assert_ne!(carried.proxy(), carried.peer());
        assert_eq!(context.connection_count(), 1);
        assert_eq!(carried.tlv(switchboard::proxy::tlv::AUTHORITY), Some(&b"example.com"[..]));
        assert_eq!(carried.tlv(switchboard::proxy::tlv::ALPN), None);
        Some(Noting(Log::default()))
    });
    let mut harness = Harness::new(protocol);
    harness.feed(&v2_tcp4(b"\x02\0\x0bexample.com\x04\0\0"));
    assert!(harness.lost().is_none());
}

#[test]
fn proxy_header_request_and_end_in_one_segment_are_all_seen() {
    for header in [LINE.to_vec(), v2_tcp4(b"")] {
        let (mut harness, log) = harness();
        harness.feed(&[&header, REQUEST].concat());
        harness.end();
        let data = format!("data {}", REQUEST.escape_ascii());
        assert_eq!(log.take()[1..], ["made for 192.168.0.1:56324", &data, "eof", "lost: closed by the peer"]);
    }
    // All before the loop looks: the reset comes behind the request (R4).
    let (mut harness, log) = harness();
    let bytes = [LINE, REQUEST].concat();
    harness.feed(&bytes);
    harness.reset();
    assert_eq!(log.take().last().unwrap(), "lost: reset by the peer");
}

#[test]
fn proxy_of_a_connection_of_the_proxy_s_own_the_address_stands() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 1.2.3.4 anything\xff\r at all 1 2 3\r\n".to_vec(),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x00, b"discarded"),
        v2(0x20, 0x11, b"too short"),
        v2(0x20, 0xff, b""),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x10, b""),
        v2(0x21, 0x02, b""),
    ] {
        let (mut harness, log) = harness();
        let proxy = harness.transport().unwrap().peer_addr().unwrap().to_string();
        harness.feed(&header);
        harness.feed(b"hello");
        let log = log.take();
        assert!(log[0].ends_with(" itself"), "{header:?}: {log:?}");
        assert_eq!(log[1..], [format!("made for {proxy}"), "data hello".to_owned()], "{header:?}");
    }
}

#[test]
fn proxy_a_header_has_a_deadline_however_it_trickles_in() {
    let (mut harness, log) = harness();
    for byte in &LINE[..5] {
        harness.feed(&[*byte]);
        harness.advance(SECOND * 99 / 100);
        assert!(harness.lost().is_none());
    }
    harness.advance(SECOND / 10);
    assert!(matches!(harness.lost(), Some(CloseReason::Timeout(Timeout::Total))));
    assert!(harness.saw_reset());
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(harness.context().counters().losses.timeout, 1);
    // Another one.
    let (mut harness, _) = harness_of(AcceptProxy::new().timeout(SECOND), Limits::default());
    harness.advance(SECOND);
    assert!(matches!(harness.lost(), Some(CloseReason::Timeout(Timeout::Total))));
}

#[test]
fn proxy_the_deadline_ends_with_the_header_and_the_connections_own_begin() {
    let (mut harness, log) = harness();
    harness.feed(LINE);
    harness.advance(SECOND * 3600);
    assert_eq!(harness.time_to_next(), None);
    assert_eq!((harness.lost().is_none(), log.take().len()), (true, 2));
    let limits = Limits::default().with_total_timeout(Some(10 * SECOND)).with_idle_timeout(Some(4 * SECOND));
    let (mut harness, log) = harness_of(AcceptProxy::new(), limits.clone());
    harness.advance(3 * SECOND);
    harness.feed(LINE);
    for _ in 0..4 {
        harness.advance(2 * SECOND);
        harness.feed(b"x");
    }
    harness.advance(SECOND * 19 / 10);
    assert!(harness.lost().is_none());
    harness.advance(SECOND);
    assert_eq!(log.take()[2..], ["data xxxx", "Total", "lost: connected for too long"]);
    // An idle timeout that is shorter than the deadline is one of the header too.
    let (mut harness, log) = harness_of(AcceptProxy::new(), limits);
    harness.advance(4 * SECOND);
    assert!(matches!(harness.lost(), Some(CloseReason::Timeout(Timeout::Idle))) && log.take().is_empty());
}

#[test]
fn proxy_who_leaves_before_the_end_of_the_header_leaves_quietly() {
    for sent in [&b""[..], &LINE[..20], SIGNATURE] {
        let (mut harness, log) = harness();
        harness.feed(sent);
        harness.end();
        assert!(matches!(harness.lost(), Some(CloseReason::PeerClosed)) && harness.saw_end());
        assert!(!harness.saw_reset());
        assert_eq!(log.take(), [""; 0]);
    }
    let (mut harness, log) = harness();
    harness.reset();
    assert!(matches!(harness.lost(), Some(CloseReason::Reset)) && log.take().is_empty());
}

#[test]
fn proxy_a_client_that_is_refused_is_reset_without_a_callback() {
    let mut harness = Harness::new(AcceptProxy::new().protocol(|_, _| None::<Noting>));
    harness.feed(LINE);
    assert!(matches!(harness.lost(), Some(CloseReason::Aborted)));
    assert!(harness.saw_reset());
}

#[test]
fn proxy_a_factory_that_panics_ends_that_connection_alone() {
    let mut harness = Harness::new(AcceptProxy::new().protocol(|_, _| -> Option<Noting> { panic!("no protocol") }));
    harness.event_loop().set_panic_policy(PanicPolicy::Isolate);
    harness.feed(LINE);
    assert!(matches!(harness.lost(), Some(CloseReason::Panic(message)) if message == "no protocol"));
    assert!(harness.saw_reset());
    assert_eq!(harness.context().counters().panics, 1);
}

#[test]
fn proxy_input_behind_the_header_has_the_limit_of_any_other() {
    // The whole read is there before the protocol exists; how much it takes does not matter.
    let (mut harness, log) = harness();
    let much = vec![b'x'; 300_000];
    harness.feed(&[LINE, &much].concat());
    assert_eq!(log.take()[2].len(), "data ".len() + much.len());
    // What it leaves counts, with its own limit, though a header may be longer than that.
    let (mut harness, log) = harness_of(AcceptProxy::new(), Limits::default().with_input_bytes_max(8));
    harness.feed(&LINE[..LINE.len() - 1]);
    assert!(harness.lost().is_none());
    harness.feed(b"\n-2345678");
    assert!(harness.lost().is_none());
    assert_eq!(harness.transport().unwrap().input_bytes_max(), 8);
    harness.feed(b"9");
    assert_eq!(log.take()[2..], ["lost: too much input left unconsumed"]);
}

#[test]
fn proxy_what_has_read_the_header_is_gone_with_it() {
    let held = Rc::new(());
    let of_factory = held.clone();
    let protocol = AcceptProxy::new().protocol(move |_, _| {
        let _held = &of_factory;
        Some(Noting(Log::default()))
    });
    let mut harness = Harness::new(protocol);
    assert_eq!(Rc::strong_count(&held), 2);
    harness.feed(LINE);
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(harness.lost().is_none());
}
