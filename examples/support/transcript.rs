// Shared by the three select servers, so that only their loops differ: the lines that they print.

use std::fmt::Display;
use std::time::Duration;

use switchboard::escape;

use super::support::say;

/// How long an unfinished line waits for its end.
pub(crate) const UNFINISHED_WAIT: Duration = Duration::from_millis(200);

/// An unfinished line of this length is printed at once.
const LINE_BYTES_MAX: usize = 4096;

/// The output about one client.
pub(crate) struct Client {
    peer: String,
    /// The beginning of a line.
    unfinished: Vec<u8>,
    has_left: bool,
}

impl Client {
    /// Prints that the client has connected.
    pub(crate) fn new(peer: impl Display) -> Client {
        say(format_args!("Got connection from {peer}"));
        Client { peer: peer.to_string(), unfinished: Vec::new(), has_left: false }
    }

    /// Prints each line that the client sent. Returns whether an unfinished one is left.
    pub(crate) fn received(&mut self, data: &[u8]) -> bool {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if let Some(line) = self.unfinished.strip_suffix(b"\n") {
                self.print_line(line.strip_suffix(b"\r").unwrap_or(line));
                self.unfinished.clear();
            } else if self.unfinished.len() >= LINE_BYTES_MAX {
                self.print_unfinished();
            }
        }
        !self.unfinished.is_empty()
    }

    fn print_line(&self, line: &[u8]) {
        say(format_args!("{}: {}", self.peer, escape(line)));
    }

    /// Prints a line that has waited long enough for its end.
    pub(crate) fn print_unfinished(&mut self) {
        if !self.unfinished.is_empty() {
            self.print_line(&self.unfinished);
            self.unfinished.clear();
        }
    }

    /// Prints that the client has disconnected, but only once.
    pub(crate) fn left(&mut self) {
        if !self.has_left {
            self.has_left = true;
            self.print_unfinished();
            say(format_args!("{} disconnected", self.peer));
        }
    }
}

/// Covers clients that are still connected when the server ends.
impl Drop for Client {
    fn drop(&mut self) {
        self.left();
    }
}
