//! Datagrams on their way from the loop to a handler.

use std::io;
use std::rc::Rc;

use super::RequestError;
use super::handling::Handling;
use super::task::Task;
use switchboard::{Address, DatagramError, DatagramProtocol, DatagramTransport};

pub(super) struct Datagrams {
    shared: Rc<Handling>,
}

impl Datagrams {
    pub(super) fn new(shared: Rc<Handling>) -> Datagrams {
        Datagrams { shared }
    }
}

impl DatagramProtocol for Datagrams {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        let mut context = transport.context();
        if self.shared.admits(&mut context, from) {
            self.shared.admission.admit(&mut context);
            self.shared.begin(&mut context, Task::Datagram(data.to_vec()), from.clone());
        }
    }

    /// Reports answers that could not be sent. That an answer was not received is only logged for debugging.
    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        match error {
            DatagramError::Send { to: Some(to), error } => {
                self.shared.tell(&mut transport.context(), to, &RequestError::Io(same(error)));
            }
            // It is not known whose answers they were.
            DatagramError::Dropped(count) => log::warn!("{count} answers to datagrams were dropped unsent"),
            other => log::debug!("datagram server: {other}"),
        }
    }
}

/// Copies an error of the system.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
