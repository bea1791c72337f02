// The head of a request, and what it says about the rest (RFC 9112). Anything ambiguous is refused: an intermediary may
// have understood it the other way, and what we then take for the next request would be a part of this one.

use super::authority::is_authority;
use super::head::{FirstLine, Stop, Unread};
use super::skipped::BODY_BYTES_MAX;
use super::{Body, Status, Then};

/// The longest head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The longest target, beginning with its slash.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// The most header fields that a head may have.
const FIELDS_MAX: usize = 100;

/// A parsed request.
pub(crate) struct Request {
    /// The length of its head.
    pub(crate) bytes: usize,
    pub(crate) is_head: bool,
    /// The status to answer with, once the body was read.
    pub(crate) status: Status,
    /// The minor version, as in HTTP/1.`minor`.
    pub(crate) minor: u8,
    pub(crate) keeps_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    pub(crate) body: Body,
}

/// What `data` begins with.
pub(crate) enum Heading {
    Partial,
    /// This many bytes of empty lines, which some clients send after a body. They are not part of a request, and do not
    /// begin one.
    Empty(usize),
    Request(Request),
    /// After this response the connection closes: what follows cannot be parsed, or is not worth it.
    Refused(Status),
}

impl Request {
    /// What becomes of the connection behind the response.
    pub(crate) fn then(&self) -> Then {
        match (self.keeps_alive, self.minor) {
            (false, _) => Then::Closes,
            (true, 0) => Then::KeepsAlive,
            (true, _) => Then::GoesOn,
        }
    }

    /// Parses what `data` begins with. `searched` is how far the end of the head was already looked for, so that a head
    /// that arrives a byte at a time takes linear time. `empty` is how many bytes were returned as empty before this
    /// head, which are bounded as heads are. Both are 0 again after a request.
    pub(crate) fn parse(data: &[u8], searched: &mut usize, empty: &mut usize) -> Heading {
        let blank = empty_lines(data);
        if blank > 0 {
            *searched = 0;
            *empty += blank;
            return if *empty < HEAD_BYTES_MAX {
                Heading::Empty(blank)
            } else {
                Heading::Refused(Status::TargetTooLong)
            };
        }
        if *searched > 0 && !ends(data, searched) {
            return too_long(data);
        }
        match Request::read(data) {
            Ok(request) => {
                (*searched, *empty) = (0, 0);
                Heading::Request(request)
            }
            Err(Stop::Refused(status)) => Heading::Refused(status),
            Err(Stop::Partial) => {
                *searched = data.len();
                too_long(data)
            }
        }
    }

    fn read(data: &[u8]) -> Result<Request, Stop> {
        let mut unread = Unread::new(data);
        let line = unread.first_line()?;
        let (mut fields, mut count) = (Fields::default(), 0);
        while let Some((name, value)) = unread.field()? {
            fields.take(name, value);
            count += 1;
            if count > FIELDS_MAX {
                return Err(Stop::Refused(Status::HeadTooLong));
            }
        }
        let bytes = data.len() - unread.len();
        // The end of one that is too long would not be waited for.
        if bytes > HEAD_BYTES_MAX {
            return Err(Stop::Partial);
        }
        Request::understand(bytes, &line, &fields).map_err(Stop::Refused)
    }

    fn understand(bytes: usize, line: &FirstLine<'_>, fields: &Fields<'_>) -> Result<Request, Status> {
        let minor = line.minor;
        if line.target.len() > TARGET_BYTES_MAX {
            return Err(Status::TargetTooLong);
        }
        if let Some(status) = fields.refusal {
            return Err(status);
        }
        fields.check_host(minor)?;
        let body = fields.body(minor)?;
        let is_head = line.method == b"HEAD";
        let status = match path(line.target) {
            _ if line.method != b"GET" && !is_head => Status::MethodNotAllowed,
            Some(b"/") => Status::Ok,
            Some(_) => Status::NotFound,
            None => return Err(Status::BadRequest),
        };
        Ok(Request {
            bytes,
            is_head,
            status,
            minor,
            keeps_alive: if minor > 0 { !fields.close } else { fields.keep_alive && !fields.close },
            expects_continue: fields.expects_continue && minor > 0 && !body.is_over(),
            body,
        })
    }
}

