// The parts of the mail server: the session, which knows neither sockets nor files, the spool, and the threaded server.

mod requests;
mod session;
mod spool;

use std::rc::Rc;
use std::time::Duration;

use switchboard::filter::Filter;

pub(crate) use requests::serve_by_threads;
pub(crate) use session::{CLOSING, GO_AHEAD, GREETING, NOT_STORED, STORED, Session, Step, TOO_MANY, TOO_SLOW};
pub(crate) use spool::{Spool, take_maildir};

/// Makes the TLS filter of a session after STARTTLS.
pub(crate) type StartTls = Rc<dyn Fn() -> Box<dyn Filter>>;

/// The options as the usage shows them.
pub(crate) const FLAGS: [&str; 4] = ["--threads N", "--maildir FOLDER", "--timeout SECONDS", "--per-peer N"];

pub(crate) const CONNECTIONS_MAX: usize = 500;

/// The timeout for storing a message.
pub(crate) const STORING: Duration = Duration::from_secs(30);

/// How long messages in progress may take when the server ends.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Returns a reply as it is sent.
pub(crate) fn reply(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\r\n"].concat()
}
