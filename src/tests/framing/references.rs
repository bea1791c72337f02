//! Rule F1: every framing against a simple reference decoder, on random inputs cut at random.

use super::*;
use crate::framing::{Delimited, FixedSize, LengthPrefixed, LineEnding, Netstring};

const INPUTS: usize = 4000;

/// Decodes byte by byte, from a copy of everything that has arrived.
#[derive(Default)]
struct Lines {
    ending: LineEnding,
    bytes_max: usize,
    line: Vec<u8>,
    too_long: bool,
    callbacks: Vec<String>,
}

impl Lines {
    fn push(&mut self, byte: u8) {
        self.line.push(byte);
        let content = match self.ending {
            LineEnding::Either => self.line.strip_suffix(b"\r\n").or(self.line.strip_suffix(b"\n")),
            LineEnding::CrLf => self.line.strip_suffix(b"\r\n"),
            LineEnding::Lf => self.line.strip_suffix(b"\n"),
        };
        match content {
            Some(_) if self.too_long => self.too_long = false,
            Some(content) if content.len() > self.bytes_max => self.callbacks.push("too long".into()),
            Some(content) => self.callbacks.push(shown("line", content)),
            None => {
                if !self.too_long
                    && self.line.len() >= self.bytes_max + if self.ending == LineEnding::Lf { 1 } else { 2 }
                {
                    self.too_long = true;
                    self.callbacks.push("too long".into());
                }
                return;
            }
        }
        self.line.clear();
    }

    fn end(mut self) -> Vec<String> {
        self.callbacks.push(shown("eof", if self.too_long { b"" } else { &self.line }));
        self.callbacks
    }
}

/// Finds one frame: its content and how much of the input it takes; `Ok(None)` if it is not complete.
type OneFrame = dyn Fn(&[u8]) -> Result<Option<(&[u8], usize)>, FramingError>;

fn decode(mut input: &[u8], one_frame: &OneFrame) -> Vec<String> {
    let mut callbacks = Vec::new();
    loop {
        match one_frame(input) {
            Ok(Some((frame, taken))) => {
                callbacks.push(shown("frame", frame));
                input = &input[taken..];
            }
            Ok(None) => {
                callbacks.push(shown("eof", input));
                return callbacks;
            }
            Err(error) => {
                callbacks.push(format!("broken: {error}"));
                return callbacks;
            }
        }
    }
}

fn agree(letters: &[&[u8]], framer: impl Framer + Clone + 'static, one_frame: &OneFrame) {
    let (mut scene, log, mut dice) = (Scene::new(), Log::default(), Dice(7));
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..INPUTS {
        let input = dice.bytes(letters, 30);
        let expected = decode(&input, one_frame);
        let found = scene.callbacks(&log, frames(&log, framer.clone()), dice.cut(&input));
        assert_eq!(found, expected, "of {:?}", crate::escape(&input).to_string());
        whole += expected.iter().filter(|callback| callback.starts_with("frame")).count();
        broken += expected.iter().filter(|callback| callback.starts_with("broken")).count();
    }
    assert!(whole > INPUTS / 10, "the inputs are no good: {whole} frames, {broken} broken");
}

#[test]
fn f1_lines_agree_with_the_reference() {
    let (mut scene, log, mut dice) = (Scene::new(), Log::default(), Dice(11));
    for n in 0..INPUTS {
        let ending = [LineEnding::Either, LineEnding::CrLf, LineEnding::Lf][n % 3];
        let bytes_max = dice.below(8);
        let input = dice.bytes(&[b"\r\n", b"\n", b"\r", b"a", b"b", b"c", b"\0", b"\xff", b"long line"], 30);
        let mut expected = Lines { ending, bytes_max, ..Lines::default() };
        input.iter().for_each(|&byte| expected.push(byte));
        let protocol = lines(&log).line_ending(ending).line_bytes_max(bytes_max);
        let found = scene.callbacks(&log, Box::new(protocol), dice.cut(&input));
        let input = crate::escape(&input).to_string();
        assert_eq!(found, expected.end(), "{ending:?}, {bytes_max} bytes at most, of {input:?}");
    }
}

