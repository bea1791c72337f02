// The head of an answer, and what it says of the body (RFC 9112, section 6.3).

use super::Body;

/// So many header fields are enough for anybody.
const FIELDS_MAX: usize = 128;

pub(crate) struct Head {
    /// How long it is.
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    /// Of HTTP 1.`minor`.
    minor: u8,
    lengths: Vec<String>,
    codings: Vec<String>,
}

impl Head {
    /// The head that `data` begins with, if all of it is there. `searched` is how far its end was looked for already:
    /// with that, a head that comes a byte at a time takes linear time.
    pub(crate) fn parse(data: &[u8], searched: &mut usize) -> Result<Option<Head>, String> {
        let begin = &b"HTTP/1."[..data.len().min(7)];
        if !data.starts_with(begin) {
            return Err("the answer is not HTTP".to_owned());
        }
        let from = searched.saturating_sub(2);
        *searched = data.len();
        let is_whole = data[from..].windows(2).any(|pair| pair == b"\n\n")
            || data[from..].windows(3).any(|three| three == b"\n\r\n");
        if !is_whole {
            return Ok(None);
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(data) {
            Ok(httparse::Status::Complete(bytes)) => Head::from_response(bytes, &response).map(Some),
            Ok(httparse::Status::Partial) => Err("the head of the answer is malformed".to_owned()),
            Err(error) => Err(format!("the head of the answer is malformed: {error}")),
        }
    }

    fn from_response(bytes: usize, response: &httparse::Response<'_, '_>) -> Result<Head, String> {
        let mut head = Head {
            bytes,
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            location: None,
            minor: response.version.unwrap_or_default(),
            lengths: Vec::new(),
            codings: Vec::new(),
        };
        for field in response.headers.iter() {
            let text = || String::from_utf8(field.value.to_vec()).map_err(|_| format!("{} is no text", field.name));
            // A list may be on one line or on several.
            let list =
                || text().map(|text| text.split(',').map(|item| item.trim().to_ascii_lowercase()).collect::<Vec<_>>());
            match field.name.to_ascii_lowercase().as_str() {
                "location" => head.location = Some(text()?),
                "content-length" => head.lengths.extend(list()?),
                "transfer-encoding" => head.codings.extend(list()?),
                _ => {}
            }
        }
        Ok(head)
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
