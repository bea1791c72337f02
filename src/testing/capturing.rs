//! Capturing a connection's data in a file for tcpdump and Wireshark.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Instant;

use crate::filter::{Filter, Flow};
use crate::sys::sim::pcap::{ACK, FIN, PSH, Pcap, SYN, Segment};

/// A filter that writes a connection's data to a packet file that tcpdump and Wireshark open (pcap), and passes it on
/// unchanged: of real connections as well as simulated ones. Below TLS it captures records, above TLS their plaintext.
///
/// ```no_run
/// use std::fs::File;
/// use std::net::SocketAddr;
///
/// use switchboard::Listen;
/// use switchboard::testing::Capturing;
///
/// let own = SocketAddr::from(([127, 0, 0, 1], 1234));
/// let listen = Listen::at(own).filter(move |peer| {
///     let peer = peer.as_inet()?;
///     Some(Capturing::new(File::create(format!("/tmp/{}.pcap", peer.port())).ok()?, own, peer))
/// });
/// ```
///
/// The headers are made up: the connection begins when the filter does, sequence numbers start at 0, nothing is lost,
/// data that passes at once is one packet of at most 32 KiB, and times are the loop's clock, which begins at 0, too. If
/// writing fails, the capture ends with a line in the log, and the connection goes on.
pub struct Capturing<W> {
    /// None after a write to it has failed.
    to: Option<W>,
    pcap: Pcap,
    own: Half,
    peer: Half,
    began: Option<Instant>,
}

/// One end, and the sequence number of the byte that it sends next.
struct Half {
    address: SocketAddr,
    next: u32,
}

impl<W: Write + Send + 'static> Capturing<W> {
    /// Makes a capture of the connection between our address and the peer's. Each write to `to` consists of whole
    /// packets; writing should be quick.
    pub fn new(to: W, own: SocketAddr, peer: SocketAddr) -> Capturing<W> {
        let [own, peer] = [own, peer].map(|address| Half { address, next: 0 });
        Capturing { to: Some(to), pcap: Pcap::new(), own, peer, began: None }
    }

    /// Records a packet, ours or the peer's.
    fn note(&mut self, is_ours: bool, flags: u8, payload: &[u8], now: Instant) {
        let (from, to) = if is_ours { (&mut self.own, &mut self.peer) } else { (&mut self.peer, &mut self.own) };
        let at = now - *self.began.get_or_insert(now);
        let segment = Segment { number: from.next, expected: to.next, flags, is_urgent: false, payload };
        self.pcap.segment(at, (from.address, to.address), &segment);
        let counted = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        from.next = from.next.wrapping_add(counted);
        self.write_out();
    }

    fn write_out(&mut self) {
        let packets = self.pcap.take();
        let written: io::Result<()> = self.to.as_mut().map_or(Ok(()), |to| to.write_all(&packets));
        if let Err(error) = written {
            log::warn!("the capture of {} ends: {error}", self.peer.address);
            self.to = None;
        }
    }
}

impl<W: Write + Send + 'static> Filter for Capturing<W> {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        // As if the peer had connected, which is true for a listener's connections.
        for (is_ours, flags) in [(false, SYN), (true, SYN | ACK), (false, ACK)] {
            self.note(is_ours, flags, &[], flow.now());
        }
        flow.set_ready();
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(flow.up_room());
        if count > 0 {
            self.note(false, PSH | ACK, &data[..count], flow.now());
        }
        flow.up().push(&data[..count]);
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.note(true, PSH | ACK, data, flow.now());
        flow.down().push(data);
        data.len()
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        self.note(true, FIN | ACK, &[], flow.now());
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        self.note(false, FIN | ACK, &[], flow.now());
        flow.end();
    }
}

impl<W> fmt::Debug for Capturing<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capturing")
            .field("own", &self.own.address)
            .field("peer", &self.peer.address)
            .finish_non_exhaustive()
    }
}
