//! Chunked bodies: whole and cut, by the rules for requests and those for answers, and a second reader of them.

use crate::body::Body;
use crate::input::{Input, pieces};

pub const WORDS: &[&[u8]] = &[
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"a;x=y\r\n0123456789\r\n",
    b";q=\"\\\"\"",
    b"X: y\r\n",
    b"\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
];

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let data = input.rest();
    let strict = decode(Body::strictly_chunked(), std::iter::once(data));
    assert_eq!(decode(Body::strictly_chunked(), pieces(data, seed)), strict, "a request's, cut by {seed}, and whole");
    let lenient = decode(Body::chunked(), std::iter::once(data));
    assert_eq!(decode(Body::chunked(), pieces(data, seed)), lenient, "an answer's, cut by {seed}, and whole");
    if let (Ok((body, Some(bytes))), lenient) = (&strict, &lenient) {
        assert_eq!(*lenient, Ok((body.clone(), Some(*bytes))), "what is strictly right is right");
        assert_eq!(reference(&data[..*bytes]).as_ref(), Some(body));
    }
    // Any data in any chunks is what was put in, whatever they are extended by.
    let mut encoded = Vec::new();
    for piece in pieces(data, seed.wrapping_add(1)) {
        encoded.extend_from_slice(format!("{:x};a;b=c;d=\"", piece.len()).as_bytes());
        encoded.extend(quoted(piece));
        encoded.extend_from_slice(b"\"\r\n");
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\nX: ");
    encoded.extend(data.iter().take(1000).filter(|byte| is_text(**byte)));
    encoded.extend_from_slice(b"\r\nY:\r\n\r\nnext");
    let bytes = encoded.len() - 4;
    assert_eq!(decode(Body::strictly_chunked(), pieces(&encoded, seed)), Ok((data.to_vec(), Some(bytes))));
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Returns what of `piece` may be in a quoted value, as it is written there.
fn quoted(piece: &[u8]) -> impl Iterator<Item = u8> {
    let text = piece.iter().copied().filter(|byte| is_text(*byte));
    text.flat_map(|byte| [b'\\', byte].into_iter().skip(usize::from(!matches!(byte, b'"' | b'\\'))))
}

/// Returns the body, and where it ends if it does.
fn decode<'a>(mut body: Body, pieces: impl Iterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<usize>), String> {
    let (mut out, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        consumed += body.decode(piece, &mut out)?;
        if body.is_over() {
            return Ok((out, Some(consumed)));
        }
    }
    Ok((out, None))
}

/// Reads a body that is complete and right.
fn reference(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = data.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&data[..end]).ok().or_else(|| {
            // An extension's quoted value may have any bytes.
            std::str::from_utf8(data[..end].split(|byte| *byte == b';').next()?).ok()
        })?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        data = &data[end + 2..];
        if size == 0 {
            // The trailer ends with an empty line, which is the end.
            return (data == b"\r\n" || data.ends_with(b"\r\n\r\n")).then_some(body);
        }
        body.extend_from_slice(data.get(..size)?);
        data = data.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
