// The address argument of the examples on Unix sockets.

use switchboard::UnixAddress;

/// Parses a path or, if it begins with `@`, an abstract name.
pub(crate) fn address(name: &str) -> UnixAddress {
    match name.strip_prefix('@') {
        Some(name) => UnixAddress::abstract_name(name),
        None => UnixAddress::path(name),
    }
}
