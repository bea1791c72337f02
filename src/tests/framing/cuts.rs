//! Rule F1: how bytes are cut makes no difference, neither to the callbacks nor to the cost.

use super::*;
use crate::framing::{Delimited, FixedSize, LengthPrefixed, LineEnding, Netstring};

/// Returns the pieces that a mask cuts an input into: one bit for each place between two bytes.
fn pieces(input: &[u8], mask: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 1..=input.len() {
        if end == input.len() || mask & (1 << (end - 1)) != 0 {
            pieces.push(&input[start..end]);
            start = end;
        }
    }
    pieces
}

/// Checks that all 2^13 cuts of 14 bytes cause the same callbacks as the whole.
fn every_cut(input: &[u8; 14], expected: &[&str], protocol: impl Fn(&Log) -> Box<dyn Protocol>) {
    let (mut scene, log) = (Scene::new(), Log::default());
    for mask in 0..1 << (input.len() - 1) {
        let found = scene.callbacks(&log, protocol(&log), pieces(input, mask));
        assert_eq!(found, expected, "cut as {mask:b}");
    }
}

#[test]
fn f1_every_cut_gives_the_same_lines() {
    every_cut(b"a\r\n\nb\rc\r\r\nd\nef", &["line a", "line ", r"line b\rc\r", "line d", "eof ef"], |log| {
        Box::new(lines(log))
    });
    every_cut(b"a\nb\r\n\r\rc\r\n\r\n\rd", &[r"line a\nb", r"line \r\rc", "line ", r"eof \rd"], |log| {
        Box::new(lines(log).line_ending(LineEnding::CrLf))
    });
    every_cut(b"abc\r\nabcdef\r\na", &["line abc", "too long", "eof a"], |log| Box::new(lines(log).line_bytes_max(3)));
}

#[test]
fn f1_every_cut_gives_the_same_lines_from_telnet() {
    every_cut(
        b"a\xff\xfb\nb\xff\xff\r\xff\xf6\nc\xff\xf4",
        &["command AreYouThere", r"line ab\xff", "command Interrupt", "eof c"],
        |log| Box::new(Telnet::new(lines(log))),
    );
    // RFC 1123 3.3.1: CR NUL has the effect of CRLF; neither ends a line alone.
    every_cut(
        b"a\r\0\0b\r\xff\xf6\0c\r\r\0d",
        &["line a", "command AreYouThere", r"line \x00b", r"line c\r", "eof d"],
        |log| Box::new(Telnet::new(lines(log))),
    );
    every_cut(b"abc\r\0abcdef\r\0a", &["line abc", "too long", "eof a"], |log| {
        Box::new(Telnet::new(lines(log).line_bytes_max(3)))
    });
    every_cut(b"abc\r\0\rbcdef\r\0a", &["line abc", "too long", "eof a"], |log| {
        Box::new(Telnet::new(lines(log).line_bytes_max(3).line_ending(LineEnding::CrLf)))
    });
}

#[test]
fn f1_every_cut_gives_the_same_frames() {
    every_cut(b"\0\x02ab\0\0\0\x03cde\0\x02f", &["frame ab", "frame ", "frame cde", r"eof \x00\x02f"], |log| {
        frames(log, LengthPrefixed::u16_be(100))
    });
    every_cut(b"2:ab,0:,3:a:,,", &["frame ab", "frame ", "frame a:,", "eof "], |log| frames(log, Netstring::default()));
    every_cut(b"a--b-c----d-e-", &["frame a", "frame b-c", "frame ", "eof d-e-"], |log| {
        frames(log, Delimited::new(b"--"))
    });
    every_cut(b"abcdefghijklmn", &["frame abcd", "frame efgh", "frame ijkl", "eof mn"], |log| {
        frames(log, FixedSize::new(4))
    });
}

/// The length of the input in tests of cost.
const MILLION: usize = 1_000_000;

#[test]
fn f1_a_million_bytes_cut_into_single_ones_are_looked_at_once() {
    let framer = Delimited::new(b"end of frame").frame_bytes_max(MILLION);
    let data = vec![b'e'; MILLION];
    let (mut scanned, mut looked_at) = (0, 0);
    for end in 1..=data.len() {
        looked_at += end - scanned;
        assert!(looked_at < 20 * MILLION, "{looked_at} bytes looked at, and {end} are there");
        match framer.find(&data[..end], scanned, usize::MAX) {
            crate::framing::Found::Partial { scanned: so_far, .. } => scanned = so_far,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn f1_a_long_line_of_single_bytes_comes_whole() {
    let bytes = 100_000;
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(lines(&log).line_bytes_max(bytes));
    peer.set_short_read_empties(false);
    for _ in 0..bytes {
        peer.sends("x");
    }
    scene.receive(&peer, "\r\n");
    assert_eq!(log.take()[1].len(), "line ".len() + bytes);
}

#[test]
fn f1_a_frame_is_looked_at_when_it_is_complete_and_not_before() {
    fn calls(framer: impl Framer) -> usize {
        let (mut scene, log, calls) = (Scene::new(), Log::default(), Rc::new(std::cell::Cell::new(0)));
        let (_, peer) = scene.connect(Counting { inner: frames(&log, framer), calls: calls.clone() });
        peer.set_short_read_empties(false);
        for byte in [&[0, 0, 0x27, 0x10][..], &[b'x'; 9_999]].concat() {
            peer.sends([byte]);
        }
        scene.receive(&peer, "x");
        assert!(log.take().iter().any(|entry| entry.starts_with("frame")));
        calls.get()
    }
    assert_eq!(calls(FixedSize::new(10_004)), 2, "once for the first byte, once for the whole");
    assert_eq!(calls(LengthPrefixed::u32_be(MILLION)), 3, "once more for the length");
}

struct Counting {
    inner: Box<dyn Protocol>,
    calls: Rc<std::cell::Cell<usize>>,
}

impl Protocol for Counting {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.calls.set(self.calls.get() + 1);
        self.inner.data_received(transport, data)
    }
}
