//! The system: sockets, poller and clock.
//!
//! Each kind of object is an enum with one arm for each backend: mio's, the simulated one of the feature `testing`, and
//! for the crate's own tests a scripted one that answers what a test tells it to. What is above does not know which it
//! runs on: it has sockets made by the poller, whose backend decides.

mod accept_error;
mod clock;
mod datagram;
mod fed;
mod held;
mod listener;
mod names;
mod poller;
mod put_off;
#[cfg(test)]
pub(crate) mod script;
#[cfg(feature = "testing")]
pub(crate) mod sim;
mod stream;
#[cfg(unix)]
mod unix_address;
#[cfg(unix)]
mod unix_datagram;
#[cfg(unix)]
mod unix_listener;
#[cfg(unix)]
mod unix_path;
#[cfg(unix)]
mod unix_stream;

pub(crate) use accept_error::AcceptError;
pub(crate) use clock::{Clock, deadline_after};
pub(crate) use datagram::{Datagram, Received, may_be_of_an_earlier_one};
pub(crate) use fed::{Backlog, Fed, FedListener, Rest};
pub(crate) use held::Held;
pub(crate) use listener::Listener;
pub(crate) use names::look_up;
pub use poller::Readiness;
pub(crate) use poller::{Events, Poller, Wait, Waker};
pub(crate) use put_off::PutOff;
pub(crate) use stream::{Blocked, SHORT_READ_EMPTIES_TCP, Stream, is_blocked, is_out_of_buffers};
#[cfg(unix)]
use unix_address::unix_address;
#[cfg(unix)]
pub use unix_path::remove_stale_socket;
#[cfg(unix)]
pub(crate) use unix_stream::send;

/// What only simulated loops do stands out of the way of the others.
#[cfg(feature = "testing")]
#[cold]
fn cold<R>(call: impl FnOnce() -> R) -> R {
    call()
}
