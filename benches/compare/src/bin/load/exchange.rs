//! Requests that are all alike, and answers that are all alike but for a date: HTTP and Redis' protocol.
//!
//! What the answer is, the server shows once, before the clock runs; it is checked to be right for this request. From
//! then on each byte of each answer is compared with that one, except those of the date.

use std::ops::Range;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::address::Address;
use crate::pattern::PIECE_BYTES_MAX;
use crate::result::{Doing, Failure, Result};
use crate::turn::Deadline;

/// As `wrk` asks.
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BODY: &[u8] = b"Hello, World!\n";
/// The bytes of a date in HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;
const KEY: &str = "key:000000000000";
/// No answer that is asked for is longer.
const ANSWER_BYTES_MAX: usize = 4_096;

pub struct Exchange {
    /// The request, so often that `PIECE_BYTES_MAX` bytes can be had from any place in the first one.
    requests: Vec<u8>,
    request_bytes: usize,
    answer: Vec<u8>,
    /// The bytes of the answer that are a date.
    date: Range<usize>,
}

impl Exchange {
    pub fn http(address: &Address, deadline: Deadline) -> Result<Self> {
        let socket = address.connect(0, deadline)?;
        let answer = ask(&socket, GET, deadline, |came| Ok(length_of(came)))?;
        let (head, body) = answer.split_at(answer.len() - BODY.len().min(answer.len()));
        if !head.starts_with(b"HTTP/1.1 200 ") || body != BODY {
            return Err(unexpected(&answer));
        }
        let date = find_header(head, b"date").unwrap_or(0..0);
        if !matches!(date.len(), 0 | DATE_BYTES) {
            return Err(unexpected(&answer));
        }
        Ok(Self::new(GET, answer, date))
    }

    /// Sets a key to so many bytes, which the requests get.
    pub fn resp(address: &Address, bytes: usize, deadline: Deadline) -> Result<Self> {
        let socket = address.connect(0, deadline)?;
        let value = format!("${bytes}\r\n{}\r\n", "v".repeat(bytes));
        let key = format!("${}\r\n{KEY}\r\n", KEY.len());
        let set = format!("*3\r\n$3\r\nSET\r\n{key}{value}");
        let get = format!("*2\r\n$3\r\nGET\r\n{key}");
        for (request, answer) in [(&set, "+OK\r\n"), (&get, &value)] {
            ask(&socket, request.as_bytes(), deadline, |came| match answer.as_bytes().starts_with(came) {
                true => Ok(Some(answer.len())),
                false => Err(unexpected(came)),
            })?;
        }
        Ok(Self::new(get.as_bytes(), value.into_bytes(), 0..0))
    }

    fn new(request: &[u8], answer: Vec<u8>, date: Range<usize>) -> Self {
        let requests = request.repeat(PIECE_BYTES_MAX / request.len() + 2);
        Self { requests, request_bytes: request.len(), answer, date }
    }

    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    pub fn answer_bytes(&self) -> usize {
        self.answer.len()
    }

    pub fn request(&self, position: u64, length: usize) -> &[u8] {
        let start = (position % self.request_bytes as u64) as usize;
        &self.requests[start..start + length]
    }

    pub fn verify(&self, position: u64, came: &[u8]) -> std::result::Result<(), usize> {
        let mut at = (position % self.answer.len() as u64) as usize;
        let mut compared = 0;
        while compared < came.len() {
            // Up to the date, the date, or up to the end.
            let end = match at {
                _ if at < self.date.start => self.date.start,
                _ if at < self.date.end => self.date.end,
                _ => self.answer.len(),
            };
            let length = (end - at).min(came.len() - compared);
            let (piece, wanted) = (&came[compared..compared + length], &self.answer[at..at + length]);
            if piece != wanted && !self.date.contains(&at) {
                let first = piece.iter().zip(wanted).position(|(piece, wanted)| piece != wanted);
                return Err(compared + first.unwrap_or(0));
            }
            compared += length;
            at = if at + length == self.answer.len() { 0 } else { at + length };
        }
        Ok(())
    }
}

