// The responses. The most common one is built once a second, when its date changes, and otherwise only copied.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use switchboard::Transport;

const TEXT: &str = "Hello, World!\n";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    Timeout,
    BodyTooLong,
    TargetTooLong,
    Expectation,
    HeadTooLong,
    Coding,
    Version,
}

impl Status {
    pub(crate) fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::Timeout => "408 Request Timeout",
            Status::BodyTooLong => "413 Content Too Large",
            Status::TargetTooLong => "414 URI Too Long",
            Status::Expectation => "417 Expectation Failed",
            Status::HeadTooLong => "431 Request Header Fields Too Large",
            Status::Coding => "501 Not Implemented",
            Status::Version => "505 HTTP Version Not Supported",
        }
    }

    fn text(self) -> String {
        if self == Status::Ok { TEXT.to_owned() } else { format!("{}\n", self.line()) }
    }
}

/// What a response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    /// The connection stays open, which is the default of HTTP/1.1.
    GoesOn,
    /// The connection stays open, which an HTTP/1.0 client must be told.
    KeepsAlive,
    Closes,
}

/// Shared by all connections.
pub(crate) struct Answers {
    /// The second that `date` stands for.
    second: u64,
    date: String,
    /// The response to a GET of the text, on a connection that stays open.
    ready: String,
    /// How many bytes of it are the head.
    ready_head_bytes: usize,
}

impl Answers {
    pub(crate) fn new(now: SystemTime) -> Answers {
        let mut answers = Answers { second: u64::MAX, date: String::new(), ready: String::new(), ready_head_bytes: 0 };
        answers.set_time(now);
        answers
    }

    /// Sets the date of the responses that follow.
    pub(crate) fn set_time(&mut self, now: SystemTime) {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if second == self.second {
            return;
        }
        self.second = second;
        self.date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        (self.ready, self.ready_head_bytes) = self.make(Status::Ok, Then::GoesOn);
    }

    /// Writes a response, without its body if only the head was requested.
    pub(crate) fn write(&self, transport: &mut Transport<'_>, status: Status, then: Then, is_head: bool) {
        if (status, then) == (Status::Ok, Then::GoesOn) {
            let bytes = if is_head { self.ready_head_bytes } else { self.ready.len() };
            return transport.write(&self.ready.as_bytes()[..bytes]);
        }
        let (answer, head_bytes) = self.make(status, then);
        transport.write(&answer.as_bytes()[..if is_head { head_bytes } else { answer.len() }]);
    }

    /// Builds a response. Returns it and how many bytes of it are the head.
    fn make(&self, status: Status, then: Then) -> (String, usize) {
        let text = status.text();
        let connection = match then {
            Then::GoesOn => "",
            Then::KeepsAlive => "Connection: keep-alive\r\n",
            Then::Closes => "Connection: close\r\n",
        };
        let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let mut answer = format!("HTTP/1.1 {}\r\nDate: {}\r\n{connection}{allow}", status.line(), self.date);
        // Writing to a string does not fail.
        let _ = write!(answer, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n", text.len());
        let head_bytes = answer.len();
        answer.push_str(&text);
        (answer, head_bytes)
    }
}
