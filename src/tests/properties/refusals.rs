//! What a listener tells clients that its caps refuse.

use super::ledger::{Ledger, Side};

pub(super) const REFUSAL: &str = "there is no room for one more";

impl Ledger {
    /// Returns whether a connection was made for this side of a stream.
    pub(super) fn holds(&self, stream: usize, side: Side) -> bool {
        self.connections.iter().any(|of| of.stream == Some(stream) && of.side == side)
    }

    /// A client for which no protocol was made may be told why, in full or not at all. Returns whether these bytes are
    /// that text.
    pub(super) fn is_refusal(&mut self, stream: usize, side: Side, from: usize, bytes: &[u8]) -> bool {
        let is_part = REFUSAL.as_bytes().get(from..from + bytes.len()) == Some(bytes);
        let is_refusal = side == Side::Server && is_part && !self.holds(stream, side);
        if is_refusal && !bytes.is_empty() {
            self.coverage.hit("refusal");
        }
        is_refusal
    }
}
