// Basic authentication (RFC 7617), and which servers get it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::{Origin, Url};

/// A name and a password, for one server.
pub(crate) struct Credentials {
    /// The value of the header.
    value: String,
    /// The server that the user has named.
    origin: Origin,
}

impl Credentials {
    /// Parses `NAME:PASSWORD`; the name ends at the first colon.
    pub(crate) fn new(text: &str, url: &Url) -> Result<Credentials, String> {
        if !text.contains(':') || text.contains(|character: char| character.is_control()) {
            return Err("a user is NAME:PASSWORD, without control characters".to_owned());
        }
        Ok(Credentials { value: format!("Basic {}", BASE64_STANDARD.encode(text)), origin: url.origin() })
    }

    /// Returns whether they are for the server of this page: another scheme, host or port is another server.
    fn are_for(&self, url: &Url) -> bool {
        self.origin == url.origin()
    }
}

/// Returns the header of a request for this page, which is the first or follows a redirect. Once a redirect leads to
/// another server the credentials are dropped, even if a later one leads back: the user did not ask for that.
pub(crate) fn header(credentials: &mut Option<Credentials>, url: &Url) -> String {
    *credentials = credentials.take().filter(|credentials| credentials.are_for(url));
    let line = |credentials: &Credentials| format!("Authorization: {}\r\n", credentials.value);
    credentials.as_ref().map(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_credentials_are_for_one_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        let credentials = Credentials::new("Aladdin:open sesame", &url("http://example.org/a")).unwrap();
        // The example of the RFC.
        assert_eq!(credentials.value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for (to, are) in [
            ("http://example.org/b?c", true),
            ("http://EXAMPLE.org:80/", true),
            ("https://example.org/", false),
            ("http://example.org:81/", false),
            ("http://www.example.org/", false),
            ("http://example.org.example.com/", false),
            ("http://example.org@example.com/", false),
            ("file:///etc/hostname", false),
        ] {
            assert_eq!(credentials.are_for(&url(to)), are, "{to}");
        }
        let of_file = Credentials::new("a:b", &url("file:///etc/hostname")).unwrap();
        assert!(!of_file.are_for(&url("file:///etc/hostname")));
    }

    #[test]
    fn fetch_credentials_do_not_come_back_from_elsewhere() {
        let url = |text: &str| Url::parse(text).unwrap();
        let mut credentials = Credentials::new("a:b", &url("http://example.org/")).ok();
        let mut says = |page: &str| header(&mut credentials, &url(page));
        assert_eq!(says("http://example.org/"), "Authorization: Basic YTpi\r\n");
        assert_eq!(says("http://example.org/moved"), "Authorization: Basic YTpi\r\n");
        assert_eq!(says("http://example.com/"), "");
        assert_eq!(says("http://example.org/"), "");
    }

    #[test]
    fn fetch_takes_a_name_and_a_password_and_no_header_of_its_own() {
        let url = Url::parse("http://example.org/").unwrap();
        for (text, is_taken) in [
            ("a:b", true),
            (":", true),
            ("ä:b:c", true),
            ("a", false),
            ("", false),
            ("a:b\r\nX: y", false),
            ("a:\0", false),
        ] {
            assert_eq!(Credentials::new(text, &url).is_ok(), is_taken, "{text:?}");
        }
    }
}
