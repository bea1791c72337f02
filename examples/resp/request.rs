// Parses RESP2 requests: an array of bulk strings or, for people using telnet, a line.
//
// The parser is hand-written, since `redis-protocol` and similar crates are made for clients: they do not support
// lines, allocate a vector for each frame, start over with each byte that arrives, and have their own error texts,
// while clients know Redis'.

use std::fmt;
use std::ops::Range;

use super::number;

/// The maximum length of a bulk string (Redis: 512 MiB, by `proto-max-bulk-len`).
pub(crate) const BULK_BYTES_MAX: usize = 8 << 20;

/// The maximum number of arguments (Redis: 2,147,483,647).
pub(crate) const ARGUMENTS_MAX: usize = 1 << 20;

/// The maximum length of a line, whether it is a request or a length in one.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

/// The maximum length of a request (Redis: 1 GiB, by `client-query-buffer-limit`).
pub(crate) const REQUEST_BYTES_MAX: usize = 32 << 20;

/// Errors that end a connection, with Redis' texts.
#[derive(Debug, PartialEq)]
pub(crate) enum ProtocolError {
    ArgumentsCount,
    ArgumentsCountLine,
    BulkLength,
    BulkLengthLine,
    NoBulk(u8),
    Line,
    Quotes,
}

impl ProtocolError {
    /// Returns the reply to the error. It need not be UTF-8, since it may contain a byte from the peer.
    pub(crate) fn text(&self) -> Vec<u8> {
        let text = match self {
            ProtocolError::ArgumentsCount => "invalid multibulk length",
            ProtocolError::ArgumentsCountLine => "too big mbulk count string",
            ProtocolError::BulkLength => "invalid bulk length",
            ProtocolError::BulkLengthLine => "too big bulk count string",
            ProtocolError::NoBulk(_) => "expected '$', got '",
            ProtocolError::Line => "too big inline request",
            ProtocolError::Quotes => "unbalanced quotes in request",
        };
        let mut text = [b"Protocol error: ", text.as_bytes()].concat();
        if let ProtocolError::NoBulk(byte) = self {
            text.extend_from_slice(&[*byte, b'\'']);
        }
        text
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        switchboard::escape(&self.text()).fmt(f)
    }
}

impl std::error::Error for ProtocolError {}

type Span = Range<u32>;

/// The name of a command and its arguments; empty for an empty line or an empty array.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Arguments<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// # Panics
    ///
    /// If there are not that many.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        let span = &self.spans[index];
        &self.bytes[span.start as usize..span.end as usize]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.spans.len()).map(move |index| self.get(index))
    }
}

/// The parser, shared by all connections: it holds only one request at a time, which is executed before the next one is
/// parsed.
#[derive(Default)]
pub(crate) struct Parser {
    spans: Vec<Span>,
    /// The words of a request that was a line, with quotes removed.
    line: Vec<u8>,
    is_line: bool,
}

/// The parse state of an incomplete array. With it, a request that arrives byte by byte takes linear time. A connection
/// has one only while a request is incomplete, so idle connections cost nothing.
pub(crate) struct Begun {
    place: Place,
    spans: Vec<Span>,
}

impl Begun {
    /// Returns how much memory it holds in addition to the bytes of the request. This matters most for short arguments:
    /// an empty one takes 6 bytes on the wire and 8 here. Vectors allocate ahead, so their capacity is counted.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Begun>() + self.spans.capacity() * size_of::<Span>()
    }
}

#[derive(Default)]
struct Place {
    /// Everything before this has been parsed.
    at: usize,
    /// There is no line end before this.
    searched: usize,
    /// How many arguments are missing; `None` until their number is known.
    missing: Option<usize>,
    /// The length of the next argument, once it is known.
    bulk_bytes: Option<usize>,
}