/// Line ends that are far apart are looked for in a different way from those that are near.
#[test]
fn f1_long_lines_among_short_ones_agree_with_the_reference() {
    let (mut scene, log, mut dice) = (Scene::new(), Log::default(), Dice(12));
    let far = [b'x'; 300];
    for n in 0..INPUTS / 20 {
        let ending = [LineEnding::Either, LineEnding::CrLf, LineEnding::Lf][n % 3];
        let bytes_max = 250 + dice.below(2000);
        let input = dice.bytes(&[&far, b"\r\n", b"\n", b"\r", b"short", &far[..255], &far[..256]], 30);
        let mut expected = Lines { ending, bytes_max, ..Lines::default() };
        input.iter().for_each(|&byte| expected.push(byte));
        let protocol = lines(&log).line_ending(ending).line_bytes_max(bytes_max);
        let whole = n / 3 % 2 == 0;
        let pieces = if whole { input.chunks(usize::MAX).collect() } else { dice.cut(&input) };
        let found = scene.callbacks(&log, Box::new(protocol), pieces);
        assert_eq!(found, expected.end(), "{ending:?}, {bytes_max} bytes at most, of input {n}");
    }
}

#[test]
fn f1_lines_and_raw_data_agree_with_the_reference() {
    let (mut scene, log, mut dice) = (Scene::new(), Log::default(), Dice(13));
    for _ in 0..INPUTS {
        let input = dice.bytes(&[b"\n", b"\r\n", b"a", b"3\n", b"12\n", b"0\n", b"\r"], 30);
        let (mut expected, mut rest) = (Vec::new(), &input[..]);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            expected.push(shown("line", line));
            rest = &rest[end + 1..];
            let raw: usize = std::str::from_utf8(line).unwrap().parse().unwrap_or(0);
            let raw = raw.min(rest.len());
            expected.extend(rest[..raw].iter().map(|&byte| shown("raw", &[byte])));
            rest = &rest[raw..];
        }
        expected.push(shown("eof", rest));
        let handler = noting(&log, |entry, _, raw_bytes| {
            if let Some(line) = entry.strip_prefix("line ") {
                *raw_bytes = line.parse().unwrap_or(0);
            }
        });
        let found = scene.callbacks(&log, Box::new(LineReceiver::new(handler)), dice.cut(&input));
        // How raw data is cut is not specified: compare it byte by byte.
        let found: Vec<_> = found.into_iter().flat_map(|entry| raw_in_bytes(&entry)).collect();
        assert_eq!(found, expected, "of {:?}", crate::escape(&input).to_string());
    }
}

/// Splits a `raw` entry into one for each byte; leaves others as they are.
fn raw_in_bytes(entry: &str) -> Vec<String> {
    let Some(raw) = entry.strip_prefix("raw ") else { return vec![entry.to_owned()] };
    let raw = raw.replace("\\n", "\n").replace("\\r", "\r");
    raw.bytes().map(|byte| shown("raw", &[byte])).collect()
}

#[test]
fn f1_length_prefixes_agree_with_the_reference() {
    let letters: &[&[u8]] = &[b"\0", b"\0\0", b"\0\0\0", b"\x01", b"\x02", b"\x05", b"a", b"\xff"];
    type Length = fn(&[u8]) -> u64;
    let framings: [(LengthPrefixed, usize, u64, Length); 5] = [
        (LengthPrefixed::u8(), 1, 255, |prefix| prefix[0].into()),
        (LengthPrefixed::u16_be(300), 2, 300, |prefix| u64::from(prefix[0]) * 256 + u64::from(prefix[1])),
        (LengthPrefixed::u16_le(300), 2, 300, |prefix| u64::from(prefix[1]) * 256 + u64::from(prefix[0])),
        (LengthPrefixed::u32_be(40), 4, 40, |prefix| prefix.iter().fold(0, |sum, &byte| sum * 256 + u64::from(byte))),
        (LengthPrefixed::u32_le(40), 4, 40, |prefix| {
            prefix.iter().rev().fold(0, |sum, &byte| sum * 256 + u64::from(byte))
        }),
    ];
    for (framer, prefix, bytes_max, length) in framings {
        agree(letters, framer, &move |input| {
            let Some(bytes) = input.get(..prefix).map(length) else { return Ok(None) };
            if bytes > bytes_max {
                return Err(FramingError::LengthOverMax { bytes, bytes_max: bytes_max as usize });
            }
            let end = prefix + bytes as usize;
            Ok(input.get(prefix..end).map(|frame| (frame, end)))
        });
    }
}

