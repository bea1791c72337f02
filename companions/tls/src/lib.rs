//! TLS for [`switchboard`], as a [filter](switchboard::filter) between the socket and any protocol, on
//! [`rustls`](https://docs.rs/rustls).
//!
//! A protocol does not know that there is TLS below it: `connection_made` comes when the handshake is done, `write` is
//! encrypted on its way out, `shutdown_write` and `close` send `close_notify` after what was written, and
//! `eof_received` means that the peer has sent it. A stream that ends without it is lost with
//! [`CloseReason::Truncated`](switchboard::CloseReason::Truncated).
//!
//! ```
//! use std::sync::Arc;
//!
//! use rustls::{ClientConfig, ServerConfig};
//! use switchboard::{Connect, Context, Listen, Protocol, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
//!         transport.write(data);
//!         data.len()
//!     }
//! }
//!
//! fn serve(context: &mut Context<'_>, config: Arc<ServerConfig>) -> std::io::Result<()> {
//!     let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1234));
//!     context.listen(Listen::at(address).filter(switchboard_tls::listen(config)), |_, _| Some(Echo))?;
//!     Ok(())
//! }
//!
//! fn dial(context: &mut Context<'_>, config: Arc<ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
//!     let name = "example.org".try_into()?;
//!     context.connect(Connect::to(("example.org", 443)).filter(switchboard_tls::connect(config, name)), Echo)?;
//!     Ok(())
//! }
//! ```
//!
//! STARTTLS is [`Transport::set_filter`](switchboard::Transport::set_filter) with a [`Tls`], from a callback, at either
//! end. `transport.filter::<Tls>()` returns the [`Tls`] of a connection, which knows what was negotiated.
//!
//! The configuration decides what is checked, and rustls' default is to check everything: a client checks the server's
//! certificate, its dates and its name, and nothing here turns that off. Early data is neither sent nor accepted, since
//! it can be recorded and replayed. [`Limits::filter_timeout`](switchboard::Limits::filter_timeout) bounds how long a
//! handshake may take, and the connection's limits bound how much is buffered.
//!
//! A server that asks its clients for certificates should bound how many they may send ([`short_chains`]).
//!
//! With TLS 1.3 a client's handshake is done before the server has looked at the client's certificate. So for a client
//! that is rejected for its certificate, `connection_made` is called first, and then `connection_lost` with the reason.
//!
//! The crate has no crypto provider: the configuration brings it. With `ring`, which is a feature of rustls:
//!
//! ```
//! use std::sync::Arc;
//!
//! let provider = Arc::new(rustls::crypto::ring::default_provider());
//! let missing = switchboard_tls::server_config(provider, "no/such/chain.pem", "no/such/key.pem");
//! assert!(missing.unwrap_err().to_string().starts_with("cannot read \"no/such/chain.pem\": "));
//! ```

#![forbid(unsafe_code)]

mod asked;
mod chains;
mod name;
mod pem;
mod records;
mod reload;
mod tls;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use switchboard::Address;

pub use self::chains::short_chains;
pub use self::pem::{PemError, roots, server_config};
pub use self::reload::Reloadable;
pub use self::tls::Tls;

/// Returns what [`Listen::filter`](switchboard::Listen::filter) takes to serve TLS with this configuration.
pub fn listen(config: Arc<ServerConfig>) -> impl Fn(&Address) -> Option<Tls> + Send + Sync + 'static {
    move |_| Some(Tls::server(config.clone()))
}

/// Returns what [`Connect::filter`](switchboard::Connect::filter) takes to speak TLS with the server of this name, which its
/// certificate must have.
pub fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> impl Fn() -> Tls + Send + Sync + 'static {
    move || Tls::client(config.clone(), name.clone())
}
