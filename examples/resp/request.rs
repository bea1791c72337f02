// A request of RESP2 out of the bytes that carry it: an array of bulk strings or, for a person at telnet, a line.
//
// By hand: of the crates, `redis-protocol` and its like are made for clients. They know no lines, own a vector for each
// frame, begin anew with each byte that comes, and say what is wrong in words of their own, where clients know Redis'.

use std::fmt;
use std::ops::Range;

use super::number;

/// The longest bulk string (Redis: 512 MiB, by `proto-max-bulk-len`).
pub(crate) const BULK_BYTES_MAX: usize = 8 << 20;

/// The most arguments (Redis: 2,147,483,647).
pub(crate) const ARGUMENTS_MAX: usize = 1 << 20;

/// The longest line, whether it is a request or says how much is to come.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

/// The longest request (Redis: 1 GiB, by `client-query-buffer-limit`).
pub(crate) const REQUEST_BYTES_MAX: usize = 32 << 20;

/// What ends a connection, in Redis' words.
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
    /// The answer to it. It need not be text: it may show a byte of the peer's.
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

/// The name of a command and what follows it; empty for an empty line or an array of nothing.
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
    /// Where there are not so many.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        let span = &self.spans[index];
        &self.bytes[span.start as usize..span.end as usize]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.spans.len()).map(move |index| self.get(index))
    }
}

/// One for all connections: what it holds is of one request, which is handled before the next one is looked at.
#[derive(Default)]
pub(crate) struct Parser {
    spans: Vec<Span>,
    /// A request that was a line, without its quotes.
    line: Vec<u8>,
    is_line: bool,
}

/// How far an array has come of which the end is still missing. A connection has one only meanwhile, so an idle one costs
/// nothing, and a request that comes a byte at a time takes linear time.
pub(crate) struct Begun {
    place: Place,
    spans: Vec<Span>,
}

impl Begun {
    /// How much memory it holds beside the bytes of the request: the most where arguments are short, of which an empty one
    /// has 6 bytes on the wire and 8 here. Vectors grow ahead, so what counts is their capacity.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Begun>() + self.spans.capacity() * size_of::<Span>()
    }
}

#[derive(Default)]
struct Place {
    /// What is done with.
    at: usize,
    /// No line end is before this.
    searched: usize,
    /// Arguments that are still to come; none where their number itself is.
    missing: Option<usize>,
    /// The length of the argument that comes next, once it is known.
    bulk_bytes: Option<usize>,
}

impl Parser {
    /// Returns how long the request is that `data` begins with, if all of it is there. If not, it is to be called with the
    /// same `begun` and the same data with more behind it.
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

    /// Those of the request that was found, in the data that it was found in.
    pub(crate) fn arguments<'a>(&'a self, data: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.is_line { &self.line } else { data }, spans: &self.spans }
    }

    /// Gives back what few requests need.
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

impl Place {
    /// Goes as far as the data does, and returns whether that is the end of the request.
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
            // As Redis, it does not look at the two bytes that end it.
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

    /// The line that comes next, once its end is there: a carriage return and, as in Redis, any byte.
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

    /// As Redis, it finds nothing behind a NUL; that is an error once so much has come.
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

/// Splits a line at its blanks, but for those in quotes, and appends its words to `out`.
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

/// Appends the word that `left` begins with to `out`, and answers what is behind it.
fn take_word<'a>(mut left: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        left = match left {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(left),
            // What is quoted ends the word.
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

/// `isspace` of C, which knows one more than Rust.
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

    /// The requests in `stream`, and the error that ends it, if it comes in the pieces that `cuts` makes.
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
        // As long as can be.
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
        // Where it began anew with each byte, this would look at some 10,000,000,000 of them.
        let (requests, error) = parse_all(stream.as_bytes(), &every);
        assert_eq!((requests.len(), requests[0].len(), error), (1, COUNT, None));
    }
}
