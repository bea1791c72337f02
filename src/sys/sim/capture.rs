//! What goes over the network as a file that tcpdump and Wireshark open (pcap): each packet when it goes out, lost or not,
//! with headers such as a real network would have.
//!
//! Streams are numbered from 0, the clock is that of the network, and the hosts' answers that nobody is bound to a port (ICMP)
//! are left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::links::Sending;
use super::packet::Packet;
use super::rules::PacketKind;
use super::world::{SocketId, World};

/// A file of version 2.4 whose times have nanoseconds, and whose packets begin with their IP header (RAW).
const FILE_HEADER: [&[u8]; 6] = [
    &0xa1b2_3c4d_u32.to_le_bytes(),
    &[2, 0, 4, 0],
    &[0; 8],
    &0x0004_0000_u32.to_le_bytes(),
    &101_u32.to_le_bytes(),
    &[],
];

/// A packet has no more than 65,535 bytes with its headers: a longer segment is shown as several.
const PAYLOAD_BYTES_MAX: usize = 32 * 1024;

const TCP: u8 = 6;
const UDP: u8 = 17;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

pub(super) struct Capture {
    file: Vec<u8>,
    streams: BTreeMap<SocketId, Stream>,
}

/// How far a socket is, by the numbers of TCP.
#[derive(Clone, Copy)]
struct Stream {
    /// Of the next byte that it sends for the first time.
    next: u32,
    /// Of the next byte that it waits for.
    expected: u32,
}

/// The first number is that of the SYN.
impl Default for Stream {
    fn default() -> Stream {
        Stream { next: 1, expected: 1 }
    }
}

impl Capture {
    pub(super) fn new() -> Capture {
        Capture { file: FILE_HEADER.concat(), streams: BTreeMap::new() }
    }

    pub(super) fn file(&self) -> &[u8] {
        &self.file
    }

    fn stream(&mut self, id: SocketId) -> &mut Stream {
        self.streams.entry(id).or_default()
    }

    /// So many bytes have arrived at a socket, an end counting as one.
    pub(super) fn arrived(&mut self, at: SocketId, count: usize) {
        let stream = self.stream(at);
        stream.expected = stream.expected.wrapping_add(count as u32);
    }

    fn datagram(&mut self, now: Duration, (from, to): (SocketAddr, SocketAddr), bytes: &[u8]) {
        let length = (8 + bytes.len()) as u16;
        let mut segment = ports(from, to);
        segment.extend([length.to_be_bytes(), [0; 2]].concat());
        segment.extend(bytes);
        self.packet(now, (from.ip(), to.ip()), UDP, segment);
    }

    fn segment(&mut self, now: Duration, (from, to): (SocketAddr, SocketAddr), sending: &mut Sending) {
        let (kind, payload) = (sending.packet.kind(), sending.packet.payload());
        let length = payload.len() as u32 + u32::from(kind == PacketKind::End);
        // A reset may come of a socket that is no more: then its numbers are what the other end waits for.
        let of = if sending.sender == 0 { None } else { Some(sending.sender) };
        let Stream { next, expected } = match (of, sending.packet.target()) {
            (Some(id), _) => *self.stream(id),
            (None, Some(target)) => {
                let Stream { next, expected } = *self.stream(target);
                Stream { next: expected, expected: next }
            }
            (None, None) => Stream::default(),
        };
        let first = *sending.first.get_or_insert(next);
        if first == next {
            if let Some(id) = of {
                self.stream(id).next = next.wrapping_add(length);
            }
        }
        let (first, flags) = match kind {
            PacketKind::Connect => (0, SYN),
            PacketKind::Accept => (0, SYN | ACK),
            PacketKind::End => (first, FIN | ACK),
            PacketKind::Reset => (first, RST | ACK),
            PacketKind::Data => (first, PSH | ACK),
            _ => (first, ACK),
        };
        let is_urgent = matches!(sending.packet, Packet::Data { urgent: true, .. });
        let pieces: Vec<&[u8]> =
            if payload.is_empty() { vec![payload] } else { payload.chunks(PAYLOAD_BYTES_MAX).collect() };
        let (mut number, last) = (first, pieces.len() - 1);
        for (index, piece) in pieces.into_iter().enumerate() {
            let urgent = if is_urgent && index == last { piece.len() as u16 } else { 0 };
            let flags = if urgent > 0 { flags | URG } else { flags };
            let acknowledged = if flags & ACK == 0 { 0 } else { expected };
            let mut segment = ports(from, to);
            segment.extend([number.to_be_bytes(), acknowledged.to_be_bytes()].concat());
            segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0]);
            segment.extend(urgent.to_be_bytes());
            segment.extend(piece);
            self.packet(now, (from.ip(), to.ip()), TCP, segment);
            number = number.wrapping_add(piece.len() as u32);
        }
    }

    /// Adds a packet, with a checksum where its protocol has it.
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
        self.file.extend([time[0], time[1], bytes, bytes].concat());
        self.file.extend([header, segment].concat());
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

/// The checksum of the Internet (RFC 1071). All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl World {
    /// Adds a packet that goes out to the capture, if there is one.
    pub(super) fn record(&mut self, sending: &mut Sending) {
        let Some(mut capture) = self.capture.take() else { return };
        if let Some(ends) = self.ends(sending) {
            match &sending.packet {
                Packet::Datagram { bytes, .. } => capture.datagram(self.now, ends, bytes),
                Packet::Unreachable { .. } => {}
                _ => capture.segment(self.now, ends, sending),
            }
        }
        self.capture = Some(capture);
    }
}
