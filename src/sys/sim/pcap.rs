//! Files for tcpdump and Wireshark (pcap): packets with the headers that a real network would have.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A file of version 2.4 with nanosecond timestamps, whose packets begin with their IP header (RAW).
const FILE_HEADER: [&[u8]; 6] = [
    &0xa1b2_3c4d_u32.to_le_bytes(),
    &[2, 0, 4, 0],
    &[0; 8],
    &0x0004_0000_u32.to_le_bytes(),
    &101_u32.to_le_bytes(),
    &[],
];

/// A packet has at most 65,535 bytes including its headers: a longer segment is shown as several.
const PAYLOAD_BYTES_MAX: usize = 32 * 1024;

const TCP: u8 = 6;
const UDP: u8 = 17;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// The part of such a file that was not taken yet.
pub(crate) struct Pcap {
    bytes: Vec<u8>,
}

/// A segment of TCP.
pub(crate) struct Segment<'a> {
    /// The number of its first byte.
    pub(crate) number: u32,
    /// The number of the next byte that its sender waits for.
    pub(crate) expected: u32,
    pub(crate) flags: u8,
    /// Its last byte is urgent.
    pub(crate) is_urgent: bool,
    pub(crate) payload: &'a [u8],
}

impl Pcap {
    pub(crate) fn new() -> Pcap {
        Pcap { bytes: FILE_HEADER.concat() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what there is, to be appended to what was taken before.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn datagram(&mut self, now: Duration, (from, to): (SocketAddr, SocketAddr), bytes: &[u8]) {
        let length = (8 + bytes.len()) as u16;
        let mut segment = ports(from, to);
        segment.extend([length.to_be_bytes(), [0; 2]].concat());
        segment.extend(bytes);
        self.packet(now, (from.ip(), to.ip()), UDP, segment);
    }

    /// Adds a segment, or several if it is too long for one packet.
    pub(crate) fn segment(&mut self, now: Duration, (from, to): (SocketAddr, SocketAddr), of: &Segment<'_>) {
        let empty = of.payload.is_empty().then_some(of.payload);
        let (mut number, mut left) = (of.number, of.payload.len());
        for piece in of.payload.chunks(PAYLOAD_BYTES_MAX).chain(empty) {
            left -= piece.len();
            let urgent = if of.is_urgent && left == 0 { piece.len() as u16 } else { 0 };
            let flags = if urgent > 0 { of.flags | URG } else { of.flags };
            let acknowledged = if flags & ACK == 0 { 0 } else { of.expected };
            let mut segment = ports(from, to);
            segment.extend([number.to_be_bytes(), acknowledged.to_be_bytes()].concat());
            segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0]);
            segment.extend(urgent.to_be_bytes());
            segment.extend(piece);
            self.packet(now, (from.ip(), to.ip()), TCP, segment);
            number = number.wrapping_add(piece.len() as u32);
        }
    }

    /// Adds a packet, with its protocol's checksum.
    fn packet(&mut self, now: Duration, ends: (IpAddr, IpAddr), protocol: u8, mut segment: Vec<u8>) {
        let length = segment.len();
        let (mut header, addresses) = match ends {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = ((20 + length) as u16).to_be_bytes();
                let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
                let addresses = [from.octets(), to.octets()].concat();
                header.extend(&addresses);
                (header, addresses)
            }
            (from, to) => {
                let [high, low] = (length as u16).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, high, low, protocol, 64];
                let addresses = [of_v6(from), of_v6(to)].concat();
                header.extend(&addresses);
                (header, addresses)
            }
        };
        if header[0] == 0x45 {
            let checksum = checksum(&[&header]);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        let pseudo = [&addresses[..], &(length as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat();
        let at = if protocol == TCP { 16 } else { 6 };
        let checksum = match checksum(&[&pseudo, &segment]) {
            0 if protocol == UDP => u16::MAX,
            checksum => checksum,
        };
        segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        let bytes = ((header.len() + length) as u32).to_le_bytes();
        let time = [(now.as_secs() as u32).to_le_bytes(), now.subsec_nanos().to_le_bytes()];
        self.bytes.extend([time[0], time[1], bytes, bytes].concat());
        self.bytes.extend([header, segment].concat());
    }
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

fn of_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Returns the Internet checksum (RFC 1071). All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
