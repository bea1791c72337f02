//! The parser of PROXY headers alone: `switchboard` has it behind a protocol and a filter.

#[path = "../../src/proxy/carried.rs"]
mod carried;
#[path = "../../src/proxy/checksum.rs"]
mod checksum;
#[path = "../../src/proxy/error.rs"]
mod error;
#[path = "../../src/proxy/header.rs"]
mod header;

use switchboard::Address;

/// What was found.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) bytes: usize,
    pub(crate) ends: Option<(Address, Address)>,
    pub(crate) tlvs: Vec<u8>,
}

/// Returns the header at the beginning of `data`; `None` if more is needed, an error's text if there is none.
pub(crate) fn find(data: &[u8], bytes_max: usize) -> Option<Result<Found, String>> {
    match header::find(data, bytes_max) {
        header::Found::Partial => None,
        header::Found::Header(found) => {
            Some(Ok(Found { bytes: found.bytes, ends: found.ends, tlvs: found.tlvs.to_vec() }))
        }
        header::Found::Broken(error) => Some(Err(format!("{error:?}"))),
    }
}

/// CRC-32C, a bit at a time: not the one that the parser uses.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}
