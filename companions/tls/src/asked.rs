//! What was negotiated.

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use crate::Tls;
use crate::tls::Side;

/// # What was negotiated
///
/// All of it is known by the time `connection_made` is called.
impl Tls {
    /// Returns the version of the protocol.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.state()?.protocol_version()
    }

    /// Returns the cipher suite.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.state()?.negotiated_cipher_suite()
    }

    /// Returns the protocol that both sides have agreed on through ALPN.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.state()?.alpn_protocol()
    }

    /// Returns the peer's certificates, its own first. A server has them only if it has asked the client for one.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.state()?.peer_certificates()
    }

    /// Returns the name of the server that the client asked for (SNI), in lower case; `None` at the client.
    pub fn server_name(&self) -> Option<&str> {
        match &self.side {
            Side::Server(_, asked) => asked.name(),
            _ => None,
        }
    }

    /// Returns whether the session of an earlier connection was resumed.
    pub fn is_resumed(&self) -> bool {
        self.state().and_then(CommonState::handshake_kind) == Some(HandshakeKind::Resumed)
    }

    fn state(&self) -> Option<&CommonState> {
        match &self.side {
            Side::Server(connection, _) => Some(connection),
            Side::Client(connection) => Some(connection),
            Side::Failed(_) => None,
        }
    }
}
