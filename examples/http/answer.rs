// The responses. The most common one is built once a second, when its date changes, and otherwise only copied.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use switchboard::{Context, Transport};

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

/// Shared by all connections of a loop.
pub(crate) type SharedResponses = Rc<RefCell<Responses>>;

pub(crate) struct Responses {
    /// The current date; empty if it must be asked for.
    pub(crate) date: String,
    /// The response to a GET of the text, on a connection that stays open.
    ready: String,
}

/// Writes a response, without its body if only the head was requested.
#[inline(always)]
pub(crate) fn answer(
    answers: &SharedResponses,
    transport: &mut Transport<'_>,
    status: Status,
    then: Then,
    is_head: bool,
) {
    if answers.borrow().date.is_empty() {
        set_date(answers, &mut transport.context());
    }
    let answers = answers.borrow();
    if (status, then, is_head) == (Status::Ok, Then::GoesOn, false) {
        transport.write(answers.ready.as_bytes());
    } else {
        answers.write_other(transport, status, then, is_head);
    }
}

/// Sets the date until the second is over. A timer costs less than asking for the time at each request.
#[cold]
fn set_date(answers: &SharedResponses, context: &mut Context<'_>) {
    let now = SystemTime::now();
    answers.borrow_mut().set_date(httpdate::fmt_http_date(now));
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
    let answers = answers.clone();
    let timer = context.call_later(left, move |_| answers.borrow_mut().date.clear());
    // The timer alone must not keep the program running.
    context.set_background(timer, true);
}

impl Responses {
    pub(crate) fn new() -> SharedResponses {
        Rc::new(RefCell::new(Responses { date: String::new(), ready: String::new() }))
    }

    fn set_date(&mut self, date: String) {
        self.date = date;
        (self.ready, _) = self.make(Status::Ok, Then::GoesOn);
    }

    #[cold]
    fn write_other(&self, transport: &mut Transport<'_>, status: Status, then: Then, is_head: bool) {
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
