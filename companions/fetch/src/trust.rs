// Which servers are trusted for `https:`, and the TLS below a connection to one (RFC 9110, section 4.3).

use std::cell::OnceCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use switchboard_tls::Tls;
use url::{Host, Url};

pub(crate) struct Trust {
    /// Certificates to trust instead of the system's.
    ca: Option<PathBuf>,
    /// Made for the first server that needs it: reading the system's certificates takes some milliseconds.
    config: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    pub(crate) fn new(ca: Option<PathBuf>) -> Trust {
        Trust { ca, config: OnceCell::new() }
    }

    /// Makes the TLS of connections to this host, whose certificate must have its name.
    pub(crate) fn filter(&self, host: &Host<&str>) -> Result<impl Fn() -> Tls + Send + Sync + use<>, String> {
        Ok(switchboard_tls::connect(self.config()?, server_name(host)?))
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(made) = self.config.get() {
            return Ok(made.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(self.roots()?).with_no_client_auth();
        // Tells a server that prefers another version of HTTP to use this one.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        if let Some(path) = &self.ca {
            return switchboard_tls::roots(path).map_err(|error| error.to_string());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // The other certificates are still used if rustls rejects an old one.
        let (count, _) = roots.add_parsable_certificates(found.certs);
        if count > 0 {
            return Ok(roots);
        }
        let why: Vec<String> = found.errors.iter().map(|error| format!("; {error}")).collect();
        Err(format!("the system has no trusted certificates; --ca=FILE names others{}", why.concat()))
    }
}

/// Returns the name that the certificate of this host must have.
fn server_name(host: &Host<&str>) -> Result<ServerName<'static>, String> {
    match host {
        Host::Domain(name) => ServerName::try_from((*name).to_owned()).map_err(|error| format!("{name}: {error}")),
        Host::Ipv4(ip) => Ok(ServerName::IpAddress(IpAddr::V4(*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress(IpAddr::V6(*ip).into())),
    }
}

/// Checks whether a redirect from one page to another is followed; if not, returns why.
pub(crate) fn may_follow(from: &Url, to: &Url) -> Result<(), &'static str> {
    match (from.scheme(), to.scheme()) {
        ("http", "http" | "https") | ("https", "https") => Ok(()),
        // The request was encrypted and the server authenticated: over `http:` the answer could come from anybody.
        ("https", "http") => Err("it leaves https:"),
        _ => Err("only http: and https: are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_follows_redirects_to_where_it_is_as_safe_and_nowhere_else() {
        let url = |scheme: &str| Url::parse(&format!("{scheme}://example.org/")).unwrap();
        for (from, to, followed) in [
            ("http", "http", true),
            ("http", "https", true),
            ("https", "https", true),
            ("https", "http", false),
            ("http", "file", false),
            ("https", "file", false),
            ("http", "ftp", false),
        ] {
            assert_eq!(may_follow(&url(from), &url(to)).is_ok(), followed, "from {from} to {to}");
        }
    }

    #[test]
    fn fetch_has_the_host_of_the_url_checked_and_nothing_else() {
        for (url, name) in [
            ("https://Example.org:8443/", "example.org"),
            ("https://192.0.2.1/", "192.0.2.1"),
            ("https://0xc0000201/", "192.0.2.1"),
            ("https://[2001:DB8::1]/", "2001:db8::1"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(server_name(&url.host().unwrap()).unwrap().to_str(), name);
        }
        for name in ["-.example", "a..example"] {
            assert!(server_name(&Host::Domain(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn fetch_makes_no_filter_without_anybody_to_trust() {
        let trust = Trust::new(Some(PathBuf::from("/no/such.pem")));
        let error = trust.filter(&Host::Domain("example.org")).err();
        assert!(error.is_some_and(|error| error.starts_with("cannot read \"/no/such.pem\"")));
    }
}
