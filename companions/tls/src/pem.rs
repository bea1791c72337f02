//! Configurations from PEM files, with errors that name the file at fault.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

/// Why no configuration could be made from PEM files. Its text names the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum PemError {
    /// The file could not be opened or read.
    Unreadable(PathBuf, std::io::Error),
    /// The contents are not PEM.
    Malformed(PathBuf, pem::Error),
    /// There is no certificate in it.
    NoCertificate(PathBuf),
    /// There is no private key in it.
    NoKey(PathBuf),
    /// A certificate in it cannot be used.
    BadCertificate(PathBuf, rustls::Error),
    /// The provider cannot use the key in it.
    BadKey(PathBuf, rustls::Error),
    /// The first certificate of one file does not belong to the key in the other one.
    Mismatch {
        /// The file with the certificates.
        chain: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The provider supports nothing that could be negotiated.
    BadProvider(rustls::Error),
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PemError::Unreadable(path, error) => write!(f, "cannot read {path:?}: {error}"),
            PemError::Malformed(path, error) => write!(f, "{path:?} is not PEM: {error}"),
            PemError::NoCertificate(path) => write!(f, "no certificate in {path:?}"),
            PemError::NoKey(path) => write!(f, "no private key in {path:?}"),
            PemError::BadCertificate(path, error) => write!(f, "a bad certificate in {path:?}: {error}"),
            PemError::BadKey(path, error) => write!(f, "a bad private key in {path:?}: {error}"),
            PemError::Mismatch { chain, key } => {
                write!(f, "the certificate in {chain:?} does not belong to the private key in {key:?}")
            }
            PemError::BadProvider(error) => write!(f, "this provider does not support TLS: {error}"),
        }
    }
}

/// The source is the one below the inner error, whose text is part of this error's.
impl Error for PemError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PemError::Unreadable(_, error) => error.source(),
            PemError::Malformed(_, error) => error.source(),
            PemError::BadCertificate(_, error) | PemError::BadKey(_, error) | PemError::BadProvider(error) => {
                error.source()
            }
            PemError::NoCertificate(_) | PemError::NoKey(_) | PemError::Mismatch { .. } => None,
        }
    }
}

/// Returns the configuration of a server with the certificates of one PEM file, its own first, and the private key of
/// another file, or of the same one. It does not ask clients for a certificate.
///
/// # Errors
///
/// Fails for everything that would make each handshake fail: a file that does not exist or is not PEM, one without a
/// certificate or a key, a certificate that does not belong to the key.
pub fn server_config(
    provider: Arc<CryptoProvider>,
    chain: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<ServerConfig, PemError> {
    build(provider, chain.as_ref(), key.as_ref())
}

fn build(provider: Arc<CryptoProvider>, chain: &Path, key: &Path) -> Result<ServerConfig, PemError> {
    let certificates = certificates(chain)?;
    let private_key = match PrivateKeyDer::from_pem_file(key) {
        Ok(found) => found,
        Err(pem::Error::NoItemsFound) => return Err(PemError::NoKey(key.to_owned())),
        Err(error) => return Err(unread(key, error)),
    };
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(PemError::BadProvider)?.with_no_client_auth();
    builder.with_single_cert(certificates, private_key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PemError::Mismatch { chain: chain.to_owned(), key: key.to_owned() },
        rustls::Error::InvalidCertificate(_) => PemError::BadCertificate(chain.to_owned(), error),
        error => PemError::BadKey(key.to_owned(), error),
    })
}

/// Returns the certificates of a PEM file as root certificates, for a client to check its servers or a server to check
/// its clients.
///
/// # Errors
///
/// Fails if the file does not exist, is not PEM, or has no certificate.
pub fn roots(path: impl AsRef<Path>) -> Result<RootCertStore, PemError> {
    let path = path.as_ref();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| PemError::BadCertificate(path.to_owned(), error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(PemError::NoCertificate(path.to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unread(path, error)),
    }
}

fn unread(path: &Path, error: pem::Error) -> PemError {
    match error {
        pem::Error::Io(error) => PemError::Unreadable(path.to_owned(), error),
        error => PemError::Malformed(path.to_owned(), error),
    }
}
