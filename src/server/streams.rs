//! Connections, on their way from the loop to a handler.

use std::io;
use std::rc::Rc;

use super::handling::Handling;
use super::task::{Accepted, Task};
use switchboard::{Address, CloseReason, Context, Protocol, Transport};

/// A connection that was accepted: leaves the loop at once.
pub(super) struct Incoming {
    shared: Rc<Handling>,
    client: Address,
}

impl Incoming {
    pub(super) fn factory(
        shared: Rc<Handling>,
    ) -> impl FnMut(&mut Context<'_>, &Address) -> Option<Incoming> + 'static {
        move |context, client| {
            let incoming = || Incoming { shared: shared.clone(), client: client.clone() };
            shared.admits(context, client).then(incoming)
        }
    }
}

impl Protocol for Incoming {
    /// Before the next one is accepted: the gate may shut behind this one.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.shared.admission.admit(&mut transport.context());
        let (shared, client) = (self.shared.clone(), self.client.clone());
        let is_out = transport.detach(move |context, detached| match detached.into_blocking(None) {
            Ok(stream) => shared.begin(context, Task::Stream(Accepted(Some(stream))), client),
            Err(error) => shared.end(context, error.into(), &client),
        });
        if !is_out {
            let why = "a connection with filters cannot be given to a handler that blocks";
            let error = io::Error::new(io::ErrorKind::Unsupported, why).into();
            self.shared.tell(&mut transport.context(), &self.client, &error);
            transport.abort();
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        0
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if !matches!(reason, CloseReason::Detached) {
            self.shared.admission.end(&mut transport.context());
        }
    }
}
