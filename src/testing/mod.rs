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
//!
//! # What it finds
//!
//! This crate proves its own guarantees with it: random programs of peers and of callbacks, with every fault, against a
//! ledger that knows nothing of the loop; one seed is one program. A bug was put into the loop for each guarantee, and
//! found after so many seeds, of which one core runs some 1,900 in a second:
//!
//! | the bug | seeds |
//! | --- | --- |
//! | an id names its successor | 5 |
//! | a slot is freed at once | 1 |
//! | a used-up read budget carries nothing over | 1 |
//! | a used-up accept budget carries nothing over | 5 |
//! | a resumed reader tries no read | 6 |
//! | a hint does not make it read on | 14 |
//! | data comes after close | 5 |
//! | data comes while reading is paused | 2 |
//! | the end comes while reading is paused | 2 |
//! | what a low mark withholds hides the end | 930 |
//! | a change of protocol drops kept input | 75 |
//! | a detached socket stays registered | 2 |
//! | resume_writing comes at the high mark | 15 |
//! | nobody is told that the queue is over high | 16 |
//! | a mark comes after close | 32 |
//! | a partial write loses the rest | 56 |
//! | what is written to others is not flushed | 2 |
//! | a write to another goes to whose callback runs | 1 |
//! | a large write overtakes what was gathered | 43 |
//! | the cap of a connection does not hold | 156 |
//! | the cap of the loop does not hold | 355 |
//! | the sum of the queues drifts | 2 |
//! | out of buffers sets no timer | 70 |
//! | connection_lost comes twice | 5 |
//! | the end of a stream comes twice | 1 |
//! | FIN goes out before the queue | 39 |
//! | an orderly close is a reset | 26 |
//! | half an answer ends in order | 13 |
//! | a close does not linger | 615 |
//! | a close waits for ever | 15 |
//! | a failing send drops what had arrived | 11 |
//! | a panic does not end its connection | 52 |
//! | a listener that was full stays so | 4 |
//! | a back-off of accept has no timer | 1 |
//! | a timer is early | 6 |
//! | a cancelled timer fires | 11 |
//! | a lingering connection is never forgotten | 14 |
//! | the quick path goes on though its callback did something | 180 |
//! | the quick path takes one read for all | 138 |
//! | the quick path loses what is not sent at once | 51 |
//! | a queue of a lost connection does not come back | 4 |

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
