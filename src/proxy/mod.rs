//! The PROXY protocol, versions 1 and 2, inbound: who connected to the proxy in front of this server (feature `proxy`).
//!
//! A proxy in front of a server (HAProxy, nginx, a cloud's load balancer) hides its clients: the server sees connections
//! from the proxy alone. So the proxy sends a header first, with the addresses of the client's connection. [`AcceptProxy`]
//! reads it, and makes the protocol proper only then: its [`connection_made`](crate::Protocol::connection_made) comes
//! after the header, [`Transport::peer_addr`](crate::Transport::peer_addr) tells the client's address from there on, and
//! what came behind the header, in the same segment or not, is its input. From there on nothing stands between: a message
//! costs what it costs without a proxy.
//!
//! ```no_run
//! # struct Echo;
//! # impl switchboard::Protocol for Echo {
//! #     fn data_received(&mut self, transport: &mut switchboard::Transport<'_>, data: &[u8]) -> usize {
//! #         transport.write(data);
//! #         data.len()
//! #     }
//! # }
//! use switchboard::EventLoop;
//! use switchboard::proxy::AcceptProxy;
//!
//! let mut event_loop = EventLoop::new()?;
//! let proxies: [std::net::IpAddr; 2] = ["10.0.0.1".parse()?, "10.0.0.2".parse()?];
//! let accept = AcceptProxy::new().trusted(move |proxy| {
//!     proxy.as_inet().is_some_and(|proxy| proxies.contains(&proxy.ip()))
//! });
//! event_loop.context().listen("0.0.0.0:1234".parse::<std::net::SocketAddr>()?, accept.factory(|_, carried| {
//!     println!("somebody at {} comes through {}", carried.peer(), carried.proxy());
//!     Some(Echo)
//! }))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where TLS or another [filter](crate::filter) comes next on the wire, the header is the first of the listener's filters:
//! [`ProxyHeader`].
//!
//! # What is held to
//!
//! - It is configured, never guessed: with [`AcceptProxy`] or [`ProxyHeader`] every connection begins with a header,
//!   without them none does. A listener that took both would let every client choose its address.
//! - Everyone who can connect can claim to be anybody. Let nobody but proxies reach the listener, or name them by
//!   [`AcceptProxy::trusted`].
//! - A header has a bound (107 bytes in version 1, [`header_bytes_max`](AcceptProxy::header_bytes_max) in version 2,
//!   where a longer one is found out by its first 16 bytes) and a deadline ([`timeout`](AcceptProxy::timeout)).
//! - To `AcceptProxy` a header that is none, or no good one, ends the connection by a reset, with a [`HeaderError`] as its reason; so does
//!   the deadline, with [`Timeout::Total`](crate::Timeout::Total). Both are counted
//!   ([`Counters::losses`](crate::Counters::losses)) and logged, at most once a second. A peer that leaves before the end
//!   of its header, as checks of "does it accept?" do, is no more than that. In all these cases the protocol proper is
//!   never made, so it is told nothing.
//! - With LOCAL (version 2; a proxy's own health checks), UNKNOWN (version 1) and an unspecified family (version 2) the
//!   connection is served, with the proxy's own address. The extensions of the last of these are checked, as those of a
//!   header with addresses are; those of LOCAL are not looked at.
//!
//! What goes by the socket goes by the proxy's address, since that is who connects:
//! [`connections_per_peer_max`](crate::Limits::connections_per_peer_max), and what a firewall does. A connection counts
//! as one of its listener's from accept on, its header read or not. Timeouts of [`Limits`](crate::Limits) count from the
//! protocol's `connection_made`; an idle timeout runs before that, too.

mod carried;
mod checksum;
mod error;
mod filter;
mod header;
mod receiver;

pub use carried::{Carried, Tlvs, Version, tlv};
pub use error::HeaderError;
pub use filter::ProxyHeader;
pub use receiver::AcceptProxy;
