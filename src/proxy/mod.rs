//! The PROXY protocol, versions 1 and 2, inbound: the client's address behind a proxy (feature `proxy`).
//!
//! A proxy in front of a server (HAProxy, nginx, a cloud's load balancer) hides the clients: the server only sees
//! connections from the proxy. So the proxy first sends a header with the addresses of the client's connection.
//! [`AcceptProxy`] reads it, and only then makes the application protocol: its
//! [`connection_made`](crate::Protocol::connection_made) is called after the header,
//! [`Transport::peer_addr`](crate::Transport::peer_addr) returns the client's address from then on, and the bytes after
//! the header are its input, whether they arrived in the same segment or not. After the header nothing is in between: a
//! message costs the same as without a proxy.
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
//! If TLS or another [filter](crate::filter) follows on the wire, make [`ProxyHeader`] the first filter of the
//! listener.
//!
//! # Guarantees and limits
//!
//! - The header is configured, never guessed: with [`AcceptProxy`] or [`ProxyHeader`] every connection begins with a
//!   header, without them none does. A listener that accepted both would let every client choose its address.
//! - Anyone who can connect can claim to be anybody. Let only proxies reach the listener, or list them with
//!   [`AcceptProxy::trusted`].
//! - A header has a maximum size (107 bytes in version 1, [`header_bytes_max`](AcceptProxy::header_bytes_max) in
//!   version 2, where its first 16 bytes tell its length) and a deadline ([`timeout`](AcceptProxy::timeout)).
//! - With `AcceptProxy`, a missing or invalid header resets the connection, with a [`HeaderError`] as the reason; so
//!   does the deadline, with [`Timeout::Total`](crate::Timeout::Total). Both are counted
//!   ([`Counters::losses`](crate::Counters::losses)) and logged, at most once a second. A peer that leaves before the
//!   end of its header, as health checks that only connect do, is not treated as an error. In all these cases the
//!   application protocol is never made, so none of its callbacks is called.
//! - With LOCAL (version 2; a proxy's own health checks), UNKNOWN (version 1) and an unspecified family (version 2) the
//!   connection is served, with the proxy's own address. The extensions of a header with an unspecified family are
//!   checked, as those of a header with addresses are; those of LOCAL are ignored.
//!
//! Whatever depends on the socket sees the proxy's address, since that is what connects:
//! [`connections_per_peer_max`](crate::Limits::connections_per_peer_max), and a firewall. A connection counts as one of
//! its listener's from accept on, whether its header was read or not. Timeouts of [`Limits`](crate::Limits) count from
//! the protocol's `connection_made`; an idle timeout runs before that, too.

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