impl Parser {
    /// Returns the length of the request at the beginning of `data` if it is complete. If not, call it again with the
    /// same `begun`, and the same data followed by more.
    pub(crate) fn parse(
        &mut self,
        data: &[u8],
        begun: &mut Option<Box<Begun>>,
    ) -> Result<Option<usize>, ProtocolError> {
        let mut place = match begun.take() {
            Some(begun) => {
                self.spans = begun.spans;
                begun.place
            }
            None => {
                self.spans.clear();
                if let Some(bytes) = parse_short(data, &mut self.spans) {
                    self.is_line = false;
                    return Ok(Some(bytes));
                }
                self.spans.clear();
                Place::default()
            }
        };
        self.is_line = data.first().is_some_and(|&byte| byte != b'*');
        let is_whole =
            if self.is_line { self.parse_line(data, &mut place)? } else { place.advance(data, &mut self.spans)? };
        if is_whole {
            return Ok(Some(place.at));
        }
        if !data.is_empty() {
            *begun = Some(Box::new(Begun { place, spans: std::mem::take(&mut self.spans) }));
        }
        Ok(None)
    }

    /// Returns the arguments of the request that was just parsed; `data` must be the same as then.
    pub(crate) fn arguments<'a>(&'a self, data: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.is_line { &self.line } else { data }, spans: &self.spans }
    }

    /// Frees memory that only few requests need.
    pub(crate) fn shrink(&mut self) {
        self.spans.shrink_to(LINE_BYTES_MAX / size_of::<Span>());
        self.line.shrink_to(LINE_BYTES_MAX);
    }

    fn parse_line(&mut self, data: &[u8], place: &mut Place) -> Result<bool, ProtocolError> {
        let Some(end) = place.find(b'\n', data, ProtocolError::Line)? else { return Ok(false) };
        place.at = end + 1;
        let line = &data[..end];
        self.line.clear();
        split_line(line.strip_suffix(b"\r").unwrap_or(line), &mut self.line, &mut self.spans)?;
        Ok(true)
    }
}

/// Parses a request in one go, as most can be: a whole array of short arguments. Returns its length; or `None` for any
/// other, for which there may be spans that are to be removed.
fn parse_short(data: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
    let (count, mut at) = short_line(b'*', data, 0)?;
    for _ in 0..count {
        let (bytes, begin) = short_line(b'$', data, at)?;
        let end = begin + bytes;
        at = end + 2;
        if data.len() < at {
            return None;
        }
        spans.push(begin as u32..end as u32);
    }
    Some(at)
}

/// Returns the number in the line at `at`, if that begins with `kind` and has at most two digits, and where it ends.
fn short_line(kind: u8, data: &[u8], at: usize) -> Option<(usize, usize)> {
    let line: &[u8; 5] = data.get(at..)?.first_chunk()?;
    let (number, bytes) = match *line {
        [_, one @ b'0'..=b'9', b'\r', ..] => (one - b'0', 4),
        [_, ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', _] => (10 * (ten - b'0') + (one - b'0'), 5),
        _ => return None,
    };
    (line[0] == kind).then_some((number.into(), at + bytes))
}

impl Place {
    /// Parses as much as there is, and returns whether the request is complete.
    fn advance(&mut self, data: &[u8], spans: &mut Vec<Span>) -> Result<bool, ProtocolError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => {
                let Some(line) = self.line(data, ProtocolError::ArgumentsCountLine)? else { return Ok(false) };
                let count = number::parse(&line[1..]).filter(|count| *count <= ARGUMENTS_MAX as i64);
                usize::try_from(count.ok_or(ProtocolError::ArgumentsCount)?).unwrap_or(0)
            }
        };
        while missing > 0 {
            self.missing = Some(missing);
            let bytes = match self.bulk_bytes {
                Some(bytes) => bytes,
                None => {
                    let Some(line) = self.line(data, ProtocolError::BulkLengthLine)? else { return Ok(false) };
                    let [b'$', length @ ..] = line else {
                        return Err(ProtocolError::NoBulk(line.first().copied().unwrap_or(b'\r')));
                    };
                    let length = number::parse(length).and_then(|length| usize::try_from(length).ok());
                    length.filter(|length| *length <= BULK_BYTES_MAX).ok_or(ProtocolError::BulkLength)?
                }
            };
            // Like Redis, this does not check the two bytes that end it.
            let end = self.at + bytes;
            if data.len() < end + 2 {
                self.bulk_bytes = Some(bytes);
                return Ok(false);
            }
            self.bulk_bytes = None;
            spans.push(self.at as u32..end as u32);
            self.at = end + 2;
            self.searched = self.at;
            missing -= 1;
        }
        Ok(true)
    }

    /// Returns the next line once its end has arrived: a carriage return and, as in Redis, any byte.
    fn line<'a>(&mut self, data: &'a [u8], too_long: ProtocolError) -> Result<Option<&'a [u8]>, ProtocolError> {
        match self.find(b'\r', data, too_long)? {
            Some(end) if end + 2 <= data.len() => {
                let line = &data[self.at..end];
                self.at = end + 2;
                self.searched = self.at;
                Ok(Some(line))
            }
            _ => Ok(None),
        }
    }

    /// Finds the byte `end`. As in Redis, nothing is found behind a NUL; once the line is too long, that is an error.
    fn find(&mut self, end: u8, data: &[u8], too_long: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let most = data.len().min(self.at + LINE_BYTES_MAX + 1);
        let found = data[self.searched..most].iter().position(|&byte| byte == end || byte == 0);
        self.searched = found.map_or(most, |found| self.searched + found);
        match data.get(self.searched) {
            Some(&byte) if byte == end && self.searched < most => Ok(Some(self.searched)),
            _ if data.len() - self.at > LINE_BYTES_MAX => Err(too_long),
            _ => Ok(None),
        }
    }
}

