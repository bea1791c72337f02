// The authority that a request is for: a host, and a port unless it is 80 (RFC 3986, section 3.2, without userinfo,
// which RFC 9110 forbids here).

use std::net::Ipv6Addr;

use super::scan::{Class, class, count_of};

/// The bytes that may be in a name unescaped.
static PLAIN: Class = class(b"-._~!$&'()*+,;=");

/// Returns whether `text` is an authority, a host with an optional port.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let end = count_of(&PLAIN, text);
    match &text[end..] {
        [b'[', inside @ ..] if end == 0 => is_bracketed(inside),
        [b'%', ..] => is_escaped(text, end),
        rest => end > 0 && is_end(rest),
    }
}

/// Returns whether this may follow a host: nothing, or a colon and a port, which may be empty.
fn is_end(text: &[u8]) -> bool {
    match text {
        [] => true,
        // No number of four digits is too large.
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit) && (port.len() <= 4 || is_small(port)),
        _ => false,
    }
}

#[cold]
fn is_small(digits: &[u8]) -> bool {
    std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

/// Continues after the bracket that begins an address, whose colons are inside of brackets.
#[cold]
fn is_bracketed(text: &[u8]) -> bool {
    let end = text.iter().position(|&byte| byte == b']');
    end.is_some_and(|end| is_literal(&text[..end]) && is_end(&text[end + 1..]))
}

/// Continues with a name at its first escaped byte.
#[cold]
fn is_escaped(text: &[u8], mut end: usize) -> bool {
    while let [b'%', high, low, rest @ ..] = &text[end..] {
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return false;
        }
        end += 3 + count_of(&PLAIN, rest);
    }
    is_end(&text[end..])
}

/// Returns whether `text` is an IPv6 address, or one of a future version.
fn is_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = text {
        let Some(dot) = rest.iter().position(|&byte| byte == b'.') else { return false };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| PLAIN[usize::from(byte)] || byte == b':');
    }
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}
