// What the examples on Unix sockets share: their argument.

use switchboard::UnixAddress;

/// A path or, with `@` in front of it, an abstract name.
pub(crate) fn address(name: &str) -> UnixAddress {
    match name.strip_prefix('@') {
        Some(name) => UnixAddress::abstract_name(name),
        None => UnixAddress::path(name),
    }
}
