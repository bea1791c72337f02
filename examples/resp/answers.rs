// Answers as bytes: many in one piece.

use super::number;
use super::session::Version;

/// More than this at once ends the connection that it is for (Redis: as `client-output-buffer-limit` says).
pub(crate) const ANSWERS_BYTES_MAX: usize = 32 << 20;

/// What a value has around it at most: its kind, a number, and two ends of lines.
const AROUND_BYTES_MAX: usize = 32;

/// So much of the buffer is kept.
const KEPT_BYTES: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    is_too_long: bool,
    version: Version,
}

impl Answers {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Has what follows written as its connection wants it.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Whether there was more than may be.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.is_too_long = false;
    }

    /// `+OK` and the like.
    pub(crate) fn status(&mut self, status: &str) {
        if !self.has_room(status.len()) {
            return;
        }
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(status.as_bytes());
        self.end();
    }

    /// An error, its kind in front; line ends in it become blanks, as in Redis.
    pub(crate) fn error(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.end();
    }

    pub(crate) fn integer(&mut self, integer: i64) {
        self.number(b':', integer);
    }

    pub(crate) fn bulk(&mut self, value: &[u8]) {
        self.headed(b'$', b"", value);
    }

    pub(crate) fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    pub(crate) fn null(&mut self) {
        if !self.has_room(0) {
            return;
        }
        self.bytes.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// Text for people, which RESP3 tells from other values.
    pub(crate) fn text(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.headed(b'=', b"txt:", text.as_bytes()),
        }
    }

    /// What follows are its elements.
    pub(crate) fn array(&mut self, count: usize) {
        self.number(b'*', count as i64);
    }

    /// A key and a value for each of so many entries follow.
    pub(crate) fn map(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * count),
            Version::Resp3 => self.number(b'%', count as i64),
        }
    }

    /// So many elements follow, in no order.
    pub(crate) fn set(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.array(count),
            Version::Resp3 => self.number(b'~', count as i64),
        }
    }

    fn headed(&mut self, kind: u8, head: &[u8], value: &[u8]) {
        let length = head.len() + value.len();
        if !self.has_room(length) {
            return;
        }
        self.line(kind, length as i64);
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(value);
        self.end();
    }

    fn number(&mut self, kind: u8, number: i64) {
        if self.has_room(0) {
            self.line(kind, number);
        }
    }

    /// Whether so many bytes and what is around them may be added. Once they may not, nothing may.
    fn has_room(&mut self, length: usize) -> bool {
        self.is_too_long |= self.bytes.len() + length + AROUND_BYTES_MAX > ANSWERS_BYTES_MAX;
        !self.is_too_long
    }

    fn line(&mut self, kind: u8, number: i64) {
        self.bytes.push(kind);
        number::write(&mut self.bytes, number);
        self.end();
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}
