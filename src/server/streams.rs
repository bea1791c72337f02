//! Connections on their way from the loop to a handler.

use std::io;
use std::rc::Rc;

use super::handling::Handling;
use super::task::{Accepted, Task};
use switchboard::{Address, BlockingStream, CloseReason, ConnectionId, Context, Detached, Protocol, Transport};

/// A connection that was accepted: it leaves the loop at once, or when there is room for it.
pub(super) struct Incoming {
    shared: Rc<Handling>,
    client: Address,
    is_in: bool,
}

impl Incoming {
    pub(super) fn factory(
        shared: Rc<Handling>,
    ) -> impl FnMut(&mut Context<'_>, &Address) -> Option<Incoming> + 'static {
        move |context, client| {
            let incoming = || Incoming { shared: shared.clone(), client: client.clone(), is_in: false };
            shared.admits(context, client).then(incoming)
        }
    }

    fn begin(&mut self, transport: &mut Transport<'_>) {
        self.is_in = true;
        self.shared.admission.admit(&mut transport.context());
        let (shared, client) = (self.shared.clone(), self.client.clone());
        let is_out = transport.detach(move |context, detached| match blocking(&shared, detached) {
            Ok(stream) => shared.begin(context, Task::Stream(Accepted(Some(stream))), client),
            Err(error) => shared.end(context, error.into(), &client),
        });
        if !is_out {
            transport.abort();
        }
    }

    fn let_in(context: &mut Context<'_>, id: ConnectionId, is_in: bool) {
        // The connection may have ended meanwhile.
        let _ = context.with_protocol(id, |incoming: &mut Incoming, transport| match is_in {
            true => incoming.begin(transport),
            false => transport.abort(),
        });
    }
}

impl Protocol for Incoming {
    /// Runs before the next connection is accepted, so the gate may shut after this one. With filters, several may have
    /// been accepted before the first of them was ready.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        match self.shared.admission.has_room() {
            true => self.begin(transport),
            false => {
                transport.pause_reading();
                self.shared.admission.wait(transport.id(), Incoming::let_in);
            }
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if self.is_in && !matches!(reason, CloseReason::Detached) {
            self.shared.admission.end(&mut transport.context());
        }
    }
}

/// Returns a stream for a handler; fails if the stream has filters and the handler is a child process.
fn blocking(shared: &Handling, detached: Detached) -> io::Result<BlockingStream> {
    if detached.has_filters() && !shared.takes_filters() {
        detached.abort();
        let why = "a connection with filters cannot be given to a child process";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    detached.into_blocking(None)
}
