//! Heads of HTTP requests with their bodies, one after the other: whole and cut. Each head, or the part of it that is
//! there, is also read by `httparse`.

use crate::http::head::{Stop, Unread};
use crate::http::{Heading, Request, Skipped, Status};
use crate::input::{Input, pieces};

pub const WORDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: [::1]:80\r\n",
    b"HTTP/1.0\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b": ",
    b"\t",
];

/// What a connection reads of its input, up to the first refusal.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Each request: where it ends, and what is answered.
    requests: Vec<(usize, u8, bool, bool, bool, &'static str)>,
    refusal: Option<&'static str>,
    /// A body is not complete.
    waits: bool,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    // A head that begins wrong may be refused only at its end, so there is one.
    let data = [input.rest(), b"\r\n\r\n"].concat();
    let whole = read(std::iter::once(&data[..]));
    assert_eq!(read(pieces(&data, seed)), whole, "cut by {seed}, and whole");
    // What is read as one request is one when it stands alone.
    let mut begin = 0;
    for request in &whole.requests {
        let alone = read(std::iter::once(&data[begin..request.0]));
        assert_eq!(alone.requests.len(), 1, "{alone:?}");
        assert_eq!((alone.refusal, alone.waits), (None, false));
        begin = request.0;
    }
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut read = Read::default();
    let (mut kept, mut consumed) = (Vec::new(), 0);
    let (mut searched, mut empty) = (0, 0);
    let mut body: Option<Skipped> = None;
    for piece in pieces {
        kept.extend_from_slice(piece);
        while !kept.is_empty() {
            if let Some(skipped) = &mut body {
                let bytes = match skipped.skip(&kept) {
                    Ok(bytes) => bytes,
                    Err(status) => {
                        read.requests.pop();
                        read.refusal = Some(status.line());
                        return read;
                    }
                };
                kept.drain(..bytes);
                consumed += bytes;
                if skipped.is_over() {
                    body = None;
                    read.requests.last_mut().expect("a body follows a head").0 = consumed;
                } else {
                    break;
                }
                continue;
            }
            compare_with_httparse(&kept);
            match Request::parse(&kept, &mut searched, &mut empty) {
                Heading::Partial => break,
                Heading::Empty(bytes) => {
                    kept.drain(..bytes);
                    consumed += bytes;
                }
                Heading::Request(request) => {
                    kept.drain(..request.bytes);
                    consumed += request.bytes;
                    empty = 0;
                    read.requests.push((
                        consumed,
                        request.minor,
                        request.is_head,
                        request.keeps_alive,
                        request.expects_continue,
                        request.status.line(),
                    ));
                    let skipped = Skipped::new(request.body);
                    body = (!skipped.is_over()).then_some(skipped);
                }
                Heading::Refused(status) => {
                    read.refusal = Some(status.line());
                    return read;
                }
            }
        }
    }
    read.waits = body.is_some();
    if read.waits {
        // The head is known, where its body ends is not.
        read.requests.pop();
    }
    read
}

/// The words of a head: its method, its target and its version, then names and values; and its length.
type Words = (usize, Vec<Vec<u8>>);

const FIELDS_MAX: usize = 100;

fn compare_with_httparse(data: &[u8]) {
    if let [b'\n', ..] | [b'\r', b'\n', ..] = data {
        return; // Empty lines are not given to ours.
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let theirs = request.parse(data);
    let ours = words(data);
    let is_same = match (&theirs, &ours) {
        (Ok(httparse::Status::Complete(bytes)), Ok(ours)) => {
            let (method, target) = (request.method.expect("a method"), request.path.expect("a target"));
            let mut words = [method, target].map(|word| word.as_bytes().to_vec()).to_vec();
            words.push(vec![request.version.expect("a version")]);
            words.extend(
                request.headers.iter().flat_map(|field| [field.name.as_bytes().to_vec(), field.value.to_vec()]),
            );
            (*bytes, words) == *ours
        }
        (Ok(httparse::Status::Partial), Err(Stop::Partial)) => true,
        (Err(httparse::Error::TooManyHeaders), Ok(_) | Err(_)) => true,
        // Ours waits for the end of the line.
        (Err(httparse::Error::Version), Err(Stop::Partial | Stop::Refused(Status::Version | Status::BadRequest))) => {
            true
        }
        (Err(_), Err(Stop::Refused(Status::BadRequest))) => true,
        _ => false,
    };
    let ours = ours.map_err(|stop| match stop {
        Stop::Partial => "partial",
        Stop::Refused(status) => status.line(),
    });
    assert!(is_same, "{ours:?}, and httparse {theirs:?}");
}

fn words(data: &[u8]) -> Result<Words, Stop> {
    let mut unread = Unread::new(data);
    let line = unread.first_line()?;
    let mut words = vec![line.method.to_vec(), line.target.to_vec(), vec![line.minor]];
    while let Some((name, value)) = unread.field()? {
        words.extend([name.to_vec(), value.to_vec()]);
    }
    Ok((data.len() - unread.len(), words))
}
