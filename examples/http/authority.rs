// The authority that a request is for: a host, and a port unless it is 80 (RFC 3986, section 3.2, without userinfo,
// which RFC 9110 forbids here).

use std::net::Ipv6Addr;

/// Returns whether `text` is an authority, a host with an optional port.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = match text {
        // The colons of an address are inside its brackets.
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

/// Returns whether `text` is an IPv6 address, or one of a future version.
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

/// Returns whether `text` is a name, which includes IPv4 addresses. An empty name is not that of a host.
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

/// Returns whether a byte may be in a name unescaped.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Returns whether `text` is a port, which may be empty after its colon.
fn is_port(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(text).is_ok_and(|text| text.is_empty() || text.parse::<u16>().is_ok())
}
