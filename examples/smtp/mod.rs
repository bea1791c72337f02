// A mail session, apart from how lines come and where mail goes.

mod requests;
mod session;
mod spool;

use std::time::Duration;

pub(crate) use requests::serve_by_threads;
pub(crate) use session::{CLOSING, GREETING, NOT_STORED, STORED, Session, Step, TOO_MANY, TOO_SLOW};
pub(crate) use spool::Spool;

/// How long messages under way may take at the end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A reply as it is sent.
pub(crate) fn reply(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\r\n"].concat()
}
