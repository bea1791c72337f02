//! Where a server listens, as a string: for arguments and configuration files.

use std::error::Error;
use std::fmt;
#[cfg(unix)]
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

#[cfg(unix)]
use switchboard::UnixAddress;
use switchboard::{Address, Listen, escape};

/// Where a server listens, as a string like Twisted's endpoint strings:
///
/// | string | what it means |
/// | --- | --- |
/// | `tcp:127.0.0.1:1234`, `tcp:[::1]:0` | an IP address and a port; `0.0.0.0` or `[::]` means all addresses, and with port 0 the system chooses one |
/// | `unix:/run/x.sock`, `unix:/run/x.sock:mode=660` | a path, and its mode in octal |
/// | `unix:@name` | an abstract name (Linux) |
/// | `systemd:name` | a listening socket that the service manager hands over under this name (see the module `service`) |
///
/// In paths and names a backslash escapes a colon, a leading `@`, or itself: `unix:/run/a\:b.sock`. The output of
/// [`escape`], such as `\x1b`, is accepted too, so every path can be written as a string. An endpoint is displayed as a
/// string that parses to an equal one.
///
/// ```
/// use switchboard::Endpoint;
///
/// let endpoint: Endpoint = "unix:/run/x.sock:mode=660".parse()?;
/// assert_eq!(endpoint.to_string(), "unix:/run/x.sock:mode=660");
/// assert!("tcp:127.0.0.1".parse::<Endpoint>().unwrap_err().to_string().contains("has no port"));
/// # Ok::<(), switchboard::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tcp(SocketAddr),
    /// A path or an abstract name, and the mode of a path.
    #[cfg(unix)]
    Unix(UnixAddress, Option<u32>),
    /// A socket that is handed over under this name.
    #[cfg(unix)]
    Systemd(String),
}

impl Endpoint {
    /// Returns the address; `None` for a socket that is handed over.
    pub fn address(&self) -> Option<Address> {
        match &self.0 {
            Kind::Tcp(address) => Some(Address::Inet(*address)),
            #[cfg(unix)]
            Kind::Unix(address, _) => Some(Address::Unix(address.clone())),
            #[cfg(unix)]
            Kind::Systemd(_) => None,
        }
    }

    /// Returns the mode that is set for a path.
    #[cfg(unix)]
    pub fn mode(&self) -> Option<u32> {
        match &self.0 {
            Kind::Unix(_, mode) => *mode,
            _ => None,
        }
    }

    /// Returns the name under which a socket is handed over by the service manager.
    #[cfg(unix)]
    pub fn systemd_name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Systemd(name) => Some(name),
            _ => None,
        }
    }
}

/// Listening on a socket that is handed over fails with `Unsupported` here: only a `Service` has those.
impl From<Endpoint> for Listen {
    fn from(Endpoint(kind): Endpoint) -> Listen {
        match kind {
            Kind::Tcp(address) => address.into(),
            #[cfg(unix)]
            Kind::Unix(address, Some(mode)) => Listen::at(address).mode(mode),
            #[cfg(unix)]
            Kind::Unix(address, None) => address.into(),
            #[cfg(unix)]
            Kind::Systemd(_) => Listen::unsupported("this program does not take sockets from a service manager"),
        }
    }
}

