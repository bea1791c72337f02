// Shared by the examples on Unix sockets: their argument.

use switchboard::UnixAddress;

/// Parses a path or, with a leading `@`, an abstract name.
pub(crate) fn address(name: &str) -> UnixAddress {
    match name.strip_prefix('@') {
        Some(name) => UnixAddress::abstract_name(name),
        None => UnixAddress::path(name),
    }
}
