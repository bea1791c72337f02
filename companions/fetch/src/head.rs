// The head of an answer, and what it says about the body (RFC 9112, section 6.3).

use crate::body::Body;
use switchboard::escape;

pub(crate) struct Head {
    /// How long it is.
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    /// Its fields, one a line, escaped for display.
    pub(crate) shown: String,
    /// The minor version of HTTP 1.
    minor: u8,
    lengths: Vec<String>,
    codings: Vec<String>,
}

impl Head {
    /// Returns the head that `data` begins with, if it is complete. `searched` is how far the search for its end has
    /// got: with that, a head that arrives a byte at a time takes linear time.
    pub(crate) fn parse(data: &[u8], searched: &mut usize) -> Result<Option<Head>, String> {
        let begin = &b"HTTP/1."[..data.len().min(7)];
        if !data.starts_with(begin) {
            return Err("the answer is not HTTP".to_owned());
        }
        let Some(bytes) = end(data, searched) else { return Ok(None) };
        // As many as there are lines: the longest head bounds them.
        let lines = data[..bytes].iter().filter(|byte| **byte == b'\n').count();
        let mut fields = vec![httparse::EMPTY_HEADER; lines];
        let mut response = httparse::Response::new(&mut fields);
        match lenient().parse_response(&mut response, &data[..bytes]) {
            Ok(httparse::Status::Complete(bytes)) => Ok(Some(Head::from_response(bytes, &response))),
            Ok(httparse::Status::Partial) => Err("the head of the answer is malformed".to_owned()),
            Err(error) => Err(format!("the head of the answer is malformed: {error}")),
        }
    }

    fn from_response(bytes: usize, response: &httparse::Response<'_, '_>) -> Head {
        let mut head = Head {
            bytes,
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            location: None,
            shown: String::new(),
            minor: response.version.unwrap_or_default(),
            lengths: Vec::new(),
            codings: Vec::new(),
        };
        for field in response.headers.iter() {
            head.shown += &format!("{}: {}\n", field.name, escape(&unfold(field.value)));
            match field.name.to_ascii_lowercase().as_str() {
                "location" => head.location = Some(location(&unfold(field.value))),
                "content-length" => head.lengths.extend(list(field.value)),
                // `identity` is no coding: the body is unchanged.
                "transfer-encoding" => head.codings.extend(list(field.value).filter(|coding| coding != "identity")),
                _ => {}
            }
        }
        head
    }

    pub(crate) fn body(&self) -> Result<Body, String> {
        if matches!(self.status, 204 | 205) {
            return Ok(Body::Length { left: 0 });
        }
        match &self.codings[..] {
            [] => {}
            [chunked] if chunked == "chunked" && self.minor > 0 => return Ok(Body::chunked()),
            other => return Err(format!("a transfer coding that is not supported: {:?}", other.join(", "))),
        }
        let Some(length) = self.lengths.first() else { return Ok(Body::UntilClose) };
        let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        match length.parse() {
            Ok(left) if is_number && self.lengths.iter().all(|other| other == length) => Ok(Body::Length { left }),
            _ => Err(format!("the length of the body is malformed: {:?}", self.lengths.join(", "))),
        }
    }
}

/// Accepts what other clients accept, too: blanks before a colon, and values that continue on the next line.
fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    config
}

/// Returns where the head ends: after its first empty line. What follows is not searched, since it may be as long
/// again.
fn end(data: &[u8], searched: &mut usize) -> Option<usize> {
    let begin = searched.saturating_sub(2);
    *searched = data.len();
    let mut line_ends = (begin..data.len()).filter(|&place| data[place] == b'\n');
    line_ends.find_map(|place| match data[place + 1..] {
        [b'\n', ..] => Some(place + 2),
        [b'\r', b'\n', ..] => Some(place + 3),
        _ => None,
    })
}

/// Returns a value on one line: each line end in it becomes a blank, together with the blanks around it.
fn unfold(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(&b' ')
}

/// Returns the elements of a list, which may be on one line or on several.
fn list(value: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(&unfold(value)).to_ascii_lowercase();
    text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

/// A URL may contain bytes outside ASCII, in any encoding: they are sent back as they arrived.
fn location(value: &[u8]) -> String {
    let text = |byte: &u8| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    value.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a head with these fields, or returns what is wrong with it.
    fn read(fields: &str) -> Result<(Option<String>, String), String> {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let read = Head::parse(format!("{head}HTTP/1.1 ").as_bytes(), &mut 0)?.ok_or("it is partial")?;
        assert_eq!(read.bytes, head.len());
        let body = match read.body()? {
            Body::Length { left } => left.to_string(),
            Body::Chunked(_) => "chunked".to_owned(),
            Body::UntilClose => "until close".to_owned(),
        };
        Ok((read.location, body))
    }

    #[test]
    fn fetch_takes_the_heads_that_others_take() {
        for (fields, body) in [
            ("X: a\r\n b\r\n\tc\r\nContent-Length: 4\r\n", "4"),
            ("Content-Length:\r\n 4\r\n", "4"),
            ("Content-Length : 4\r\n", "4"),
            ("Content-Length: 4,\r\n 4\r\nContent-Length: 4\r\n", "4"),
            ("Transfer-Encoding:\n\tchunked\r\n", "chunked"),
            ("Transfer-Encoding: identity\r\n", "until close"),
            ("Transfer-Encoding: Identity\r\nContent-Length: 4\r\n", "4"),
            ("Transfer-Encoding: identity, chunked\r\n", "chunked"),
            (&"A: b\r\n".repeat(5000), "until close"),
        ] {
            assert_eq!(read(fields), Ok((None, body.to_owned())), "{fields:?}");
        }
        for fields in ["no field\r\n", ": y\r\n", "X: \0\r\n", "Content-Length: 4\r\n 4\r\n", "Content-Length: é\r\n"]
        {
            assert!(read(fields).is_err(), "{fields:?}");
        }
        let locations =
            [(&b" /a"[..], "/a"), (b"\r\n /a", "/a"), (b"/\xe9\xff", "/%E9%FF"), ("/é".as_bytes(), "/%C3%A9")];
        for (location, expected) in locations {
            let head = [b"HTTP/1.1 302 Moved\r\nLocation:", location, b"\r\n\r\n"].concat();
            let read = Head::parse(&head, &mut 0).unwrap().unwrap();
            assert_eq!(read.location.as_deref(), Some(expected));
        }
    }

    #[test]
    fn fetch_finds_the_end_of_a_head_however_it_is_cut_and_looks_no_further() {
        for end in ["\n\n", "\r\n\r\n", "\n\r\n"] {
            let head = format!("HTTP/1.1 103 Early{end}");
            let stream = format!("{head}HTTP/1.1 200 OK\r\n\r\n");
            let mut searched = 0;
            for there in 0..head.len() {
                assert!(Head::parse(&stream.as_bytes()[..there], &mut searched).unwrap().is_none(), "{there}");
                assert_eq!(searched, there);
            }
            for there in [&head, &stream] {
                let parsed = Head::parse(there.as_bytes(), &mut searched.clone());
                assert_eq!(parsed.unwrap().map(|head| head.bytes), Some(head.len()), "{end:?}");
            }
        }
    }
}