/// Why a string is not an [`Endpoint`]. The message quotes the part of the string that is wrong, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// It does not begin with a known kind of endpoint and a colon.
    Kind(String),
    /// It has no IP address and port where they are required.
    Address(String),
    /// It has an IP address, but no port.
    Port(String),
    /// Its path or name is empty.
    Empty,
    /// A backslash is followed by something that has no meaning.
    Escape(String),
    /// The mode is not an octal number up to 777.
    Mode(String),
    /// The option does not exist for that kind of endpoint, or is given twice.
    Option(String),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, why) = match self {
            EndpointError::Empty => return f.write_str("an endpoint needs a path or a name after the colon"),
            EndpointError::Kind(text) if cfg!(unix) => {
                (text, "is not a kind of endpoint: use tcp, unix or systemd, as in tcp:127.0.0.1:1234")
            }
            EndpointError::Kind(text) => (text, "is not a kind of endpoint: use tcp, as in tcp:127.0.0.1:1234"),
            EndpointError::Address(text) => {
                (text, "is not an IP address and a port, as in tcp:127.0.0.1:1234 or tcp:[::1]:0")
            }
            EndpointError::Port(text) => (text, "has no port: add one, or 0 for any"),
            EndpointError::Escape(text) => (text, "is not an escape: a backslash itself is written twice"),
            EndpointError::Mode(text) => (text, "is not a mode: use an octal number up to 777"),
            EndpointError::Option(text) => (text, "is repeated, or not an option here"),
        };
        fmt::write(f, format_args!("\"{}\" {why}", escape(text.as_bytes())))
    }
}

impl Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| EndpointError::Kind(text.to_owned()))?;
        match kind {
            "tcp" => tcp(rest),
            #[cfg(unix)]
            "unix" => unix(rest),
            #[cfg(unix)]
            "systemd" => systemd(rest),
            _ => Err(EndpointError::Kind(kind.to_owned())),
        }
    }
}

fn tcp(text: &str) -> Result<Endpoint, EndpointError> {
    if let Ok(address) = text.parse() {
        return Ok(Endpoint(Kind::Tcp(address)));
    }
    let ip = text.strip_suffix(':').unwrap_or(text);
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    Err(match ip.parse::<IpAddr>() {
        Ok(_) => EndpointError::Port(text.to_owned()),
        Err(_) => EndpointError::Address(text.to_owned()),
    })
}

#[cfg(unix)]
fn unix(text: &str) -> Result<Endpoint, EndpointError> {
    use std::os::unix::ffi::OsStringExt;

    let fields = fields(text);
    let (name, options) = fields.split_first().expect("an empty text is one empty field");
    let (is_abstract, name) = match name.strip_prefix('@') {
        Some(name) => (true, unescape(name)?),
        None => (false, unescape(name)?),
    };
    if name.is_empty() {
        return Err(EndpointError::Empty);
    }
    let mut mode = None;
    for &option in options {
        match option.strip_prefix("mode=") {
            Some(value) if !is_abstract && mode.is_none() => mode = Some(octal(value)?),
            _ => return Err(EndpointError::Option(option.to_owned())),
        }
    }
    let address = match is_abstract {
        true => UnixAddress::Abstract(name.into()),
        false => UnixAddress::Path(std::ffi::OsString::from_vec(name).into()),
    };
    Ok(Endpoint(Kind::Unix(address, mode)))
}

#[cfg(unix)]
fn systemd(text: &str) -> Result<Endpoint, EndpointError> {
    match fields(text)[..] {
        ["", ..] => Err(EndpointError::Empty),
        [name] => {
            let name = String::from_utf8(unescape(name)?).map_err(|_| EndpointError::Escape(name.to_owned()))?;
            Ok(Endpoint(Kind::Systemd(name)))
        }
        [_, surplus, ..] => Err(EndpointError::Option(surplus.to_owned())),
        [] => unreachable!("an empty text is one empty field"),
    }
}

