//! Each framer, whole and cut, and a second way to find its frames.

use switchboard::framing::{Delimited, FixedSize, Found, Framer, LengthPrefixed, Netstring};

use crate::input::{Input, pieces};

pub const WORDS: &[&[u8]] =
    &[b"5:hello,", b"0:,", b"00:,", b"\0\x05hello", b"\x05\0hello", b"\0\0\0\x05hello", b"ab", b"aab"];

const FRAME_BYTES_MAX: usize = 40;

/// The frames of an input, and whether what follows them is not a frame.
#[derive(Debug, Default, PartialEq)]
struct Frames {
    frames: Vec<Vec<u8>>,
    is_broken: bool,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, seed) = (input.byte(), input.byte());
    let data = input.rest();
    match kind % 8 {
        0 => check(&Netstring::new(FRAME_BYTES_MAX), data, seed, netstring),
        1 => check(&LengthPrefixed::u8(), data, seed, |data| prefixed(data, 1, false)),
        2 => check(&LengthPrefixed::u16_be(FRAME_BYTES_MAX), data, seed, |data| prefixed(data, 2, false)),
        3 => check(&LengthPrefixed::u16_le(FRAME_BYTES_MAX), data, seed, |data| prefixed(data, 2, true)),
        4 => check(&LengthPrefixed::u32_be(FRAME_BYTES_MAX), data, seed, |data| prefixed(data, 4, false)),
        5 => check(&LengthPrefixed::u32_le(FRAME_BYTES_MAX), data, seed, |data| prefixed(data, 4, true)),
        6 => check(&FixedSize::new(7), data, seed, |data| (data.len() >= 7).then(|| Ok((data[..7].to_vec(), 7)))),
        _ => {
            let delimiter = [&b"ab"[..], b"aab", b"\r\n", b"abab", b"\0"][usize::from(seed) % 5];
            check(&Delimited::new(delimiter).frame_bytes_max(FRAME_BYTES_MAX), data, seed, |data| {
                delimited(data, delimiter)
            })
        }
    };
}

/// The next frame and how long it is with what belongs to it; an error if none can come; `None` if more is needed.
pub(super) type Next = Option<Result<(Vec<u8>, usize), ()>>;

/// Finds the frames of an input, whole and cut, and compares them with what `next` finds. Returns them.
pub(super) fn check(framer: &impl Framer, data: &[u8], seed: u8, next: impl Fn(&[u8]) -> Next) -> Vec<Vec<u8>> {
    let mut expected = Frames::default();
    let mut at = 0;
    while at < data.len() {
        match next(&data[at..]) {
            Some(Ok((frame, bytes))) => {
                expected.frames.push(frame);
                at += bytes;
            }
            Some(Err(())) => {
                expected.is_broken = true;
                break;
            }
            None => break,
        }
    }
    assert_eq!(frames(framer, std::iter::once(data)), expected, "whole");
    assert_eq!(frames(framer, pieces(data, seed)), expected, "cut by {seed}");
    expected.frames
}

/// Collects the frames as a protocol would that keeps what was not consumed.
fn frames<'a>(framer: &impl Framer, pieces: impl Iterator<Item = &'a [u8]>) -> Frames {
    let mut collected = Frames::default();
    let (mut kept, mut scanned, mut waits_for) = (Vec::new(), 0, 0);
    for piece in pieces {
        kept.extend_from_slice(piece);
        while !kept.is_empty() && kept.len() >= waits_for {
            match framer.find(&kept, scanned, framer.frame_bytes_max()) {
                Found::Frame { start, end, next } => {
                    assert!(start <= end && end <= next && 0 < next && next <= kept.len());
                    collected.frames.push(kept[start..end].to_vec());
                    kept.drain(..next);
                    (scanned, waits_for) = (0, 0);
                }
                Found::Partial { scanned: now, needed_bytes } => {
                    assert!(now >= scanned && now <= kept.len(), "{scanned}, then {now} of {}", kept.len());
                    assert!(needed_bytes == 0 || needed_bytes > kept.len(), "needs {needed_bytes}, has {}", kept.len());
                    let most = framer.input_bytes_max(framer.frame_bytes_max()).max(needed_bytes);
                    assert!(kept.len() <= most, "{} bytes are kept, of at most {most}", kept.len());
                    (scanned, waits_for) = (now, needed_bytes);
                    break;
                }
                Found::Broken(_) => {
                    collected.is_broken = true;
                    return collected;
                }
                found => panic!("unknown: {found:?}"),
            }
        }
    }
    collected
}

fn netstring(data: &[u8]) -> Next {
    let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_canonical = digits == 1 || digits > 1 && data[0] != b'0';
    let length =
        data[..digits].iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    if digits == 0 || !is_canonical || length > FRAME_BYTES_MAX as u64 {
        return Some(Err(()));
    }
    let length = length as usize;
    match data.get(digits) {
        None => return None,
        Some(b':') => {}
        Some(_) => return Some(Err(())),
    }
    let frame = data.get(digits + 1..digits + 1 + length)?;
    match data.get(digits + 1 + length)? {
        b',' => Some(Ok((frame.to_vec(), digits + length + 2))),
        _ => Some(Err(())),
    }
}

fn prefixed(data: &[u8], width: usize, little: bool) -> Next {
    let prefix = data.get(..width)?;
    let digits: Vec<u8> = if little { prefix.iter().rev().copied().collect() } else { prefix.to_vec() };
    let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
    if width > 1 && length > FRAME_BYTES_MAX {
        return Some(Err(()));
    }
    Some(Ok((data.get(width..width + length)?.to_vec(), width + length)))
}

fn delimited(data: &[u8], delimiter: &[u8]) -> Next {
    match data.windows(delimiter.len()).position(|window| window == delimiter) {
        Some(end) if end <= FRAME_BYTES_MAX => Some(Ok((data[..end].to_vec(), end + delimiter.len()))),
        Some(_) => Some(Err(())),
        None if data.len() >= FRAME_BYTES_MAX + delimiter.len() => Some(Err(())),
        None => None,
    }
}
