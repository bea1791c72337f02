//! Parsers: what arrives in many pieces, or has many parts, costs as much for each.

use std::hint::black_box;

use switchboard::filter::{Filter, Flow};
use switchboard::framing::{Delimited, Framed, LengthPrefixed, LineReceiver, Netstring, Telnet};
use switchboard::proxy::{AcceptProxy, ProxyHeader};
use switchboard::{Address, Endpoint, IntoProtocol};

use super::support::{Pair, Tally};
use super::{Subject, counted};

/// As much as a piece has where one frame comes in many.
const PIECE_BYTES: usize = 64;

/// More than any frame has.
const FRAME_BYTES_MAX: usize = 1 << 20;

pub(crate) const SUBJECTS: &[Subject] = &[
    ("a line in many pieces", |n| {
        in_pieces(line, &[vec![b'x'; n * PIECE_BYTES], b"\n".to_vec()].concat(), PIECE_BYTES);
    }),
    ("many lines in a piece", |n| in_pieces(line, &b"abc\r\n".repeat(n), usize::MAX)),
    ("a line that is skipped", |n| {
        in_pieces(short_line, &[vec![b'x'; n * PIECE_BYTES], b"\na\n".to_vec()].concat(), PIECE_BYTES);
    }),
    ("carriage returns in a line", |n| {
        in_pieces(line, &[b"x\r".repeat(n * PIECE_BYTES / 2), b"\n".to_vec()].concat(), PIECE_BYTES);
    }),
    ("a netstring in many pieces", |n| in_pieces(netstring, &netstring_of(n * PIECE_BYTES), PIECE_BYTES)),
    ("many netstrings in a piece", |n| in_pieces(netstring, &b"3:abc,".repeat(n), usize::MAX)),
    ("a frame by its length in many pieces", |n| in_pieces(prefixed, &prefixed_of(n * PIECE_BYTES), PIECE_BYTES)),
    ("many frames by their lengths in a piece", |n| in_pieces(prefixed, &b"\0\0\0\x03abc".repeat(n), usize::MAX)),
    ("a frame up to a delimiter in many pieces", |n| in_pieces(delimited, &almost(n * PIECE_BYTES), PIECE_BYTES)),
    ("a delimiter that nearly matches everywhere", |n| in_pieces(delimited, &almost(n * PIECE_BYTES), 4096)),
    ("many frames up to a delimiter in a piece", |n| in_pieces(delimited, &b"xyaaaaaaab".repeat(n), usize::MAX)),
    ("telnet: a line in many pieces", |n| {
        in_pieces(telnet, &[vec![b'x'; n * PIECE_BYTES], b"\n".to_vec()].concat(), PIECE_BYTES);
    }),
    ("telnet: commands in a line", |n| {
        in_pieces(telnet, &[b"x\xff\xf1".repeat(n), b"\n".to_vec()].concat(), usize::MAX);
    }),
    ("telnet: commands in a line, a byte at a time", |n| {
        in_pieces(telnet, &[b"x\xff\xf1".repeat(n), b"\n".to_vec()].concat(), 1);
    }),
    ("PROXY: TLVs of a header in many pieces", |n| in_pieces(proxied, &proxy_header(n), PIECE_BYTES)),
    ("PROXY, by a filter: TLVs of a header in many pieces", proxy_filter),
    ("a filter's records, a byte each", |n| by_bytes(n, false)),
    ("a filter's output, a byte at a time", |n| by_bytes(n, true)),
    ("http_server: a head in many pieces", |n| http(&head(n / 2), 8)),
    ("http_server: many requests in a piece", |n| http(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(n), usize::MAX)),
    ("http_server: many chunks in a piece", |n| http(&chunks(n), usize::MAX)),
    ("http_server: many chunks, a byte at a time", |n| http(&chunks(n), 1)),
    ("resp_server: a request of many arguments in pieces", |n| resp(&mget(n), PIECE_BYTES)),
    ("resp_server: a long value in pieces", |n| resp(&value(n * PIECE_BYTES), PIECE_BYTES)),
    ("resp_server: many requests in a piece", |n| resp(&b"PING\r\n".repeat(n), usize::MAX)),
    ("an endpoint string of many escapes", endpoint),
    ("escaped text", |n| escaped(&b"a\x1b\\\xff".repeat(n))),
];

/// Feeds a protocol all of this, in pieces of so many bytes, and expects that it is handed at least one frame.
fn in_pieces<P: IntoProtocol>(protocol: fn(Tally) -> P, data: &[u8], piece_bytes: usize) {
    let tally = Tally::default();
    let mut pair = Pair::new(protocol(tally.clone()));
    feed(&mut pair, data, piece_bytes);
    assert!(tally.get() > 0, "nothing was received");
}

fn feed(pair: &mut Pair, data: &[u8], piece_bytes: usize) {
    counted(&mut || {
        for piece in data.chunks(piece_bytes.min(data.len())) {
            pair.send(piece);
        }
    });
    super::support::turn(&mut pair.event_loop);
}

fn line(tally: Tally) -> impl IntoProtocol {
    LineReceiver::new(tally).line_bytes_max(FRAME_BYTES_MAX)
}

fn short_line(tally: Tally) -> impl IntoProtocol {
    LineReceiver::new(tally).line_bytes_max(80)
}

fn netstring(tally: Tally) -> impl IntoProtocol {
    Framed::new(Netstring::new(FRAME_BYTES_MAX), tally)
}

fn prefixed(tally: Tally) -> impl IntoProtocol {
    Framed::new(LengthPrefixed::u32_be(FRAME_BYTES_MAX), tally)
}

