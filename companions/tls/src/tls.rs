//! The filter.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, Error, ServerConfig};
use switchboard::filter::{Filter, Flow};

use crate::name::{self, Asked};
use crate::records::Records;

/// TLS between a socket and a protocol, at either end.
///
/// One is made for each connection: by [`listen`](crate::listen) and [`connect`](crate::connect), or by hand for
/// [`Transport::set_filter`](switchboard::Transport::set_filter). [`Transport::filter`](switchboard::Transport::filter)
/// returns it, and it knows what was negotiated:
///
/// ```
/// use switchboard::{Protocol, Transport};
/// use switchboard_tls::Tls;
///
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
///         let is_http2 = transport.filter::<Tls>().is_some_and(|tls| tls.alpn_protocol() == Some(b"h2"));
///         transport.write(if is_http2 { b"two" } else { b"one" });
///     }
///
///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
///         data.len()
///     }
/// }
/// ```
pub struct Tls {
    pub(crate) side: Side,
    records: Records,
}

pub(crate) enum Side {
    Server(UnbufferedServerConnection, Asked),
    Client(UnbufferedClientConnection),
    /// It could not be created.
    Failed(Error),
}

impl Tls {
    /// Creates the server's end. A configuration that rustls refuses, or that accepts early data, fails when the
    /// handshake begins: a closure that makes filters cannot return an error, so the owner of the listener is told.
    pub fn server(config: Arc<ServerConfig>) -> Tls {
        if config.max_early_data_size > 0 {
            let why = "the configuration accepts early data, which may be a replay: leave max_early_data_size at 0";
            return Tls::new(Side::Failed(Error::General(why.into())));
        }
        let (config, asked) = name::noted(&config);
        match UnbufferedServerConnection::new(config) {
            Ok(connection) => Tls::new(Side::Server(connection, asked)),
            Err(error) => Tls::new(Side::Failed(error)),
        }
    }

    /// Creates the client's end, for a server whose certificate must have this name. A configuration that rustls
    /// refuses fails when the handshake begins, so the protocol is told as for any other failed handshake.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Tls {
        match UnbufferedClientConnection::new(config, name) {
            Ok(connection) => Tls::new(Side::Client(connection)),
            Err(error) => Tls::new(Side::Failed(error)),
        }
    }

    fn new(side: Side) -> Tls {
        Tls { side, records: Records::default() }
    }
}

impl Filter for Tls {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        match &mut self.side {
            Side::Server(..) => {}
            Side::Client(connection) => self.records.begin(connection, flow),
            Side::Failed(error) => flow.fail(error.clone()),
        }
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        match &mut self.side {
            Side::Server(connection, _) => self.records.receive(connection, data, flow),
            Side::Client(connection) => self.records.receive(connection, data, flow),
            Side::Failed(_) => data.len(),
        }
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        match &mut self.side {
            Side::Server(connection, _) => self.records.send(connection, data, flow),
            Side::Client(connection) => self.records.send(connection, data, flow),
            Side::Failed(_) => data.len(),
        }
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        match &mut self.side {
            Side::Server(connection, _) => self.records.finish(connection, flow),
            Side::Client(connection) => self.records.finish(connection, flow),
            Side::Failed(_) => {}
        }
    }

    /// This is not called after the peer's `close_notify`.
    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        flow.fail("the stream ended without close_notify");
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Server(..) => "server",
            Side::Client(_) => "client",
            Side::Failed(_) => "failed",
        };
        f.debug_struct("Tls").field("side", &side).field("version", &self.protocol_version()).finish_non_exhaustive()
    }
}
