//! The way to test a protocol that is built on this crate: without sockets, without sleeping, and again and again the
//! same (feature `testing`).
//!
//! The loop is the real one, and so are the protocols; sockets, poller and clock beneath it are simulated, after the
//! model of Linux.
//!
//! # One protocol
//!
//! [`Harness`] feeds bytes to one protocol, shows what it wrote, moves the clock, and tells its end. [`every_cut`] cuts
//! an input into pieces in all ways there are, since that is what a network does. This protocol has a bug that one cut
//! alone shows:
//!
//! ```should_panic
//! use switchboard::testing::{Harness, every_cut};
//! use switchboard::{Protocol, Transport};
//!
//! struct CountLines;
//!
//! impl Protocol for CountLines {
//!     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
//!         let lines = data.windows(2).filter(|pair| pair == b"\r\n").count();
//!         transport.write(&b"|".repeat(lines));
//!         data.len() // the bug: a line's end that is cut in two is consumed, and not seen
//!     }
//! }
//!
//! every_cut(b"one\r\ntwo\r\n", |pieces| {
//!     let mut harness = Harness::new(CountLines);
//!     for piece in pieces {
//!         harness.feed(piece);
//!     }
//!     assert_eq!(harness.written(), b"||");
//! });
//! ```
//!
//! # Systems
//!
//! [`Network`] has several hosts, each with a loop of its own, and [`Peer`]s that a test plays by hand. A seed decides
//! in which order the loops are turned, how long packets take, and which [`Faults`] happen when. Links are cut, healed
//! and slowed; [`run_for`](Network::run_for) and [`run_until`](Network::run_until) let virtual time pass; the
//! [`trace`](Network::trace) tells what happened, byte for byte the same for the same seed. [`seeds`] runs a test with
//! many seeds, and prints how to replay the one that fails:
//!
//! ```
//! use switchboard::testing::{Faults, Network, seeds};
//! # use switchboard::{Protocol, Transport};
//! # struct Echo;
//! # impl Protocol for Echo {
//! #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
//! #         transport.write(data);
//! #         data.len()
//! #     }
//! # }
//!
//! seeds(|seed| {
//!     let mut network = Network::new(seed, Faults::all());
//!     let server = network.host();
//!     let address = network.address(server, 7);
//!     network.context(server).listen(address, |_, _| Some(Box::new(Echo))).unwrap();
//!     let mut peer = network.peer(address);
//!     let mut unsent = &b"hello"[..];
//!     let mut answer = Vec::new();
//!     network.run_until(|_| {
//!         unsent = &unsent[peer.send(unsent)..];
//!         answer.extend(peer.read());
//!         answer == b"hello"
//!     });
//!     assert_eq!(answer, b"hello");
//! });
//! ```
//!
//! What a simulated loop has not: descriptors ([`Transport::socket`](crate::Transport::socket) answers `None`, the
//! loop's own `AsFd` panics), and what others have made: `listen_on`, `attach` and `register` answer `Unsupported`.
//!
//! Two runs are the same only if the program is: what it does must not depend on the real clock, on addresses in memory,
//! on the order of a hash map, or on other threads.

mod cuts;
mod harness;
mod network;
mod peer;
mod seeds;

pub use cuts::every_cut;
pub use harness::Harness;
pub use network::{HostId, Network, Unread};
pub use peer::{DatagramPeer, Peer, PeerListener};
pub use seeds::seeds;

pub use crate::sys::sim::{Faults, Random};
