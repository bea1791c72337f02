//! GET of HTTP/1.1, without a body: `/` is a short text, anything else 404. Of a request only the first line is looked
//! at, and where it ends.

use std::time::SystemTime;

use memchr::memmem;
use rustix::time::{ClockId, clock_gettime};
use switchboard_compare::http::{FOUND, NOT_FOUND};

use crate::Dialect;

#[derive(Default)]
pub struct Http {
    /// Of what the date is.
    second: i64,
    found: Vec<u8>,
    not_found: Vec<u8>,
}

impl Http {
    fn answer_with(status: &str, body: &str, date: &str) -> Vec<u8> {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\nContent-Type: text/plain\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

impl Dialect for Http {
    fn look_at_clock(&mut self) {
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            let date = httpdate::fmt_http_date(SystemTime::now());
            self.found = Self::answer_with("200 OK", FOUND, &date);
            self.not_found = Self::answer_with("404 Not Found", NOT_FOUND, &date);
        }
    }

    fn answer(&mut self, data: &[u8], answers: &mut Vec<u8>) -> Option<usize> {
        let mut taken = 0;
        while let Some(length) = memmem::find(&data[taken..], b"\r\n\r\n") {
            let path = data[taken..].strip_prefix(b"GET ")?;
            answers.extend_from_slice(if path.starts_with(b"/ ") { &self.found } else { &self.not_found });
            taken += length + 4;
        }
        Some(taken)
    }
}