/// Splits a line at blanks that are not in quotes, and appends its words to `out`.
fn split_line(line: &[u8], out: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut left = line;
    loop {
        let blanks = left.iter().take_while(|byte| is_blank(**byte)).count();
        left = &left[blanks..];
        if left.is_empty() {
            return Ok(());
        }
        let start = out.len() as u32;
        left = take_word(left, out)?;
        spans.push(start..out.len() as u32);
    }
}

/// Appends the first word of `left` to `out`, and returns the rest of the line.
fn take_word<'a>(mut left: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        left = match left {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(left),
            // A quoted part ends the word.
            [b'"', rest @ ..] => return take_quoted(rest, out),
            [b'\'', rest @ ..] => return take_single_quoted(rest, out),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        }
    }
}

fn take_quoted<'a>(mut left: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, rest) = match left {
            [b'"', rest @ ..] => return behind_quote(rest),
            [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), rest)
            }
            [b'\\', escaped, rest @ ..] => (unescape(*escaped), rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(ProtocolError::Quotes),
        };
        out.push(byte);
        left = rest;
    }
}

fn take_single_quoted<'a>(mut left: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, rest) = match left {
            [b'\'', rest @ ..] => return behind_quote(rest),
            [b'\\', b'\'', rest @ ..] => (b'\'', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(ProtocolError::Quotes),
        };
        out.push(byte);
        left = rest;
    }
}

fn behind_quote(left: &[u8]) -> Result<&[u8], ProtocolError> {
    if left.first().is_none_or(|byte| is_blank(*byte)) { Ok(left) } else { Err(ProtocolError::Quotes) }
}