/// Returns how many bytes of empty lines `data` begins with.
fn empty_lines(data: &[u8]) -> usize {
    let mut left = data;
    while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = left {
        left = rest;
    }
    data.len() - left.len()
}

/// Checks the length of a head whose end has not arrived yet.
fn too_long(data: &[u8]) -> Heading {
    if data.len() < HEAD_BYTES_MAX {
        return Heading::Partial;
    }
    // The line that does not end is the one that is too long.
    let has_line = data.iter().skip_while(|byte| matches!(byte, b'\r' | b'\n')).any(|byte| *byte == b'\n');
    Heading::Refused(if has_line { Status::HeadTooLong } else { Status::TargetTooLong })
}

/// Returns whether the empty line that ends a head has arrived.
fn ends(data: &[u8], searched: &mut usize) -> bool {
    let new = &data[searched.saturating_sub(2)..];
    *searched = data.len();
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Returns the path of a target, which is either a path or a whole URL, or `None` if it is neither.
fn path(target: &[u8]) -> Option<&[u8]> {
    let end_of = |text: &[u8], ends: &[u8]| text.iter().position(|byte| ends.contains(byte)).unwrap_or(text.len());
    let path = match target {
        [b'/', ..] => target,
        _ => {
            let (scheme, rest) = target.split_at_checked(7)?;
            let (authority, path) = rest.split_at(end_of(rest, b"/?"));
            if !scheme.eq_ignore_ascii_case(b"http://") || !is_authority(authority) {
                return None;
            }
            if path.starts_with(b"/") { path } else { b"/" }
        }
    };
    Some(&path[..end_of(path, b"?")])
}

/// The header fields that matter here.
#[derive(Default)]
struct Fields<'a> {
    /// Whether the host is an authority, or empty, as it is if a URL has no authority.
    host: Option<bool>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    /// Why the request is refused, if its head is complete.
    refusal: Option<Status>,
}

