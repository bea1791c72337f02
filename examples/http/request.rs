// The head of a request, and what it says about the rest (RFC 9112). Anything ambiguous is refused: an intermediary may
// have understood it the other way, and what we then take for the next request would be a part of this one.

use std::mem::MaybeUninit;

use super::authority::is_authority;
use super::skipped::BODY_BYTES_MAX;
use super::{Body, Status};

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
    /// Parses what `data` begins with. `searched` is how far the end of the head was already looked for, so that a head
    /// that arrives a byte at a time takes linear time. `empty` is how many bytes were returned as empty before this
    /// head, which are bounded as heads are.
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
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(data, &mut fields) {
            Ok(httparse::Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => {
                *searched = 0;
                match Request::understand(bytes, &request) {
                    Ok(request) => Heading::Request(request),
                    Err(status) => Heading::Refused(status),
                }
            }
            Ok(_) => {
                *searched = data.len();
                too_long(data)
            }
            Err(httparse::Error::TooManyHeaders) => Heading::Refused(Status::HeadTooLong),
            // Whether it is a version is known once the line has ended.
            Err(httparse::Error::Version) if !data.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => {
                *searched = data.len();
                too_long(data)
            }
            Err(httparse::Error::Version) if names_version(data) => Heading::Refused(Status::Version),
            Err(_) => Heading::Refused(Status::BadRequest),
        }
    }

    fn understand(bytes: usize, request: &httparse::Request<'_, '_>) -> Result<Request, Status> {
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let minor = request.version.unwrap_or_default();
        if target.len() > TARGET_BYTES_MAX {
            return Err(Status::TargetTooLong);
        }
        let fields = Fields::read(request.headers)?;
        fields.check_host(minor)?;
        let body = fields.body(minor)?;
        let status = match path(target) {
            _ if method != "GET" && method != "HEAD" => Status::MethodNotAllowed,
            Some("/") => Status::Ok,
            Some(_) => Status::NotFound,
            None => return Err(Status::BadRequest),
        };
        Ok(Request {
            bytes,
            is_head: method == "HEAD",
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

/// Returns whether the head has another HTTP version where the version belongs, rather than something else.
fn names_version(data: &[u8]) -> bool {
    let line = data.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
    let version = line.split(|byte| *byte == b' ').nth(2).and_then(|version| version.strip_prefix(b"HTTP/"));
    version.is_some_and(|version| matches!(version, [b'0'..=b'9', b'.', b'0'..=b'9']))
}

/// Returns whether the empty line that ends a head has arrived.
fn ends(data: &[u8], searched: &mut usize) -> bool {
    let new = &data[searched.saturating_sub(2)..];
    *searched = data.len();
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Returns the path of a target, which is either a path or a whole URL, or `None` if it is neither.
fn path(target: &str) -> Option<&str> {
    let path = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = &target[7..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            if !is_authority(&rest.as_bytes()[..end]) {
                return None;
            }
            if rest[end..].starts_with('/') { &rest[end..] } else { "/" }
        }
        _ => target,
    };
    path.starts_with('/').then(|| path.split_once('?').map_or(path, |(path, _)| path))
}

/// The header fields that matter here.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Fields<'a> {
    fn read(fields: &[httparse::Header<'a>]) -> Result<Fields<'a>, Status> {
        let mut read = Fields::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // Compare lengths first, since most fields are none of these.
            match field.name.len() {
                // A second one of these is ambiguous: others may go by either.
                4 if is("host") && read.host.replace(field.value).is_some() => return Err(Status::BadRequest),
                14 if is("content-length") && read.length.replace(field.value).is_some() => {
                    return Err(Status::BadRequest);
                }
                17 if is("transfer-encoding") && read.coding.replace(field.value).is_some() => {
                    return Err(Status::BadRequest);
                }
                10 if is("connection") => {
                    for word in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        read.close |= word.eq_ignore_ascii_case(b"close");
                        read.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if is("expect") => {
                    if !field.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Status::Expectation);
                    }
                    read.expects_continue = true;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Checks the Host field, which says which host the request is for: there must be exactly one, except that HTTP/1.0
    /// may have none. It is empty if a URL has no authority.
    fn check_host(&self, minor: u8) -> Result<(), Status> {
        let is_good = match self.host {
            Some(host) => host.is_empty() || is_authority(host),
            None => minor == 0,
        };
        if is_good { Ok(()) } else { Err(Status::BadRequest) }
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
