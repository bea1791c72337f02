//! Records the network's traffic as a file that tcpdump and Wireshark open (pcap): each packet when it is sent, lost or
//! not, with the headers that a real network would have.
//!
//! Streams are numbered from 0, the clock is the network's, and the hosts' replies that no socket is bound to a port
//! (ICMP) are left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::links::Sending;
use super::packet::Packet;
use super::pcap::{ACK, FIN, PSH, Pcap, RST, SYN, Segment};
use super::rules::PacketKind;
use super::world::{SocketId, World};

pub(super) struct Capture {
    pcap: Pcap,
    streams: BTreeMap<SocketId, Stream>,
}

/// The state of a socket, in TCP's sequence numbers.
#[derive(Clone, Copy)]
struct Stream {
    /// The number of the next byte that it sends for the first time.
    next: u32,
    /// The number of the next byte that it waits for.
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
        Capture { pcap: Pcap::new(), streams: BTreeMap::new() }
    }

    pub(super) fn file(&self) -> &[u8] {
        self.pcap.bytes()
    }

    fn stream(&mut self, id: SocketId) -> &mut Stream {
        self.streams.entry(id).or_default()
    }

    /// Records that this many bytes have arrived at a socket, where an end counts as one.
    pub(super) fn arrived(&mut self, at: SocketId, count: usize) {
        let stream = self.stream(at);
        stream.expected = stream.expected.wrapping_add(count as u32);
    }

    fn segment(&mut self, now: Duration, ends: (SocketAddr, SocketAddr), sending: &mut Sending) {
        let kind = sending.packet.kind();
        let length = sending.packet.payload().len() as u32 + u32::from(kind == PacketKind::End);
        // A reset may come from a socket that no longer exists: then its numbers are what the other end waits for.
        let of = if sending.sender == 0 { None } else { Some(sending.sender) };
        let Stream { next, expected } = match (of, sending.packet.target()) {
            (Some(id), _) => *self.stream(id),
            (None, Some(target)) => {
                let Stream { next, expected } = *self.stream(target);
                Stream { next: expected, expected: next }
            }
            (None, None) => Stream::default(),
        };
        // Data has the same numbers each time it is sent. An acknowledgement has those of the time it is sent.
        let first = match length {
            0 => next,
            _ => *sending.first.get_or_insert(next),
        };
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
        let payload = sending.packet.payload();
        self.pcap.segment(now, ends, &Segment { number: first, expected, flags, is_urgent, payload });
    }
}

impl World {
    /// Adds a packet that is being sent to the capture, if there is one.
    pub(super) fn record(&mut self, sending: &mut Sending) {
        let Some(mut capture) = self.capture.take() else { return };
        if let Some(ends) = self.ends(sending) {
            match &sending.packet {
                Packet::Datagram { bytes, .. } => capture.pcap.datagram(self.now, ends, bytes),
                Packet::Unreachable { .. } => {}
                _ => capture.segment(self.now, ends, sending),
            }
        }
        self.capture = Some(capture);
    }
}
