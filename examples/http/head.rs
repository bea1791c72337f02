// The syntax of a request's head (RFC 9112, sections 3 and 5): its first line, and the lines of its fields.
//
// It is read by hand: for a short head the crate `httparse` takes twice as many instructions (benches/NOTES.md has the
// figures). Both read the same from any input, which `fuzz/` checks.

use super::Status;
use super::scan::{Class, class, count_of, count_text};

/// The first line of a head.
pub(crate) struct FirstLine<'a> {
    pub(crate) method: &'a [u8],
    /// UTF-8.
    pub(crate) target: &'a [u8],
    /// The minor version, as in HTTP/1.`minor`.
    pub(crate) minor: u8,
}

/// The name and the value of a field.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// The part of a head that was not read yet.
pub(crate) struct Unread<'a>(&'a [u8]);

/// Why reading stops before the end of the head.
pub(crate) enum Stop {
    /// The rest has not arrived.
    Partial,
    Refused(Status),
}

/// The bytes of a method, and of the name of a field.
static TOKEN: Class = class(b"!#$%&'*+-.^_`|~");

const MALFORMED: Stop = Stop::Refused(Status::BadRequest);

impl<'a> Unread<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Unread<'a> {
        Unread(data)
    }

    /// Returns how many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first_line(&mut self) -> Result<FirstLine<'a>, Stop> {
        if let [b'\r'] = self.0 {
            return Err(Stop::Partial); // An empty line may precede the first one.
        }
        let method = match self.0 {
            [b'G', b'E', b'T', b' ', ..] => self.take(3), // The most common one, without a look at each byte.
            _ => self.token(),
        };
        self.skip(b' ', method)?;
        let target = self.take(count_text(self.0, b' ' + 1));
        self.skip(b' ', target)?;
        if !target.is_ascii() && std::str::from_utf8(target).is_err() {
            return Err(MALFORMED);
        }
        let minor = self.version()?;
        self.end_of_line()?;
        Ok(FirstLine { method, target, minor })
    }

    /// Returns the next field, or `None` behind the empty line that ends the head.
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, Stop> {
        if let [b'\r' | b'\n', ..] = self.0 {
            return self.end_of_line().map(|()| None);
        }
        let name = self.token();
        self.skip(b':', name)?;
        let value = self.value();
        self.end_of_line()?;
        Ok(Some((name, value)))
    }

    fn token(&mut self) -> &'a [u8] {
        self.take(count_of(&TOKEN, self.0))
    }

    /// Takes the text up to the next control except tab, and returns it without the blanks around it.
    fn value(&mut self) -> &'a [u8] {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let mut count = count_text(self.0, b' ');
        while self.0.get(count) == Some(&b'\t') {
            count += 1 + count_text(&self.0[count + 1..], b' ');
        }
        let mut value = self.take(count);
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        value
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    /// Skips the byte that must follow `word`, which must not be empty.
    fn skip(&mut self, byte: u8, word: &[u8]) -> Result<(), Stop> {
        match self.0 {
            [] => Err(Stop::Partial),
            [first, rest @ ..] if *first == byte && !word.is_empty() => {
                self.0 = rest;
                Ok(())
            }
            _ => Err(MALFORMED),
        }
    }

    fn version(&mut self) -> Result<u8, Stop> {
        if let Some([minor @ (b'0' | b'1'), rest @ ..]) = self.0.strip_prefix(b"HTTP/1.") {
            self.0 = rest;
            return Ok(minor - b'0');
        }
        // Whether it is another version is known once the line has ended.
        let end = self.0.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or(Stop::Partial)?;
        let word = self.0[..end].split(|byte| *byte == b' ').next();
        let number = word.and_then(|word| word.strip_prefix(b"HTTP/"));
        let is_version = matches!(number, Some([b'0'..=b'9', b'.', b'0'..=b'9']));
        Err(if is_version { Stop::Refused(Status::Version) } else { MALFORMED })
    }

    /// Skips the end of a line, which is CR LF or LF.
    fn end_of_line(&mut self) -> Result<(), Stop> {
        match self.0 {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => {
                self.0 = rest;
                Ok(())
            }
            [] | [b'\r'] => Err(Stop::Partial),
            _ => Err(MALFORMED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the words of a head, what is left behind it, or why there is none.
    fn read(data: &[u8]) -> String {
        let mut unread = Unread::new(data);
        let mut read = || {
            let line = unread.first_line()?;
            let mut words = vec![line.method, line.target, &data[..0]];
            while let Some((name, value)) = unread.field()? {
                words.extend([name, value]);
            }
            Ok(format!("{}, 1.{}", words.join(&b'|').escape_ascii(), line.minor))
        };
        match read() {
            Ok(words) => format!("{words}, {} left", unread.len()),
            Err(Stop::Partial) => "partial".to_owned(),
            Err(Stop::Refused(status)) => status.line().to_owned(),
        }
    }

    #[test]
    fn http_heads_are_split_into_words() {
        let (bad, version) = ("400 Bad Request", "505 HTTP Version Not Supported");
        for (head, expected) in [
            ("GET /a HTTP/1.1\r\nA: b\r\n\r\nGET", "GET|/a||A|b, 1.1, 3 left"),
            ("a!b / HTTP/1.0\nA:\t b c \t\nD:\n\n", "a!b|/||A|b c|D|, 1.0, 0 left"),
            ("GETS / HTTP/1.1\r\n\r\n", "GETS|/|, 1.1, 0 left"),
            ("GET /\u{e9} HTTP/1.1\r\nA: \u{e9}\ta\tb\r\n\r\n", r"GET|/\xc3\xa9||A|\xc3\xa9\ta\tb, 1.1, 0 left"),
            (" / HTTP/1.1\r\n\r\n", bad),
            ("GET  HTTP/1.1\r\n\r\n", bad),
            ("GET /\t HTTP/1.1\r\n\r\n", bad),
            ("GET / HTTP/1.1 \r\n\r\n", bad),
            ("GET / HTTP/1.1\r\r\n", bad),
            ("GET / HTTP/1.2\r\n", version),
            ("GET / HTTP/1.2 x\r\n", version),
            ("GET / HTTP/1.23\r\n", bad),
            ("GET / HTTP/1.1\r\n: b\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nA\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", bad),
            ("GET / HTTP/1.1\r\n\rA", bad),
        ] {
            assert_eq!(read(head.as_bytes()), expected, "{head:?}");
            // Until the last byte that matters has arrived, the head is only incomplete, or wrong already.
            let end = head.find("\n\r\n").map_or(head.find("\n\n").map(|at| at + 2), |at| Some(at + 3));
            for cut in 0..end.filter(|_| expected.ends_with("left")).unwrap_or(0) {
                assert_eq!(read(&head.as_bytes()[..cut]), "partial", "{head:?} cut at {cut}");
            }
        }
        assert_eq!(read(b"GET /\xff HTTP/1.1\r\n\r\n"), bad);
    }
}