#[test]
fn f1_f3_netstrings_agree_with_the_reference() {
    let letters: &[&[u8]] =
        &[b"0:,", b"1:a,", b"3:abc,", b"12:", b"abcdefghijkl,", b"0", b"1", b":", b",", b"99", b"x"];
    agree(letters, Netstring::new(20), &|input| {
        let digits = input.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = &input[..digits];
        // The first wrong byte is what counts, wherever the input is cut.
        for (n, digit) in number.iter().enumerate().skip(1) {
            let bytes: u64 = std::str::from_utf8(&number[..=n]).unwrap().parse().unwrap();
            if number[0] == b'0' {
                return Err(FramingError::BadNetstringLength);
            }
            if bytes > 20 {
                assert!(digit.is_ascii_digit());
                return Err(FramingError::LengthOverMax { bytes, bytes_max: 20 });
            }
        }
        match input.get(digits) {
            None => return Ok(None),
            Some(b':') if digits > 0 => {}
            Some(_) => return Err(FramingError::BadNetstringLength),
        }
        let bytes: usize = std::str::from_utf8(number).unwrap().parse().unwrap();
        let end = digits + 1 + bytes;
        match input.get(end) {
            None => Ok(None),
            Some(b',') => Ok(Some((&input[digits + 1..end], end + 1))),
            Some(_) => Err(FramingError::NoNetstringComma),
        }
    });
}

#[test]
fn f1_delimited_frames_agree_with_the_reference() {
    for delimiter in [&b"|"[..], b"||", b"|-|", b"\0"] {
        let framer = Delimited::new(delimiter).frame_bytes_max(9);
        agree(&[b"|", b"-", b"|-|", b"||", b"a", b"\0", b"bc"], framer, &move |input| {
            let found = (0..input.len()).find(|&start| input[start..].starts_with(delimiter));
            match found {
                Some(end) if end <= 9 => Ok(Some((&input[..end], end + delimiter.len()))),
                _ if input.len() < 9 + delimiter.len() => Ok(None),
                _ => Err(FramingError::NoDelimiter { bytes_max: 9 }),
            }
        });
    }
}

#[test]
fn f1_frames_of_a_fixed_size_agree_with_the_reference() {
    for bytes in [1, 2, 7] {
        agree(&[b"a", b"b", b"\xff"], FixedSize::new(bytes), &move |input| {
            Ok(input.get(..bytes).map(|frame| (frame, bytes)))
        });
    }
}

/// What telnet clients send, and what none should.
const TELNET: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"a",
    b"bc",
    b"\xff\xff",
    b"\xff\xfb\x01",
    b"\xff\xfd\n",
    b"\xff\xfa\x18\0\n\xff\xff\xff\xf0",
    b"\xff\xf6",
    b"\xff\xf4\xff\xf2",
    b"\xff\xfe\x01",
    b"\xff",
    b"\xf0",
    b"\r\0",
    b"\r",
    b"\0",
];

#[test]
fn f1_telnet_agrees_with_the_reference() {
    let (mut scene, log, mut dice) = (Scene::new(), Log::default(), Dice(17));
    for _ in 0..INPUTS {
        let input = dice.bytes(TELNET, 30);
        let mut expected = Lines { bytes_max: 12, ..Lines::default() };
        let mut after_return = false;
        let mut rest = &input[..];
        let callbacks = loop {
            rest = match rest {
                // An unfinished command at the end is dropped.
                [] | [255] | [255, 251..=254] => break expected.end(),
                [255, 255, rest @ ..] => {
                    expected.push(255);
                    after_return = false;
                    rest
                }
                [255, 251..=254, _, rest @ ..] => rest,
                [255, 250, inside @ ..] => {
                    let mut end = 0;
                    while end < inside.len() && !inside[end..].starts_with(&[255, 240]) {
                        end += if inside[end] == 255 { 2 } else { 1 };
                    }
                    inside.get(end + 2..).unwrap_or_default()
                }
                [255, command, rest @ ..] => {
                    match command {
                        244 => expected.callbacks.push("command Interrupt".into()),
                        246 => expected.callbacks.push("command AreYouThere".into()),
                        _ => {}
                    }
                    rest
                }
                [byte, rest @ ..] => {
                    // CR NUL ends a line as CRLF does.
                    expected.push(if after_return && *byte == 0 { b'\n' } else { *byte });
                    after_return = *byte == b'\r';
                    rest
                }
            };
        };
        let protocol = Telnet::new(lines(&log).line_bytes_max(12));
        let found = scene.callbacks(&log, Box::new(protocol), dice.cut(&input));
        assert_eq!(found, callbacks, "of {:?}", crate::escape(&input).to_string());
    }
}
