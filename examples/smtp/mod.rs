// A mail session, apart from how lines come and where mail goes.

mod requests;
mod session;
mod spool;

use std::rc::Rc;
use std::time::Duration;

use switchboard::filter::Filter;

pub(crate) use requests::serve_by_threads;
pub(crate) use session::{CLOSING, GO_AHEAD, GREETING, NOT_STORED, STORED, Session, Step, TOO_MANY, TOO_SLOW};
pub(crate) use spool::{Spool, take_maildir};

/// Makes what is below a session once STARTTLS was said.
pub(crate) type StartTls = Rc<dyn Fn() -> Box<dyn Filter>>;

/// How the usage names the options.
pub(crate) const FLAGS: [&str; 4] = ["--threads N", "--maildir FOLDER", "--timeout SECONDS", "--per-peer N"];

pub(crate) const CONNECTIONS_MAX: usize = 500;

/// How long it may take until a message is stored.
pub(crate) const STORING: Duration = Duration::from_secs(30);

/// How long messages under way may take at the end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A reply as it is sent.
pub(crate) fn reply(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\r\n"].concat()
}