fn delimited(tally: Tally) -> impl IntoProtocol {
    Framed::new(Delimited::new(b"aaaaaaab").frame_bytes_max(FRAME_BYTES_MAX), tally)
}

fn telnet(tally: Tally) -> impl IntoProtocol {
    Telnet::new(LineReceiver::new(tally).line_bytes_max(FRAME_BYTES_MAX))
}

fn proxied(tally: Tally) -> impl IntoProtocol {
    AcceptProxy::new().header_bytes_max(FRAME_BYTES_MAX).protocol(move |_, _| Some(LineReceiver::new(tally.clone())))
}

fn netstring_of(bytes: usize) -> Vec<u8> {
    [format!("{bytes}:").into_bytes(), vec![b'x'; bytes], b",".to_vec()].concat()
}

fn prefixed_of(bytes: usize) -> Vec<u8> {
    [u32::try_from(bytes).expect("a length").to_be_bytes().to_vec(), vec![b'x'; bytes]].concat()
}

/// All but the last byte of the delimiter, over and over, and then a whole one.
fn almost(bytes: usize) -> Vec<u8> {
    [b"aaaaaaac".repeat(bytes / 8), b"aaaaaaab".to_vec()].concat()
}

/// A header of version 2 with `count` TLVs, and a line behind it.
fn proxy_header(count: usize) -> Vec<u8> {
    let tlvs = b"\xe0\0\x01x".repeat(count);
    let bytes = u16::try_from(12 + tlvs.len()).expect("a length").to_be_bytes();
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0, 80, 0, 81];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &bytes[..], &addresses[..], &tlvs[..], b"line\n"].concat()
}

fn with_filter(tally: Tally, filter: impl Filter) -> Pair {
    let mut pair = Pair::new(line(tally));
    let id = pair.id;
    let is_set = pair.event_loop.context().connection(id).expect("a connection").set_filter(filter);
    assert!(is_set, "it takes no filter");
    pair
}

fn proxy_filter(count: usize) {
    let tally = Tally::default();
    let proxy = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut pair = with_filter(tally.clone(), ProxyHeader::new(&proxy).header_bytes_max(FRAME_BYTES_MAX));
    feed(&mut pair, &proxy_header(count), PIECE_BYTES);
    assert_eq!(tally.get(), 1);
}

/// Takes and passes on a byte at a time.
struct ByBytes;

impl Filter for ByBytes {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(flow.up_room()).min(1);
        flow.up().push(&data[..count]);
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(1);
        flow.down().push(&data[..count]);
        count
    }
}

fn by_bytes(count: usize, outward: bool) {
    let tally = Tally::default();
    let mut pair = with_filter(tally.clone(), ByBytes);
    let data = [vec![b'x'; count], b"\n".to_vec()].concat();
    if !outward {
        feed(&mut pair, &data, usize::MAX);
        assert_eq!(tally.get(), 1);
        return;
    }
    counted(&mut || {
        let id = pair.id;
        pair.event_loop.context().connection(id).expect("a connection").write(&data);
        pair.receive(data.len());
    });
}

#[path = "../../../examples/http_server.rs"]
#[allow(dead_code)]
mod http_server;
#[path = "../../../examples/resp_server.rs"]
#[allow(dead_code)]
mod resp_server;

fn http(data: &[u8], piece_bytes: usize) {
    let client = http_server::Client::new(http_server::http::Responses::new());
    answered(client, data, piece_bytes, b"HTTP/1.1 200 ");
}

/// A head with one long field, of so many pieces of 8 bytes at the most.
fn head(pieces: usize) -> Vec<u8> {
    let bytes = pieces * 8 - 64;
    [b"GET / HTTP/1.1\r\nHost: x\r\nField: ", &vec![b'x'; bytes][..], b"\r\n\r\n"].concat()
}

fn chunks(count: usize) -> Vec<u8> {
    let head: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head, &b"1\r\nx\r\n".repeat(count), b"0\r\n\r\n"].concat()
}

fn resp(data: &[u8], piece_bytes: usize) {
    let server = resp_server::Server::new(FRAME_BYTES_MAX, FRAME_BYTES_MAX);
    answered(resp_server::Client::new(&server, 1), data, piece_bytes, b"");
}

fn mget(count: usize) -> Vec<u8> {
    [format!("*{}\r\n$4\r\nMGET\r\n", count + 1).into_bytes(), b"$4\r\nname\r\n".repeat(count)].concat()
}

fn value(bytes: usize) -> Vec<u8> {
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n").into_bytes();
    [head, vec![b'x'; bytes], b"\r\n".to_vec()].concat()
}

/// Feeds an example's protocol, and expects that it answers.
fn answered(protocol: impl IntoProtocol, data: &[u8], piece_bytes: usize, beginning: &[u8]) {
    let mut pair = Pair::new(protocol);
    feed(&mut pair, data, piece_bytes);
    let mut answer = [0; 64];
    let count = std::io::Read::read(&mut pair.peer, &mut answer).expect("an answer");
    assert!(answer[..count].starts_with(beginning), "{:?}", answer[..count].escape_ascii().to_string());
}

fn endpoint(count: usize) {
    let text = format!("unix:{}", "a\\:".repeat(count));
    counted(&mut || {
        black_box(text.parse::<Endpoint>().expect("an endpoint"));
    });
}

fn escaped(text: &[u8]) {
    counted(&mut || {
        black_box(switchboard::escape(text).to_string());
    });
}