/// Sends a request, and returns what arrives, once that is as long as `length` says of what has arrived so far.
fn ask(
    socket: &OwnedFd,
    request: &[u8],
    deadline: Deadline,
    length: impl Fn(&[u8]) -> Result<Option<usize>>,
) -> Result<Vec<u8>> {
    let sent = send(socket, request, SendFlags::NOSIGNAL).doing(|| "sending the first request".into())?;
    if sent < request.len() {
        return Err(Failure::new("a new connection does not take a request"));
    }
    let (mut came, mut buffer) = (Vec::new(), [0; ANSWER_BYTES_MAX]);
    loop {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(unexpected(&came)),
            Ok((_, count)) => came.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN) => {
                let left = deadline.left()?;
                poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&left)).doing(|| "poll".into())?;
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).doing(|| "reading the first answer".into()),
        }
        match length(&came)? {
            Some(length) if came.len() == length => return Ok(came),
            Some(length) if came.len() > length => return Err(unexpected(&came)),
            _ if came.len() > ANSWER_BYTES_MAX => return Err(unexpected(&came)),
            _ => {}
        }
    }
}

/// Returns the length of an answer of HTTP, once its head has arrived.
fn length_of(came: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(came, b"\r\n\r\n")? + 4;
    let length = std::str::from_utf8(&came[find_header(&came[..head], b"content-length")?]).ok()?;
    Some(head + length.parse::<usize>().ok()?)
}

/// Returns where the value of a header is; `name` is in lower case.
fn find_header(head: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let (begins, rest) = line.split_at(name.len().min(line.len()));
        if begins.eq_ignore_ascii_case(name) && rest.starts_with(b":") {
            let value = rest[1..].trim_ascii();
            let before = line.len() - rest[1..].trim_ascii_start().len();
            return Some(start + before..start + before + value.len());
        }
        start += line.len();
    }
    None
}

fn unexpected(came: &[u8]) -> Failure {
    Failure::new(format!("an unexpected answer: {:?}", String::from_utf8_lossy(came)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nDATE:  Sun, 06 Nov 1994 08:49:37 GMT \r\nContent-Length: 14\r\n\r\nHello, World!\n";

    fn exchange() -> Exchange {
        Exchange::new(GET, ANSWER.to_vec(), find_header(ANSWER, b"date").unwrap())
    }

    #[test]
    fn the_parts_of_an_answer_are_found() {
        assert_eq!(&ANSWER[find_header(ANSWER, b"date").unwrap()], b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(length_of(ANSWER), Some(ANSWER.len()));
        assert_eq!(length_of(&ANSWER[..ANSWER.len() - BODY.len() - 1]), None);
        assert_eq!(find_header(ANSWER, b"server"), None);
    }

    #[test]
    fn each_byte_counts_but_those_of_the_date() {
        let exchange = exchange();
        let twice = ANSWER.repeat(2);
        for at in 0..ANSWER.len() {
            let mut came = twice[at..].to_vec();
            assert_eq!(exchange.verify(at as u64, &came), Ok(()));
            came[ANSWER.len() - at..][3] ^= 1;
            assert_eq!(exchange.verify(at as u64, &came), Err(ANSWER.len() - at + 3));
            let mut one = ANSWER.to_vec();
            one[at] ^= 1;
            let is_date = exchange.date.contains(&at);
            assert_eq!(exchange.verify(0, &one), if is_date { Ok(()) } else { Err(at) });
        }
    }

    #[test]
    fn requests_go_on_where_they_stopped() {
        let exchange = exchange();
        let all = GET.repeat(3);
        assert_eq!(exchange.request(5, all.len() - 5), &all[5..]);
        assert_eq!(exchange.request(5 + 7 * GET.len() as u64, PIECE_BYTES_MAX).len(), PIECE_BYTES_MAX);
    }
}