/// C's `isspace`, which includes one more byte than Rust's.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => b'\x08',
        b'a' => b'\x07',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the requests in `stream`, and the error that ends it, if `stream` arrives in pieces cut at `cuts`.
    fn parse_all(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let (mut parser, mut begun, mut requests) = (Parser::default(), None, Vec::new());
        let mut consumed = 0;
        for &there in cuts.iter().chain([&stream.len()]) {
            loop {
                let data = &stream[consumed..there];
                match parser.parse(data, &mut begun) {
                    Ok(Some(bytes)) => {
                        let request: Vec<_> = parser.arguments(data).iter().map(<[u8]>::to_vec).collect();
                        requests.push(request);
                        consumed += bytes;
                    }
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn words(requests: &[&[&str]]) -> Vec<Vec<Vec<u8>>> {
        requests.iter().map(|words| words.iter().map(|word| word.as_bytes().to_vec()).collect()).collect()
    }

    #[test]
    fn resp_requests_are_the_same_however_they_are_cut() {
        let stream = b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\nPING\r\n\r\n*0\r\n*-1\r\n set a 'b c' \n*1\r\n$0\r\n\r\n*1\r\n$4\r\nQUIT\r\n$";
        let whole = parse_all(stream, &[]);
        let requests = [&["GET", "\r\n"][..], &["PING"], &[], &[], &[], &["set", "a", "b c"], &[""], &["QUIT"]];
        assert_eq!(whole, (words(&requests), None));
        for first in 0..stream.len() {
            for second in first..stream.len() {
                assert_eq!(parse_all(stream, &[first, second]), whole, "cut at {first} and {second}");
            }
        }
        let every: Vec<_> = (0..stream.len()).collect();
        assert_eq!(parse_all(stream, &every), whole);
    }

    #[test]
    fn resp_lines_are_split_as_redis_splits_them() {
        for (line, expected) in [
            (r#"a"b"c"#, None),
            (r#"a"b" c"#, Some(&["ab", "c"][..])),
            (r#""\x41\n\q\"" ''"#, Some(&["A\nq\"", ""])),
            (r"'it\'s \n'", Some(&[r"it's \n"])),
            ("\"", None),
            ("'a", None),
            ("\x0b a\x0bb\tc ", Some(&["a\x0bb", "c"])),
        ] {
            let (requests, error) = parse_all(format!("{line}\n").as_bytes(), &[]);
            match expected {
                Some(expected) => assert_eq!((requests, error), (words(&[expected]), None), "{line}"),
                None => assert_eq!((requests, error), (vec![], Some(ProtocolError::Quotes)), "{line}"),
            }
        }
    }

    #[test]
    fn resp_what_breaks_the_protocol_is_told_in_words_of_redis() {
        for (stream, text) in [
            ("*1x\r\n".to_owned(), "invalid multibulk length"),
            ("*+1\r\n".to_owned(), "invalid multibulk length"),
            (format!("*{}\r\n", ARGUMENTS_MAX + 1), "invalid multibulk length"),
            (format!("*{}", "1".repeat(LINE_BYTES_MAX)), "too big mbulk count string"),
            ("*1\r\n+OK\r\n".to_owned(), "expected '$', got '+'"),
            ("*1\r\n+4\r\nPING\r\n".to_owned(), "expected '$', got '+'"),
            ("*01\r\n$4\r\nPING\r\n".to_owned(), "invalid multibulk length"),
            ("*1\r\n$04\r\nPING\r\n".to_owned(), "invalid bulk length"),
            ("*1\r\n\r\n".to_owned(), "expected '$', got '\r'"),
            ("*1\r\n$-1\r\n".to_owned(), "invalid bulk length"),
            (format!("*1\r\n${}\r\n", BULK_BYTES_MAX + 1), "invalid bulk length"),
            (format!("*1\r\n${}", "1".repeat(LINE_BYTES_MAX)), "too big bulk count string"),
            ("a".repeat(LINE_BYTES_MAX + 1), "too big inline request"),
            ("a".repeat(LINE_BYTES_MAX + 1) + "\r\n", "too big inline request"),
            ("\0".to_owned() + &"a".repeat(LINE_BYTES_MAX), "too big inline request"),
        ] {
            let every: Vec<_> = (0..stream.len()).collect();
            for cuts in [&[][..], &every] {
                let (requests, error) = parse_all(stream.as_bytes(), cuts);
                let expected = format!("Protocol error: {text}").into_bytes();
                assert_eq!((requests, error.map(|error| error.text())), (vec![], Some(expected)), "{stream:.20}");
            }
        }
        // The maximum length.
        let line = "a".repeat(LINE_BYTES_MAX);
        assert_eq!(parse_all(format!("{line}\n").as_bytes(), &[]), (words(&[&[&line]]), None));
        let begun = format!("*{ARGUMENTS_MAX}\r\n${BULK_BYTES_MAX}\r\n");
        assert_eq!(parse_all(begun.as_bytes(), &[]), (vec![], None));
    }

    #[test]
    fn resp_a_request_that_comes_byte_by_byte_takes_linear_time() {
        const COUNT: usize = 20_000;
        let stream = format!("*{COUNT}\r\n{}", "$1\r\na\r\n".repeat(COUNT));
        let every: Vec<_> = (0..stream.len()).collect();
        // If the parser started over with each byte, it would look at some 10,000,000,000 bytes here.
        let (requests, error) = parse_all(stream.as_bytes(), &every);
        assert_eq!((requests.len(), requests[0].len(), error), (1, COUNT, None));
    }
}
