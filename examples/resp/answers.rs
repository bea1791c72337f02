// Encodes replies: many into one buffer.

use super::number;
use super::session::Version;

/// The size limit for replies at once; beyond it the connection is closed (Redis: `client-output-buffer-limit`).
pub(crate) const ANSWERS_BYTES_MAX: usize = 32 << 20;

/// The maximum overhead of a value: its type, a number, and two line ends.
const AROUND_BYTES_MAX: usize = 32;

/// How much of the buffer's capacity is kept for reuse.
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

    /// Sets the protocol version for the replies that follow.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Returns whether the size limit was exceeded.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.is_too_long = false;
    }

    /// Writes a simple string such as `+OK`.
    pub(crate) fn status(&mut self, status: &str) {
        if !self.has_room(status.len()) {
            return;
        }
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(status.as_bytes());
        self.end();
    }

    /// Writes an error, which begins with its kind; line ends in it become blanks, as in Redis.
    pub(crate) fn error(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.end();
    }

    pub(crate) fn integer(&mut self, integer: i64) {
        self.number(b':', integer);
    }

    #[inline(always)]
    pub(crate) fn bulk(&mut self, value: &[u8]) {
        self.headed(b'$', b"", value);
    }

    #[inline(always)]
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

    /// Writes text for people, for which RESP3 has a separate type.
    pub(crate) fn text(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.headed(b'=', b"txt:", text.as_bytes()),
        }
    }

    /// Begins an array of `count` elements.
    pub(crate) fn array(&mut self, count: usize) {
        self.number(b'*', count as i64);
    }

    /// Begins a map: a key and a value follow for each of `count` entries.
    pub(crate) fn map(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * count),
            Version::Resp3 => self.number(b'%', count as i64),
        }
    }

    /// Begins a set: `count` elements follow, in any order.
    pub(crate) fn set(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.array(count),
            Version::Resp3 => self.number(b'~', count as i64),
        }
    }

    #[inline(always)]
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

    /// Returns whether `length` bytes and their overhead may be added. Once this was false, nothing more may be added.
    fn has_room(&mut self, length: usize) -> bool {
        self.is_too_long |= self.bytes.len() + length + AROUND_BYTES_MAX > ANSWERS_BYTES_MAX;
        !self.is_too_long
    }

    #[inline]
    fn line(&mut self, kind: u8, number: i64) {
        // The most common case: lengths of small values.
        if let 0..=9 = number {
            self.bytes.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
        } else {
            self.long_line(kind, number);
        }
    }

    #[inline(never)]
    fn long_line(&mut self, kind: u8, number: i64) {
        self.bytes.push(kind);
        number::write(&mut self.bytes, number);
        self.end();
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}
