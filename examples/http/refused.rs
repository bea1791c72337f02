// What a client still sends of a request that was refused. It may look for an answer only when it has sent all, as wget
// does: were the connection closed before, its next write would fail, and it would not see why.

use std::time::Duration;

use switchboard::{Timeout, Transport};

use super::Status;

/// How much is read and discarded, and for how long.
const DISCARDED_BYTES_MAX: usize = 8 << 20;
const TIME_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Refused {
    status: Status,
    left: usize,
}

impl Refused {
    /// Ends what we send, behind the answer, and goes on reading.
    pub(crate) fn begin(transport: &mut Transport<'_>, status: Status) -> Refused {
        transport.shutdown_write();
        transport.set_timeout(Timeout::Handshake, Some(TIME_MAX));
        Refused { status, left: DISCARDED_BYTES_MAX }
    }

    /// Discards what has arrived, and returns how much that is.
    pub(crate) fn discard(&mut self, transport: &mut Transport<'_>, bytes: usize) -> usize {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            self.end(transport);
        }
        bytes
    }

    /// Closes the connection, since the client has had its time.
    pub(crate) fn end(&self, transport: &mut Transport<'_>) {
        transport.close_for(self.status.line());
    }
}
