//! Testing a protocol that is built on this crate: without sockets, without sleeping, and reproducibly (feature
//! `testing`).
//!
//! The loop and the protocols are the real ones; the sockets, the poller and the clock below them are simulated,
//! modelled on Linux.
//!
//! # One protocol
//!
//! [`Harness`] feeds bytes to one protocol, shows what it wrote, moves the clock, and tells how the connection ended.
//! [`every_cut`] cuts an input into pieces in every possible way, as a network may. This protocol has a bug that only
//! one cut shows:
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
//!         data.len() // the bug: a line ending that is cut in two is consumed, but not counted
//!     }
//! }
//!
//! every_cut(b"one\r\ntwo\r\n", |pieces| {
//!     let mut harness = Harness::new(CountLines);
//!     for piece in pieces {
//!         harness.feed(piece);
//!     }
//!     assert_eq!(harness.take_written(), b"||");
//! });
//! ```
//!
//! # Systems
//!
//! [`Network`] has several hosts, each with its own loop, and [`Peer`]s that a test plays by hand. A seed decides in
//! which order the loops are turned, how long packets take, and which [`Faults`] happen when. Links can be cut, healed,
//! slowed and narrowed, and can lose packets; [rules](Network::add_rule) decide what happens to single packets;
//! [`run_for`](Network::run_for) and [`run_until`](Network::run_until) let virtual time pass; the
//! [`trace`](Network::trace) tells what happened, byte for byte the same for the same seed.
//! [`exchange`](Network::exchange) and its like send a request and wait for the answer.
//!
//! [`seeds`] runs a test with many seeds, and prints how to replay one that fails; [`seeds_with`] also finds out with
//! how few faults it still fails; [`seeds_of`] tries the seeds listed in a file first. A replayed failure prints the
//! trace, and with `SWITCHBOARD_PCAP=FILE` a failing test writes its packets to a file for tcpdump and Wireshark.
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
//!     let address = network.serve(7, |_, _| Some(Echo));
//!     let mut peer = network.peer(address);
//!     assert_eq!(network.exchange(&mut peer, b"hello", |answer| answer.len() == 5), b"hello");
//! });
//! ```
//!
//! Hosts look up names, which the test sets and changes ([`set_name`](Network::set_name)). They can fail, too: they
//! [crash](Network::crash), with a reset or silently, and are [restarted](Network::restart); they can be paused
//! ([`pause`](Network::pause)) or slow ([`slow_host`](Network::slow_host)), have wrong clocks
//! ([`set_clock_rate`](Network::set_clock_rate)) and run out of descriptors
//! ([`set_descriptors_max`](Network::set_descriptors_max)); and their calls fail on demand
//! ([`fail_call`](Network::fail_call)).
//!
//! Unix streams and datagrams use neither the network nor files: [`unix_peer`](Network::unix_peer) connects to a
//! stream, [`unix_datagram_peer`](Network::unix_datagram_peer) plays a datagram socket, and loops listen, connect and
//! bind as usual. A [`pipe`](Network::pipe) takes the place of standard input and the like, and with the feature
//! `signals` a test sends signals with `Network::raise`.
//!
//! A simulated loop has no descriptors: [`Transport::socket`](crate::Transport::socket) returns `None`, and the loop's
//! own `AsFd` panics and says why (check [`is_simulated`](crate::EventLoop::is_simulated) first). It does not accept
//! the system's objects: listening on an existing listening socket, `attach`, and `register` of anything but a pipe of
//! its network fail with `Unsupported`. It does accept what was made on its simulated host: a [`Peer`] with `attach`,
//! and a [`PeerListener`] with `listen`. The guide's page on testing has a table of what runs in a simulation, what of
//! Linux is modelled and compared with it, and what is not.
//!
//! Hosts run Linux by default. [`set_platform`](Network::set_platform) gives them the behaviour of macOS, BSD or
//! Windows.
//!
//! Two runs are the same only if the program is deterministic: what it does must not depend on the real clock, on
//! addresses in memory, on the order of a hash map, or on other threads.
//!
//! # What it finds
//!
//! This crate tests its own guarantees with it: random programs of peers and callbacks, with every fault, are checked
//! against a ledger that knows nothing of the loop. One seed is one program, and one core runs some 900 of them in a
//! second. For each guarantee a bug was put into the loop, and was found within this many seeds:
//!
//! | the bug | found within so many seeds |
//! | --- | --- |
//! | an id reaches its slot's next owner | 300 |
//! | a slot is freed at once | 300 |
//! | a used-up read budget carries nothing over | 300 |
//! | a used-up accept budget carries nothing over | 300 |
//! | a resumed reader does not try a read | 300 |
//! | a hint does not make it read further | 300 |
//! | a would-block at the urgent mark counts as drained | 300 |
//! | data is delivered after close | 300 |
//! | data is delivered while reading is paused | 300 |
//! | the end is delivered while reading is paused | 300 |
//! | input withheld by a low mark hides the end | 3,000 |
//! | a change of protocol drops kept input | 300 |
//! | a detached socket stays registered | 300 |
//! | resume_writing is called at the high mark | 300 |
//! | pause_writing is not called above the high mark | 300 |
//! | a mark is reported after close | 1,000 |
//! | a partial write loses the rest | 300 |
//! | output written to other connections is not flushed | 300 |
//! | a write to another connection goes to the one whose callback runs | 300 |
//! | a large write overtakes gathered output | 300 |
//! | a large piece that waits for its callback to end overtakes gathered output | 1,000 |
//! | the cap of a connection is not enforced | 300 |
//! | the cap of the loop is not enforced | 1,000 |
//! | the sum of the queues drifts | 1,000 |
//! | datagrams queued at an end are not reported | 300 |
//! | a callback that closes loses the errors after the one reported to it | 3,000 |
//! | running out of buffers sets no timer | 300 |
//! | connection_lost is called twice | 300 |
//! | the end of a stream is delivered twice | 300 |
//! | FIN is sent before the queue | 300 |
//! | an orderly close is a reset | 1,000 |
//! | half an answer has an orderly end | 300 |
//! | a close does not linger | 3,000 |
//! | a close waits forever | 300 |
//! | a failing send drops input that had arrived | 300 |
//! | a panic does not end its connection | 1,000 |
//! | a full listener stays full | 300 |
//! | a lingering connection makes no room | 1,000 |
//! | a connection that starts to linger does not wake a full listener | 1,000 |
//! | backing off from accept sets no timer | 300 |
//! | a timer fires early | 1,000 |
//! | a cancelled timer fires | 300 |
//! | a protocol replaced while it was being reached comes back | 300 |
//! | a panic while reaching a protocol does not end its connection | 300 |
//! | a protocol gets its predecessor's timers | 300 |
//! | a value that a protocol waits for is delivered after its end has begun | 300 |
//! | a protocol's timer is lost when its key is set again | 300 |
//! | a lingering connection is never forgotten | 1,000 |
//! | the quick path continues although its callback did something else | 1,000 |
//! | the quick path takes one read for all the input | 300 |
//! | the quick path loses output that is not sent at once | 300 |
//! | output written before a connection is established is dropped | 300 |
//! | a connection counts as established before it has a peer | 300 |
//! | a failed connect is reported as a lost connection | 300 |
//! | a failed attempt is not followed by the next one | 300 |
//! | the other attempts of a connect are forgotten | 300 |
//! | a connect has no deadline | 300 |
//! | a socket connected to itself counts as connected | 300 |
//! | a write half that is shut down early stays open | 300 |
//! | missed ticks are not counted | 300 |
//! | output written by a handle is lost | 300 |
//! | a raised cap is not noticed | 3,000 |
//! | a datagram that had to wait is sent twice | 3,000 |
//! | the marks of a datagram socket do not alternate | 3,000 |
//! | a used-up budget of datagrams carries nothing over | 300 |
//! | a refused protocol is dropped within the call | 300 |
//! | the queue of a lost connection does not return to the pool | 300 |
//! | a protocol that starts anew inherits a timeout | 1,000 |
//! | silence is reported while reading is paused | 1,000 |
//! | a protocol that starts anew inherits a pause | 300 |
//! | a protocol that starts anew inherits marks | 1,000 |
//! | a timeout in the middle of an answer makes an orderly end | 1,000 |
//! | a producer is not called when there is room again | 300 |
//! | output is produced above the low mark | 300 |
//! | a protocol continues its predecessor's producing | 300 |
//! | an end that was read before a join is not passed on | 30 |
//! | a slow peer times out without a send being tried | 30 |
//! | an idle timeout ends a connection without a send being tried | 30 |
//! | the steps in which a kernel makes room are not awaited | 30 |
//! | a timeout discards what the kernel still holds | 30 |
//! | at the loop's cap the connection being written to ends | 30 |
//! | at the loop's cap the shortest queue is ended first | 30 |
//! | at the loop's cap a datagram is dropped | 30 |
//! | input is forgotten behind a read that has failed for lack of memory | 600 |
//! | a read that fails for lack of memory ends its connection | 600 |
//! | a protocol is told of the crash of its own host | 30 |

mod capturing;
mod cuts;
mod harness;
mod network;
mod peer;
mod seeds;
#[cfg(unix)]
mod unix_datagram_peer;

pub use capturing::Capturing;
pub use cuts::every_cut;
pub use harness::Harness;
pub use network::{HostId, Network, Platform, RuleId, Unread};
pub use peer::{DatagramPeer, Peer, PeerListener};
pub use seeds::{seeds, seeds_of, seeds_with};
#[cfg(unix)]
pub use unix_datagram_peer::UnixDatagramPeer;

#[cfg(test)]
pub(crate) use seeds::seeds_in;

pub use crate::sys::sim::SimulatedPipe;
pub use crate::sys::sim::{Call, Crash, Fate, Faults, Packet, PacketKind};
// For the crate's own tests. It is hidden so that no user's seeds depend on its numbers.
#[doc(hidden)]
pub use crate::sys::sim::Random;