/// Returns whether a name, which is a token, is this one in any case.
fn is<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    // Quicker than `eq_ignore_ascii_case`. The hyphen has that bit already, and no byte of a token becomes it.
    name.first_chunk().is_some_and(|name: &[u8; LENGTH]| name.map(|byte| byte | 0x20) == *lower)
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        // Compare lengths first, since most fields are none of these.
        let is_good = match name.len() {
            // A second one of these is ambiguous: others may go by either.
            4 if is(name, b"host") => self.host.replace(value.is_empty() || is_authority(value)).is_none(),
            14 if is(name, b"content-length") => self.length.replace(value).is_none(),
            17 if is(name, b"transfer-encoding") => self.coding.replace(value).is_none(),
            10 if is(name, b"connection") => {
                for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= word.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
                true
            }
            6 if is(name, b"expect") => {
                self.expects_continue = true;
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    self.refusal.get_or_insert(Status::Expectation);
                }
                true
            }
            _ => true,
        };
        if !is_good {
            self.refusal.get_or_insert(Status::BadRequest);
        }
    }

    /// Checks the Host field, which says which host the request is for: there must be exactly one, except that HTTP/1.0
    /// may have none.
    fn check_host(&self, minor: u8) -> Result<(), Status> {
        if self.host.unwrap_or(minor == 0) { Ok(()) } else { Err(Status::BadRequest) }
    }

    /// Follows RFC 9112, section 6.3, and is stricter where that leaves a choice.
    fn body(&self, minor: u8) -> Result<Body, Status> {
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(Status::BadRequest),
            (Some(_), None) if minor == 0 => Err(Status::BadRequest),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::strictly_chunked()),
            (Some(_), None) => Err(Status::Coding),
            (None, None) => Ok(Body::Length { left: 0 }),
            (None, Some(length)) => {
                let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(length).ok().filter(|_| is_number).ok_or(Status::BadRequest)?;
                match text.parse() {
                    Ok(left) if left <= BODY_BYTES_MAX => Ok(Body::Length { left }),
                    _ => Err(Status::BodyTooLong), // A number that overflows is too long as well.
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the status, the length of the body and whether the connection closes, or why there is no request.
    fn read(head: &str) -> String {
        match Request::parse(head.as_bytes(), &mut 0, &mut 0) {
            Heading::Partial => "partial".to_owned(),
            Heading::Empty(bytes) => format!("empty {bytes}"),
            Heading::Refused(status) => format!("refused {}", status.line()),
            Heading::Request(request) => {
                assert_eq!(request.bytes, head.len());
                let body = match request.body {
                    Body::Length { left } => left.to_string(),
                    _ => "chunked".to_owned(),
                };
                let alive = if request.keeps_alive { "" } else { ", closes" };
                let expects = if request.expects_continue { ", expects" } else { "" };
                format!("{} {body}{alive}{expects}", request.status.line())
            }
        }
    }

    #[test]
    fn http_what_can_be_taken_in_two_ways_is_refused() {
        for (fields, expected) in [
            ("Host: x\r\n", "200 OK 0"),
            ("Host: x\r\nHost: y\r\n", "refused 400 Bad Request"),
            ("", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: 5\r\n", "200 OK 5"),
            ("Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: 5, 5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: +5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: -5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: 0x5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length:\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length : 5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nContent-Length: 1048577\r\n", "refused 413 Content Too Large"),
            ("Host: x\r\nContent-Length: 99999999999999999999\r\n", "refused 413 Content Too Large"),
            ("Host: x\r\nTransfer-Encoding: Chunked\r\n", "200 OK chunked"),
            ("Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", "refused 501 Not Implemented"),
            ("Host: x\r\nTransfer-Encoding: \"chunked\"\r\n", "refused 501 Not Implemented"),
            ("Host: x\r\nTransfer-Encoding: chunked\r\n folded\r\n", "refused 400 Bad Request"),
            ("Host: x\r\n Transfer-Encoding: chunked\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nX: a\rTransfer-Encoding: chunked\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nX: a\0b\r\n", "refused 400 Bad Request"),
            ("Host: x\r\nConnection: x , CLOSE\r\n", "200 OK 0, closes"),
            ("Host: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "200 OK 5, expects"),
            ("Host: x\r\nExpect: 100-continue\r\n", "200 OK 0"),
            ("Host: x\r\nExpect: tea\r\n", "refused 417 Expectation Failed"),
        ] {
            assert_eq!(read(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), expected, "{fields:?}");
        }
        assert_eq!(read("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), "refused 400 Bad Request");
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n"), "200 OK 0, closes");
        assert_eq!(read("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), "200 OK 0");
    }

    const GOOD_HOSTS: &[&str] = &[
        "",
        " x",
        "x.example:80\t ",
        "x:",
        "127.0.0.1:65535",
        "[::1]",
        "[::ffff:1.2.3.4]:80",
        "[v1.a:b]",
        "a%2Fb",
        "a_b-c~d!$&'()*+,;=",
    ];
    const BAD_HOSTS: &[&str] = &[
        "x, y",
        "x y",
        "x\ty",
        "u@x",
        "u:p@x",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]]",
        "[::1]80",
        "[x]",
        "[]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "[v.a]",
        "[v1.]",
        "[vg.a]",
        "x:y",
        "x:-1",
        "x:+80",
        "x:65536",
        "x:80:80",
        ":80",
        "x/",
        "x?",
        "x#",
        "http://x",
        "x\\y",
        "\"x\"",
        "a%2",
        "a%zz",
        "a%z0",
        "é",
    ];

    #[test]
    fn http_a_host_that_names_none_is_refused() {
        let (good, bad) = ("200 OK 0", "refused 400 Bad Request");
        let hosts = GOOD_HOSTS.iter().map(|host| (host, good)).chain(BAD_HOSTS.iter().map(|host| (host, bad)));
        for (host, expected) in hosts {
            assert_eq!(read(&format!("GET / HTTP/1.1\r\nHost:{host}\r\n\r\n")), expected, "{host:?}");
            // HTTP/1.0 needs no host, but one that is there must be valid.
            let closes = if expected == good { "200 OK 0, closes" } else { bad };
            assert_eq!(read(&format!("GET / HTTP/1.0\r\nHost:{host}\r\n\r\n")), closes, "{host:?}");
        }
        assert_eq!(read("GET / HTTP/1.1\r\n\r\n"), bad);
        assert_eq!(read("GET / HTTP/1.1\r\nHost: x\r\nHOST: x\r\n\r\n"), bad);
        assert_eq!(read("GET / HTTP/1.0\r\nHost: x\r\nHost:\r\n\r\n"), bad);
    }

    #[test]
    fn http_targets_and_methods() {
        for (line, expected) in [
            ("GET /?q=1 HTTP/1.1", "200 OK 0"),
            ("HEAD http://x/ HTTP/1.1", "200 OK 0"),
            ("GET HTTP://x?q HTTP/1.1", "200 OK 0"),
            ("GET http:/// HTTP/1.1", "refused 400 Bad Request"),
            ("GET ftp:///x/ HTTP/1.1", "refused 400 Bad Request"),
            ("GET http://u@x/ HTTP/1.1", "refused 400 Bad Request"),
            ("GET http://[::1/ HTTP/1.1", "refused 400 Bad Request"),
            ("GET http://[::1]:80/ HTTP/1.1", "200 OK 0"),
            ("GET * HTTP/1.1", "refused 400 Bad Request"),
            ("GET x HTTP/1.1", "refused 400 Bad Request"),
            ("OPTIONS * HTTP/1.1", "405 Method Not Allowed 0"),
            ("CONNECT x:1 HTTP/1.1", "405 Method Not Allowed 0"),
            ("POST /x HTTP/1.1", "405 Method Not Allowed 0"),
            ("GET //x HTTP/1.1", "404 Not Found 0"),
            ("get / HTTP/1.1", "405 Method Not Allowed 0"),
            ("GET / HTTP/1.2", "refused 505 HTTP Version Not Supported"),
            ("GET / HTTP/2.0", "refused 505 HTTP Version Not Supported"),
            ("GET / HTTP/2.0\0", "refused 400 Bad Request"),
            ("GET / x HTTP/1.1", "refused 400 Bad Request"),
            ("GET  / HTTP/1.1", "refused 400 Bad Request"),
            ("GET /", "refused 400 Bad Request"),
            ("G=T / HTTP/1.1", "refused 400 Bad Request"),
        ] {
            assert_eq!(read(&format!("{line}\r\nHost: x\r\n\r\n")), expected, "{line}");
        }
        for beginning in ["GET / HTTP/2", "GET / HTTP/2.0"] {
            assert_eq!(read(beginning), "partial", "the next byte decides whether that is a version: {beginning}");
        }
    }

    #[test]
    fn http_heads_are_bounded_and_take_linear_time() {
        let long = "a".repeat(TARGET_BYTES_MAX);
        assert_eq!(read(&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")), "refused 414 URI Too Long");
        assert_eq!(read(&format!("GET /{}", long.repeat(2))), "refused 414 URI Too Long");
        let fields = "X: y\r\n".repeat(FIELDS_MAX);
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")),
            "refused 431 Request Header Fields Too Large"
        );
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nX: {long}{long}")), "refused 431 Request Header Fields Too Large");
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nX: {long}{long}\r\n\r\n")),
            "refused 431 Request Header Fields Too Large"
        );
        assert_eq!(read(&"\r\n".repeat(HEAD_BYTES_MAX)), "refused 414 URI Too Long");
        let mut empty = 0;
        let taken = (0..HEAD_BYTES_MAX)
            .take_while(|_| matches!(Request::parse(b"\r\n", &mut 0, &mut empty), Heading::Empty(2)));
        assert_eq!(taken.count(), HEAD_BYTES_MAX / 2 - 1);

        // An error in later input is not noticed before the end of the head is there.
        let (head, mut searched) = (b"GET / HTTP/1.1\r\nHost\0: x\r\n\r\n", 0);
        assert!(matches!(Request::parse(&head[..18], &mut searched, &mut 0), Heading::Partial));
        assert!(matches!(Request::parse(&head[..26], &mut searched, &mut 0), Heading::Partial));
        assert!(matches!(Request::parse(head, &mut searched, &mut 0), Heading::Refused(Status::BadRequest)));

        // So even the longest head takes linear time when it arrives byte by byte.
        let padding = "p".repeat(HEAD_BYTES_MAX - "GET / HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n".len());
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {padding}\r\n\r\n");
        assert_eq!(read(&head), "200 OK 0");
        let mut searched = 0;
        for there in 1..head.len() {
            assert!(
                matches!(Request::parse(&head.as_bytes()[..there], &mut searched, &mut 0), Heading::Partial),
                "{there}"
            );
            assert_eq!(searched, there);
        }
        assert!(matches!(Request::parse(head.as_bytes(), &mut searched, &mut 0), Heading::Request(_)));
        assert_eq!(searched, 0);
    }
}