#[cfg(unix)]
fn octal(text: &str) -> Result<u32, EndpointError> {
    match number(text, 8) {
        Some(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(EndpointError::Mode(text.to_owned())),
    }
}

/// Reads a number that consists of digits only: `from_str_radix` accepts a sign.
#[cfg(unix)]
fn number(digits: &str, radix: u32) -> Option<u32> {
    match digits.chars().all(|digit| digit.is_digit(radix)) {
        true => u32::from_str_radix(digits, radix).ok(),
        false => None,
    }
}

/// Splits at the colons that are not escaped by a backslash.
#[cfg(unix)]
fn fields(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut begin = 0;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        if character == ':' && !is_escaped {
            found.push(&text[begin..at]);
            begin = at + 1;
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    found.push(&text[begin..]);
    found
}

/// Reads what `escape` and `Display` below write.
#[cfg(unix)]
fn unescape(text: &str) -> Result<Vec<u8>, EndpointError> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        rest = match unescape_one(behind, &mut bytes) {
            Some(rest) => rest,
            None => return Err(EndpointError::Escape(format!("\\{behind:.8}"))),
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Reads what follows a backslash. Returns the text after it, or `None` if it has no meaning.
#[cfg(unix)]
fn unescape_one<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let mut characters = text.chars();
    let character = characters.next()?;
    let rest = characters.as_str();
    match character {
        ':' | '=' | '@' | '\\' => bytes.push(character as u8),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'x' => {
            bytes.push(number(rest.get(..2)?, 16)? as u8);
            return Some(&rest[2..]);
        }
        'u' => {
            let (digits, behind) = rest.strip_prefix('{')?.split_once('}')?;
            let character = char::from_u32(number(digits, 16)?)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(behind);
        }
        _ => return None,
    }
    Some(rest)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(address) => fmt::write(f, format_args!("tcp:{address}")),
            #[cfg(unix)]
            Kind::Unix(address, mode) => {
                f.write_str("unix:")?;
                match address {
                    UnixAddress::Path(path) => {
                        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
                        if path.starts_with(b"@") {
                            f.write_char('\\')?;
                        }
                        write_field(f, path)?;
                    }
                    UnixAddress::Abstract(name) => {
                        f.write_char('@')?;
                        write_field(f, name)?;
                    }
                    // Other addresses cannot be listened on, and no string is parsed as one.
                    _ => {}
                }
                mode.map_or(Ok(()), |mode| fmt::write(f, format_args!(":mode={mode:o}")))
            }
            #[cfg(unix)]
            Kind::Systemd(name) => {
                f.write_str("systemd:")?;
                write_field(f, name.as_bytes())
            }
        }
    }
}

