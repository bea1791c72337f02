// Whom a request is for: a host, and a port where it is not 80 (RFC 3986, section 3.2, without a user's name, which
// RFC 9110 forbids here).

use std::net::Ipv6Addr;

/// Whether this names a host.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = match text {
        // The colons of an address are inside of its brackets.
        [b'[', inside @ ..] => {
            let Some(end) = inside.iter().position(|&byte| byte == b']') else { return false };
            (is_literal(&inside[..end]), &inside[end + 1..])
        }
        _ => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            (is_name(&text[..end]), &text[end..])
        }
    };
    host && match rest {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// An address of IPv6, or of a version to come.
fn is_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = text {
        let Some(dot) = rest.iter().position(|&byte| byte == b'.') else { return false };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| is_plain(byte) || byte == b':');
    }
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// A name, which an address of IPv4 is as well. The empty one is that of no host.
fn is_name(text: &[u8]) -> bool {
    let mut left = text;
    loop {
        left = match left {
            [] => return !text.is_empty(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_plain(*byte) => rest,
            _ => return false,
        }
    }
}

/// What stands for itself in a name.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// It may be left out behind its colon.
fn is_port(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(text).is_ok_and(|text| text.is_empty() || text.parse::<u16>().is_ok())
}
