//! A bound on the certificates of clients.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

/// Returns a verifier like this one, for servers that ask their clients for a certificate, which refuses a client that
/// sends more than this many intermediate certificates, without looking at any. Clients whose authority has few
/// intermediates send one or two; 4 is enough for nearly all.
///
/// A client may send 64 KB of certificates, each of which could have issued any of the others. rustls looks for a path
/// through all of these, in 200,000 steps at most, which take 40 ms of processor time for each handshake. Through 4 there
/// are 64 steps.
///
/// ```
/// use std::sync::Arc;
///
/// use rustls::server::WebPkiClientVerifier;
/// use rustls::server::danger::ClientCertVerifier;
///
/// fn verifier(roots: rustls::RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, Box<dyn std::error::Error>> {
///     let provider = Arc::new(rustls::crypto::ring::default_provider());
///     let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
///     Ok(switchboard_tls::short_chains(verifier, 4))
/// }
/// ```
pub fn short_chains(verifier: Arc<dyn ClientCertVerifier>, intermediates_max: usize) -> Arc<dyn ClientCertVerifier> {
    Arc::new(ShortChains { verifier, intermediates_max })
}

#[derive(Debug)]
struct ShortChains {
    verifier: Arc<dyn ClientCertVerifier>,
    intermediates_max: usize,
}

impl ClientCertVerifier for ShortChains {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() > self.intermediates_max {
            let why = TooMany { sent: intermediates.len(), max: self.intermediates_max };
            return Err(CertificateError::Other(OtherError(Arc::new(why))).into());
        }
        self.verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.verifier.requires_raw_public_keys()
    }
}

#[derive(Debug)]
struct TooMany {
    sent: usize,
    max: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} intermediate certificates, of which {} are allowed", self.sent, self.max)
    }
}

impl StdError for TooMany {}