#[cfg(unix)]
fn write_field(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    // The escapes themselves contain no colon.
    for character in escape(bytes).to_string().chars() {
        if character == ':' {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Endpoint>().expect_err(text).to_string()
    }

    #[test]
    fn an_endpoint_is_parsed_and_shown_as_it_was() {
        for text in ["tcp:127.0.0.1:1234", "tcp:[::1]:0", "tcp:0.0.0.0:65535", "tcp:[fe80::1%3]:80"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint, Endpoint(Kind::Tcp(text[4..].parse().unwrap())));
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_string_is_said() {
        for (text, says) in [
            ("", "\"\" is not a kind of endpoint"),
            ("127.0.0.1:1234", "\"127.0.0.1\" is not a kind of endpoint"),
            ("TCP:127.0.0.1:1234", "\"TCP\" is not a kind"),
            ("\x1b[2J:x", r#""\x1b[2J" is not a kind"#),
            ("tcp:", "\"\" is not an IP address and a port"),
            ("tcp:127.0.0.1", "\"127.0.0.1\" has no port"),
            ("tcp:127.0.0.1:", "\"127.0.0.1:\" has no port"),
            ("tcp:[::1]", "\"[::1]\" has no port"),
            ("tcp:::1", "\"::1\" has no port"),
            ("tcp:1234", "\"1234\" is not an IP address and a port"),
            ("tcp:localhost:1234", "\"localhost:1234\" is not an IP"),
            ("tcp:127.0.0.1:65536", "is not an IP"),
            ("tcp:127.0.0.1:80:backlog=5", "is not an IP"),
            ("tcp:127.0.0.1:80 ", "is not an IP"),
        ] {
            assert!(error(text).contains(says), "{text:?}: {}", error(text));
        }
    }

    #[cfg(unix)]
    mod on_unix {
        use super::*;

        fn path(bytes: &[u8]) -> UnixAddress {
            UnixAddress::Path(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes.to_vec()).into())
        }

        #[test]
        fn unix_and_systemd_endpoints_are_parsed_and_shown_as_they_were() {
            let name = |name: &[u8]| UnixAddress::Abstract(name.into());
            for (text, endpoint) in [
                ("unix:/run/x.sock", Endpoint(Kind::Unix(path(b"/run/x.sock"), None))),
                ("unix:/run/x.sock:mode=660", Endpoint(Kind::Unix(path(b"/run/x.sock"), Some(0o660)))),
                ("unix:x=y:mode=0", Endpoint(Kind::Unix(path(b"x=y"), Some(0)))),
                (r"unix:/a\:b\\", Endpoint(Kind::Unix(path(br"/a:b\"), None))),
                (r"unix:\@x@", Endpoint(Kind::Unix(path(b"@x@"), None))),
                ("unix:@x", Endpoint(Kind::Unix(name(b"x"), None))),
                ("unix:@@", Endpoint(Kind::Unix(name(b"@"), None))),
                (r"unix:@\x00\xff\:", Endpoint(Kind::Unix(name(b"\0\xff:"), None))),
                ("systemd:web", Endpoint(Kind::Systemd("web".into()))),
                ("systemd:a b.socket", Endpoint(Kind::Systemd("a b.socket".into()))),
            ] {
                assert_eq!(text.parse(), Ok(endpoint.clone()), "{text}");
                assert_eq!(endpoint.to_string(), text);
            }
            assert_eq!(r"unix:\x2f\u{2f}\=".parse(), Ok(Endpoint(Kind::Unix(path(b"//="), None))));
            assert_eq!("unix:/x:mode=0660".parse(), Ok(Endpoint(Kind::Unix(path(b"/x"), Some(0o660)))));
        }

        #[test]
        fn o1_every_name_has_its_string_which_is_harmless() {
            let mut names: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
            names.extend((0..=255u8).map(|byte| vec![b'@', byte, b'\\', byte, b':']));
            names.extend(["\u{202e}".into(), "\u{9b}é".into(), br"\x41".to_vec(), br":mode=1".to_vec()]);
            for name in names {
                let name_of = UnixAddress::Abstract(name.clone().into());
                for endpoint in [Endpoint(Kind::Unix(path(&name), Some(0o7))), Endpoint(Kind::Unix(name_of, None))] {
                    let text = endpoint.to_string();
                    assert_eq!(text.parse(), Ok(endpoint), "{text}");
                    assert!(!text.chars().any(char::is_control), "{text}");
                }
            }
        }

        #[test]
        fn what_is_wrong_with_a_path_or_a_name_is_said() {
            for (text, says) in [
                ("unix:", "needs a path"),
                ("unix:@", "needs a path or a name"),
                ("unix::mode=600", "needs a path"),
                ("systemd:", "needs a path or a name"),
                ("unix:/x:mode=", "\"\" is not a mode"),
                ("unix:/x:mode=888", "\"888\" is not a mode"),
                ("unix:/x:mode=+66", "\"+66\" is not a mode"),
                ("unix:/x:mode=1777", "up to 777"),
                ("unix:/x:mode=99999999999", "is not a mode"),
                ("unix:/x:mode=600:mode=600", "\"mode=600\" is repeated"),
                ("unix:/x:", "\"\" is repeated"),
                ("unix:/x:backlog=3", "\"backlog=3\" is repeated, or not an option"),
                ("unix:@x:mode=600", "\"mode=600\" is repeated"),
                ("systemd:web:0", "\"0\" is repeated"),
                ("unix:/x\\", "\"\\\\\" is not an escape"),
                (r"unix:\q", "is not an escape"),
                (r"unix:\x4", "is not an escape"),
                (r"unix:\x4é", "is not an escape"),
                (r"unix:\u{d800}", "is not an escape"),
                (r"unix:\u{+41}", "is not an escape"),
                (r"systemd:\xff", "is not an escape"),
            ] {
                assert!(error(text).contains(says), "{text:?}: {}", error(text));
            }
        }
    }
}
