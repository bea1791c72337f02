//! The system: sockets, poller and clock.
//!
//! Each kind of object is an enum with a variant for each kind that the system has, and one for its substitute in
//! memory: the simulator of the `testing` feature, or the scripted objects of the crate's own tests. The layers above
//! do not know which one they run on: sockets are made by a poller, whose backend decides.

mod clock;
mod datagram;
pub(crate) mod errno;
mod errors;
mod fed;
pub(crate) mod habits;
mod held;
mod listener;
pub(crate) mod memory;
mod names;
mod options;
mod poller;
#[cfg_attr(not(unix), allow(dead_code))] // Unix streams defer reads.
mod put_off;
mod readiness;
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
mod waits;

pub(crate) use clock::{Clock, deadline_after};
pub(crate) use datagram::{Datagram, Received};
pub(crate) use errors::{AcceptError, Blocked, is_blocked, is_out_of_buffers, may_be_of_an_earlier_one, of_send};
pub(crate) use fed::{Backlog, Fed, FedListener, Rest};
pub(crate) use habits::HERE;
pub(crate) use held::Held;
pub(crate) use listener::Listener;
pub(crate) use names::{Found, look_up};
pub(crate) use poller::{Events, Poller, Wait, Waker};
pub(crate) use put_off::PutOff;
pub use readiness::Readiness;
pub(crate) use stream::Stream;
#[cfg(unix)]
pub use unix_path::remove_stale_socket;
pub(crate) use waits::Waits;
